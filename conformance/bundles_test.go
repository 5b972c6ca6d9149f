package conformance

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/wordcab/wcbundle/sign"
)

// wantFixtures is how many bundles testdata has. Fewer means that the search is broken.
const wantFixtures = 70

// The signer of bundles whose folder names none.
const (
	defaultIdentity = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"
	defaultIssuer   = "https://token.actions.githubusercontent.com"
)

// A fixture is one folder of the suite.
type fixture struct {
	name             string
	bundle, artifact []byte
	key              []byte // PEM, nil where the bundle is to be judged by a certificate
	root             []byte // JSON
	identity, issuer string
}

func (f fixture) good() bool { return !strings.HasSuffix(f.name, "_fail") }

func fixtures(t *testing.T) (all []fixture) {
	t.Helper()
	dirs, err := filepath.Glob("testdata/bundle-verify/*/bundle.sigstore.json")
	if err != nil || len(dirs) != wantFixtures {
		t.Fatalf("%d bundles in testdata, want %d (%v)", len(dirs), wantFixtures, err)
	}
	for _, path := range dirs {
		dir := filepath.Dir(path)
		read := func(name, instead string) []byte {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if errors.Is(err, os.ErrNotExist) && instead != "" {
				b, err = os.ReadFile(filepath.Join("testdata", instead))
			}
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			return b
		}
		text := func(name, instead string) string {
			if s := strings.TrimSpace(string(read(name, ""))); s != "" {
				return s
			}
			return instead
		}
		all = append(all, fixture{
			name: filepath.Base(dir), bundle: read(filepath.Base(path), ""), artifact: read("artifact", "bundle-verify/a.txt"), key: read("key.pub", ""),
			root:     read("trusted_root.json", "trusted_root.json"),
			identity: text("identity", defaultIdentity), issuer: text("issuer", defaultIssuer),
		})
	}
	return all
}

// TestReference checks that sigstore-go agrees with the suite about every bundle: so the fixtures are what they say.
func TestReference(t *testing.T) {
	for _, f := range fixtures(t) {
		t.Run(f.name, func(t *testing.T) {
			if err := reference(f); (err == nil) != f.good() {
				t.Errorf("good is %v, sigstore-go says %v", f.good(), err)
			}
		})
	}
}

// reference is sigstore-go's verdict.
func reference(f fixture) error {
	var b bundle.Bundle
	if err := b.UnmarshalJSON(f.bundle); err != nil {
		return err
	}
	trusted, err := root.NewTrustedRootFromJSON(f.root)
	if err != nil {
		return err
	}
	if f.key != nil {
		return referenceByKey(f, &b, trusted)
	}
	options := []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1), verify.WithSignedCertificateTimestamps(1)}
	v, err := verify.NewVerifier(trusted, options...)
	if err != nil {
		return err
	}
	who, err := verify.NewShortCertificateIdentity(f.issuer, "", f.identity, "")
	if err != nil {
		return err
	}
	_, err = v.Verify(&b, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(f.artifact)), verify.WithCertificateIdentity(who)))
	return err
}

func referenceByKey(f fixture, b *bundle.Bundle, trusted *root.TrustedRoot) error {
	key, err := cryptoutils.UnmarshalPEMToPublicKey(f.key)
	if err != nil {
		return err
	}
	one, err := signature.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return err
	}
	always := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return root.NewExpiringKey(one, time.Time{}, time.Time{}), nil
	})
	v, err := verify.NewVerifier(root.TrustedMaterialCollection{always, trusted}, verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1))
	if err != nil {
		return err
	}
	_, err = v.Verify(b, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(f.artifact)), verify.WithKey()))
	return err
}

// A judge is one way in which our code could be made to believe bytes: nil means that it does. The key is trusted for everything
// that the judge knows.
type judge func(bundle []byte, key sign.PublicKey, artifact digest.Digest) error

// ours are our readers of signed bytes. None of them may take a sigstore bundle, good or not, for what it reads, and none may panic.
// A reader that is made for bundles signed by a key has its line here with mayAccept, the good bundles that it is made for; then it
// must accept those and refuse all others.
var ours = []struct {
	name      string
	judge     judge
	mayAccept func(f fixture) bool
}{
	{name: "sign.Open", judge: openRelease},
	{name: "sign.OpenFile", judge: func(b []byte, key sign.PublicKey, _ digest.Digest) error {
		_, err := sign.OpenFile(b, "https://bundle.wordcab.com/receipt/v1", key)
		return err
	}},
	{name: "sign.ParseChain", judge: func(b []byte, _ sign.PublicKey, _ digest.Digest) error { _, err := sign.ParseChain(b); return err }},
	{name: "sign.ParseTrust", judge: func(b []byte, _ sign.PublicKey, _ digest.Digest) error { _, err := sign.ParseTrust(b); return err }},
	{name: "sign.ParseMessage", judge: func(b []byte, _ sign.PublicKey, _ digest.Digest) error { _, _, err := sign.ParseMessage(b); return err }},
	// It reads bundles by a key about an image; the suite has only those about a file.
	{name: "sign.VerifySigstore", judge: func(b []byte, key sign.PublicKey, artifact digest.Digest) error {
		_, err := sign.VerifySigstore(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: artifact, Size: 1}, b, key)
		return err
	}},
	{name: "sign.Inspect", judge: func(b []byte, _ sign.PublicKey, _ digest.Digest) error { _, _, err := sign.Inspect(b); return err }},
}

// openRelease takes the bytes as the envelope of a release that key may sign, and the artifact's bytes as its head.
func openRelease(b []byte, key sign.PublicKey, _ digest.Digest) error {
	trust, err := sign.NewTrust(sign.TrustForm{Schema: 1, Version: 1, Product: "shop", Keys: []sign.TrustKey{sign.TrustKeyOf(key)},
		Roles: sign.TrustRoles{Release: sign.TrustRole{Keys: []string{key.KeyID()}, Threshold: 1}}})
	if err != nil {
		return nil // the key is part of the test, not of what is judged
	}
	artifact, err := os.ReadFile("testdata/bundle-verify/a.txt")
	if err != nil {
		return nil
	}
	_, err = sign.Open(b, artifact, sign.Policy{Trust: trust, Now: time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), Accepted: map[string]sign.Accepted{}})
	return err
}

// TestT45T46T47OursRefuse shows every bundle to every judge of ours: whole, and the envelope and statement that some carry.
func TestT45T46T47OursRefuse(t *testing.T) {
	accepted := map[string]int{}
	for _, f := range fixtures(t) {
		key := keyOf(t, f)
		for _, j := range ours {
			for part, b := range parts(f.bundle) {
				err := unpanicked(func() error { return j.judge(b, key, digest.FromBytes(f.artifact)) })
				want := j.mayAccept != nil && j.mayAccept(f) && part == "bundle"
				if (err == nil) != want {
					t.Errorf("%s of %s: %s says %v, accepting is %v", part, f.name, j.name, err, want)
				}
				if err == nil {
					accepted[j.name]++
				}
			}
		}
	}
	for _, j := range ours {
		if j.mayAccept != nil && accepted[j.name] == 0 {
			t.Errorf("%s accepts nothing: it was not tested", j.name)
		}
	}
}

// keyOf is the fixture's key where we read it, else one that signed nothing of it.
func keyOf(t *testing.T, f fixture) sign.PublicKey {
	t.Helper()
	if f.key != nil {
		if k, err := sign.LoadPublic(f.key); err == nil {
			return k
		}
	}
	b, err := os.ReadFile("testdata/bundle-verify/managed-key-happy-path/key.pub")
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.LoadPublic(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// parts are the bytes in a bundle that look like something of ours.
func parts(b []byte) map[string][]byte {
	all := map[string][]byte{"bundle": b}
	var form struct {
		Envelope json.RawMessage `json:"dsseEnvelope"`
		Chain    json.RawMessage `json:"verificationMaterial"`
	}
	if json.Unmarshal(b, &form) != nil {
		return all
	}
	for name, raw := range map[string]json.RawMessage{"envelope": form.Envelope, "material": form.Chain} {
		if raw != nil {
			all[name] = raw
		}
	}
	var envelope struct {
		Payload []byte `json:"payload"`
	}
	if json.Unmarshal(form.Envelope, &envelope) == nil && envelope.Payload != nil {
		all["payload"] = envelope.Payload
		all["message"] = fmt.Appendf(nil, "DSSEv1 28 application/vnd.in-toto+json %d %s", len(envelope.Payload), envelope.Payload)
	}
	return all
}

// unpanicked turns a panic into an acceptance, the worst verdict.
func unpanicked(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			fmt.Fprintln(os.Stderr, "panic:", p)
			err = nil
		}
	}()
	return f()
}
