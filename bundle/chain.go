package bundle

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/sign"
)

// AddTrustChain puts the chain of trust policies into the layout, in place of one that is there.
func (l *Layout) AddTrustChain(chain []byte) error {
	raw, err := marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactTrust,
		Config: l.AddFirst(MediaEmpty, []byte("{}")),
		Layers: []ocispec.Descriptor{l.AddFirst(MediaTrust, chain)},
	})
	if err != nil {
		return fmt.Errorf("encoding the manifest of the trust chain: %w", err)
	}
	d := l.AddFirst(ocispec.MediaTypeImageManifest, raw)
	d.ArtifactType = ArtifactTrust
	d.Annotations = map[string]string{ocispec.AnnotationRefName: "trust"}
	return l.replace(d, func(m ocispec.Descriptor) bool { return m.ArtifactType == ArtifactTrust })
}

// TrustChain gives the chain of trust policies that travels with the file, or nil where it has none. Its signatures are not
// judged.
func (f *File) TrustChain(ctx context.Context) ([]byte, error) {
	var found []ocispec.Descriptor
	for _, d := range f.Index.Manifests {
		if d.ArtifactType == ArtifactTrust {
			found = append(found, d)
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	if len(found) > 1 {
		return nil, f.fail("index.json lists %d trust chains where one is wanted", len(found))
	}
	raw, err := f.Fetch(ctx, found[0], MaxManifest)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) != 1 || m.Layers[0].MediaType != MediaTrust {
		return nil, f.fail("the manifest of the trust chain is not well-formed")
	}
	return f.Fetch(ctx, m.Layers[0], sign.MaxChain)
}
