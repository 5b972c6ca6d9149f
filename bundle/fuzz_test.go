package bundle

import (
	"context"
	"encoding/json"
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

// FuzzParseVEX takes nothing as a fix that does not say an id and a digest.
func FuzzParseVEX(f *testing.F) {
	const good = `{"@context":"https://openvex.dev/ns/v0.2.0","@id":"https://example.com/1","author":"a","timestamp":"2026-11-01T00:00:00Z","version":1,` +
		`"statements":[{"vulnerability":{"name":"CVE-2026-1"},"products":[{"@id":"pkg:oci/a@sha256%3A` + `2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}],"status":"fixed"}]}`
	f.Add([]byte(good))
	f.Add([]byte(strings.Replace(good, `"status":"fixed"`, `"status":"fixed","STATUS":"affected"`, 1)))
	f.Add([]byte(strings.Replace(good, "sha256%3A", "sha256:../", 1)))
	f.Add([]byte(strings.Replace(good, "CVE-2026-1", "../../CVE", 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseVEX(data)
		if err != nil {
			return
		}
		for _, fix := range c.fixes {
			if !vulnForm.MatchString(fix.ID) || len(fix.In) == 0 {
				t.Fatalf("accepted %+v", fix)
			}
			for _, d := range fix.In {
				if err := CheckDigest(d); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// FuzzCheckManifest lets nothing through that is a manifest and an index at once.
func FuzzCheckManifest(f *testing.F) {
	const good = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a/b","size":2,` +
		`"digest":"sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"},"layers":[]}`
	f.Add([]byte(good), ocispec.MediaTypeImageManifest)
	f.Add([]byte(strings.Replace(good, `"layers"`, `"manifests":[],"layers"`, 1)), ocispec.MediaTypeImageManifest)
	f.Add([]byte(strings.Replace(good, `"layers"`, `"manifests"`, 1)), ocispec.MediaTypeImageIndex)
	f.Add([]byte(strings.Replace(good, `"size":2`, `"size":2,"data":"aGVsbG8="`, 1)), ocispec.MediaTypeImageManifest)
	f.Add([]byte(strings.Replace(good, `"size":2`, `"size":2,"urls":["http://127.0.0.1/"]`, 1)), ocispec.MediaTypeImageManifest)
	f.Fuzz(func(t *testing.T, data []byte, mediaType string) {
		if CheckManifest(ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data) != nil {
			return
		}
		var m ocispec.Manifest
		var ix ocispec.Index
		if json.Unmarshal(data, &m) != nil || json.Unmarshal(data, &ix) != nil {
			return
		}
		if m.Config.Digest != "" && len(ix.Manifests) > 0 {
			t.Fatalf("two things at once: %s", data)
		}
		for _, d := range append(append(m.Layers, ix.Manifests...), m.Config) {
			if len(d.URLs) > 0 || d.Digest != "" && CheckDigest(d.Digest) != nil {
				t.Fatalf("let %+v through", d)
			}
		}
	})
}
