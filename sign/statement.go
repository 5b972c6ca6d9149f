package sign

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/internal/strict"
)

// Kinds of statement and their predicate types.
const (
	KindRelease      = "release"
	KindPatch        = "patch"
	PredicateRelease = "https://bundle.wordcab.com/release/v1"
	PredicatePatch   = "https://bundle.wordcab.com/patch/v1"
)

const (
	statementType = "https://in-toto.io/Statement/v1"
	maxInteger    = 1 << 53 // what every JSON reader keeps exact
	maxSites      = 10_000
	maxBases      = 64
)

var (
	hexDigest   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	digestForm  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	nameForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)
	versionForm = regexp.MustCompile(`^[0-9][0-9A-Za-z.+-]{0,127}$`)
	siteForm    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)
)

// Statement is the predicate: what the signers say of a head. It repeats the fields of release.json and patch.json that
// the site's policy judges, so that the decision comes before any large blob; the reader of those must compare them.
type Statement struct {
	Kind          string   `json:"kind"` // KindRelease or KindPatch
	Name          string   `json:"name"` // the product
	Version       string   `json:"version"`
	Channel       string   `json:"channel"`
	Epoch         uint64   `json:"epoch"`
	Sequence      uint64   `json:"sequence"`         // of the release, or of a patch's target; 1 to 2^53
	Bases         []string `json:"bases,omitempty"`  // patch only: digests of the heads it can start from
	Target        string   `json:"target,omitempty"` // patch only: digest of the head it ends with
	Sites         []string `json:"sites,omitempty"`  // site ids; empty = every site
	IssuedAt      string   `json:"issuedAt"`         // RFC 3339, UTC, whole seconds
	Expires       string   `json:"expires,omitempty"`
	ReleaseDigest string   `json:"releaseDigest"` // of release.json, or of a patch's patch.json
}

// Head is the digest of the head that the site ends up with: the subject of a release, the target of a patch.
func (s Statement) Head(subject ocispec.Descriptor) string {
	if s.Kind == KindPatch {
		return s.Target
	}
	return subject.Digest.String()
}

type intoto struct {
	Type          string          `json:"_type"`
	Subject       []intotoSubject `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

type intotoSubject struct {
	Name      string       `json:"name"`
	Digest    intotoDigest `json:"digest"`
	MediaType string       `json:"mediaType,omitempty"`
}

type intotoDigest struct {
	SHA256 string `json:"sha256"`
}

func predicateType(kind string) string {
	switch kind {
	case KindRelease:
		return PredicateRelease
	case KindPatch:
		return PredicatePatch
	}
	return ""
}

// field is one rule for one field of a statement.
type field struct {
	name string
	ok   bool
	want string
}

// validate says which field is malformed, and how it should look.
func (s Statement) validate() (name, want string) {
	issued, issuedErr := parseTime(s.IssuedAt)
	expires, expiresErr := parseTime(s.Expires)
	patch := s.Kind == KindPatch
	for _, f := range []field{
		{"kind", s.Kind == KindRelease || patch, "release or patch"},
		{"name", goodName(s.Name), "lower case letters, digits, dots and dashes"},
		{"version", versionForm.MatchString(s.Version), "a semantic version"},
		{"channel", goodName(s.Channel), "lower case letters, digits, dots and dashes"},
		{"epoch", s.Epoch <= maxInteger, "at most 2^53"},
		{"sequence", s.Sequence >= 1 && s.Sequence <= maxInteger, "1 to 2^53"},
		{"bases", len(s.Bases) <= maxBases && allMatch(s.Bases, digestForm), "up to 64 different sha256 digests"},
		{"bases", patch == (len(s.Bases) > 0), "at least one in a patch, none in a release"},
		{"target", patch == digestForm.MatchString(s.Target) && (patch || s.Target == ""), "a sha256 digest in a patch, nothing in a release"},
		{"target", !slices.Contains(s.Bases, s.Target), "another head than the bases"},
		{"sites", len(s.Sites) <= maxSites && allMatch(s.Sites, siteForm), "different site ids"},
		{"issuedAt", issuedErr == nil, "RFC 3339 in UTC, whole seconds"},
		{"expires", s.Expires == "" || expiresErr == nil && expires.After(issued), "RFC 3339 in UTC, after issuedAt"},
		{"releaseDigest", digestForm.MatchString(s.ReleaseDigest), "a sha256 digest"},
	} {
		if !f.ok {
			return f.name, f.want
		}
	}
	return "", ""
}

func goodName(s string) bool { return nameForm.MatchString(s) && !strings.Contains(s, "..") }

func allMatch(values []string, form *regexp.Regexp) bool {
	once := map[string]bool{}
	for _, v := range values {
		if once[v] || !form.MatchString(v) {
			return false
		}
		once[v] = true
	}
	return true
}

// parseTime takes one spelling of each second, so that times can be compared and re-encoded exactly.
func parseTime(text string) (time.Time, error) {
	t, err := time.Parse("2006-01-02T15:04:05Z", text)
	if err == nil && t.Format(time.RFC3339) != text {
		err = errors.New("not the canonical spelling")
	}
	return t, err
}

func badTime(text string) bool {
	_, err := parseTime(text)
	return err != nil
}

func encodeStatement(subject intotoSubject, kind string, predicate any) ([]byte, error) {
	raw, err := json.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	return json.Marshal(intoto{Type: statementType, Subject: []intotoSubject{subject}, PredicateType: kind, Predicate: raw})
}

// parseStatement checks the statement around the predicate.
func parseStatement(payload []byte) (intoto, error) {
	var st intoto
	if err := strict.JSON(payload, &st); err != nil {
		return intoto{}, refuse(BadStatement, "", err.Error())
	}
	switch {
	case st.Type != statementType:
		return intoto{}, refuse(BadStatement, "_type", "want "+statementType)
	case len(st.Subject) != 1:
		return intoto{}, refuse(BadStatement, "subject", "want exactly one")
	case !hexDigest.MatchString(st.Subject[0].Digest.SHA256):
		return intoto{}, refuse(BadStatement, "subject.digest", "want sha256 in lower case hex")
	}
	return st, nil
}

// predicate checks the predicate of a release or patch.
func (st intoto) predicate() (Statement, error) {
	if st.PredicateType != PredicateRelease && st.PredicateType != PredicatePatch {
		return Statement{}, refuse(WrongPredicate, "predicateType", strconv.Quote(clip(st.PredicateType)))
	}
	var s Statement
	if err := strict.JSON(st.Predicate, &s); err != nil {
		return Statement{}, refuse(BadStatement, "predicate", err.Error())
	}
	if predicateType(s.Kind) != st.PredicateType {
		return Statement{}, refuse(WrongPredicate, "kind", fmt.Sprintf("%q under %s", clip(s.Kind), st.PredicateType))
	}
	if name, want := s.validate(); name != "" {
		return Statement{}, refuse(BadStatement, name, "want "+want)
	}
	if st.Subject[0].Name != s.Kind {
		return Statement{}, refuse(BadStatement, "subject.name", "want "+s.Kind)
	}
	return s, nil
}

// digestOf is the sha256:hex of bytes.
func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// clip shortens text from outside for a message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80]
	}
	return s
}

// Seal makes an envelope in which the signers state st of the subject: a head (release) or a patch's root. The payload
// depends on nothing but subject and st.
func Seal(subject ocispec.Descriptor, st Statement, signers ...Signer) ([]byte, error) {
	payload, err := payloadOf(subject, st)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	sealed, err := newEnvelope(payload, signers)
	if err != nil {
		return nil, fmt.Errorf("sealing: %w", err)
	}
	return sealed, nil
}

func payloadOf(subject ocispec.Descriptor, st Statement) ([]byte, error) {
	if name, want := st.validate(); name != "" {
		return nil, fmt.Errorf("field %s: want %s", name, want)
	}
	if !digestForm.MatchString(subject.Digest.String()) {
		return nil, errors.New("the subject's digest is not sha256")
	}
	return encodeStatement(intotoSubject{Name: st.Kind, MediaType: subject.MediaType,
		Digest: intotoDigest{SHA256: subject.Digest.Encoded()}}, predicateType(st.Kind), st)
}

// AddSignature signs what an envelope of Seal already says. A signature by the same key is replaced. It does not verify
// the signatures that are there: the signer is responsible for reading the statement, see Inspect.
func AddSignature(sealed []byte, s Signer) ([]byte, error) {
	e, payload, err := parseEnvelope(sealed)
	if err != nil {
		return nil, fmt.Errorf("adding a signature: %w", err)
	}
	st, err := parseStatement(payload)
	if err == nil {
		_, err = st.predicate()
	}
	if err == nil {
		err = e.add(payload, s)
	}
	if err != nil {
		return nil, fmt.Errorf("adding a signature: %w", err)
	}
	return e.encode()
}

// Inspect returns what an envelope claims, for showing it to people. Nothing is verified: never act on it.
func Inspect(sealed []byte) (claimed Statement, keyIDs []string, err error) {
	e, payload, err := parseEnvelope(sealed)
	if err != nil {
		return Statement{}, nil, err
	}
	st, err := parseStatement(payload)
	if err != nil {
		return Statement{}, nil, err
	}
	claimed, err = st.predicate()
	if err != nil {
		return Statement{}, nil, err
	}
	for _, s := range e.Signatures {
		keyIDs = append(keyIDs, s.KeyID)
	}
	return claimed, keyIDs, nil
}
