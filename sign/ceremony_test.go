package sign

import (
	"bytes"
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func (s *site) head() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(s.subject)}
}

func TestCeremony(t *testing.T) {
	for _, algorithm := range []string{ECDSAP256, ECDSAP384, Ed25519, RSA} {
		s := newSite(t)
		s.release = newSigner(t, algorithm)
		s.form.Keys[0], s.form.Roles.Release.Keys[0] = TrustKeyOf(publicOf(t, s.release)), s.release.KeyID()
		message, err := Message(s.head(), s.statement)
		if err != nil {
			t.Fatal(err)
		}
		subject, st, err := ParseMessage(message)
		if err != nil || subject.Digest != s.head().Digest || subject.MediaType != s.head().MediaType || st.Sequence != s.statement.Sequence {
			t.Fatalf("%s: %v %v %v", algorithm, subject, st, err)
		}
		raw, err := s.release.Sign(message)
		if err != nil {
			t.Fatal(err)
		}
		key := publicOf(t, s.release)
		s.signers = []Signer{Presigned(key, Signature{message, raw})}
		if o, err := s.open(t, s.seal(t)); err != nil || o.Signers()[0] != key.KeyID() {
			t.Errorf("%s: %v", algorithm, err)
		}
		for name, bad := range map[string]Signer{
			"another key's":      Presigned(publicOf(t, s.second), Signature{message, raw}),
			"damaged":            Presigned(key, Signature{message, append(bytes.Clone(raw), 0)}),
			"of another message": Presigned(key, Signature{append(bytes.Clone(message), ' '), raw}),
			"none":               Presigned(key),
		} {
			if _, err := Seal(s.head(), s.statement, bad); err == nil {
				t.Errorf("%s: a signature that is %s was taken", algorithm, name)
			}
		}
	}
}

func TestParseMessageRefuses(t *testing.T) {
	s := newSite(t)
	good, err := Message(s.head(), s.statement)
	if err != nil {
		t.Fatal(err)
	}
	swap := func(old, with string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(with), 1)
	}
	for name, message := range map[string][]byte{
		"nothing":            nil,
		"no encoding":        []byte("DSSEv1 28 application/vnd.in-toto+json"),
		"T04 another type":   swap("application/vnd.in-toto+json", "application/vnd.in-toto+jsoN"),
		"another length":     swap("json ", "json 0"),
		"T03 another kind":   swap("release/v1", "spdx_v1/v1"),
		"too large":          bytes.Repeat([]byte("x"), MaxEnvelope+1),
		"a field of its own": swap(`"kind":`, `"kinD":`),
	} {
		if _, _, err := ParseMessage(message); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	s := fixedSite(f)
	good, err := Message(s.head(), s.statement)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(bytes.Replace(good, []byte("stable"), []byte("Stable"), 1))
	f.Fuzz(func(t *testing.T, message []byte) {
		subject, st, err := ParseMessage(message)
		if err != nil {
			if !errors.Is(err, ErrUntrusted) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		if again, err := Message(subject, st); err != nil || !bytes.Equal(again, message) {
			t.Fatalf("it is not what it says: %v", err)
		}
	})
}
