package sign

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// roots is a vendor whose policy has three roots, of which two must sign.
type roots struct {
	*site
	old []Signer
	v1  *Trust
}

func newRoots(t *testing.T) *roots {
	r := &roots{site: newSite(t), old: []Signer{newSigner(t, Ed25519), newSigner(t, ECDSAP256), newSigner(t, Ed25519)}}
	role := &TrustRole{Threshold: 2}
	for _, s := range r.old {
		r.form.Keys = append(r.form.Keys, TrustKeyOf(publicOf(t, s)))
		role.Keys = append(role.Keys, s.KeyID())
	}
	r.form.Roles.Root = role
	var err error
	if r.v1, err = NewTrust(r.form); err != nil {
		t.Fatal(err)
	}
	return r
}

// next is the version after t with a change.
func next(tb testing.TB, t *Trust, change func(f *TrustForm)) *Trust {
	tb.Helper()
	n, err := t.Next(func(f *TrustForm) error {
		if change != nil {
			change(f)
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func signed(t testing.TB, c Chain, trust *Trust, signers ...Signer) Chain {
	t.Helper()
	c, err := c.Sign(trust, signers...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func wantRefused(t *testing.T, name string, err error, want Reason) {
	t.Helper()
	var refused *UntrustedError
	if !errors.As(err, &refused) || refused.Reason != want {
		t.Errorf("%s: got %v, want %q", name, err, want)
	}
}

func TestChainIsFollowed(t *testing.T) {
	r := newRoots(t)
	fresh := newSigner(t, ECDSAP256)
	v2 := next(t, r.v1, func(f *TrustForm) { f.Revoked.Keys = []string{r.release.KeyID()} })
	v3 := next(t, v2, func(f *TrustForm) { // one root is replaced
		f.Keys = append(f.Keys, TrustKeyOf(publicOf(t, fresh)))
		f.Roles.Root = &TrustRole{Keys: []string{r.old[0].KeyID(), r.old[1].KeyID(), fresh.KeyID()}, Threshold: 2}
	})
	chain := signed(t, signed(t, Chain{}, r.v1, r.old[:2]...), v2, r.old[1:]...)
	chain = signed(t, chain, v3, r.old[0])
	chain = signed(t, chain, v3, r.old[1], fresh) // the ceremony goes on elsewhere
	if err := chain.Complete(); err != nil {
		t.Fatal(err)
	}
	data, err := chain.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := ParseChain(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []*Trust{r.v1, v2, v3} {
		got, err := from.Follow(back)
		if err != nil || !bytes.Equal(got.Encode(), v3.Encode()) {
			t.Errorf("from version %d: %v", from.Version(), err)
		}
	}
	v4 := next(t, v3, nil)
	if got, err := v4.Follow(back); err != nil || got != v4 {
		t.Errorf("a site that is further than the chain: %v", err)
	}
}

// TestT36TrustSkipsOrForks: a policy that skips a version, or that only new or only old roots have signed, changes nothing.
func TestT36TrustSkipsOrForks(t *testing.T) {
	r := newRoots(t)
	a, b, c := newSigner(t, Ed25519), newSigner(t, Ed25519), newSigner(t, Ed25519)
	taken := func(f *TrustForm) { // all roots are others
		f.Roles.Root = &TrustRole{Threshold: 2}
		for _, s := range []Signer{a, b, c} {
			f.Keys = append(f.Keys, TrustKeyOf(publicOf(t, s)))
			f.Roles.Root.Keys = append(f.Roles.Root.Keys, s.KeyID())
		}
	}
	v2 := next(t, r.v1, nil)
	stolen := next(t, r.v1, taken)
	first := signed(t, Chain{}, r.v1, r.old...)
	for name, chain := range map[string]Chain{
		"only the new roots":     signed(t, first, stolen, a, b, c),
		"only the old roots":     signed(t, first, stolen, r.old...),
		"one old root":           signed(t, first, stolen, a, b, r.old[0]),
		"one root":               signed(t, first, v2, r.old[0]),
		"release and security":   signed(t, first, v2, r.release, r.second, r.security),
		"a stranger":             signed(t, first, v2, r.stranger, r.old[2]),
		"a version left out":     signed(t, Chain{}, next(t, v2, nil), r.old...),
		"another first":          signed(t, Chain{}, mustTrust(t, r.form, func(f *TrustForm) { f.Roles.Security = nil }), r.old...),
		"the epoch lowered":      signed(t, signed(t, first, next(t, r.v1, func(f *TrustForm) { f.Epoch = 3 }), r.old...), lowered(t, r), r.old...),
		"two versions at a time": {[][]byte{first.links[0], signed(t, Chain{}, next(t, v2, nil), r.old...).links[0]}},
	} {
		got, err := r.v1.Follow(chain)
		want := BadChain
		if name == "the epoch lowered" {
			want = Replayed
		}
		wantRefused(t, name, err, want)
		if got != nil {
			t.Errorf("%s: a policy came back", name)
		}
	}
	other := next(t, r.v1, func(f *TrustForm) { f.Product = "other" })
	_, err := r.v1.Follow(signed(t, first, other, r.old...))
	wantRefused(t, "another product", err, WrongProduct)
}

func mustTrust(t testing.TB, f TrustForm, change func(f *TrustForm)) *Trust {
	t.Helper()
	change(&f)
	trust, err := NewTrust(f)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// lowered is version 3 with the epoch that version 1 had.
func lowered(t testing.TB, r *roots) *Trust {
	v2 := next(t, r.v1, func(f *TrustForm) { f.Epoch = 3 })
	return next(t, v2, func(f *TrustForm) { f.Epoch = 0 })
}

// TestT39RevocationsOnlyGrow: a later policy cannot forget one, and a revoked root signs no more.
func TestT39RevocationsOnlyGrow(t *testing.T) {
	r := newRoots(t)
	v2 := next(t, r.v1, func(f *TrustForm) {
		f.Revoked = TrustRevoked{Keys: []string{r.old[0].KeyID()}, Heads: []string{hexOf("9")}}
	})
	chain := signed(t, signed(t, Chain{}, r.v1, r.old...), v2, r.old[1:]...)
	if _, err := r.v1.Follow(chain); err != nil {
		t.Fatal(err)
	}
	for name, forget := range map[string]func(f *TrustForm){
		"a key":  func(f *TrustForm) { f.Revoked.Keys = nil },
		"a head": func(f *TrustForm) { f.Revoked.Heads = []string{hexOf("8")} },
	} {
		_, err := r.v1.Follow(signed(t, chain, next(t, v2, forget), r.old...))
		wantRefused(t, name, err, BadChain)
	}
	_, err := r.v1.Follow(signed(t, chain, next(t, v2, nil), r.old[:2]...))
	wantRefused(t, "signed by a revoked root", err, BadChain)
	_, err = r.v1.Follow(signed(t, signed(t, Chain{}, r.v1, r.old...), v2, r.old[:2]...))
	wantRefused(t, "signed by the root that it revokes", err, BadChain)
	_, err = r.v1.Next(func(f *TrustForm) error {
		f.Revoked.Keys = []string{r.old[0].KeyID(), r.old[1].KeyID()}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("a policy that nobody could change any more: %v", err)
	}
}

// TestT12FastForward: a stolen key that signed the largest sequence is undone by the roots, who raise the epoch.
func TestT12FastForward(t *testing.T) {
	r := newRoots(t)
	r.policy.Trust = r.v1
	r.policy.Accepted = map[string]Accepted{"stable": {Sequence: maxInteger, Head: hexOf("f")}}
	_, err := r.open(t, r.seal(t))
	wantRefused(t, "after the theft", err, Replayed)
	v2 := next(t, r.v1, func(f *TrustForm) { f.Epoch, f.Revoked.Heads = 1, []string{hexOf("f")} })
	r.policy.Trust, err = r.v1.Follow(signed(t, signed(t, Chain{}, r.v1, r.old...), v2, r.old...))
	if err != nil {
		t.Fatal(err)
	}
	r.statement.Epoch = 1
	if _, err := r.open(t, r.seal(t)); err != nil {
		t.Errorf("after the roots raised the epoch: %v", err)
	}
}

// TestDraftIsReplaced: a version may be changed until enough roots have signed it, and not after.
func TestDraftIsReplaced(t *testing.T) {
	r := newRoots(t)
	first := signed(t, Chain{}, r.v1, r.old...)
	a, b := next(t, r.v1, nil), next(t, r.v1, func(f *TrustForm) { f.Epoch = 1 })
	chain := signed(t, first, a, r.old[0])
	chain = signed(t, chain, b, r.old[1:]...)
	got, err := r.v1.Follow(chain)
	if err != nil || got.Form().Epoch != 1 {
		t.Errorf("the changed draft: %v", err)
	}
	if _, err := chain.Sign(a, r.old...); err == nil {
		t.Error("a version that enough have signed was replaced")
	}
}

func TestChainWithoutRoots(t *testing.T) {
	r := newRoots(t)
	bare := mustTrust(t, r.form, func(f *TrustForm) { f.Roles.Root = nil })
	if _, err := (Chain{}).Sign(bare, r.old[0]); err == nil {
		t.Error("a policy without roots was signed")
	}
	if _, err := (Chain{}).Sign(r.v1); err == nil {
		t.Error("nobody signed")
	}
	chain := signed(t, signed(t, Chain{}, r.v1, r.old...), next(t, r.v1, nil), r.old...)
	_, err := bare.Follow(chain)
	wantRefused(t, "version 1 differs", err, BadChain)
	_, err = bare.Follow(Chain{chain.links[1:]})
	wantRefused(t, "no root at the site", err, BadChain)
}

func TestChainRefusesForms(t *testing.T) {
	r := newRoots(t)
	good, err := signed(t, Chain{}, r.v1, r.old...).Encode()
	if err != nil {
		t.Fatal(err)
	}
	payload := payloadIn(t, signed(t, Chain{}, r.v1, r.old...).links[0])
	one := func(payload string) []byte {
		raw, err := json.Marshal(chainForm{Schema: 1, Links: []json.RawMessage{signRaw(t, payloadType, payload, "", r.old...)}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	bare := mustTrust(t, r.form, func(f *TrustForm) { f.Roles.Root = nil })
	rootless, err := encodeStatement(intotoSubject{Name: trustName, Digest: intotoDigest{SHA256: digestOf(bare.Encode())[7:]}}, PredicateTrust, bare.form)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"nothing":           nil,
		"no links":          []byte(`{"schema":1,"links":[]}`),
		"another schema":    bytes.Replace(good, []byte(`"schema":1`), []byte(`"schema":2`), 1),
		"too many links":    []byte(`{"schema":1,"links":[` + strings.Repeat("{},", maxLinks) + `{}]}`),
		"T05 unknown field": bytes.Replace(good, []byte(`"schema":1`), []byte(`"mode":"any","schema":1`), 1),
		"T05 trailing":      append(bytes.Clone(good), "{}"...),
		"T22 too large":     append(bytes.Clone(good), bytes.Repeat([]byte(" "), MaxChain)...),
		"T03 a release":     one(strings.Replace(payload, "trust/v1", "release/v1", 1)),
		"another subject":   one(strings.Replace(payload, `"name":"trust"`, `"name":"release"`, 1)),
		"another digest":    one(strings.Replace(payload, `"product":"wordcab"`, `"product":"wordcat"`, 1)),
		"no policy":         one(strings.Replace(payload, `"predicate":{`, `"predicate":{"x":1,`, 1)),
		"no root":           one(string(rootless)),
	} {
		if _, err := ParseChain(data); !errors.Is(err, ErrUntrusted) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := ParseChain(good); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseChain(f *testing.F) {
	s := fixedSite(f)
	root, err := NewSigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize)))
	if err != nil {
		f.Fatal(err)
	}
	s.form.Roles.Root = &TrustRole{Keys: []string{root.KeyID()}, Threshold: 1}
	s.form.Keys = append(s.form.Keys, TrustKeyOf(publicOf(f, root)))
	trust, err := NewTrust(s.form)
	if err != nil {
		f.Fatal(err)
	}
	first := signed(f, Chain{}, trust, root)
	data, err := first.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.Replace(data, []byte("schema"), []byte("Schema"), 1))
	if data, err = signed(f, first, next(f, trust, nil), root).Encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Add(bytes.Replace(data, []byte("links"), []byte("Links"), 1))
	f.Add([]byte(`{"schema":1,"links":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseChain(data)
		if err != nil {
			if !errors.Is(err, ErrUntrusted) {
				t.Fatalf("an error of another kind: %v", err)
			}
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseChain(again); err != nil {
			t.Fatalf("its encoding is not read: %v", err)
		}
		if next, err := trust.Follow(c); err == nil && next.Version() < trust.Version() {
			t.Fatal("time went backwards")
		}
	})
}
