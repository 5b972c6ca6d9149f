//go:build pkcs11

package hsm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/sign"
)

const testPIN = "1234"

func rightPIN() ([]byte, error) { return []byte(testPIN), nil }

// module finds softhsm2's library. Outside of CI the test is skipped without it.
func module(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("softhsm2 is not installed")
	}
	t.Skip("softhsm2 is not installed")
	return ""
}

// newToken makes a token with one key of each kind, and two with the same name.
func newToken(t *testing.T) (library string) {
	t.Helper()
	library = module(t)
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "tokens"), 0o700),
		os.WriteFile(conf, []byte("directories.tokendir = "+filepath.Join(dir, "tokens")+"\nlog.level = ERROR\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	command(t, "softhsm2-util", "--init-token", "--free", "--label", "vendor", "--so-pin", "5678", "--pin", testPIN)
	for _, k := range []struct{ kind, label, id string }{
		{"EC:prime256v1", "p256", "01"}, {"EC:secp384r1", "p384", "02"}, {"rsa:3072", "rsa", "03"},
		{"EC:prime256v1", "twin", "04"}, {"EC:prime256v1", "twin", "05"}, {"EC:secp521r1", "p521", "06"},
	} {
		command(t, "pkcs11-tool", "--module", library, "--token-label", "vendor", "--login", "--pin", testPIN,
			"--keypairgen", "--key-type", k.kind, "--label", k.label, "--id", k.id)
	}
	return library
}

func command(t *testing.T, argv ...string) {
	t.Helper()
	if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

func TestSigns(t *testing.T) {
	library := newToken(t)
	for object, algorithm := range map[string]string{"p256": sign.ECDSAP256, "p384": sign.ECDSAP384, "rsa": sign.RSA} {
		t.Run(object, func(t *testing.T) {
			k, err := Open("pkcs11:token=vendor;object="+object+";type=private?module-path="+library, rightPIN)
			if err != nil {
				t.Fatal(err)
			}
			public, err := sign.NewPublicKey(k.Public())
			if err != nil || public.Algorithm() != algorithm {
				t.Fatalf("%s, %v", public.Algorithm(), err)
			}
			checkEnvelope(t, k, public)
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := k.Sign([]byte("x")); err == nil {
				t.Error("a closed key signs")
			}
		})
	}
}

// checkEnvelope signs a release and what cosign looks at, and judges both as a site and as cosign would.
func checkEnvelope(t *testing.T, k sign.Signer, public sign.PublicKey) {
	t.Helper()
	head := []byte(`{"schemaVersion":2}`)
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(head), Size: int64(len(head))}
	now := time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC)
	st := sign.Statement{Kind: sign.KindRelease, Name: "shop", Version: "1.0.0", Channel: "stable", Sequence: 1,
		IssuedAt: now.Format(time.RFC3339), ReleaseDigest: string(digest.FromString("release"))}
	env, err := sign.Seal(d, st, k)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := sign.NewTrust(sign.TrustForm{Schema: 1, Version: 1, Product: "shop", Keys: []sign.TrustKey{sign.TrustKeyOf(public)},
		Roles: sign.TrustRoles{Release: sign.TrustRole{Keys: []string{public.KeyID()}, Threshold: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := sign.Open(env, head, sign.Policy{Trust: trust, Now: now, Accepted: map[string]sign.Accepted{}})
	if err != nil || len(o.Signers()) != 1 {
		t.Fatalf("%v, %v", o.Signers(), err)
	}
	sig, err := sign.SignCosign(d, "shop/release", k)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := sign.VerifyCosign(d, sig, public); err != nil || len(ids) != 1 {
		t.Fatalf("%v, %v", ids, err)
	}
}

func TestPINFile(t *testing.T) {
	library := newToken(t)
	file := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(file, []byte(testPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{file, "file:" + file} {
		k, err := Open("pkcs11:token=vendor;object=twin;id=%05?module-path="+library+"&pin-source="+source, nil)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestRefused(t *testing.T) {
	library := newToken(t)
	at := "?module-path=" + library
	for uri, want := range map[string]error{
		"pkcs11:token=vendor;object=twin" + at:                                   ErrAmbiguous,
		"pkcs11:token=vendor;object=none" + at:                                   ErrNoKey,
		"pkcs11:token=vendor;object=p256;id=%02" + at:                            ErrNoKey,
		"pkcs11:token=other;object=p256" + at:                                    ErrToken,
		"pkcs11:slot-id=77777;object=p256" + at:                                  ErrToken,
		"pkcs11:token=vendor;object=p256?module-path=/nowhere":                   ErrToken,
		"pkcs11:token=vendor;object=p256?module-path=" + os.Args[0]:              ErrToken,
		"pkcs11:token=vendor;object=p256?module-path=relative":                   ErrURI,
		"pkcs11:token=vendor;object=p256":                                        ErrURI,
		"pkcs11:object=p256" + at:                                                ErrURI,
		"pkcs11:token=vendor;serial=1;object=p256" + at:                          ErrURI,
		"pkcs11:token=vendor" + at:                                               ErrURI,
		"pkcs11:token=vendor;object=p256" + at + "&pin-value=1234":               ErrURI,
		"pkcs11:token=vendor;object=p256" + at + "&pin-source=/nowhere":          ErrURI,
		"pkcs11:token=vendor;object=p256" + at + "&pin-source=https://a.example": ErrURI,
		"pkcs11:token=vendor;object=p256;type=cert" + at:                         ErrURI,
		"pkcs11:token=vendor;object=p256;model=x" + at:                           ErrURI,
		"pkcs11:token=vendor;token=vendor;object=p256" + at:                      ErrURI,
		"pkcs11:token=vendor;object=%zz" + at:                                    ErrURI,
		"pkcs11:":                                                                ErrURI,
		"release.key":                                                            ErrURI,
	} {
		if k, err := Open(uri, rightPIN); !errors.Is(err, want) {
			t.Errorf("%s: got %v, %v; want %v", uri, k, err, want)
		}
	}
	if _, err := Open("pkcs11:token=vendor;object=p256"+at, func() ([]byte, error) { return []byte("4321"), nil }); !errors.Is(err, ErrPIN) {
		t.Errorf("a wrong PIN: %v", err)
	}
	if _, err := Open("pkcs11:token=vendor;object=p521"+at, rightPIN); err == nil || !strings.Contains(err.Error(), "P-384") {
		t.Errorf("a curve that is not allowed: %v", err)
	}
	none := errors.New("nobody there")
	if _, err := Open("pkcs11:token=vendor;object=p256"+at, func() ([]byte, error) { return nil, none }); !errors.Is(err, none) {
		t.Errorf("no PIN: %v", err)
	}
}

// TestBySerial names the token by its serial number, and the key by its id alone.
func TestBySerial(t *testing.T) {
	library := newToken(t)
	out, err := exec.Command("pkcs11-tool", "--module", library, "--list-token-slots").Output()
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(out), "serial num")
	serial := strings.TrimSpace(strings.TrimLeft(strings.SplitN(rest, "\n", 2)[0], " :"))
	if !found || serial == "" {
		t.Fatalf("no serial number in %s", out)
	}
	k, err := Open(fmt.Sprintf("pkcs11:serial=%s;id=%%01?module-path=%s", serial, library), rightPIN)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if _, err := k.Sign([]byte("x")); err != nil {
		t.Error(err)
	}
}
