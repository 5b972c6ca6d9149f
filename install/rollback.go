package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
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

// RollbackPlan is what going back would do.
type RollbackPlan struct {
	Release string             `json:"release"`
	From    int                `json:"fromRevision"`
	To      revision.Revision  `json:"to"`
	Changes []revision.Change  `json:"changes"`
	Rolls   []rollout.Pool     `json:"rolls"`
	Turns   []Turn             `json:"turns"`
	Stays   []string           `json:"stays"`
	Reasons []string           `json:"reasons,omitempty"` // why it cannot be gone back to
	Kept    []string           `json:"kept,omitempty"`    // CRDs of which the cluster keeps more than the target's chart has
	Undoes  []bundle.Contained `json:"undoes,omitempty"`  // fixes that the site would lose
	Revoked bool               `json:"revoked,omitempty"` // the trust policy has revoked the target's release

	before int
	client *revision.Client
}

// NewRollback plans the way back to a revision: a number, or 0 for the newest one that fully succeeded and differs.
func NewRollback(ctx context.Context, t Target, to int) (*RollbackPlan, error) {
	release, err := releaseName(ctx, t)
	if err != nil {
		return nil, err
	}
	c, err := client(t)
	if err != nil {
		return nil, err
	}
	history, err := c.History(ctx, release)
	if err != nil {
		return nil, err
	}
	cur, ok := revision.Current(history)
	if !ok {
		return nil, fmt.Errorf("release %s has no deployed revision: wcbundle history shows what it has", release)
	}
	target, err := pick(history, cur, to)
	if err != nil {
		return nil, err
	}
	r := &RollbackPlan{Release: release, From: cur.Number, To: target, before: history[len(history)-1].Number, client: c}
	if err := r.possible(ctx, t); err != nil {
		return nil, err
	}
	if err := r.judge(t.Record, cur.Bundle); err != nil || len(r.Reasons) > 0 {
		return r, err // there is nothing to compare with what cannot be made
	}
	if r.Kept, err = c.Wider(ctx, release, target.Number); err != nil {
		return nil, err
	}
	return r, r.compare(ctx, t, cur)
}

// possible collects every reason why the target cannot run any more.
func (r *RollbackPlan) possible(ctx context.Context, t Target) error {
	missing, err := missingContent(ctx, t, r.To.Manifest)
	if err != nil {
		return err
	}
	models, err := missingModels(ctx, t, r.To.Bundle)
	if err != nil {
		return err
	}
	for _, m := range slices.Compact(append(missing, models...)) {
		r.Reasons = append(r.Reasons, fmt.Sprintf("the registry lacks %s: load the bundle of release %s", m, r.To.Bundle))
	}
	kinds, err := r.client.Unserved(r.To.Manifest)
	if err != nil {
		return err
	}
	for _, k := range kinds {
		r.Reasons = append(r.Reasons, fmt.Sprintf("the cluster does not serve %s any more: bring its CRD or API back, or take a revision that does without", k))
	}
	return nil
}

// missingModels lists what the registry lacks of a release's models: pods find some of them by id, without a reference in the manifest.
func missingModels(ctx context.Context, t Target, version string) ([]string, error) {
	l := t.Record.ofVersion(version)
	if l == nil {
		return nil, nil
	}
	rel, err := fetchRelease(ctx, LoadOptions{Registry: t.Registry}, t.Record.Product, l.Head)
	if errors.Is(err, registry.ErrNotFound) {
		return []string{fmt.Sprintf("release %s itself (%v)", version, err)}, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, m := range rel.Models {
		line := rel.Line(m.Manifest.Digest)
		if line == nil || len(line.Repos) == 0 {
			continue
		}
		gone, err := missingIn(ctx, t, line.Repos[0], string(m.Manifest.Digest))
		if err != nil {
			return nil, err
		}
		for _, g := range gone {
			out = append(out, fmt.Sprintf("%s of model %s", g, m.ID))
		}
	}
	return out, nil
}

// ImpossibleError says why a revision cannot be gone back to.
type ImpossibleError struct {
	Revision int
	Reasons  []string
}

func (e *ImpossibleError) Error() string {
	return fmt.Sprintf("revision %d cannot run again, nothing was changed:\n  %s", e.Revision, strings.Join(e.Reasons, "\n  "))
}

// judge says what going back costs: fixes that are lost, and whether the release was revoked.
func (r *RollbackPlan) judge(rec *Record, running string) error {
	l := rec.ofVersion(r.To.Bundle)
	if l == nil {
		return nil
	}
	trust, err := sign.ParseTrust(rec.Trust)
	if err != nil {
		return fmt.Errorf("the site's trust policy: %w", err)
	}
	r.Revoked = trust.RevokedHead(string(l.Head.Digest))
	if from := rec.ofVersion(running); from != nil {
		r.Undoes = lost(from, l)
	}
	return nil
}

// RevokedError says that the release to go back to was revoked.
type RevokedError struct {
	Version  string
	Revision int
}

func (e *RevokedError) Error() string {
	return fmt.Sprintf("revision %d is release %s, which the trust policy has revoked", e.Revision, e.Version)
}

func pick(history []revision.Revision, cur revision.Revision, to int) (revision.Revision, error) {
	if to == 0 {
		return revision.Previous(history)
	}
	i := slices.IndexFunc(history, func(r revision.Revision) bool { return r.Number == to })
	switch {
	case i < 0:
		return revision.Revision{}, fmt.Errorf("there is no revision %d: the history goes from %d to %d, older ones are removed", to, history[0].Number, history[len(history)-1].Number)
	case to == cur.Number && history[len(history)-1].Number == to:
		return revision.Revision{}, fmt.Errorf("revision %d is what runs", to)
	case !history[i].Good():
		return revision.Revision{}, fmt.Errorf("revision %d ended as %s: going back to it would bring the fault back", to, history[i].Outcome)
	}
	return history[i], nil
}

func (r *RollbackPlan) compare(ctx context.Context, t Target, cur revision.Revision) error {
	pools, err := poolsOfVersion(ctx, t, r.To.Bundle)
	if err != nil {
		return err
	}
	if r.Changes, err = r.client.ClassifyStored(ctx, r.To.Manifest, cur.Manifest, pools); err != nil {
		return err
	}
	p := Plan{Changes: r.Changes}
	p.split(pools)
	r.Rolls, r.Stays = p.Rolls, p.Stays
	r.Turns, err = turns(ctx, t, r.Rolls)
	return err
}

// poolsOfVersion are the pools as the release declared them that made a revision.
func poolsOfVersion(ctx context.Context, t Target, version string) ([]rollout.Pool, error) {
	for i := len(t.Record.Loads) - 1; i >= 0; i-- {
		if t.Record.Loads[i].Version == version {
			rel, err := fetchRelease(ctx, LoadOptions{Registry: t.Registry}, t.Record.Product, t.Record.Loads[i].Head)
			if err != nil {
				return nil, err
			}
			return poolsOf(rel), nil
		}
	}
	return nil, nil
}

// pinnedRefs are what a stored manifest takes from the site's registry, by digest.
func pinnedRefs(manifest, host string) []PinnedRef {
	var out []PinnedRef
	pinned := regexp.MustCompile(regexp.QuoteMeta(host) + `/([a-z0-9._:/-]+)@(sha256:[0-9a-f]{64})`)
	for _, m := range pinned.FindAllStringSubmatch(manifest, -1) { // in the middle of other text too
		if ref := (PinnedRef{m[1], digest.Digest(m[2])}); !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}

// missingContent lists what a stored manifest takes from the site's registry and the registry does not have.
func missingContent(ctx context.Context, t Target, manifest string) ([]string, error) {
	var out []string
	for _, ref := range pinnedRefs(manifest, t.Record.Registry.Pull) {
		gone, err := missingIn(ctx, t, ref.Repo, string(ref.Digest))
		if err != nil {
			return nil, err
		}
		out = append(out, gone...)
	}
	return out, nil
}

// missingIn looks at one manifest and what it names: blobs, or the manifests of an index. A registry that does not answer lacks nothing:
// that is an error.
func missingIn(ctx context.Context, t Target, repo, dgst string) ([]string, error) {
	return missingBelow(ctx, t, repo, dgst, 0)
}

// maxNested bounds how deep an index may be in others.
const maxNested = 4

func missingBelow(ctx context.Context, t Target, repo, dgst string, depth int) ([]string, error) {
	d, err := t.Registry.Resolve(ctx, repo, dgst)
	if errors.Is(err, registry.ErrNotFound) {
		return []string{repo + "@" + dgst}, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := t.Registry.Fetch(ctx, repo, d, bundle.MaxManifest)
	if err != nil {
		return nil, err
	}
	var m struct {
		ocispec.Manifest
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest %s@%s: %w", repo, dgst, err)
	}
	if depth == maxNested && len(m.Manifests) > 0 {
		return nil, fmt.Errorf("manifest %s@%s: indexes within indexes, more than %d deep", repo, dgst, maxNested)
	}
	var out []string
	for _, sub := range m.Manifests {
		gone, err := missingBelow(ctx, t, repo, string(sub.Digest), depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, gone...)
	}
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if b.Digest == "" { // an index has neither
			continue
		}
		ok, err := t.Registry.Has(ctx, repo, b)
		if err != nil {
			return nil, err
		}
		if !ok {
			out = append(out, repo+"@"+string(b.Digest))
		}
	}
	return out, nil
}

// Rollback goes back as planned. Data is not touched: volumes and databases stay as they are.
func Rollback(ctx context.Context, t Target, r *RollbackPlan, opt ApplyOptions) (rollout.Outcome, error) {
	if len(r.Reasons) > 0 {
		return rollout.Outcome{}, &ImpossibleError{Revision: r.To.Number, Reasons: r.Reasons}
	}
	if r.Revoked && opt.Despite == "" {
		return rollout.Outcome{}, &RevokedError{Version: r.To.Bundle, Revision: r.To.Number}
	}
	if r.Revoked {
		t.Record.Notes = append(t.Record.Notes, Note{At: t.Now.UTC().Truncate(time.Second), By: actor(opt.Tool).User,
			Text: fmt.Sprintf("back to release %s, which is revoked: %s", r.To.Bundle, opt.Despite)})
		if err := opt.Store.Save(ctx, t.Record); err != nil {
			return rollout.Outcome{}, err
		}
	}
	if err := SettleRunTime(ctx, t, r.To.Bundle, t.running()); err != nil {
		return rollout.Outcome{}, err
	}
	op := rollout.NewRollback(opt.id(t.Now), r.Rolls, r.before, r.From, r.To.Number)
	op.Bundle, op.Actor, op.Prefetch = rollout.BundleRef{Version: r.To.Bundle}, opt.actor(), opt.prefetch()
	if err := opt.bound(&op); err != nil {
		return rollout.Outcome{}, err
	}
	request := revision.Request{Release: r.Release, Bundle: r.To.Bundle}
	out, err := rollout.Run(ctx, engine(t, r.client.Operation(request), r.Release, opt), op)
	if err != nil || out.Phase != rollout.Succeeded {
		return out, err
	}
	return out, ranBack(ctx, t, opt, r.To.Bundle, r.Release, out.Revision)
}

// ranBack raises the record after a way back.
func ranBack(ctx context.Context, t Target, opt ApplyOptions, version, release string, number int) error {
	t.Record.nowRuns(version, Installed{Release: release, Namespace: t.Access.Namespace, Revision: number, At: t.Now})
	return opt.Store.Save(ctx, t.Record)
}
