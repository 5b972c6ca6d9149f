package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

// held is a blob or manifest in one repository.
type held struct {
	ocispec.Descriptor
	repo     string
	manifest bool
	last     bool // a head's own blob: it goes after the head
}

// stock is what belongs to a release in the registry.
type stock struct {
	release *bundle.Release // nil: the head or release.json is gone
	own     []held          // the head, then its own blobs
	lines   []held          // the closure
	about   []held          // signatures
}

func (c *stock) all() []held { return slices.Concat(c.own, c.lines, c.about) }

// readStock asks the registry what belongs to a release. A head that is gone has nothing.
func readStock(ctx context.Context, reg *registry.Registry, product string, head ocispec.Descriptor) (*stock, error) {
	repo, c := bundle.ReleaseRepo(product), &stock{}
	named, err := walk(ctx, reg, repo, head, 0)
	if err != nil || len(named) == 0 {
		return c, err
	}
	for _, h := range named {
		h.last = !h.manifest
		c.own = append(c.own, h)
	}
	c.release, err = fetchRelease(ctx, LoadOptions{Registry: reg}, product, head)
	if errors.Is(err, registry.ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	for _, b := range c.release.Closure {
		for _, r := range b.Repos {
			c.lines = append(c.lines, held{Descriptor: b.Descriptor, repo: r, manifest: b.Kind == bundle.KindManifest})
		}
	}
	about, err := attachedTo(ctx, reg, repo, head)
	if err != nil {
		return c, err
	}
	for _, d := range about {
		h, err := walk(ctx, reg, repo, d, 0)
		if err != nil {
			return c, err
		}
		c.about = append(c.about, h...)
	}
	return c, nil
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// maxDepth is how deep indexes may lie in each other.
const maxDepth = 4

// walk lists a manifest that is in the registry and all that it names, itself first. One that is not there names nothing.
func walk(ctx context.Context, reg *registry.Registry, repo string, d ocispec.Descriptor, depth int) ([]held, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s@%s: indexes lie deeper than %d in each other", repo, d.Digest, maxDepth)
	}
	raw, err := reg.Fetch(ctx, repo, d, bundle.MaxManifest)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest %s@%s: %w", repo, d.Digest, err)
	}
	out := []held{{Descriptor: d, repo: repo, manifest: true}}
	if m.Config != nil && m.Config.Digest != "" {
		out = append(out, held{Descriptor: *m.Config, repo: repo})
	}
	for _, l := range m.Layers {
		out = append(out, held{Descriptor: l, repo: repo})
	}
	for _, c := range m.Manifests {
		inner, err := walk(ctx, reg, repo, c, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, inner...)
	}
	return out, nil
}
