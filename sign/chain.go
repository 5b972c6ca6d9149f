package sign

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wordcab/wcbundle/internal/strict"
)

// PredicateTrust is the predicate type of a trust policy that roots have signed.
const PredicateTrust = "https://bundle.wordcab.com/trust/v1"

// Limits of a chain.
const (
	MaxChain    = 1 << 20 // bytes
	maxLinks    = 64
	chainSchema = 1
	trustName   = "trust" // the subject's name
)

// Chain is how a trust policy came about: envelopes about its versions, oldest first, each version one more than the last.
// It proves nothing by itself; Trust.Follow judges it.
type Chain struct{ links [][]byte }

type chainForm struct {
	Schema int               `json:"schema"`
	Links  []json.RawMessage `json:"links"`
}

// A link is one version of the policy, and the envelope about it.
type link struct {
	trust   *Trust
	env     envelope
	payload []byte
}

// ParseChain reads a chain strictly and checks the form of each link. No signature is judged.
func ParseChain(data []byte) (Chain, error) {
	if len(data) > MaxChain {
		return Chain{}, refuse(BadChain, "", fmt.Sprintf("larger than %d bytes", MaxChain))
	}
	var form chainForm
	if err := strict.JSON(data, &form); err != nil {
		return Chain{}, refuse(BadChain, "", err.Error())
	}
	if form.Schema != chainSchema || len(form.Links) == 0 || len(form.Links) > maxLinks {
		return Chain{}, refuse(BadChain, "links", fmt.Sprintf("want schema %d and 1 to %d links", chainSchema, maxLinks))
	}
	var c Chain
	for _, raw := range form.Links {
		c.links = append(c.links, raw)
	}
	_, err := c.parse()
	return c, err
}

// parse reads the links and checks that their versions follow each other.
func (c Chain) parse() ([]link, error) {
	var out []link
	for i, raw := range c.links {
		l, err := parseLink(raw)
		if err != nil {
			return nil, fmt.Errorf("trust chain, link %d: %w", i+1, err)
		}
		if i > 0 && l.trust.Version() != out[i-1].trust.Version()+1 {
			return nil, refuse(BadChain, "version", fmt.Sprintf("%d after %d", l.trust.Version(), out[i-1].trust.Version()))
		}
		out = append(out, l)
	}
	return out, nil
}

func parseLink(raw []byte) (link, error) {
	env, payload, err := parseEnvelope(raw)
	if err != nil {
		return link{}, err
	}
	st, err := parseStatement(payload)
	if err != nil {
		return link{}, err
	}
	if st.PredicateType != PredicateTrust || st.Subject[0].Name != trustName {
		return link{}, refuse(WrongPredicate, "predicateType", fmt.Sprintf("%q", clip(st.PredicateType)))
	}
	t, err := ParseTrust(st.Predicate)
	if err != nil {
		return link{}, refuse(BadStatement, "predicate", err.Error())
	}
	if digestOf(t.Encode()) != "sha256:"+st.Subject[0].Digest.SHA256 {
		return link{}, refuse(WrongSubject, "subject.digest", "not that of the policy inside")
	}
	if t.form.Roles.Root == nil {
		return link{}, refuse(BadChain, "roles.root", "a policy in a chain needs a root role")
	}
	return link{t, env, payload}, nil
}

// Encode writes the chain in its one form.
func (c Chain) Encode() ([]byte, error) {
	form := chainForm{Schema: chainSchema, Links: []json.RawMessage{}}
	for _, l := range c.links {
		form.Links = append(form.Links, l)
	}
	data, err := json.Marshal(form)
	if err == nil && len(data) > MaxChain {
		err = fmt.Errorf("the trust chain is larger than %d bytes", MaxChain)
	}
	return data, err
}

// Empty reports whether there is no link.
func (c Chain) Empty() bool { return len(c.links) == 0 }

// Sign adds signatures about t to the chain: to the last link if that is about t, else in a link of its own, which must be
// the next version, or takes the place of a last link that not enough roots have signed yet. Complete tells whether enough have.
func (c Chain) Sign(t *Trust, signers ...Signer) (Chain, error) {
	if t.form.Roles.Root == nil || len(signers) == 0 {
		return Chain{}, errors.New("signing a trust policy: it needs a root role and a signer")
	}
	links, err := c.parse()
	if err != nil {
		return Chain{}, err
	}
	out := Chain{slices.Clone(c.links)}
	n := len(links)
	if n > 0 && links[n-1].trust.Version() == t.Version() && string(links[n-1].trust.Encode()) != string(t.Encode()) {
		if c.Complete() == nil {
			return Chain{}, fmt.Errorf("signing a trust policy: the chain has another version %d: raise the version", t.Version())
		}
		n, out.links = n-1, out.links[:n-1] // a draft that was changed before enough roots had signed it
	}
	env, payload := envelope{PayloadType: payloadType}, []byte(nil)
	switch {
	case n > 0 && links[n-1].trust.Version() == t.Version():
		env, payload, out.links = links[n-1].env, links[n-1].payload, out.links[:n-1]
	case n > 0 && links[n-1].trust.Version()+1 != t.Version():
		return Chain{}, fmt.Errorf("signing a trust policy: version %d does not follow the chain's last, %d", t.Version(), links[n-1].trust.Version())
	default:
		subject := intotoSubject{Name: trustName, Digest: intotoDigest{SHA256: strings.TrimPrefix(digestOf(t.Encode()), "sha256:")}}
		if payload, err = encodeStatement(subject, PredicateTrust, t.form); err != nil {
			return Chain{}, fmt.Errorf("signing a trust policy: %w", err)
		}
		env.Payload = base64.StdEncoding.EncodeToString(payload)
	}
	for _, s := range signers {
		if err := env.add(payload, s); err != nil {
			return Chain{}, fmt.Errorf("signing a trust policy: %w", err)
		}
	}
	raw, err := env.encode()
	if err != nil {
		return Chain{}, fmt.Errorf("signing a trust policy: %w", err)
	}
	out.links = append(out.links, raw)
	return out, nil
}

// Follow goes from the policy along the chain to the newest version and returns that: the policy itself where the chain has
// nothing newer. A newer link must be signed by enough roots of the version before it and of its own (The Update Framework
// 1.0.33, section 5.3), be about the same product, lower no epoch and forget no revocation. Anything else is an
// *UntrustedError, and the caller must refuse what came with the chain. A link's version is read before its signatures are
// judged, to know whose are asked for.
func (t *Trust) Follow(c Chain) (*Trust, error) {
	links, err := c.parse()
	if err != nil {
		return nil, err
	}
	now := t
	for _, l := range links {
		switch have, v := now.Version(), l.trust.Version(); {
		case v < have:
			continue
		case v > have+1:
			return nil, refuse(BadChain, "version", fmt.Sprintf("the site's trust policy is version %d, the chain begins at %d", have, v))
		case v == have:
			if string(l.trust.Encode()) != string(now.Encode()) {
				return nil, refuse(BadChain, "version", fmt.Sprintf("another trust policy of version %d than the site's", v))
			}
			continue
		}
		if err := l.follows(now); err != nil {
			return nil, err
		}
		now = l.trust
	}
	return now, nil
}

// follows judges whether a link may take the place of the version before it.
func (l link) follows(before *Trust) error {
	next := l.trust
	old, new := before.form, next.form
	v := fmt.Sprintf("version %d", next.Version())
	switch {
	case new.Product != old.Product:
		return refuse(WrongProduct, "product", fmt.Sprintf("%q, the site runs %q", new.Product, old.Product))
	case new.Epoch < old.Epoch:
		return refuse(Replayed, "epoch", fmt.Sprintf("%s lowers it from %d to %d", v, old.Epoch, new.Epoch))
	case !contains(new.Revoked.Keys, old.Revoked.Keys) || !contains(new.Revoked.Heads, old.Revoked.Heads):
		return refuse(BadChain, "revoked", v+" forgets a revocation")
	}
	for _, side := range []*Trust{before, next} {
		if err := l.signedByRoots(side, next.form.Revoked.Keys); err != nil {
			return err
		}
	}
	return nil
}

// signedByRoots counts the roots of a version that signed the link.
func (l link) signedByRoots(t *Trust, revoked []string) error {
	role := t.form.Roles.Root
	if role == nil {
		return refuse(BadChain, "roles.root", fmt.Sprintf("version %d names no root: nobody can change it", t.Version()))
	}
	signed := l.env.signedBy(l.payload, t.keys)
	n := 0
	for _, id := range role.Keys {
		if signed[id].id != "" && !slices.Contains(revoked, id) && !slices.Contains(t.form.Revoked.Keys, id) {
			n++
		}
	}
	if n < role.Threshold {
		return refuse(BadChain, "signatures", fmt.Sprintf("version %d is signed by %d roots of version %d, which needs %s",
			l.trust.Version(), n, t.Version(), role.describe()))
	}
	return nil
}

// contains reports whether all of the values are in the list.
func contains(list, values []string) bool {
	return !slices.ContainsFunc(values, func(v string) bool { return !slices.Contains(list, v) })
}

// Last is the newest version in the chain, unjudged, or nil.
func (c Chain) Last() *Trust {
	links, err := c.parse()
	if err != nil || len(links) == 0 {
		return nil
	}
	return links[len(links)-1].trust
}

// Complete tells why the chain would not lead from its first version to its last, or nil. The first must be signed by its
// own roots.
func (c Chain) Complete() error {
	links, err := c.parse()
	if err != nil {
		return err
	}
	if len(links) == 0 {
		return refuse(BadChain, "links", "there is none")
	}
	if err := links[0].signedByRoots(links[0].trust, nil); err != nil {
		return err
	}
	_, err = links[0].trust.Follow(c)
	return err
}

// Next is the policy's next version, with a change.
func (t *Trust) Next(change func(form *TrustForm) error) (*Trust, error) {
	form := t.Form()
	form.Version++
	if err := change(&form); err != nil {
		return nil, err
	}
	return NewTrust(form)
}
