package install

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/prefetch"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/install/support"
	"github.com/wordcab/wcbundle/rollout"
	"github.com/wordcab/wcbundle/sign"
)

// ApplyOptions are what applying takes beside the plan.
type ApplyOptions struct {
	Store      Store
	OnFailure  string // rollback (default) or hold
	Prefetch   string // try (default), required or off
	OnEvent    func(rollout.Progress)
	Tool       string // version of this program, for the record
	Accept     []string
	Reason     string          // of what a person decides, for the record
	Limits     rollout.Limits  // how far this run goes
	Trial      *rollout.Trial  // the pool, or some of its replicas, that goes first and waits to be promoted or dropped
	Promote    bool            // the canary that waits
	Stop       <-chan struct{} // closed: pause at the next safe point
	Prometheus string          // NAMESPACE/NAME:PORT of the site's; "" = where the gates say
	Despite    string          // why Rollback may go back to a revoked release; "" = it may not. It goes into the record
}

// Apply makes the plan's revision with every changed pool on hold and replaces the pools one by one. A plan whose
// preflight blocks must not come here.
func Apply(ctx context.Context, t Target, p *Plan, opt ApplyOptions) (rollout.Outcome, error) {
	if p.verified.Release() == nil {
		return rollout.Outcome{}, errors.New("refusing to apply what was not verified")
	}
	if p.Report.Blocked() || len(p.Blocking) > 0 {
		return rollout.Outcome{}, errors.New("refusing to apply a plan that preflight blocks")
	}
	if !p.Consent.Given() {
		return rollout.Outcome{}, &ConsentError{Version: p.Version, Consent: p.Consent}
	}
	if err := SettleRunTime(ctx, t, p.Version, t.running()); err != nil {
		return rollout.Outcome{}, err
	}
	if err := p.bringMountables(ctx, t); err != nil {
		return rollout.Outcome{}, err
	}
	kind := rollout.TypeApply
	if p.From == 0 {
		kind = rollout.TypeInstall
	}
	op := rollout.NewOperation(newID(t.Now), kind, p.Rolls, p.before, p.From)
	op.Bundle = rollout.BundleRef{Version: p.Version, Digest: p.Head}
	op.Actor = actor(opt.Tool)
	if opt.OnFailure != "" {
		op.OnFailure = opt.OnFailure
	}
	op.Prefetch, op.Prometheus = opt.prefetch(), opt.Prometheus
	if err := opt.bound(&op); err != nil {
		return rollout.Outcome{}, err
	}
	out, err := rollout.Run(ctx, engine(t, p.client.Operation(p.request), p.Release, opt), op)
	return out, installed(ctx, t, opt, out, err, p)
}

// bound gives the operation its limits and its canary.
func (o ApplyOptions) bound(op *rollout.State) error {
	if err := op.Limit(o.Limits); err != nil {
		return err
	}
	if o.Trial == nil {
		return nil
	}
	return op.Try(o.Trial.Pool, o.Trial.Replicas)
}

// installed raises the record after a success. After a way back what runs again has its references first.
func installed(ctx context.Context, t Target, opt ApplyOptions, out rollout.Outcome, err error, p *Plan) error {
	if err == nil && out.Phase == rollout.RolledBack {
		return SettleRunTime(ctx, t, t.running(), p.Version)
	}
	if err != nil || out.Phase != rollout.Succeeded {
		return err
	}
	t.Record.Installed = &Installed{Version: p.Version, Head: p.verified.Head(), Release: p.Release, Namespace: t.Access.Namespace,
		Revision: out.Revision, At: t.Now.UTC().Truncate(time.Second)}
	return opt.Store.Save(ctx, t.Record)
}

func engine(t Target, r rollout.Releaser, release string, opt ApplyOptions) rollout.Engine {
	a := actor(opt.Tool)
	return rollout.Engine{Config: t.Access.Config, Kube: t.Access.Kube, Releaser: r, Namespace: t.Access.Namespace, Release: release,
		Holder: fmt.Sprintf("%s/%d", a.Host, os.Getpid()), OnEvent: opt.OnEvent, By: a.User + "@" + a.Host, Stop: opt.Stop, Outage: t.outage,
		Fetcher: prefetch.Fetcher{Kube: t.Access.Kube, Namespace: t.Access.Namespace, Release: release},
		Scrub: func(ctx context.Context) (func(string) string, error) {
			return support.Cleaner(ctx, support.Request{Kube: t.Access.Kube, Namespaces: []string{t.Access.Namespace}, Now: t.Now})
		}}
}

// outage says that the registry does not answer: pods of the release that ran need it as much as new ones.
func (t Target) outage(ctx context.Context) string {
	if t.Registry == nil {
		return ""
	}
	if err := t.Registry.Ping(ctx); err != nil {
		return "the site's registry does not answer: " + err.Error()
	}
	return ""
}

func (o ApplyOptions) prefetch() string {
	if o.Prefetch == "" {
		return rollout.FetchTry
	}
	return o.Prefetch
}

func actor(tool string) rollout.Actor {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return rollout.Actor{User: fmt.Sprintf("uid %d", os.Getuid()), Host: host, Tool: "wcbundle " + tool}
}

// newID is unique and sorts by time.
func newID(now time.Time) string {
	var b [4]byte
	rand.Read(b[:])
	return now.UTC().Format("20060102-150405") + "-" + hex.EncodeToString(b[:])
}

// Operation is OpenOperation of this site's release.
func Operation(ctx context.Context, t Target) (rollout.State, error) {
	release, err := releaseName(ctx, t)
	if err != nil {
		return rollout.State{}, err
	}
	return OpenOperation(ctx, t.Access, release)
}

// OpenOperation reads the record of the newest operation, finished or not.
func OpenOperation(ctx context.Context, a *Access, release string) (rollout.State, error) {
	return rollout.NewStore(a.Kube, a.Namespace, release).Load(ctx)
}

func client(t Target) (*revision.Client, error) {
	return revision.New(revision.Config{Kubeconfig: t.Access.Kubeconfig, Context: t.Access.Context, Namespace: t.Access.Namespace})
}

// releaseName is the Helm release that this site's product is.
func releaseName(ctx context.Context, t Target) (string, error) {
	if t.Record.Installed != nil {
		return t.Record.Installed.Release, nil
	}
	l := t.Record.Latest()
	if l == nil {
		return "", errors.New("nothing is loaded or installed at this site")
	}
	r, err := fetchRelease(ctx, LoadOptions{Registry: t.Registry}, t.Record.Product, l.Head)
	if err != nil {
		return "", err
	}
	return r.Charts[0].Release, nil
}

// ReleaseName is releaseName for commands that only look.
func ReleaseName(ctx context.Context, t Target) (string, error) { return releaseName(ctx, t) }

// RollbackPlan is what going back would do.
type RollbackPlan struct {
	Release string             `json:"release"`
	From    int                `json:"fromRevision"`
	To      revision.Revision  `json:"to"`
	Changes []revision.Change  `json:"changes"`
	Rolls   []rollout.Pool     `json:"rolls"`
	Stays   []string           `json:"stays"`
	Missing []string           `json:"missing,omitempty"` // content of the target that the registry no longer has
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
	if r.Missing, err = missingContent(ctx, t, target.Manifest); err != nil {
		return nil, err
	}
	if err := r.judge(t.Record, cur.Bundle); err != nil {
		return nil, err
	}
	return r, r.compare(ctx, t, cur)
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
		return revision.Revision{}, fmt.Errorf("there is no revision %d: the history goes from %d to %d", to, history[0].Number, history[len(history)-1].Number)
	case to == cur.Number:
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
	return nil
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

// missingIn looks at one manifest and the blobs that it names.
func missingIn(ctx context.Context, t Target, repo, dgst string) ([]string, error) {
	d, err := t.Registry.Resolve(ctx, repo, dgst)
	if err != nil {
		return []string{repo + "@" + dgst}, nil
	}
	raw, err := t.Registry.Fetch(ctx, repo, d, bundle.MaxManifest)
	if err != nil {
		return nil, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("manifest %s@%s: %w", repo, dgst, err)
	}
	var out []string
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
	if len(r.Missing) > 0 {
		return rollout.Outcome{}, fmt.Errorf("refusing to go back to revision %d: the registry lacks %v; load the bundle of release %s first", r.To.Number, r.Missing, r.To.Bundle)
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
	op := rollout.NewRollback(newID(t.Now), r.Rolls, r.before, r.From, r.To.Number)
	op.Bundle, op.Actor, op.Prefetch = rollout.BundleRef{Version: r.To.Bundle}, actor(opt.Tool), opt.prefetch()
	if err := opt.bound(&op); err != nil {
		return rollout.Outcome{}, err
	}
	request := revision.Request{Release: r.Release, Bundle: r.To.Bundle}
	out, err := rollout.Run(ctx, engine(t, r.client.Operation(request), r.Release, opt), op)
	if err != nil || out.Phase != rollout.Succeeded {
		return out, err
	}
	for _, l := range t.Record.Loads {
		if l.Version == r.To.Bundle {
			t.Record.Installed = &Installed{Version: l.Version, Head: l.Head, Release: r.Release, Namespace: t.Access.Namespace,
				Revision: out.Revision, At: t.Now.UTC().Truncate(time.Second)}
		}
	}
	return out, opt.Store.Save(ctx, t.Record)
}

// History is the revisions of this site's release and the finished operations, oldest first.
func History(ctx context.Context, t Target) ([]revision.Revision, []rollout.State, error) {
	release, err := releaseName(ctx, t)
	if err != nil {
		return nil, nil, err
	}
	c, err := client(t)
	if err != nil {
		return nil, nil, err
	}
	revs, err := c.History(ctx, release)
	if err != nil {
		return nil, nil, err
	}
	ops, err := rollout.NewStore(t.Access.Kube, t.Access.Namespace, release).Finished(ctx)
	return revs, ops, err
}
