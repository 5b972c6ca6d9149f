package sign

import (
	"errors"
	"strings"
	"testing"
)

const predicateReceipt = "https://bundle.wordcab.com/receipt/v1"

func TestSealFile(t *testing.T) {
	for _, algorithm := range []string{ECDSAP256, Ed25519} {
		s := newSigner(t, algorithm)
		sealed, err := SealFile(predicateReceipt, "receipt.json", hexOf("a"), 12, s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := OpenFile(sealed, predicateReceipt, publicOf(t, newSigner(t, Ed25519)), publicOf(t, s))
		if err != nil || got != hexOf("a") {
			t.Errorf("%s: got %q, %v", algorithm, got, err)
		}
	}
}

func TestSealFileRefuses(t *testing.T) {
	s := newSigner(t, Ed25519)
	cases := []struct {
		name, kind, file, digest string
		size                     int64
	}{
		{"release predicate", PredicateRelease, "a", hexOf("a"), 1},
		{"patch predicate", PredicatePatch, "a", hexOf("a"), 1},
		{"no predicate", "", "a", hexOf("a"), 1},
		{"no name", predicateReceipt, "", hexOf("a"), 1},
		{"no digest", predicateReceipt, "a", "", 1},
		{"short digest", predicateReceipt, "a", "sha256:aa", 1},
		{"negative size", predicateReceipt, "a", hexOf("a"), -1},
	}
	for _, c := range cases {
		if _, err := SealFile(c.kind, c.file, c.digest, c.size, s); err == nil {
			t.Errorf("%s: sealed", c.name)
		}
	}
}

func TestOpenFileRefuses(t *testing.T) {
	site := newSite(t)
	s := newSigner(t, Ed25519)
	key := publicOf(t, s)
	good, err := SealFile(predicateReceipt, "a", hexOf("a"), 1, s)
	if err != nil {
		t.Fatal(err)
	}
	payload := payloadIn(t, good)
	cases := []struct {
		name   string
		sealed []byte
		kind   string
		keys   []PublicKey
		want   Reason
	}{
		{"no keys", good, predicateReceipt, nil, NoPolicy},
		{"zero key", good, predicateReceipt, []PublicKey{{}}, NoPolicy},
		{"no envelope", nil, predicateReceipt, []PublicKey{key}, Unsigned},
		{"T02 another key", good, predicateReceipt, []PublicKey{publicOf(t, newSigner(t, Ed25519))}, WrongKey},
		{"T03 another purpose", good, "https://bundle.wordcab.com/support/v1", []PublicKey{key}, WrongPredicate},
		{"T03 a release is no file", site.seal(t), predicateReceipt, []PublicKey{publicOf(t, site.release)}, WrongPredicate},
		{"T03 asked for a release", site.seal(t), PredicateRelease, []PublicKey{publicOf(t, site.release)}, NoPolicy},
		{"T05 predicate", signRaw(t, payloadType, strings.Replace(payload, `"size":1`, `"size":1,"Size":2`, 1), "", s), predicateReceipt,
			[]PublicKey{key}, BadStatement},
		{"no statement", signRaw(t, payloadType, "[]", "", s), predicateReceipt, []PublicKey{key}, BadStatement},
	}
	for _, c := range cases {
		got, err := OpenFile(c.sealed, c.kind, c.keys...)
		var refused *UntrustedError
		if !errors.As(err, &refused) || refused.Reason != c.want || got != "" {
			t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
		}
	}
	site.subject = []byte("a")
	o, err := site.open(t, good)
	wantReason(t, "a file is no release, unknown key", o, err, WrongKey)
	fileByRelease, err := SealFile(predicateReceipt, "a", digestOf(site.subject), 1, site.release)
	if err != nil {
		t.Fatal(err)
	}
	o, err = site.open(t, fileByRelease)
	wantReason(t, "T03 a file is no release", o, err, WrongPredicate)
}
