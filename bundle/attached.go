package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
)

// MaxReferrers is how many manifests about one image are looked at and travel with it.
const MaxReferrers = 64

// errManyReferrers says that a source has more about an image than is looked at.
var errManyReferrers = fmt.Errorf("more than %d manifests refer to it", MaxReferrers)

// The ends of the tags under which cosign puts signatures, attestations and SBOMs of an image.
var cosignTagEnds = []string{"sig", "att", "sbom"}

// attachedSource is a source that may hold, beside an image, more manifests about it.
type attachedSource interface {
	source
	// tagged finds the manifest that cosign would put under a tag about the subject; end is one of cosignTagEnds. It reports
	// false where there is none.
	tagged(ctx context.Context, subject ocispec.Descriptor, end string) (ocispec.Descriptor, bool, error)
	// referrers lists the manifests that have the subject as their subject, as the source says: unchecked, in any order.
	referrers(ctx context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error)
	// blobSize is the size of a blob; an error where it is not there.
	blobSize(ctx context.Context, d ocispec.Descriptor) (int64, error)
}

func cosignTag(subject ocispec.Descriptor, end string) string {
	return "sha256-" + subject.Digest.Encoded() + "." + end
}

// remoteSource is a repository of a registry.
type remoteSource struct{ *remote.Repository }

func (s remoteSource) tagged(ctx context.Context, subject ocispec.Descriptor, end string) (ocispec.Descriptor, bool, error) {
	d, err := s.Resolve(ctx, cosignTag(subject, end))
	if errors.Is(err, errdef.ErrNotFound) {
		return d, false, nil
	}
	return d, err == nil, err
}

func (s remoteSource) referrers(ctx context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	err := s.Referrers(ctx, subject, "", func(page []ocispec.Descriptor) error {
		if len(out)+len(page) > MaxReferrers {
			return errManyReferrers
		}
		out = append(out, page...)
		return nil
	})
	return out, err
}

func (s remoteSource) blobSize(ctx context.Context, d ocispec.Descriptor) (int64, error) {
	got, err := s.Blobs().Resolve(ctx, d.Digest.String())
	return got.Size, err
}

// layoutSource is an OCI layout in a folder.
type layoutSource struct {
	*oci.ReadOnlyStore
	dir   fs.FS
	index ocispec.Index
	about func() (map[string][]ocispec.Descriptor, error) // manifests by the digest of their subject, searched for once
}

// cosignKinds are cosign's own marks in the index.json that cosign save writes.
var cosignKinds = map[string]string{"sig": cosignSignatures, "att": "dev.cosignproject.cosign/atts"}

// tagged looks for an entry with cosign's tag, then for one with cosign's mark, which says nothing about its image and so
// counts only where the layout has one image.
func (s layoutSource) tagged(ctx context.Context, subject ocispec.Descriptor, end string) (ocispec.Descriptor, bool, error) {
	for _, d := range s.index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == cosignTag(subject, end) {
			return d, true, nil
		}
	}
	images := s.images(ctx)
	for _, d := range s.index.Manifests {
		kind := d.Annotations[annotationCosignKind]
		if kind != "" && kind == cosignKinds[end] && len(images) == 1 && images[0].Digest == subject.Digest {
			return d, true, nil
		}
	}
	return ocispec.Descriptor{}, false, nil
}

// images are the entries of index.json that are not about another.
func (s layoutSource) images(ctx context.Context) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, d := range s.index.Manifests {
		name := d.Annotations[ocispec.AnnotationRefName]
		if attachedTag.MatchString(name) || slices.Contains([]string{cosignKinds["sig"], cosignKinds["att"]}, d.Annotations[annotationCosignKind]) {
			continue
		}
		raw, err := fetchAll(ctx, s, d)
		if err == nil && subjectOf(raw) == "" {
			out = append(out, d)
		}
	}
	return out
}

// Bounds of the search for referrers in a layout.
const (
	maxLayoutBlobs    = 20_000
	maxLayoutReferrer = 64 << 10 // bytes of a manifest
)

func (s layoutSource) referrers(_ context.Context, subject ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	all, err := s.about()
	if len(all[string(subject.Digest)]) > MaxReferrers {
		return nil, errManyReferrers
	}
	return all[string(subject.Digest)], err
}

// findSubjects looks into every small blob of a layout: cosign 3 saves sigstore bundles without listing them in index.json.
func findSubjects(dir fs.FS) (map[string][]ocispec.Descriptor, error) {
	names, err := fs.ReadDir(dir, "blobs/sha256")
	if err != nil {
		return nil, err
	}
	if len(names) > maxLayoutBlobs {
		return nil, fmt.Errorf("the layout has more than %d blobs, too many to search for what refers to an image", maxLayoutBlobs)
	}
	out := map[string][]ocispec.Descriptor{}
	for _, n := range names {
		st, err := n.Info()
		if err != nil || !st.Mode().IsRegular() || st.Size() > maxLayoutReferrer {
			continue
		}
		raw, err := fs.ReadFile(dir, "blobs/sha256/"+n.Name())
		if err != nil {
			return nil, err
		}
		if of := subjectOf(raw); of != "" {
			out[of] = append(out[of], bytesContent(ocispec.MediaTypeImageManifest, raw).Descriptor)
		}
	}
	return out, nil
}

func (s layoutSource) blobSize(_ context.Context, d ocispec.Descriptor) (int64, error) {
	if err := CheckDigest(d.Digest); err != nil {
		return 0, err
	}
	st, err := fs.Stat(s.dir, blobPath(d.Digest))
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// subjectOf is the digest of the subject that a manifest names, "" for one without and for what is no manifest.
func subjectOf(raw []byte) string {
	var m struct {
		Subject *ocispec.Descriptor `json:"subject"`
	}
	if json.Unmarshal(raw, &m) != nil || m.Subject == nil {
		return ""
	}
	return string(m.Subject.Digest)
}

// attachedManifest is a manifest about an image: read, of its digest, and of a form that can travel.
type attachedManifest struct {
	desc     ocispec.Descriptor
	raw      []byte
	manifest ocispec.Manifest
}

// maxAttachedBlobs is how many blobs one manifest about an image may name.
const maxAttachedBlobs = 256

// readAttached reads a manifest about an image.
func readAttached(ctx context.Context, s content.Fetcher, d ocispec.Descriptor) (attachedManifest, error) {
	if err := CheckDigest(d.Digest); err != nil {
		return attachedManifest{}, err
	}
	if !IsManifest(d.MediaType) || isIndex(d.MediaType) {
		return attachedManifest{}, fmt.Errorf("%s is a %.80q, not an image manifest", d.Digest, d.MediaType)
	}
	raw, err := fetchAll(ctx, s, d)
	if err != nil {
		return attachedManifest{}, err
	}
	m, err := parseAttached(raw)
	if err != nil {
		return attachedManifest{}, fmt.Errorf("%s: %w", d.Digest, err)
	}
	return attachedManifest{desc: plain(d), raw: raw, manifest: m}, nil
}

// parseAttached reads the bytes of a manifest about an image and bounds what it names.
func parseAttached(raw []byte) (ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := unmarshalManifest(raw, &m); err != nil {
		return m, err
	}
	blobs := blobsOf(m)
	if len(blobs) > maxAttachedBlobs {
		return m, fmt.Errorf("it names %d blobs, more than %d", len(blobs), maxAttachedBlobs)
	}
	for _, b := range blobs {
		if err := CheckDigest(b.Digest); err != nil {
			return m, err
		}
		if b.Size < 0 || b.Size > 1<<46 {
			return m, fmt.Errorf("blob %s: size %d is out of range", b.Digest, b.Size)
		}
		if len(b.URLs) > 0 {
			return m, fmt.Errorf("blob %s lies outside the registry (urls): it cannot travel", b.Digest)
		}
	}
	return m, nil
}

func blobsOf(m ocispec.Manifest) []ocispec.Descriptor {
	return append([]ocispec.Descriptor{m.Config}, m.Layers...)
}
