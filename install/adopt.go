package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/rollout"
	"github.com/wordcab/wcbundle/sign"
)

// LostRecordError says that a site has releases and no record, so that nobody knows what it has accepted. Setting it up as if it
// were new would let old releases in.
type LostRecordError struct {
	Site   string
	Traces []string // what was found, a phrase each
}

func (e *LostRecordError) Error() string {
	return fmt.Sprintf("site %s has no record, and it is not new: %s", e.Site, strings.Join(e.Traces, "; "))
}

// Traces is what a site shows of releases without its record.
type Traces struct {
	Releases  []bundle.Verified // in the registry, let in by the policy at the time when they were signed; by time
	Strange   []string          // heads in the registry that the policy does not let in
	Installed []string          // Helm releases in the namespace that wcbundle has worked on
}

// None tells whether the site is a new one.
func (t Traces) None() bool { return len(t.Releases)+len(t.Strange)+len(t.Installed) == 0 }

// Error is the *LostRecordError about what was found, or nil.
func (t Traces) Error(site string) error {
	if t.None() {
		return nil
	}
	e := &LostRecordError{Site: site}
	for _, v := range t.Releases {
		e.Traces = append(e.Traces, "its registry holds release "+v.Release().Version)
	}
	for _, d := range t.Strange {
		e.Traces = append(e.Traces, "its registry holds "+d+", which this policy does not let in")
	}
	for _, r := range t.Installed {
		e.Traces = append(e.Traces, "wcbundle has worked on Helm release "+r+" in its namespace")
	}
	return e
}

// FindTraces looks for releases of the policy's product in the registry and, where a is not nil, in the cluster. A registry that
// does not answer is an error: it could hold anything.
func FindTraces(ctx context.Context, reg *registry.Registry, a *Access, t *sign.Trust, site string, now time.Time) (Traces, error) {
	var out Traces
	if err := reg.Ping(ctx); err != nil {
		return out, fmt.Errorf("looking whether this site has releases already: %w", err)
	}
	repo := bundle.ReleaseRepo(t.Product())
	tags, err := reg.Tags(ctx, repo)
	if err != nil {
		return out, err
	}
	for _, tag := range tags {
		head, ok := headOfTag(tag)
		if !ok {
			continue
		}
		v, err := foundRelease(ctx, reg, repo, head, t, site, now)
		if errors.Is(err, sign.ErrUntrusted) {
			out.Strange = append(out.Strange, string(head))
			continue
		}
		if err != nil {
			return out, fmt.Errorf("reading release %s in the registry: %w", head, err)
		}
		out.Releases = append(out.Releases, v)
	}
	slices.SortFunc(out.Releases, func(a, b bundle.Verified) int {
		return cmp.Or(strings.Compare(a.IssuedAt(), b.IssuedAt()), cmp.Compare(a.Release().Sequence, b.Release().Sequence))
	})
	if a != nil {
		out.Installed, err = rollout.Releases(ctx, a.Kube, a.Namespace)
	}
	return out, err
}

// headOfTag is the inverse of bundle.EnvelopeTag.
func headOfTag(tag string) (digest.Digest, bool) {
	hex, ok := strings.CutSuffix(strings.TrimPrefix(tag, "sha256-"), ".wcb")
	d := digest.Digest("sha256:" + hex)
	return d, ok && bundle.CheckDigest(d) == nil && bundle.EnvelopeTag(d) == tag
}

// foundRelease opens a release in the registry as it was when it was signed: it may have expired since, and still has raised the
// site's sequence. One that claims to be from the future is judged by now, which refuses it: it would raise the clock floor.
func foundRelease(ctx context.Context, reg *registry.Registry, repo string, head digest.Digest, t *sign.Trust, site string, now time.Time) (bundle.Verified, error) {
	desc, err := reg.Resolve(ctx, repo, string(head))
	if err != nil {
		return bundle.Verified{}, err
	}
	env, fetch, err := envelopeAt(ctx, reg, repo, head)
	if err != nil {
		return bundle.Verified{}, err
	}
	claimed, _, err := sign.Inspect(env)
	if err != nil {
		return bundle.Verified{}, err
	}
	signed, err := time.Parse(time.RFC3339, claimed.IssuedAt)
	if err != nil {
		return bundle.Verified{}, err
	}
	if signed.After(now) {
		signed = now
	}
	raw, err := reg.Fetch(ctx, repo, desc, bundle.MaxManifest)
	if err != nil {
		return bundle.Verified{}, err
	}
	o, err := sign.Open(env, raw, sign.Policy{Trust: t, Site: site, Now: signed, Accepted: map[string]sign.Accepted{}, Installed: []string{string(head)}})
	if err != nil {
		return bundle.Verified{}, err
	}
	return bundle.ReadRelease(ctx, o, fetch)
}

// envelopeAt reads the envelope about a head from the registry. Nothing of it is believed yet.
func envelopeAt(ctx context.Context, reg *registry.Registry, repo string, head digest.Digest) ([]byte, bundle.Fetch, error) {
	fetch := func(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
		return reg.Fetch(ctx, repo, d, max)
	}
	desc, err := reg.Resolve(ctx, repo, bundle.EnvelopeTag(head))
	if err != nil {
		return nil, nil, err
	}
	man, err := reg.Fetch(ctx, repo, desc, bundle.MaxManifest)
	if err != nil {
		return nil, nil, err
	}
	env, err := bundle.OpenEnvelope(ctx, man, fetch)
	return env, fetch, err
}

// Adopt takes what was found over into a new record, with the reason why a person let that happen: sequences and clock floor are
// raised to what the registry proves, and what the cluster says runs is installed.
func (r *Record) Adopt(ctx context.Context, found Traces, a *Access, by, reason string, now time.Time) error {
	for _, v := range found.Releases {
		r.accept(v, "adoption", 0, now)
	}
	r.Notes = append(r.Notes, Note{At: now.UTC().Truncate(time.Second), By: by, Text: "the record was lost and made anew: " + reason})
	if len(found.Installed) != 1 {
		return nil
	}
	c, err := client(Target{Access: a})
	if err != nil {
		return err
	}
	history, err := c.History(ctx, found.Installed[0])
	if errors.Is(err, revision.ErrNoRelease) {
		return nil
	}
	if err != nil {
		return err
	}
	if cur, ok := revision.Current(history); ok {
		r.nowRuns(cur.Bundle, Installed{Release: found.Installed[0], Namespace: a.Namespace, Revision: cur.Number, At: cur.Updated})
	}
	return nil
}
