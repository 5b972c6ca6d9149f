package sign

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxSubject bounds the bytes of a head or patch root.
const MaxSubject = 4 << 20

// Policy is all that the site knows when it judges an envelope. The zero value refuses everything.
type Policy struct {
	Trust      *Trust              // required
	Now        time.Time           // required: the wall clock
	ClockFloor time.Time           // a time known to have passed; the later one of the two counts
	Accepted   map[string]Accepted // required: by channel; empty, not nil, for a site that has accepted nothing
	Site       string              // this site's id; "" is no site of any list
	Revoked    TrustRevoked        // what the site has ever seen revoked, on top of the trust policy's
	Installed  []string            // digests of heads that the site holds; where empty, a patch's bases are not judged
}

// Accepted is the newest that a site has accepted in a channel.
type Accepted struct {
	Epoch    uint64
	Sequence uint64
	Head     string // digest of the release's head
}

// Opened is a subject that the policy let in. Only Open makes one; the zero value is not Valid and says nothing.
type Opened struct {
	valid     bool
	subject   ocispec.Descriptor
	bytes     []byte
	statement Statement
	signers   []string
}

// Valid reports whether Open made it.
func (o Opened) Valid() bool { return o.valid }

// Subject is the descriptor of the head or patch root. The media type is the one that was signed.
func (o Opened) Subject() ocispec.Descriptor { return o.subject }

// SubjectBytes are the subject's bytes, those that were verified.
func (o Opened) SubjectBytes() []byte { return bytes.Clone(o.bytes) }

// Statement is what was signed.
func (o Opened) Statement() Statement {
	s := o.statement
	s.Bases, s.Sites = slices.Clone(s.Bases), slices.Clone(s.Sites)
	return s
}

// Signers are the ids of the role's keys that signed, sorted.
func (o Opened) Signers() []string { return slices.Clone(o.signers) }

// Open judges an envelope and the bytes that it is about. The order is that of the package comment; the first rule that is
// broken is returned as an *UntrustedError.
func Open(sealed, subject []byte, p Policy) (Opened, error) {
	if err := p.usable(); err != nil {
		return Opened{}, err
	}
	e, payload, err := parseEnvelope(sealed)
	if err != nil {
		return Opened{}, err
	}
	signed := e.signedBy(payload, p.Trust.keys)
	if len(signed) == 0 {
		return Opened{}, &UntrustedError{Reason: WrongKey, KeyID: e.Signatures[0].KeyID}
	}
	outer, err := parseStatement(payload)
	if err != nil {
		return Opened{}, err
	}
	st, err := outer.predicate()
	if err != nil {
		return Opened{}, err
	}
	desc, err := matchSubject(outer.Subject[0], subject)
	if err != nil {
		return Opened{}, err
	}
	signers, err := p.judgeSigners(st, signed)
	if err != nil {
		return Opened{}, err
	}
	if err := p.judgeDrop(st, desc); err != nil {
		return Opened{}, err
	}
	if err := p.judge(st, desc); err != nil {
		return Opened{}, err
	}
	return Opened{valid: true, subject: desc, bytes: bytes.Clone(subject), statement: st, signers: signers}, nil
}

func (p Policy) usable() error {
	switch {
	case p.Trust == nil || len(p.Trust.keys) == 0:
		return refuse(NoPolicy, "trust", "the site has no trust policy")
	case p.Now.IsZero():
		return refuse(NoPolicy, "now", "the time is not known")
	case p.Accepted == nil:
		return refuse(NoPolicy, "accepted", "what the site has accepted is not known")
	}
	return p.judgeExpiry("trust.expires", p.Trust.form.Expires)
}

func matchSubject(signed intotoSubject, subject []byte) (ocispec.Descriptor, error) {
	if len(subject) > MaxSubject {
		return ocispec.Descriptor{}, refuse(WrongSubject, "subject", fmt.Sprintf("larger than %d bytes", MaxSubject))
	}
	got := digestOf(subject)
	if got != "sha256:"+signed.Digest.SHA256 {
		return ocispec.Descriptor{}, refuse(WrongSubject, "subject.digest",
			fmt.Sprintf("signed sha256:%s, got %s", signed.Digest.SHA256, got))
	}
	return ocispec.Descriptor{MediaType: signed.MediaType, Digest: digest.Digest(got), Size: int64(len(subject))}, nil
}

// judgeSigners counts the role's keys among those that signed.
func (p Policy) judgeSigners(st Statement, signed map[string]PublicKey) ([]string, error) {
	name := p.Trust.roleFor(st.Channel)
	role := p.Trust.role(name)
	if role == nil {
		return nil, refuse(WrongChannel, "channel", strconv.Quote(st.Channel))
	}
	var counted []string
	revoked := ""
	for _, id := range role.Keys {
		switch {
		case signed[id].id == "":
		case slices.Contains(p.Revoked.Keys, id) || slices.Contains(p.Trust.form.Revoked.Keys, id):
			revoked = id
		default:
			counted = append(counted, id)
		}
	}
	switch {
	case len(counted) >= role.Threshold:
		return counted, nil
	case revoked != "":
		return nil, &UntrustedError{Reason: Revoked, KeyID: revoked, Detail: "role " + name + " needs " + role.describe()}
	case len(counted) == 0:
		return nil, &UntrustedError{Reason: WrongRole, KeyID: first(signed), Detail: "channel " + st.Channel + " needs role " + name}
	}
	return nil, &UntrustedError{Reason: Threshold, KeyID: counted[0], Detail: "role " + name + " needs " + role.describe()}
}

// judgeDrop holds the security role to its limits, as far as the statement tells them: it signs patches, the releases that
// such patches lead to, and nothing for long. What a drop changes is judged against its base, by who has both.
func (p Policy) judgeDrop(st Statement, subject ocispec.Descriptor) error {
	allow, there := p.Trust.Allow()
	if st.Channel != "security" || !there {
		return nil
	}
	if st.Kind == KindRelease && !slices.Contains(p.Installed, subject.Digest.String()) {
		return refuse(WrongScope, "kind", "a release of channel security comes as a patch on a release that the site has")
	}
	issued, err := parseTime(st.IssuedAt)
	if err != nil {
		return refuse(BadStatement, "issuedAt", "want RFC 3339 in UTC, whole seconds")
	}
	expires, err := parseTime(st.Expires)
	if err != nil || expires.After(issued.AddDate(0, 0, allow.MaxDays)) {
		return refuse(WrongScope, "expires", fmt.Sprintf("%q, want at most %d days after issuedAt, %s", st.Expires, allow.MaxDays, st.IssuedAt))
	}
	return nil
}

func first(keys map[string]PublicKey) string {
	least := ""
	for id := range keys {
		if least == "" || id < least {
			least = id
		}
	}
	return least
}

// judge applies the rules that need no key.
func (p Policy) judge(st Statement, subject ocispec.Descriptor) error {
	head := st.Head(subject)
	for _, d := range []string{head, subject.Digest.String()} {
		if slices.Contains(p.Revoked.Heads, d) || slices.Contains(p.Trust.form.Revoked.Heads, d) {
			return refuse(Revoked, "subject", d)
		}
	}
	if st.Name != p.Trust.form.Product {
		return refuse(WrongProduct, "name", fmt.Sprintf("%q, the site runs %q", st.Name, p.Trust.form.Product))
	}
	if len(st.Sites) > 0 && !slices.Contains(st.Sites, p.Site) {
		return refuse(WrongSite, "sites", fmt.Sprintf("this site is %q", p.Site))
	}
	if err := p.judgeSequence(st, head); err != nil {
		return err
	}
	if err := p.judgeTime(st); err != nil {
		return err
	}
	if st.Kind == KindPatch && len(p.Installed) > 0 && !slices.Contains(p.Installed, st.Target) &&
		!slices.ContainsFunc(st.Bases, func(base string) bool { return slices.Contains(p.Installed, base) }) {
		return refuse(WrongBase, "bases", fmt.Sprintf("the site has %s, the patch starts from %s", p.Installed[0], st.Bases[0]))
	}
	return nil
}

func (p Policy) judgeSequence(st Statement, head string) error {
	have, known := p.Accepted[st.Channel]
	if known && (have.Epoch > p.Trust.form.Epoch || st.Epoch < have.Epoch) {
		return refuse(Replayed, "epoch", fmt.Sprintf("%d, the site has accepted %d", st.Epoch, have.Epoch))
	}
	if st.Epoch != p.Trust.form.Epoch {
		return refuse(WrongEpoch, "epoch", fmt.Sprintf("%d, the trust policy's is %d", st.Epoch, p.Trust.form.Epoch))
	}
	if !known || st.Epoch > have.Epoch || st.Sequence > have.Sequence {
		return nil
	}
	if st.Sequence == have.Sequence && head == have.Head {
		return nil
	}
	return refuse(Replayed, "sequence", fmt.Sprintf("%d, the site has accepted %d", st.Sequence, have.Sequence))
}

// maxAhead is how far a signer's clock may be ahead of the site's. A time that is believed raises the site's clock floor, so one
// that lies far ahead would make all that comes later look expired.
const maxAhead = 48 * time.Hour

func (p Policy) judgeTime(st Statement) error {
	issued, err := parseTime(st.IssuedAt)
	if err != nil || issued.After(p.now().Add(maxAhead)) {
		return refuse(NotYet, "issuedAt", fmt.Sprintf("%s, the clock here says %s", st.IssuedAt, p.Now.UTC().Format(time.RFC3339)))
	}
	return p.judgeExpiry("expires", st.Expires)
}

// now is the latest time that is known to have come.
func (p Policy) now() time.Time {
	if p.ClockFloor.After(p.Now) {
		return p.ClockFloor
	}
	return p.Now
}

func (p Policy) judgeExpiry(field, at string) error {
	if at == "" {
		return nil
	}
	expires, err := parseTime(at)
	if err != nil || !p.now().Before(expires) {
		return refuse(Expired, field, at)
	}
	return nil
}
