package sign

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
)

func TestGenerateKey(t *testing.T) {
	for _, algorithm := range []string{ECDSAP256, Ed25519, ECDSAP384, "rsa-3072"} {
		private, public, err := GenerateKey(algorithm, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		signer, err := LoadSigner(private, []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		key, err := LoadPublic(public)
		if err != nil {
			t.Fatal(err)
		}
		der, _ := x509.MarshalPKIXPublicKey(signer.Public())
		sum := sha256.Sum256(der)
		if want := hex.EncodeToString(sum[:]); key.KeyID() != want || signer.KeyID() != want {
			t.Errorf("%s: ids %s and %s, want %s", algorithm, key.KeyID(), signer.KeyID(), want)
		}
		if !strings.HasPrefix(algorithm, key.Algorithm()) || !bytes.Equal(key.PEM(), public) {
			t.Errorf("%s: loaded as %s\n%s", algorithm, key.Algorithm(), key.PEM())
		}
		sig, err := signer.Sign([]byte("message"))
		if err != nil || key.Verify([]byte("message"), sig) != nil {
			t.Errorf("%s: its own signature is refused: %v", algorithm, err)
		}
		if key.Verify([]byte("massage"), sig) == nil || key.Verify([]byte("message"), sig[1:]) == nil || key.Verify([]byte("message"), nil) == nil {
			t.Errorf("%s: a wrong signature is accepted", algorithm)
		}
		if _, err := LoadSigner(private, []byte("Secret")); err == nil {
			t.Errorf("%s: a wrong password is accepted", algorithm)
		}
		if !bytes.HasPrefix(private, []byte("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----")) {
			t.Errorf("%s: private key file\n%s", algorithm, private)
		}
	}
	for _, algorithm := range []string{"", "rsa", "ECDSA-P256"} {
		if _, _, err := GenerateKey(algorithm, nil); err == nil {
			t.Errorf("%q: a key was made", algorithm)
		}
	}
}

// TestLoadFrozenKey reads files that the cosign 2.6.5 command wrote (password: "frozen").
func TestLoadFrozenKey(t *testing.T) {
	private, err := os.ReadFile("testdata/cosign.key")
	if err != nil {
		t.Fatal(err)
	}
	public, err := os.ReadFile("testdata/cosign.pub")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := LoadSigner(private, []byte("frozen"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := LoadPublic(public)
	if err != nil {
		t.Fatal(err)
	}
	if signer.KeyID() != key.KeyID() || key.Algorithm() != ECDSAP256 {
		t.Errorf("private key %s, public key %s", signer.KeyID(), key.KeyID())
	}
}

// TestCosignLoadsOurKeys goes through cosign's own loader with its own defaults.
func TestCosignLoadsOurKeys(t *testing.T) {
	private, public, err := GenerateKey(ECDSAP256, nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cosign.LoadPrivateKey(private, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := signer.PublicKey()
	file, _ := cryptoutils.MarshalPublicKeyToPEM(key)
	if !bytes.Equal(file, public) {
		t.Errorf("cosign sees the public key\n%s\nwe wrote\n%s", file, public)
	}
}

func TestLoadPublicRefuses(t *testing.T) {
	good := publicOf(t, newSigner(t, ECDSAP256)).PEM()
	p521, _ := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	p521PEM, _ := cryptoutils.MarshalPublicKeyToPEM(p521.Public())
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	rsaPEM, _ := cryptoutils.MarshalPublicKeyToPEM(rsaKey.Public())
	cases := map[string][]byte{
		"nothing":      nil,
		"no PEM":       []byte("key"),
		"two keys":     append(bytes.Clone(good), good...),
		"junk behind":  append(bytes.Clone(good), "junk"...),
		"another type": bytes.ReplaceAll(good, []byte("PUBLIC"), []byte("PRIVATE")),
		"broken":       bytes.Replace(good, []byte("MFkw"), []byte("MFkx"), 1),
		"P-521":        p521PEM,
		"RSA":          rsaPEM,
		"too large":    append(bytes.Clone(good), strings.Repeat("\n", maxKeyFile)...),
	}
	for name, file := range cases {
		if _, err := LoadPublic(file); err == nil {
			t.Errorf("%s: loaded", name)
		}
	}
	if _, err := LoadSigner(good, nil); err == nil {
		t.Error("a public key loaded as a private one")
	}
	if _, err := NewSigner(p521); err == nil {
		t.Error("a P-521 signer was made")
	}
}
