package sign

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wordcab/wcbundle/internal/strict"
)

// PredicateApproval is the predicate type of a site's own consent to a release.
const PredicateApproval = "https://bundle.wordcab.com/approval/v1"

// Approval is what a person of a site signs: this release may be applied at this site. It gives no authority of its own: the release
// must be let in by the trust policy all the same.
type Approval struct {
	Site     string `json:"site"`
	Version  string `json:"version"`  // of the release, for people
	IssuedAt string `json:"issuedAt"` // RFC 3339, UTC, whole seconds
}

func (a Approval) validate() (name, want string) {
	switch {
	case !siteForm.MatchString(a.Site):
		return "site", "a site id"
	case !versionForm.MatchString(a.Version):
		return "version", "a semantic version"
	case badTime(a.IssuedAt):
		return "issuedAt", "RFC 3339 in UTC, whole seconds"
	}
	return "", ""
}

// Approve signs an approval of the release with that head, sha256:hex.
func Approve(head string, a Approval, signers ...Signer) ([]byte, error) {
	if name, want := a.validate(); name != "" {
		return nil, fmt.Errorf("approving: field %s: want %s", name, want)
	}
	if !digestForm.MatchString(head) {
		return nil, fmt.Errorf("approving: head %q is not a sha256 digest", clip(head))
	}
	payload, err := encodeStatement(intotoSubject{Name: KindRelease, Digest: intotoDigest{SHA256: strings.TrimPrefix(head, "sha256:")}}, PredicateApproval, a)
	if err != nil {
		return nil, fmt.Errorf("approving: %w", err)
	}
	sealed, err := newEnvelope(payload, signers)
	if err != nil {
		return nil, fmt.Errorf("approving: %w", err)
	}
	return sealed, nil
}

// OpenApproval returns what some of the keys have approved, and the ids of those that signed, sorted; at least one. Errors are
// *UntrustedError.
func OpenApproval(sealed []byte, keys ...PublicKey) (head string, a Approval, ids []string, err error) {
	byID := map[string]PublicKey{}
	for _, k := range keys {
		if k.id != "" {
			byID[k.id] = k
		}
	}
	if len(byID) == 0 {
		return "", a, nil, refuse(NoPolicy, "keys", "no key is trusted")
	}
	e, payload, err := parseEnvelope(sealed)
	if err != nil {
		return "", a, nil, err
	}
	for id := range e.signedBy(payload, byID) {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return "", a, nil, &UntrustedError{Reason: WrongKey, KeyID: e.Signatures[0].KeyID}
	}
	slices.Sort(ids)
	st, err := parseStatement(payload)
	if err != nil {
		return "", a, nil, err
	}
	if st.PredicateType != PredicateApproval || st.Subject[0].Name != KindRelease {
		return "", a, nil, refuse(WrongPredicate, "predicateType", fmt.Sprintf("%q", clip(st.PredicateType)))
	}
	if err := strict.JSON(st.Predicate, &a); err != nil {
		return "", Approval{}, nil, refuse(BadStatement, "predicate", err.Error())
	}
	if name, want := a.validate(); name != "" {
		return "", Approval{}, nil, refuse(BadStatement, name, "want "+want)
	}
	return "sha256:" + st.Subject[0].Digest.SHA256, a, ids, nil
}
