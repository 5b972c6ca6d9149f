package install

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

// TrustChange is a step from one version of the trust policy to a later one.
type TrustChange struct {
	From    uint64   `json:"from"`
	To      uint64   `json:"to"`
	Changes []string `json:"changes"` // a sentence each
}

// FollowTrust goes along the chain that travels with f, if any, from the policy to the newest version, by which f is to be
// judged. change is nil where that is the version at hand. A chain that does not lead on is an *sign.UntrustedError: what came
// with it must be refused. A policy without roots stays as it is, whatever travels with f.
func FollowTrust(ctx context.Context, f *bundle.File, t *sign.Trust) (next *sign.Trust, change *TrustChange, err error) {
	raw, err := f.TrustChain(ctx)
	if err != nil || raw == nil || t.Form().Roles.Root == nil {
		return t, nil, err
	}
	return followChain(raw, t)
}

func followChain(raw []byte, t *sign.Trust) (*sign.Trust, *TrustChange, error) {
	chain, err := sign.ParseChain(raw)
	if err != nil {
		return nil, nil, err
	}
	next, err := t.Follow(chain)
	if err != nil || next.Version() == t.Version() {
		return next, nil, err
	}
	return next, &TrustChange{From: t.Version(), To: next.Version(), Changes: changes(t.Form(), next.Form())}, nil
}

// changes says what a new policy does that the old one did not.
func changes(old, new sign.TrustForm) []string {
	var out []string
	if new.Epoch != old.Epoch {
		out = append(out, fmt.Sprintf("epoch %d instead of %d: sequences begin again", new.Epoch, old.Epoch))
	}
	for _, r := range []struct {
		what     string
		old, new *sign.TrustRole
	}{{"change this policy", old.Roles.Root, new.Roles.Root}, {"sign releases", &old.Roles.Release, &new.Roles.Release},
		{"sign for the security channel", old.Roles.Security, new.Roles.Security}} {
		out = append(out, roleChanges(r.what, r.old, r.new)...)
	}
	if s := new.Roles.Security; s != nil && (old.Roles.Security == nil || !reflect.DeepEqual(s.Allow, old.Roles.Security.Allow)) {
		out = append(out, "the security channel may change "+s.Allow.String())
	}
	if new.Expires != old.Expires {
		out = append(out, "the policy lets nothing in from "+cmp.Or(new.Expires, "no time")+" on")
	}
	for _, id := range without(new.Revoked.Keys, old.Revoked.Keys) {
		out = append(out, "key "+id+" is revoked")
	}
	for _, d := range without(new.Revoked.Heads, old.Revoked.Heads) {
		out = append(out, "release "+d+" is revoked")
	}
	return out
}

func roleChanges(what string, old, new *sign.TrustRole) []string {
	var before, after sign.TrustRole
	if old != nil {
		before = *old
	}
	if new != nil {
		after = *new
	}
	var out []string
	for _, id := range without(after.Keys, before.Keys) {
		out = append(out, "key "+id+" may "+what)
	}
	for _, id := range without(before.Keys, after.Keys) {
		out = append(out, "key "+id+" may no longer "+what)
	}
	if before.Threshold != after.Threshold {
		out = append(out, fmt.Sprintf("%d of %d keys must agree to %s", after.Threshold, len(after.Keys), what))
	}
	return out
}

// without lists the values that are not among others.
func without(values, others []string) []string {
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return slices.Contains(others, v) })
}

// UpdateTrust raises the record's policy along a chain and saves it before anything is judged by it: a revocation holds from
// the moment in which it is seen. change is nil where the chain has nothing newer.
func (r *Record) UpdateTrust(ctx context.Context, chain []byte, to Store, now time.Time) (*TrustChange, error) {
	t, err := sign.ParseTrust(r.Trust)
	if err != nil {
		return nil, fmt.Errorf("the site's trust policy: %w", err)
	}
	next, change, err := followChain(chain, t)
	if err != nil || change == nil {
		return nil, err
	}
	r.Trust, r.TrustAt = next.Encode(), now.UTC().Truncate(time.Second)
	return change, to.Save(ctx, r)
}

// UpdateTrustFrom is UpdateTrust with the chain that travels with f. A site whose policy names no roots keeps it.
func (r *Record) UpdateTrustFrom(ctx context.Context, f *bundle.File, to Store, now time.Time) (*TrustChange, error) {
	t, err := sign.ParseTrust(r.Trust)
	if err != nil {
		return nil, fmt.Errorf("the site's trust policy: %w", err)
	}
	raw, err := f.TrustChain(ctx)
	if err != nil || raw == nil || t.Form().Roles.Root == nil {
		return nil, err
	}
	return r.UpdateTrust(ctx, raw, to, now)
}
