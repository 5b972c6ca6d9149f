package bundle

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/internal/strict"
	"github.com/wordcab/wcbundle/sign"
)

// ContentError says that content which was signed, or is about to be, is not well-formed: nothing that wcbundle writes.
type ContentError struct {
	What string // such as release.json, or manifest sha256:...
	Err  error
}

func (e *ContentError) Error() string { return e.What + ": " + e.Err.Error() }
func (e *ContentError) Unwrap() error { return e.Err }

// malformed makes an error about signed content a ContentError; what the trust rules refuse, and damage, stay what they are.
func malformed(what string, err error) error {
	var damaged *DigestError
	if err == nil || errors.Is(err, sign.ErrUntrusted) || errors.As(err, &damaged) || errors.As(err, new(*ContentError)) || errors.As(err, new(*FormError)) {
		return err
	}
	return &ContentError{what, err}
}

// anyManifest is what a manifest and an index have, both at once, as far as a reader could be misled by it.
type anyManifest struct {
	mediaType string
	config    bool
	layers    bool
	manifests bool
	fsLayers  bool
}

// CheckManifest refuses a manifest or index that two readers could take for two things, or that sends a reader elsewhere: another
// media type inside than its descriptor says, both an index and a manifest (CVE-2021-41190), keys that are there twice or differ
// by case, blobs with urls, data that is not the digest's.
func CheckManifest(d ocispec.Descriptor, raw []byte) error {
	var doc map[string]any
	if err := strict.JSON(raw, &doc); err != nil {
		return &ContentError{"manifest " + string(d.Digest), err}
	}
	m := anyManifest{}
	m.mediaType, _ = doc["mediaType"].(string)
	_, m.config = doc["config"]
	_, m.layers = doc["layers"]
	_, m.manifests = doc["manifests"]
	_, m.fsLayers = doc["fsLayers"]
	if err := m.agrees(d.MediaType); err != nil {
		return &ContentError{"manifest " + string(d.Digest), err}
	}
	var children []any
	for _, key := range []string{"layers", "manifests", "blobs"} {
		list, _ := doc[key].([]any)
		children = append(children, list...)
	}
	for _, c := range append(children, doc["config"], doc["subject"]) {
		if err := checkChild(c); err != nil {
			return &ContentError{"manifest " + string(d.Digest), err}
		}
	}
	return nil
}

func (m anyManifest) agrees(mediaType string) error {
	index := isIndex(mediaType)
	switch {
	case m.mediaType != mediaType && (m.mediaType != "" || strings.HasPrefix(mediaType, "application/vnd.docker.")):
		return fmt.Errorf("it says that it is %.80q, and is named as %s", m.mediaType, mediaType)
	case m.fsLayers, index && (m.config || m.layers), !index && m.manifests:
		return errors.New("it is a manifest and an index at once")
	case index && !m.manifests, !index && !m.config:
		return fmt.Errorf("it is no %s", mediaType)
	}
	return nil
}

// checkChild looks at one descriptor in a manifest; nil is one that is not there.
func checkChild(v any) error {
	if v == nil {
		return nil
	}
	c, ok := v.(map[string]any)
	if !ok {
		return errors.New("a descriptor is no mapping")
	}
	text, _ := c["digest"].(string)
	d := digest.Digest(text)
	if err := CheckDigest(d); err != nil {
		return err
	}
	if urls, there := c["urls"]; there && urls != nil {
		return fmt.Errorf("%s lies outside the registry (urls): such blobs cannot travel", d)
	}
	data, there := c["data"]
	if !there {
		return nil
	}
	text, _ = data.(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil || digest.FromBytes(raw) != d {
		return fmt.Errorf("%s carries data that is not the digest's", d)
	}
	return nil
}
