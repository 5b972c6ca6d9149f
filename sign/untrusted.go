package sign

import "errors"

// ErrUntrusted is under every *UntrustedError.
var ErrUntrusted = errors.New("untrusted")

// Reason names the rule that refused.
type Reason string

// The rules, in the order in which Open applies them.
const (
	NoPolicy       Reason = "no usable trust policy"
	BadChain       Reason = "trust policy that does not follow from the site's"
	Unsigned       Reason = "unsigned"
	BadEnvelope    Reason = "malformed envelope"
	WrongKey       Reason = "no signature by a trusted key"
	BadStatement   Reason = "malformed statement"
	WrongPredicate Reason = "signed for another purpose"
	WrongSubject   Reason = "signature of other content"
	WrongChannel   Reason = "channel without a role"
	Revoked        Reason = "revoked"
	WrongRole      Reason = "signed by a key of another role"
	Threshold      Reason = "too few signatures"
	WrongScope     Reason = "more than the security role may do"
	WrongProduct   Reason = "another product"
	WrongSite      Reason = "not for this site"
	WrongEpoch     Reason = "epoch is not the trust policy's"
	Replayed       Reason = "older than what the site has accepted"
	NotYet         Reason = "issued in the future"
	Expired        Reason = "expired"
	WrongBase      Reason = "made from a release that the site does not have"
)

// Reasons lists every reason, in the order in which the rules are applied.
func Reasons() []Reason {
	return []Reason{NoPolicy, BadChain, Unsigned, BadEnvelope, WrongKey, BadStatement, WrongPredicate, WrongSubject, WrongChannel, Revoked,
		WrongRole, Threshold, WrongScope, WrongProduct, WrongSite, WrongEpoch, Replayed, NotYet, Expired, WrongBase}
}

// UntrustedError says which rule refused. KeyID, Field and Detail are empty where they say nothing; Field is the name of
// the statement's, envelope's or policy's field that was judged.
type UntrustedError struct {
	Reason Reason
	KeyID  string
	Field  string
	Detail string
}

// Error is "untrusted: reason: field: detail".
func (e *UntrustedError) Error() string {
	text := "untrusted: " + string(e.Reason)
	if e.Field != "" {
		text += ": " + e.Field
	}
	if e.KeyID != "" {
		text += ": key " + e.KeyID
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

// Unwrap returns ErrUntrusted.
func (e *UntrustedError) Unwrap() error { return ErrUntrusted }

func refuse(reason Reason, field, detail string) error {
	return &UntrustedError{Reason: reason, Field: field, Detail: detail}
}
