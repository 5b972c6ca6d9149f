package sign

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var sigstoreSubject = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("head"), Size: 4}

func TestSignSigstore(t *testing.T) {
	for _, algorithm := range []string{ECDSAP256, ECDSAP384, Ed25519, RSA} {
		s := newSigner(t, algorithm)
		sig, err := SignSigstore(sigstoreSubject, time.Unix(0, 0), s)
		if err != nil {
			t.Fatal(err)
		}
		var m ocispec.Manifest
		if err := json.Unmarshal(sig.Manifest, &m); err != nil {
			t.Fatal(err)
		}
		if m.ArtifactType != MediaSigstore || m.Subject == nil || m.Subject.Digest != sigstoreSubject.Digest || m.Subject.Size != 4 ||
			m.Config.Digest != digest.FromString("{}") || len(m.Layers) != 1 || m.Layers[0].Digest != digest.FromBytes(sig.Blobs[1]) ||
			m.Annotations[ocispec.AnnotationCreated] != "1970-01-01T00:00:00Z" || m.Annotations[annotationSigstorePredicate] != PredicateCosign {
			t.Errorf("%s: manifest %s", algorithm, sig.Manifest)
		}
		id, err := VerifySigstore(sigstoreSubject, sig.Blobs[1], publicOf(t, newSigner(t, Ed25519)), publicOf(t, s))
		if err != nil || id != s.KeyID() {
			t.Errorf("%s: signed by %q, %v", algorithm, id, err)
		}
	}
	again, err := SigstoreMessage(sigstoreSubject)
	want := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + sigstoreSubject.Digest.Encoded() +
		`"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
	if err != nil || !strings.HasSuffix(string(again), want) {
		t.Errorf("message\n%s\nwant\n%s (%v)", again, want, err)
	}
	s := newSigner(t, RSA)
	if _, err := SignSigstore(sigstoreSubject, time.Time{}, Presigned(publicOf(t, s), Signature{Message: again, Signature: []byte("x")})); err == nil {
		t.Error("a wrong signature made elsewhere is taken")
	}
	if _, err := SignSigstore(ocispec.Descriptor{Digest: "sha512:00"}, time.Time{}, s); err == nil {
		t.Error("signed a subject without a sha256 digest")
	}
}

// sealSigstore is a bundle over any payload, rightly signed: what a hostile holder of the key can make.
func sealSigstore(t testing.TB, s Signer, kind, payload string) sigstoreBundle {
	t.Helper()
	sig, err := s.Sign(preAuth(kind, []byte(payload)))
	if err != nil {
		t.Fatal(err)
	}
	return sigstoreBundle{MediaType: MediaSigstore, Material: sigstoreMaterial{PublicKey: &sigstoreHint{}}, Envelope: sigstoreEnvelope{
		PayloadType: kind, Payload: base64.StdEncoding.EncodeToString([]byte(payload)),
		Signatures: []sigstoreSignature{{Sig: base64.StdEncoding.EncodeToString(sig)}}}}
}

func TestVerifySigstoreRefuses(t *testing.T) {
	s := newSigner(t, ECDSAP256)
	key := publicOf(t, s)
	raw, err := cosignPayload(sigstoreSubject)
	if err != nil {
		t.Fatal(err)
	}
	good := string(raw)
	hex := sigstoreSubject.Digest.Encoded()
	sealed := func(old, with string) []byte {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in %s", old, good)
		}
		b, err := json.Marshal(sealSigstore(t, s, payloadType, strings.Replace(good, old, with, 1)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	edited := func(edit func(*sigstoreBundle)) []byte {
		b := sealSigstore(t, s, payloadType, good)
		edit(&b)
		out, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	plain := sealed("", "")
	if id, err := VerifySigstore(sigstoreSubject, plain, key); err != nil || id != key.KeyID() {
		t.Fatalf("the good one: %q, %v", id, err)
	}
	otherType := sealSigstore(t, s, "application/json", good)
	otherRaw, _ := json.Marshal(otherType)
	for _, c := range []struct {
		name   string
		bundle []byte
		keys   []PublicKey
		want   Reason
	}{
		{"no keys", plain, nil, NoPolicy},
		{"zero key", plain, []PublicKey{{}}, WrongKey},
		{"nothing", nil, []PublicKey{key}, Unsigned},
		{"too large", bytes.Repeat([]byte(" "), MaxEnvelope+1), []PublicKey{key}, BadEnvelope},
		{"not JSON", []byte("x"), []PublicKey{key}, BadEnvelope},
		{"another key", plain, []PublicKey{publicOf(t, newSigner(t, ECDSAP256))}, WrongKey},
		{"an attestation of another kind", sealed(PredicateCosign, "https://spdx.dev/Document"), []PublicKey{key}, WrongPredicate},
		{"a predicate that begins alike", sealed(PredicateCosign, PredicateCosign+"0"), []PublicKey{key}, WrongPredicate},
		{"a release statement's type", sealed("https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"), []PublicKey{key}, BadStatement},
		{"another subject", sealed(hex, strings.Repeat("0", 64)), []PublicKey{key}, WrongSubject},
		{"two subjects", sealed(`"subject":[`, `"subject":[{"digest":{"sha256":"`+hex+`"}},`), []PublicKey{key}, BadStatement},
		{"two digests", sealed(`"sha256":`, `"sha512":"00","sha256":`), []PublicKey{key}, BadStatement},
		{"a digest twice", sealed(`"sha256":`, `"sha256":"00","sha256":`), []PublicKey{key}, BadStatement},
		{"no subject", sealed(`[{"digest":{"sha256":"`+hex+`"}}]`, `[]`), []PublicKey{key}, BadStatement},
		{"payload is no statement", sealed(good, "[]"), []PublicKey{key}, BadStatement},
		{"payload type", otherRaw, []PublicKey{key}, BadEnvelope},
		{"payload type changed afterwards", edited(func(b *sigstoreBundle) { b.Envelope.PayloadType = "application/json" }), []PublicKey{key}, BadEnvelope},
		{"two signatures", edited(func(b *sigstoreBundle) {
			b.Envelope.Signatures = append(b.Envelope.Signatures, b.Envelope.Signatures[0])
		}),
			[]PublicKey{key}, BadEnvelope},
		{"no signature", edited(func(b *sigstoreBundle) { b.Envelope.Signatures = nil }), []PublicKey{key}, BadEnvelope},
		{"empty signature", edited(func(b *sigstoreBundle) { b.Envelope.Signatures[0].Sig = "" }), []PublicKey{key}, BadEnvelope},
		{"a certificate", edited(func(b *sigstoreBundle) { b.Material.Certificate = json.RawMessage(`{"rawBytes":""}`) }), []PublicKey{key}, WrongKey},
		{"no key", edited(func(b *sigstoreBundle) { b.Material.PublicKey = nil }), []PublicKey{key}, WrongKey},
		{"older form", edited(func(b *sigstoreBundle) { b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=0.2" }), []PublicKey{key}, BadEnvelope},
		{"message signature", bytes.Replace(plain, []byte("{"), []byte(`{"messageSignature":{},`), 1), []PublicKey{key}, BadEnvelope},
	} {
		id, err := VerifySigstore(sigstoreSubject, c.bundle, c.keys...)
		var refused *UntrustedError
		if !errors.As(err, &refused) || refused.Reason != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.name, id, err, c.want)
		}
	}
	if _, err := VerifySigstore(ocispec.Descriptor{}, plain, key); err == nil {
		t.Error("no digest: accepted")
	}
}

// TestUpstreamSignatures reads what the cosign commands 2.6.5 (legacy) and 3.1.3 (sigstore bundle) wrote for an image with a key
// of each kind. With Ed25519 they sign Ed25519ph, with P-384 over SHA-384.
func TestUpstreamSignatures(t *testing.T) {
	for _, algorithm := range []string{"ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-3072"} {
		read := func(name string) []byte {
			t.Helper()
			b, err := os.ReadFile("testdata/upstream/" + algorithm + name)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		key, err := LoadPublic(read(".pub"))
		if err != nil {
			t.Fatal(err)
		}
		bundle := read(".cosign-3.1.3.json")
		payload, _, err := openSigstore(bundle)
		if err != nil {
			t.Fatal(err)
		}
		var st cosignStatement
		if err := json.Unmarshal(payload, &st); err != nil {
			t.Fatal(err)
		}
		subject := ocispec.Descriptor{Digest: digest.Digest("sha256:" + st.Subject[0].Digest.SHA256)}
		if id, err := VerifySigstore(subject, bundle, publicOf(t, newSigner(t, Ed25519)), key); err != nil || id != key.KeyID() {
			t.Errorf("%s: cosign 3: %q, %v", algorithm, id, err)
		}
		claim := read(".cosign-2.6.5.payload.json")
		var form struct {
			Critical struct {
				Image struct {
					Digest digest.Digest `json:"docker-manifest-digest"`
				} `json:"image"`
			} `json:"critical"`
		}
		if err := json.Unmarshal(claim, &form); err != nil {
			t.Fatal(err)
		}
		sig := CosignSignature{Manifest: read(".cosign-2.6.5.manifest.json"), Blobs: [][]byte{claim}}
		ids, err := VerifyCosign(ocispec.Descriptor{Digest: form.Critical.Image.Digest}, sig, key)
		if err != nil || len(ids) != 1 || ids[0] != key.KeyID() {
			t.Errorf("%s: cosign 2: %v, %v", algorithm, ids, err)
		}
		if _, err := VerifyCosign(ocispec.Descriptor{Digest: form.Critical.Image.Digest}, sig, publicOf(t, newSigner(t, Ed25519)), publicOf(t, newSigner(t, ECDSAP384))); err == nil {
			t.Errorf("%s: other keys are accepted", algorithm)
		}
	}
}

func FuzzVerifySigstore(f *testing.F) {
	s := newSigner(f, Ed25519)
	key := publicOf(f, s)
	sig, err := SignSigstore(sigstoreSubject, time.Time{}, s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sig.Blobs[1])
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, err := VerifySigstore(sigstoreSubject, raw, key)
		if (err == nil) != (id == key.KeyID()) {
			t.Fatalf("by %q, %v", id, err)
		}
		if err != nil {
			return
		}
		payload, _, err := openSigstore(raw)
		want, _ := cosignPayload(sigstoreSubject)
		if err != nil || !bytes.Equal(payload, want) {
			t.Fatalf("accepted what the key never signed: %s (%v)", payload, err)
		}
	})
}

func FuzzCosignStatement(f *testing.F) {
	good, err := cosignPayload(sigstoreSubject)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, payload []byte) {
		if checkCosignStatement(payload, sigstoreSubject) == nil && !bytes.Contains(payload, []byte(sigstoreSubject.Digest.Encoded())) {
			// An escape may spell the digest in another way; what it decodes to was compared.
			if !bytes.ContainsRune(payload, '\\') {
				t.Fatalf("accepted %s", payload)
			}
		}
	})
}
