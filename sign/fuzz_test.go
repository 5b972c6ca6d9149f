package sign

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzOpenFile(f *testing.F) {
	const purpose = "https://bundle.wordcab.com/receipt/v1"
	s := fixedSite(f)
	key := publicOf(f, s.release)
	good, err := SealFile(purpose, "receipt.json", hexOf("a"), 7, s.release)
	if err != nil {
		f.Fatal(err)
	}
	other, err := SealFile("https://bundle.wordcab.com/support/v1", "receipt.json", hexOf("a"), 7, s.release)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(other)
	f.Add(good[:len(good)/2])
	f.Add(bytes.Replace(good, []byte("payload"), []byte("PAYLOAD"), 1))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		digest, err := OpenFile(sealed, purpose, key)
		switch {
		case err != nil && (digest != "" || !errors.Is(err, ErrUntrusted)):
			t.Fatalf("refused with %q, %v", digest, err)
		case err == nil && digest != hexOf("a"):
			t.Fatalf("accepted %s, which nobody signed", digest)
		}
	})
}

func FuzzVerifyCosign(f *testing.F) {
	s := fixedSite(f)
	good, err := SignCosign(s.head(), "shop/release", s.release)
	if err != nil {
		f.Fatal(err)
	}
	claim := good.Blobs[1]
	f.Add(good.Manifest, claim)
	f.Add(good.Manifest, bytes.Replace(claim, []byte("critical"), []byte("Critical"), 1))
	f.Add(bytes.Replace(good.Manifest, []byte(`"layers"`), []byte(`"Layers"`), 1), claim)
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"digest":"sha256:..","size":4611686018427387904}]}`), []byte("{}"))
	key := publicOf(f, s.release)
	f.Fuzz(func(t *testing.T, manifest, payload []byte) {
		ids, err := VerifyCosign(s.head(), CosignSignature{Manifest: manifest, Blobs: [][]byte{payload}}, key)
		switch {
		case err != nil && (len(ids) > 0 || !errors.Is(err, ErrUntrusted)):
			t.Fatalf("refused with %v, %v", ids, err)
		case err == nil && !bytes.Equal(payload, claim):
			t.Fatalf("accepted a payload that nobody signed: %s", payload)
		}
	})
}

func FuzzLoadPublic(f *testing.F) {
	s := fixedSite(f)
	good := publicOf(f, s.release).PEM()
	f.Add(good)
	f.Add(append(bytes.Clone(good), good...))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMAA=\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		k, err := LoadPublic(file)
		if err != nil {
			if k.KeyID() != "" {
				t.Fatal("a key came with an error")
			}
			return
		}
		if again, err := LoadPublic(k.PEM()); err != nil || again.KeyID() != k.KeyID() {
			t.Fatalf("its encoding is another key: %v", err)
		}
	})
}
