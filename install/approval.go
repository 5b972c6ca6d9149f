package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/wordcab/wcbundle/sign"
)

// maxApprovals is how many approvals a record keeps; the oldest go first.
const maxApprovals = 64

// Approvers is the site's own role: whose consent a release needs before it is applied here, on top of the vendor's signatures.
type Approvers struct {
	Keys      []string `json:"keys"`      // PEM, public
	Threshold int      `json:"threshold"` // how many different keys; 1 to their number
}

// NewApprovers checks the role.
func NewApprovers(keys []sign.PublicKey, threshold int) (*Approvers, error) {
	a := &Approvers{Threshold: threshold}
	for _, k := range keys {
		if pem := string(k.PEM()); pem != "" && !slices.Contains(a.Keys, pem) {
			a.Keys = append(a.Keys, pem)
		}
	}
	if threshold < 1 || threshold > len(a.Keys) {
		return nil, fmt.Errorf("approvals: want 1 to the number of approvers' keys, %d", len(a.Keys))
	}
	return a, nil
}

func (a *Approvers) public() ([]sign.PublicKey, error) {
	var out []sign.PublicKey
	for _, text := range a.Keys {
		k, err := sign.LoadPublic([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("the site's approvers: %w", err)
		}
		out = append(out, k)
	}
	return out, nil
}

// Consent is how far a release is approved at a site.
type Consent struct {
	By   []string `json:"by,omitempty"` // ids of the keys
	Need int      `json:"need"`         // 0: this site asks for none
}

// Given tells whether the release may be applied.
func (c Consent) Given() bool { return len(c.By) >= c.Need }

// ConsentError says that a release lacks approvals of the site's own.
type ConsentError struct {
	Version string
	Consent
}

func (e *ConsentError) Error() string {
	return fmt.Sprintf("release %s has %d of the %d approvals that this site asks for", e.Version, len(e.By), e.Need)
}

// Consent counts the keys that approved the release with that head, each once.
func (r *Record) Consent(head string) (Consent, error) {
	if r.Approvers == nil {
		return Consent{}, nil
	}
	c := Consent{Need: r.Approvers.Threshold}
	keys, err := r.Approvers.public()
	if err != nil {
		return c, err
	}
	for _, raw := range r.Approvals {
		of, a, ids, err := sign.OpenApproval(raw, keys...)
		if err != nil || of != head || a.Site != r.Site {
			continue
		}
		c.By = append(c.By, ids...)
	}
	slices.Sort(c.By)
	c.By = slices.Compact(c.By)
	return c, nil
}

// AddApproval takes an approval into the record, if one of the site's approvers has signed it for this site. The caller saves.
func (r *Record) AddApproval(sealed []byte) (head string, a sign.Approval, err error) {
	if r.Approvers == nil {
		return "", a, errors.New("this site asks for no approvals: trust accept --approver sets who gives them")
	}
	keys, err := r.Approvers.public()
	if err != nil {
		return "", a, err
	}
	head, a, _, err = sign.OpenApproval(sealed, keys...)
	if err != nil {
		return "", a, err
	}
	if a.Site != r.Site {
		return "", a, &sign.UntrustedError{Reason: sign.WrongSite, Field: "site", Detail: fmt.Sprintf("%q, this site is %q", a.Site, r.Site)}
	}
	if slices.ContainsFunc(r.Approvals, func(have json.RawMessage) bool { return sameJSON(have, sealed) }) {
		return head, a, nil
	}
	r.Approvals = append(r.Approvals, sealed)
	if n := len(r.Approvals) - maxApprovals; n > 0 {
		r.Approvals = r.Approvals[n:]
	}
	return head, a, nil
}

// sameJSON compares two envelopes; the record's file indents those that it keeps.
func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}
