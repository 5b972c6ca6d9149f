package sign

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/cosign/v2/pkg/cosign"
)

func signedForCosign(t *testing.T, signers ...Signer) (ocispec.Descriptor, CosignSignature) {
	t.Helper()
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("head"), Size: 4}
	sig, err := SignCosign(subject, "registry.example.com/wordcab/release:2.9.0", signers...)
	if err != nil {
		t.Fatal(err)
	}
	return subject, sig
}

func TestSignCosign(t *testing.T) {
	a, b := newSigner(t, ECDSAP256), newSigner(t, Ed25519)
	subject, sig := signedForCosign(t, a, b)
	if sig.Tag != "sha256-"+subject.Digest.Encoded()+".sig" {
		t.Errorf("tag %s", sig.Tag)
	}
	want := `{"critical":{"identity":{"docker-reference":"registry.example.com/wordcab/release"},"image":{"docker-manifest-digest":"` +
		subject.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`
	if got := string(sig.Blobs[1]); got != want {
		t.Errorf("payload\n%s\nwant\n%s", got, want)
	}
	ids, err := VerifyCosign(subject, sig, publicOf(t, b), publicOf(t, a), publicOf(t, newSigner(t, Ed25519)))
	if err != nil || len(ids) != 2 {
		t.Errorf("signed by %v, %v", ids, err)
	}
	if ids, err = VerifyCosign(subject, sig, publicOf(t, b)); err != nil || len(ids) != 1 || ids[0] != b.KeyID() {
		t.Errorf("signed by %v, %v", ids, err)
	}
	_, again := signedForCosign(t, b)
	_, once := signedForCosign(t, b)
	if !bytes.Equal(again.Manifest, once.Manifest) {
		t.Error("two manifests from the same input")
	}
}

func TestAddCosign(t *testing.T) {
	a, b := newSigner(t, ECDSAP256), newSigner(t, Ed25519)
	subject, sig := signedForCosign(t, a)
	for _, again := range []Signer{b, a, b} { // a second time by the same key is no second signature
		var err error
		if sig, err = AddCosign(sig, subject, "registry.example.com/wordcab/release:2.9.0", again); err != nil {
			t.Fatal(err)
		}
	}
	layers, err := simpleLayers(sig)
	if err != nil || len(layers) != 2 || len(sig.Blobs) != 2 {
		t.Errorf("%d layers, %d blobs, %v", len(layers), len(sig.Blobs), err)
	}
	if ids, err := VerifyCosign(subject, sig, publicOf(t, a), publicOf(t, b)); err != nil || len(ids) != 2 {
		t.Errorf("signed by %v, %v", ids, err)
	}
	if _, err := AddCosign(CosignSignature{Manifest: []byte("x")}, subject, "a/b", a); err == nil {
		t.Error("added to what is no signature")
	}
}

func TestVerifyCosignRefuses(t *testing.T) {
	s := newSigner(t, ECDSAP256)
	key := publicOf(t, s)
	subject, good := signedForCosign(t, s)
	other := ocispec.Descriptor{Digest: digest.FromString("other")}
	edit := func(old, with string) CosignSignature {
		c := good
		c.Manifest = bytes.Replace(good.Manifest, []byte(old), []byte(with), 1)
		if bytes.Equal(c.Manifest, good.Manifest) {
			t.Fatalf("%q is not in %s", old, good.Manifest)
		}
		return c
	}
	evil := bytes.Replace(good.Blobs[1], []byte("wordcab"), []byte("evilcab"), 1)
	forged := edit(digestOf(good.Blobs[1]), digestOf(evil))
	forged.Blobs = [][]byte{good.Blobs[0], evil}
	cases := []struct {
		name    string
		subject ocispec.Descriptor
		sig     CosignSignature
		keys    []PublicKey
		want    Reason
	}{
		{"no keys", subject, good, nil, NoPolicy},
		{"zero key", subject, good, []PublicKey{{}}, WrongKey},
		{"T01 nothing", subject, CosignSignature{}, []PublicKey{key}, Unsigned},
		{"T02 another key", subject, good, []PublicKey{publicOf(t, newSigner(t, ECDSAP256))}, WrongKey},
		{"T15 another subject", other, good, []PublicKey{key}, WrongKey},
		{"no digest", ocispec.Descriptor{}, good, []PublicKey{key}, WrongSubject},
		{"no manifest", subject, CosignSignature{Manifest: []byte("x")}, []PublicKey{key}, BadEnvelope},
		{"payload missing", subject, CosignSignature{Manifest: good.Manifest, Blobs: good.Blobs[:1]}, []PublicKey{key}, BadEnvelope},
		{"payload changed", subject, CosignSignature{Manifest: good.Manifest, Blobs: [][]byte{good.Blobs[0], evil}},
			[]PublicKey{key}, BadEnvelope},
		{"payload and manifest changed", subject, forged, []PublicKey{key}, WrongKey},
		{"signature missing", subject, edit("dev.cosignproject.cosign/signature", "dev.cosignproject.cosign/none"), []PublicKey{key}, WrongKey},
		{"media type", subject, edit(mediaSimpleSigning, "application/json"), []PublicKey{key}, BadEnvelope},
	}
	for _, c := range cases {
		ids, err := VerifyCosign(c.subject, c.sig, c.keys...)
		var refused *UntrustedError
		if !errors.As(err, &refused) || refused.Reason != c.want || ids != nil {
			t.Errorf("%s: got %v, %v, want %q", c.name, ids, err, c.want)
		}
	}
	if _, err := SignCosign(subject, "registry.example.com/a"); err == nil {
		t.Error("signed without a signer")
	}
	if _, err := SignCosign(subject, "not a reference", s); err == nil {
		t.Error("signed for a reference that is none")
	}
}

// TestCosignFindsTheSignature pushes a head and its signature to a registry and lets cosign's own discovery verify it.
func TestCosignFindsTheSignature(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	for _, algorithm := range []string{ECDSAP256, ECDSAP384, Ed25519, RSA} {
		s := newSigner(t, algorithm)
		repo, err := name.NewRepository(strings.TrimPrefix(server.URL, "http://") + "/wordcab/" + algorithm)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(repo.Tag("v1"), empty.Image); err != nil {
			t.Fatal(err)
		}
		d, err := partial.Descriptor(empty.Image)
		if err != nil {
			t.Fatal(err)
		}
		subject := ocispec.Descriptor{MediaType: string(d.MediaType), Digest: digest.Digest(d.Digest.String()), Size: d.Size}
		sig, err := SignCosign(subject, repo.Name(), s)
		if err != nil {
			t.Fatal(err)
		}
		pushSignature(t, repo, sig)
		opts := &cosign.CheckOpts{SigVerifier: publicOf(t, s).verifier, IgnoreTlog: true, ClaimVerifier: cosign.SimpleClaimVerifier}
		found, _, err := cosign.VerifyImageSignatures(context.Background(), repo.Tag("v1"), opts)
		if err != nil || len(found) != 1 {
			t.Errorf("%s: cosign found %d signatures, %v", algorithm, len(found), err)
		}
		opts.SigVerifier = publicOf(t, newSigner(t, algorithm)).verifier
		if _, _, err := cosign.VerifyImageSignatures(context.Background(), repo.Tag("v1"), opts); err == nil {
			t.Errorf("%s: cosign accepts another key", algorithm)
		}
	}
}

func pushSignature(t *testing.T, repo name.Repository, sig CosignSignature) {
	t.Helper()
	for _, blob := range sig.Blobs {
		if err := remote.WriteLayer(repo, static.NewLayer(blob, types.OCIConfigJSON)); err != nil {
			t.Fatal(err)
		}
	}
	if err := remote.Put(repo.Tag(sig.Tag), rawManifest(sig.Manifest)); err != nil {
		t.Fatal(err)
	}
}

type rawManifest []byte

func (m rawManifest) RawManifest() ([]byte, error)        { return m, nil }
func (m rawManifest) MediaType() (types.MediaType, error) { return types.OCIManifestSchema1, nil }
