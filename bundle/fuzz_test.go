package bundle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func FuzzLoadDefinition(f *testing.F) {
	f.Add([]byte("apiVersion: bundle.wordcab.com/v1alpha1\nkind: Bundle\nmetadata: {name: shop, version: 1.0.0, channel: stable, sequence: 1}\n" +
		"charts:\n- {name: shop, source: ., release: shop, namespace: wordcab}\n"))
	f.Add([]byte("apiVersion: bundle.wordcab.com/v1alpha1\nkind: Bundle\nmetadata: {name: ../x, version: v1, channel: '', sequence: 18446744073709551615}\n" +
		"models:\n- {id: a/b, ref: 'h/r@sha256:..', source: ../../etc}\n"))
	f.Add([]byte("metadata: &m {name: a, x: *m}\nMetadata: {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "bundle.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		d, err := LoadDefinition(path)
		switch {
		case err != nil && !strings.Contains(err.Error(), path):
			t.Fatalf("the error does not say where: %v", err)
		case err == nil && (CheckName("name", d.Metadata.Name) != nil || len(d.Charts) != 1):
			t.Fatalf("accepted %+v", d.Metadata)
		}
	})
}

// FuzzOpenEnvelope reads the manifests that lead to an envelope or a trust chain, which are not signed themselves.
func FuzzOpenEnvelope(f *testing.F) {
	const layer = `{"mediaType":"` + MediaEnvelope + `","digest":"sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","size":1}`
	f.Add([]byte(`{"schemaVersion":2,"layers":[` + layer + `]}`))
	f.Add([]byte(`{"schemaVersion":2,"layers":[` + strings.Replace(layer, `"size":1`, `"size":4611686018427387904`, 1) + `]}`))
	f.Add([]byte(`{"layers":[` + layer + "," + layer + `]}`))
	f.Fuzz(func(t *testing.T, manifest []byte) {
		fetch := func(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
			return Content{Descriptor: d, Open: bytesContent(MediaEnvelope, []byte("x")).Open}.ReadBytes(ctx, max)
		}
		if b, err := OpenEnvelope(t.Context(), manifest, fetch); err == nil && string(b) != "x" {
			t.Fatalf("read %q", b)
		}
	})
}

func FuzzParseHead(f *testing.F) {
	const good = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"` + ArtifactRelease + `",` +
		`"config":{"mediaType":"a/b","digest":"sha256:00","size":2},"layers":[{"mediaType":"` + MediaRelease + `","digest":"sha256:00","size":2}]}`
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, `"layers":[`, `"manifests":[],"layers":[`, 1)))
	f.Add([]byte(strings.Replace(good, `"layers"`, `"LAYERS"`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := parseHead(data); err == nil && (m.Subject != nil || m.Layers[0].MediaType != MediaRelease) {
			t.Fatalf("accepted %+v", m)
		}
	})
}

// FuzzVerifyReader passes on no byte as verified that is not the descriptor's.
func FuzzVerifyReader(f *testing.F) {
	f.Add([]byte("hello"), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", int64(5))
	f.Add([]byte("hello"), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", int64(1)<<62)
	f.Add([]byte("hello"), "sha512:00", int64(-1))
	f.Fuzz(func(t *testing.T, data []byte, sum string, size int64) {
		d := ocispec.Descriptor{Digest: digest.Digest(sum), Size: size}
		got, err := Content{Descriptor: d, Open: bytesContent("a/b", data).Open}.ReadBytes(t.Context(), 1<<20)
		switch {
		case err == nil && (digest.FromBytes(got) != d.Digest || int64(len(got)) != size):
			t.Fatalf("%q passed as %s", got, sum)
		case errors.As(err, new(*DigestError)) && digest.FromBytes(data) == d.Digest && int64(len(data)) == size:
			t.Fatal("the right bytes were refused")
		}
	})
}
