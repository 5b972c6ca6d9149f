package sign

import (
	"bytes"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestSealRefuses(t *testing.T) {
	cases := map[string]func(s *site){
		"no signer":           func(s *site) { s.signers = nil },
		"no kind":             func(s *site) { s.statement.Kind = "" },
		"no name":             func(s *site) { s.statement.Name = "" },
		"dots in name":        func(s *site) { s.statement.Name = "a..b" },
		"no version":          func(s *site) { s.statement.Version = "" },
		"no channel":          func(s *site) { s.statement.Channel = "" },
		"no sequence":         func(s *site) { s.statement.Sequence = 0 },
		"sequence too large":  func(s *site) { s.statement.Sequence = math.MaxUint64 },
		"epoch too large":     func(s *site) { s.statement.Epoch = math.MaxUint64 },
		"target in a release": func(s *site) { s.statement.Target = hexOf("a") },
		"patch without bases": func(s *site) { s.patch(); s.statement.Bases = nil },
		"patch, no target":    func(s *site) { s.patch(); s.statement.Target = "" },
		"patch onto itself":   func(s *site) { s.patch(); s.statement.Target = hexOf("a") },
		"base twice":          func(s *site) { s.patch(); s.statement.Bases = []string{hexOf("a"), hexOf("a")} },
		"site with a blank":   func(s *site) { s.statement.Sites = []string{"a b"} },
		"no issue time":       func(s *site) { s.statement.IssuedAt = "" },
		"impossible date":     func(s *site) { s.statement.IssuedAt = "2026-02-30T00:00:00Z" },
		"no release digest":   func(s *site) { s.statement.ReleaseDigest = "" },
		"signer with wrong id": func(s *site) {
			s.signers = []Signer{alias{s.release, s.second.KeyID()}}
		},
		"broken signer": func(s *site) { s.signers = []Signer{broken{s.release}} },
	}
	for name, change := range cases {
		s := newSite(t)
		change(s)
		if _, err := Seal(ocispec.Descriptor{Digest: digest.FromString("x")}, s.statement, s.signers...); err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
	s := newSite(t)
	for _, d := range []digest.Digest{"", "sha512:00", "sha256:ABC"} {
		if _, err := Seal(ocispec.Descriptor{Digest: d}, s.statement, s.release); err == nil {
			t.Errorf("digest %q: sealed", d)
		}
	}
}

type alias struct {
	Signer
	id string
}

func (a alias) KeyID() string { return a.id }

type broken struct{ Signer }

func (broken) Sign([]byte) ([]byte, error) { return []byte("no signature"), nil }

func TestSealIsDeterministic(t *testing.T) {
	s := newSite(t)
	s.signers = []Signer{s.second, s.security} // Ed25519 only: ECDSA signatures are random
	first := s.seal(t)
	s.signers = []Signer{s.security, s.second}
	if again := s.seal(t); !bytes.Equal(first, again) {
		t.Errorf("two envelopes:\n%s\n%s", first, again)
	}
	want := fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"release","digest":{"sha256":%q},`+
		`"mediaType":"application/vnd.oci.image.manifest.v1+json"}],"predicateType":"https://bundle.wordcab.com/release/v1",`+
		`"predicate":{"kind":"release","name":"wordcab","version":"2.9.0","channel":"stable","epoch":0,"sequence":57,`+
		`"issuedAt":"2026-09-01T00:00:00Z","expires":"2027-09-01T00:00:00Z","releaseDigest":%q}}`,
		strings.TrimPrefix(digestOf(s.subject), "sha256:"), hexOf("d"))
	if got := payloadIn(t, first); got != want {
		t.Errorf("payload\n%s\nwant\n%s", got, want)
	}
}

func TestAddSignature(t *testing.T) {
	s := newSite(t)
	s.form.Roles.Release.Threshold = 2
	sealed := s.seal(t)
	o, err := s.open(t, sealed)
	wantReason(t, "one of two", o, err, Threshold)
	for range 2 { // the second time replaces
		if sealed, err = AddSignature(sealed, s.second); err != nil {
			t.Fatal(err)
		}
	}
	if o, err = s.open(t, sealed); err != nil || len(o.Signers()) != 2 {
		t.Errorf("two of two: %v, %v", o.Signers(), err)
	}
	claimed, ids, err := Inspect(sealed)
	if err != nil || len(ids) != 2 || !reflect.DeepEqual(claimed, s.statement) {
		t.Errorf("inspect: %+v, %v, %v", claimed, ids, err)
	}
	for name, foreign := range map[string][]byte{
		"nothing":         nil,
		"other predicate": signRaw(t, payloadType, strings.Replace(payloadIn(t, sealed), "release/v1", "spdx/v1", 1), "", s.release),
		"no statement":    signRaw(t, payloadType, "{}", "", s.release),
	} {
		if _, err := AddSignature(foreign, s.second); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}
