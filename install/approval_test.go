package install

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"github.com/wordcab/wcbundle/sign"
)

func officer(t *testing.T) (sign.Signer, sign.PublicKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sign.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.NewPublicKey(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	return s, k
}

// TestConsent: as many different keys of the site's own as it says, each about this head and this site.
func TestConsent(t *testing.T) {
	a, aKey := officer(t)
	b, bKey := officer(t)
	stranger, _ := officer(t)
	head, other := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	approval := func(head, site string, s ...sign.Signer) []byte {
		sealed, err := sign.Approve(head, sign.Approval{Site: site, Version: "2.9.0", IssuedAt: "2026-11-01T00:00:00Z"}, s...)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	r := &Record{Site: "bank-7"}
	if c, err := r.Consent(head); err != nil || !c.Given() {
		t.Fatalf("a site without approvers: %+v, %v", c, err)
	}
	if _, _, err := r.AddApproval(approval(head, "bank-7", a)); err == nil {
		t.Error("an approval was taken by a site that asks for none")
	}
	for _, n := range []int{0, -1, 3} {
		if _, err := NewApprovers([]sign.PublicKey{aKey, bKey}, n); err == nil {
			t.Errorf("threshold %d", n)
		}
	}
	if _, err := NewApprovers([]sign.PublicKey{aKey, aKey}, 2); err == nil {
		t.Error("one key counts as two")
	}
	var err error
	if r.Approvers, err = NewApprovers([]sign.PublicKey{aKey, bKey}, 2); err != nil {
		t.Fatal(err)
	}
	var refused *sign.UntrustedError
	if _, _, err := r.AddApproval(approval(head, "bank-8", a)); !errors.As(err, &refused) || refused.Reason != sign.WrongSite {
		t.Errorf("for another site: %v", err)
	}
	if _, _, err := r.AddApproval(approval(head, "bank-7", stranger)); !errors.As(err, &refused) || refused.Reason != sign.WrongKey {
		t.Errorf("by a stranger: %v", err)
	}
	receipt, err := sign.SealFile("https://bundle.wordcab.com/receipt/v1", "release", head, 1, a)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.AddApproval(receipt); !errors.As(err, &refused) || refused.Reason != sign.WrongPredicate {
		t.Errorf("a signature for another purpose: %v", err)
	}
	for _, sealed := range [][]byte{approval(head, "bank-7", a), approval(head, "bank-7", a), approval(other, "bank-7", b)} {
		if _, _, err := r.AddApproval(sealed); err != nil {
			t.Fatal(err)
		}
	}
	if c, err := r.Consent(head); err != nil || c.Given() || len(c.By) != 1 {
		t.Errorf("one key twice, and another head: %+v, %v", c, err)
	}
	if _, err := Apply(t.Context(), Target{}, &Plan{Consent: Consent{Need: 2}}, ApplyOptions{}); err == nil {
		t.Error("applied without consent")
	}
	if _, _, err := r.AddApproval(approval(head, "bank-7", b, stranger)); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Consent(head); err != nil || !c.Given() || len(c.By) != 2 {
		t.Errorf("two keys: %+v, %v", c, err)
	}
	for range maxApprovals {
		if _, _, err := r.AddApproval(approval(other, "bank-7", a)); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.Approvals) > maxApprovals {
		t.Errorf("%d approvals are kept", len(r.Approvals))
	}
}
