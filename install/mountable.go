package install

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
)

// Mountable is a model in the form that containerd mounts as an image volume: an image whose layers are the model's own. It is made from the
// model's manifest and nothing else, so that everybody makes the same; see ADR 12.
type Mountable struct {
	Ref  string // of the model, as the chart writes it
	Repo string
	Root ocispec.Descriptor // what a volume names
	docs []document
}

// document is a manifest or a config, small enough to be held.
type document struct {
	ocispec.Descriptor
	bytes []byte
}

// mountable derives the form from a model's manifest. Platforms are os/arch.
func mountable(m bundle.Model, manifest []byte, platforms []string) (Mountable, error) {
	repo, err := bundle.RepoOf(m.Ref)
	if err != nil {
		return Mountable{}, err
	}
	out := Mountable{Ref: m.Ref, Repo: repo}
	var model ocispec.Manifest
	if err := json.Unmarshal(manifest, &model); err != nil {
		return out, fmt.Errorf("model %s: its manifest: %w", m.ID, err)
	}
	var layers []ocispec.Descriptor
	var diffs []digest.Digest
	for _, l := range model.Layers {
		if !strings.HasSuffix(l.MediaType, ".tar") { // of another form the digest is not that of what is unpacked
			return out, fmt.Errorf("model %s cannot be an image volume: its layer %s is a %s, not a plain tar", m.ID, l.Digest, l.MediaType)
		}
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.Digest, Size: l.Size})
		diffs = append(diffs, l.Digest)
	}
	var of []ocispec.Descriptor
	for _, p := range platforms {
		d, err := out.image(p, layers, diffs)
		if err != nil {
			return out, err
		}
		of = append(of, d)
	}
	if len(of) == 1 {
		out.Root = of[0]
		out.Root.Platform = nil
		return out, nil
	}
	out.Root, err = out.document(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: of})
	return out, err
}

func (m *Mountable) image(platform string, layers []ocispec.Descriptor, diffs []digest.Digest) (ocispec.Descriptor, error) {
	system, arch, _ := strings.Cut(platform, "/")
	p := ocispec.Platform{OS: system, Architecture: arch}
	config, err := m.document(ocispec.MediaTypeImageConfig, ocispec.Image{Platform: p, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: diffs}})
	if err != nil {
		return config, err
	}
	d, err := m.document(ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers})
	d.Platform = &p
	return d, err
}

func (m *Mountable) document(mediaType string, v any) (ocispec.Descriptor, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	m.docs = append(m.docs, document{d, b})
	return d, nil
}

// mountables are the models of a release in this form, read from the registry.
func mountables(ctx context.Context, t Target, rel *bundle.Release) ([]Mountable, error) {
	var out []Mountable
	for _, m := range rel.Models {
		repo, err := bundle.RepoOf(m.Ref)
		if err != nil {
			return nil, err
		}
		raw, err := t.Registry.Fetch(ctx, repo, m.Manifest, bundle.MaxManifest)
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", m.ID, err)
		}
		one, err := mountable(m, raw, rel.Platforms)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// mountReferences maps each model's reference, as image volumes write it, to what is mounted.
func mountReferences(models []Mountable, pull string) map[string]string {
	out := map[string]string{}
	for _, m := range models {
		out[m.Ref] = pull + "/" + m.Repo + "@" + string(m.Root.Digest)
	}
	return out
}

// bringMountables puts them into the registry, next to the layers that are there.
func (p *Plan) bringMountables(ctx context.Context, t Target) error {
	for _, m := range p.mounts {
		for _, d := range m.docs {
			there, err := t.Registry.Has(ctx, m.Repo, d.Descriptor)
			if err == nil && !there {
				err = t.Registry.Push(ctx, m.Repo, d.Descriptor, bytes.NewReader(d.bytes))
			}
			if err != nil {
				return fmt.Errorf("the form of model %s that nodes mount: %w", m.Ref, err)
			}
		}
	}
	return nil
}
