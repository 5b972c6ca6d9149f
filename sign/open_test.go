package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// newSigner makes a signer without the cost of an encrypted key file.
func newSigner(t testing.TB, algorithm string) Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case ECDSAP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case RSA:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func publicOf(t testing.TB, s Signer) PublicKey {
	t.Helper()
	k, err := NewPublicKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hexOf(c string) string { return "sha256:" + strings.Repeat(c, 64) }

// site is one envelope and the site that judges it. Tests change one thing and look at the verdict.
type site struct {
	release, second, security, stranger Signer

	subject   []byte
	statement Statement
	signers   []Signer
	form      TrustForm
	policy    Policy
}

func newSite(t testing.TB) *site {
	s := &site{release: newSigner(t, ECDSAP256), second: newSigner(t, Ed25519), security: newSigner(t, Ed25519),
		stranger: newSigner(t, ECDSAP256)}
	s.subject = []byte(`{"schemaVersion":2}`)
	s.statement = Statement{Kind: KindRelease, Name: "wordcab", Version: "2.9.0", Channel: "stable", Sequence: 57,
		IssuedAt: "2026-09-01T00:00:00Z", Expires: "2027-09-01T00:00:00Z", ReleaseDigest: hexOf("d")}
	s.signers = []Signer{s.release}
	s.form = TrustForm{Schema: 1, Version: 1, Product: "wordcab",
		Keys: []TrustKey{TrustKeyOf(publicOf(t, s.release)), TrustKeyOf(publicOf(t, s.second)), TrustKeyOf(publicOf(t, s.security))},
		Roles: TrustRoles{Release: TrustRole{Keys: []string{s.release.KeyID(), s.second.KeyID()}, Threshold: 1},
			Security: &TrustRole{Keys: []string{s.security.KeyID()}, Threshold: 1, Allow: allowAll()}}}
	s.policy = Policy{Site: "site-1", Now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC),
		Accepted: map[string]Accepted{"stable": {Sequence: 56, Head: hexOf("9")}}}
	return s
}

func allowAll() *Delegation {
	return &Delegation{Images: []string{"registry.example.com/wordcab/*"}, MaxBytes: 1 << 30, MaxDays: 90}
}

// drop makes the statement one of the security role about a head that the site has taken in as a patch.
func (s *site) drop() {
	s.statement.Channel, s.signers = "security", []Signer{s.security}
	s.statement.IssuedAt, s.statement.Expires = "2026-10-20T00:00:00Z", "2026-12-20T00:00:00Z"
	s.policy.Installed = []string{digestOf(s.subject)}
}

func (s *site) patch() {
	s.statement.Kind, s.statement.Bases, s.statement.Target = KindPatch, []string{hexOf("a"), hexOf("b")}, hexOf("c")
}

func (s *site) seal(t testing.TB) []byte {
	t.Helper()
	sealed, err := Seal(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(s.subject),
		Size: int64(len(s.subject))}, s.statement, s.signers...)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

// open judges the envelope; a trust policy that a test has not set is made from the form.
func (s *site) open(t testing.TB, sealed []byte) (Opened, error) {
	t.Helper()
	if s.policy.Trust == nil {
		trust, err := NewTrust(s.form)
		if err != nil {
			t.Fatal(err)
		}
		s.policy.Trust = trust
	}
	return Open(sealed, s.subject, s.policy)
}

// signRaw signs any payload under any payload type, as a hostile writer could.
func signRaw(t testing.TB, kind, payload string, keyID string, signers ...Signer) []byte {
	t.Helper()
	e := envelope{PayloadType: kind, Payload: base64.StdEncoding.EncodeToString([]byte(payload))}
	for _, s := range signers {
		raw, err := s.Sign(preAuth(kind, []byte(payload)))
		if err != nil {
			t.Fatal(err)
		}
		id := s.KeyID()
		if keyID != "" {
			id = keyID
		}
		e.Signatures = append(e.Signatures, envelopeSignature{KeyID: id, Sig: base64.StdEncoding.EncodeToString(raw)})
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func payloadIn(t testing.TB, sealed []byte) string {
	t.Helper()
	_, payload, err := parseEnvelope(sealed)
	if err != nil {
		t.Fatal(err)
	}
	return string(payload)
}

func TestOpenAccepts(t *testing.T) {
	cases := map[string]func(s *site){
		"a newer release":            func(s *site) {},
		"two signatures":             func(s *site) { s.signers = append(s.signers, s.second) },
		"a stranger signs too":       func(s *site) { s.signers = append(s.signers, s.stranger) },
		"threshold of two":           func(s *site) { s.form.Roles.Release.Threshold = 2; s.signers = append(s.signers, s.second) },
		"an out-of-band release":     func(s *site) { s.drop() },
		"an out-of-band patch":       func(s *site) { s.drop(); s.patch(); s.policy.Installed = []string{hexOf("a")} },
		"a clock that is a bit late": func(s *site) { s.statement.IssuedAt = "2026-11-02T12:00:00Z" },
		"a policy that still holds":  func(s *site) { s.form.Expires = "2026-11-02T00:00:00Z" },
		"the first in its channel":   func(s *site) { s.policy.Accepted = map[string]Accepted{} },
		"the same again":             func(s *site) { s.policy.Accepted["stable"] = Accepted{Sequence: 57, Head: digestOf(s.subject)} },
		"no expiry":                  func(s *site) { s.statement.Expires = "" },
		"this site":                  func(s *site) { s.statement.Sites = []string{"site-0", "site-1"} },
		"a patch":                    func(s *site) { s.patch() },
		"a patch from what is there": func(s *site) { s.patch(); s.policy.Installed = []string{hexOf("b")} },
		"a patch once more": func(s *site) {
			s.patch()
			s.policy.Accepted["stable"] = Accepted{Sequence: 57, Head: hexOf("c")}
			s.policy.Installed = []string{hexOf("c")}
		},
		"a new epoch restarts the sequence": func(s *site) {
			s.form.Epoch, s.statement.Epoch, s.statement.Sequence = 1, 1, 1
			s.policy.Accepted["stable"] = Accepted{Sequence: maxInteger, Head: hexOf("9")}
		},
		"one key is revoked, another is enough": func(s *site) {
			s.form.Revoked.Keys = []string{s.release.KeyID()}
			s.signers = append(s.signers, s.second)
		},
	}
	for name, change := range cases {
		s := newSite(t)
		change(s)
		o, err := s.open(t, s.seal(t))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !o.Valid() || !reflect.DeepEqual(o.Statement(), s.statement) || !bytes.Equal(o.SubjectBytes(), s.subject) {
			t.Errorf("%s: opened %+v", name, o)
		}
		if d := o.Subject(); d.Digest.String() != digestOf(s.subject) || d.Size != int64(len(s.subject)) || d.MediaType != ocispec.MediaTypeImageManifest {
			t.Errorf("%s: subject %+v", name, d)
		}
		for _, id := range o.Signers() {
			if id == s.stranger.KeyID() || id == s.form.Revoked.keyOrNone() {
				t.Errorf("%s: %s counted", name, id)
			}
		}
	}
}

func (r TrustRevoked) keyOrNone() string {
	if len(r.Keys) > 0 {
		return r.Keys[0]
	}
	return "none"
}

func TestOpenRefuses(t *testing.T) {
	stable := func(a Accepted) func(s *site) { return func(s *site) { s.policy.Accepted["stable"] = a } }
	cases := []struct {
		name   string
		change func(s *site)
		want   Reason
	}{
		{"no trust policy", func(s *site) { s.policy.Trust = &Trust{} }, NoPolicy},
		{"no clock", func(s *site) { s.policy.Now = time.Time{} }, NoPolicy},
		{"no record", func(s *site) { s.policy.Accepted = nil }, NoPolicy},
		{"T02 wrong key", func(s *site) { s.signers = []Signer{s.stranger} }, WrongKey},
		{"T03 security key on stable", func(s *site) { s.signers = []Signer{s.security} }, WrongRole},
		{"T03 release key on security", func(s *site) { s.statement.Channel = "security" }, WrongRole},
		{"T37 security key signs a whole release", func(s *site) { s.drop(); s.policy.Installed = nil }, WrongScope},
		{"T37 a whole release beside what the site has", func(s *site) { s.drop(); s.policy.Installed = []string{hexOf("9")} }, WrongScope},
		{"T37 a drop without an end", func(s *site) { s.drop(); s.statement.Expires = "" }, WrongScope},
		{"T37 a drop that lasts", func(s *site) { s.drop(); s.statement.Expires = "2027-01-19T00:00:00Z" }, WrongScope},
		{"T37 a patch that lasts", func(s *site) { s.drop(); s.patch(); s.statement.Expires = "2027-01-19T00:00:00Z" }, WrongScope},
		{"T37 a drop that bumps the epoch", func(s *site) { s.drop(); s.statement.Epoch = 1 }, WrongEpoch},
		{"T13 the policy has expired", func(s *site) { s.form.Expires = "2026-11-01T00:00:00Z" }, Expired},
		{"T14 the policy has expired, the clock was set back", func(s *site) {
			s.form.Expires, s.policy.ClockFloor = "2026-12-01T00:00:00Z", time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
		}, Expired},
		{"T12 a time far ahead", func(s *site) { s.statement.IssuedAt, s.statement.Expires = "2099-01-01T00:00:00Z", "" }, NotYet},
		{"T34 one of two", func(s *site) { s.form.Roles.Release.Threshold = 2 }, Threshold},
		{"T34 the second has another role", func(s *site) {
			s.form.Roles.Release.Threshold = 2
			s.signers = append(s.signers, s.security, s.stranger)
		}, Threshold},
		{"channel without role", func(s *site) { s.statement.Channel = "nightly" }, WrongChannel},
		{"closed security channel", func(s *site) {
			s.form.Roles.Security = nil
			s.statement.Channel, s.signers = "security", []Signer{s.security}
		}, WrongChannel},
		{"T39 key revoked by the policy", func(s *site) { s.form.Revoked.Keys = []string{s.release.KeyID()} }, Revoked},
		{"T39 key revoked earlier", func(s *site) { s.policy.Revoked.Keys = []string{s.release.KeyID()} }, Revoked},
		{"T39 head revoked by the policy", func(s *site) { s.form.Revoked.Heads = []string{digestOf(s.subject)} }, Revoked},
		{"T39 head revoked earlier", func(s *site) { s.policy.Revoked.Heads = []string{digestOf(s.subject)} }, Revoked},
		{"T39 patch to a revoked head", func(s *site) { s.patch(); s.policy.Revoked.Heads = []string{hexOf("c")} }, Revoked},
		{"T38 product", func(s *site) { s.statement.Name = "other" }, WrongProduct},
		{"T38 site", func(s *site) { s.statement.Sites = []string{"site-2"} }, WrongSite},
		{"T38 site unknown", func(s *site) { s.statement.Sites, s.policy.Site = []string{"site-2"}, "" }, WrongSite},
		{"T10 older", stable(Accepted{Sequence: 58, Head: hexOf("9")}), Replayed},
		{"T10 same sequence, other head", stable(Accepted{Sequence: 57, Head: hexOf("9")}), Replayed},
		{"T10 older with the same head", func(s *site) {
			s.policy.Accepted["stable"] = Accepted{Sequence: 58, Head: digestOf(s.subject)}
		}, Replayed},
		{"T10 older patch", func(s *site) { s.patch(); stable(Accepted{Sequence: 58, Head: hexOf("c")})(s) }, Replayed},
		{"T10 patch of the same sequence to another head", func(s *site) {
			s.patch()
			stable(Accepted{Sequence: 57, Head: hexOf("9")})(s)
		}, Replayed},
		{"T12 epoch below the accepted", func(s *site) {
			s.form.Epoch = 1
			stable(Accepted{Epoch: 1, Sequence: 1})(s)
		}, Replayed},
		{"T36 trust policy below the accepted epoch", func(s *site) {
			s.statement.Epoch = 2
			stable(Accepted{Epoch: 2, Sequence: 1})(s)
		}, Replayed},
		{"T37 epoch bumped by a release key", func(s *site) { s.statement.Epoch = 1 }, WrongEpoch},
		{"epoch from before, first in its channel", func(s *site) {
			s.form.Epoch, s.policy.Accepted = 1, map[string]Accepted{}
		}, WrongEpoch},
		{"T13 expired", func(s *site) { s.policy.Now = time.Date(2027, 9, 1, 0, 0, 0, 0, time.UTC) }, Expired},
		{"T14 clock set back", func(s *site) { s.policy.ClockFloor = time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC) }, Expired},
		{"T16 wrong base", func(s *site) { s.patch(); s.policy.Installed = []string{hexOf("9")} }, WrongBase},
	}
	for _, c := range cases {
		s := newSite(t)
		c.change(s)
		o, err := s.open(t, s.seal(t))
		wantReason(t, c.name, o, err, c.want)
	}
}

func wantReason(t *testing.T, name string, o Opened, err error, want Reason) {
	t.Helper()
	var refused *UntrustedError
	if !errors.As(err, &refused) || !errors.Is(err, ErrUntrusted) || refused.Reason != want {
		t.Errorf("%s: got %v, want %q", name, err, want)
	}
	if o.Valid() || o.SubjectBytes() != nil || o.Statement().Kind != "" {
		t.Errorf("%s: a refusal gave %+v", name, o)
	}
}

// TestOpenRefusesForgery is about envelopes that Seal would not make.
func TestOpenRefusesForgery(t *testing.T) {
	s := newSite(t)
	good := s.seal(t)
	payload := payloadIn(t, good)
	swap := func(old, with string) []byte {
		if !strings.Contains(payload, old) {
			t.Fatalf("%q is not in %s", old, payload)
		}
		return signRaw(t, payloadType, strings.Replace(payload, old, with, 1), "", s.release)
	}
	edit := func(old, with string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(with), 1)
	}
	twice := signRaw(t, payloadType, payload, "", s.release, s.release)
	many := make([]Signer, MaxSignatures+1)
	for i := range many {
		many[i] = s.second
	}
	cases := []struct {
		name   string
		sealed []byte
		want   Reason
	}{
		{"T01 nothing", nil, Unsigned},
		{"T01 signatures stripped", signRaw(t, payloadType, payload, ""), Unsigned},
		{"T01 empty list", []byte(`{"payloadType":"` + payloadType + `","payload":"","signatures":[]}`), Unsigned},
		{"T22 too large", bytes.Repeat([]byte(" "), MaxEnvelope+1), BadEnvelope},
		{"T22 too many signatures", signRaw(t, payloadType, payload, "", many...), BadEnvelope},
		{"T04 payload type", signRaw(t, "text/plain", payload, "", s.release), BadEnvelope},
		{"T04 payload type swapped afterwards", bytes.Replace(signRaw(t, "text/plain", payload, "", s.release),
			[]byte("text/plain"), []byte(payloadType), 1), WrongKey},
		{"no JSON", []byte("payload"), BadEnvelope},
		{"T05 trailing data", append(bytes.Clone(good), '{', '}'), BadEnvelope},
		{"T05 unknown field", edit(`"payload":`, `"x":1,"payload":`), BadEnvelope},
		{"T05 folded field", edit(`"payload":`, `"PAYLOAD":`), BadEnvelope},
		{"T05 duplicate field", edit(`"payload":`, `"payload":"","payload":`), BadEnvelope},
		{"base64 with line end", edit(`"payload":"`, `"payload":"\n`), BadEnvelope},
		{"base64 of another alphabet", edit(`"sig":"`, `"sig":"-_`), BadEnvelope},
		{"T34 key id alias", signRaw(t, payloadType, payload, strings.Repeat("0", 64), s.release), WrongKey},
		{"key id of another key", signRaw(t, payloadType, payload, s.second.KeyID(), s.release), WrongKey},
		{"key id in upper case", edit(s.release.KeyID(), strings.ToUpper(s.release.KeyID())), BadEnvelope},
		{"payload changed after signing", edit(base64.StdEncoding.EncodeToString([]byte(payload)),
			base64.StdEncoding.EncodeToString([]byte(strings.Replace(payload, `:57`, `:99`, 1)))), WrongKey},
		{"signed, but no statement", signRaw(t, payloadType, "{}", "", s.release), BadStatement},
		{"statement type", swap("Statement/v1", "Statement/v0.1"), BadStatement},
		{"T03 predicate type", swap("release/v1", "spdx/v1"), WrongPredicate},
		{"T03 patch predicate on a release", swap("com/release/v1", "com/patch/v1"), WrongPredicate},
		{"T05 folded sequence", swap(`"sequence":57`, `"sequence":57,"SEQUENCE":99`), BadStatement},
		{"T05 unknown field in predicate", swap(`"kind"`, `"level":"skip","kind"`), BadStatement},
		{"T06 exponent", swap(`"sequence":57`, `"sequence":5.7e1`), BadStatement},
		{"T06 text", swap(`"sequence":57`, `"sequence":"57"`), BadStatement},
		{"T06 negative", swap(`"sequence":57`, `"sequence":-57`), BadStatement},
		{"T06 above 2^53", swap(`"sequence":57`, `"sequence":9007199254740993`), BadStatement},
		{"sequence zero", swap(`"sequence":57`, `"sequence":0`), BadStatement},
		{"T07 digest algorithm", swap(`"sha256":"`, `"sha512":"`), BadStatement},
		{"T07 upper case digest", swap(`"releaseDigest":"sha256:d`, `"releaseDigest":"SHA256:d`), BadStatement},
		{"T07 path in digest", swap(`"releaseDigest":"sha256:`+strings.Repeat("d", 5), `"releaseDigest":"sha256:../..`), BadStatement},
		{"T40 name", swap(`"name":"wordcab"`, `"name":"../wordcab"`), BadStatement},
		{"no subject", swap(payload[strings.Index(payload, `[{"name"`):strings.Index(payload, `,"predicateType"`)], `[]`), BadStatement},
		{"T15 another subject", swap(strings.TrimPrefix(digestOf(s.subject), "sha256:"), strings.Repeat("e", 64)), WrongSubject},
		{"release with bases", swap(`"issuedAt"`, `"bases":["`+hexOf("a")+`"],"issuedAt"`), BadStatement},
		{"time in another zone", swap(`2027-09-01T00:00:00Z`, `2027-09-01T00:00:00+00:00`), BadStatement},
		{"time with fraction", swap(`2027-09-01T00:00:00Z`, `2027-09-01T00:00:00.5Z`), BadStatement},
		{"expires before it is issued", swap(`2027-09-01`, `2025-09-01`), BadStatement},
		{"null expires", swap(`"2027-09-01T00:00:00Z"`, `null`), BadStatement},
	}
	for _, c := range cases {
		o, err := s.open(t, c.sealed)
		wantReason(t, c.name, o, err, c.want)
	}

	s.form.Roles.Release.Threshold = 2
	s.policy.Trust = nil
	o, err := s.open(t, twice)
	wantReason(t, "T34 the same key twice", o, err, Threshold)
	s.subject = append(s.subject, ' ')
	o, err = s.open(t, good)
	wantReason(t, "T09 other bytes", o, err, WrongSubject)
}

// TestOpenEveryBitFlip turns each bit of an envelope once; none may change what is accepted.
func TestOpenEveryBitFlip(t *testing.T) {
	s := newSite(t)
	s.signers = []Signer{s.second} // Ed25519 has one signature per message
	good := s.seal(t)
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := s.open(t, bad); err == nil {
				t.Fatalf("byte %d, bit %d: accepted %s", i, bit, bad)
			}
		}
	}
}

func TestZeroValues(t *testing.T) {
	s := newSite(t)
	o, err := Open(s.seal(t), s.subject, Policy{})
	wantReason(t, "zero policy", o, err, NoPolicy)
	if (Opened{}).Valid() {
		t.Error("the zero Opened is valid")
	}
	if (PublicKey{}).Verify([]byte("a"), []byte("b")) == nil || (PublicKey{}).PEM() != nil {
		t.Error("the zero key verifies")
	}
	if new(Trust).Encode() != nil {
		t.Error("the zero trust policy has an encoding")
	}
}

func TestOpenedCannotBeChanged(t *testing.T) {
	s := newSite(t)
	s.patch()
	sealed := s.seal(t)
	o, err := s.open(t, sealed)
	if err != nil {
		t.Fatal(err)
	}
	o.SubjectBytes()[0], o.Statement().Bases[0], o.Signers()[0] = 'x', "x", "x"
	s.subject[0] = 'y'
	if o.SubjectBytes()[0] != '{' || o.Statement().Bases[0] != hexOf("a") || o.Signers()[0] != s.release.KeyID() {
		t.Error("what was opened changed")
	}
}

// fixedSite has keys that are the same in every process: a fuzzing worker must accept what the parent signed.
func fixedSite(f *testing.F) *site {
	s := newSite(f)
	for i, role := range []*Signer{&s.release, &s.second, &s.security} {
		signer, err := NewSigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, ed25519.SeedSize)))
		if err != nil {
			f.Fatal(err)
		}
		*role, s.form.Keys[i] = signer, TrustKeyOf(publicOf(f, signer))
	}
	s.signers = []Signer{s.release}
	s.form.Roles.Release.Keys = []string{s.release.KeyID(), s.second.KeyID()}
	s.form.Roles.Security.Keys = []string{s.security.KeyID()}
	return s
}

func FuzzOpen(f *testing.F) {
	s := fixedSite(f)
	good := s.seal(f)
	trust, err := NewTrust(s.form)
	if err != nil {
		f.Fatal(err)
	}
	s.policy.Trust = trust
	payload := payloadIn(f, good)
	for _, seed := range [][]byte{good, nil, []byte("{}"), signRaw(f, payloadType, payload, "", s.release, s.second),
		signRaw(f, payloadType, "{}", "", s.release), signRaw(f, "text/plain", payload, "", s.release),
		[]byte(`{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[]}`)} {
		f.Add(seed, s.subject)
	}
	if _, err := Open(good, s.subject, s.policy); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, sealed, subject []byte) {
		o, err := Open(sealed, subject, s.policy)
		if err != nil {
			if o.Valid() || !errors.Is(err, ErrUntrusted) {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		if _, got, _ := parseEnvelope(sealed); string(got) != payload || !bytes.Equal(subject, s.subject) {
			t.Fatalf("accepted what nobody signed: %s", sealed)
		}
	})
}

// FuzzStatement signs what the fuzzer makes of a payload: what is accepted must encode to the same statement.
func FuzzStatement(f *testing.F) {
	s := newSite(f)
	f.Add([]byte(payloadIn(f, s.seal(f))))
	s.patch()
	f.Add([]byte(payloadIn(f, s.seal(f))))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"","predicate":{}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		outer, err := parseStatement(payload)
		if err != nil {
			return
		}
		st, err := outer.predicate()
		if err != nil {
			return
		}
		again, err := encodeStatement(outer.Subject[0], outer.PredicateType, st)
		if err != nil {
			t.Fatal(err)
		}
		back, err := parseStatement(again)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := back.predicate(); err != nil || fmt.Sprint(got) != fmt.Sprint(st) {
			t.Fatalf("%+v became %+v: %v", st, got, err)
		}
	})
}
