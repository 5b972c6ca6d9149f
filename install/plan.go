package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/preflight"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/rollout"
	"github.com/wordcab/wcbundle/sign"
)

// Target says what to plan and where.
type Target struct {
	Access   *Access
	Registry *registry.Registry
	Record   *Record
	Version  string         // a loaded release; "" = the newest
	Values   map[string]any // the site's, laid over the release's
	Scratch  string
	Now      time.Time
	Brought  bool      // pods have been given the registry's login already: a detached run has no right to look for it
	Began    time.Time // when the operation began that is taken up again: what was let in then is finished; zero = now
}

// policyFor is the policy by which a loaded release is judged again. What runs was let in when it was applied: giving it other values
// lets in nothing new, so that neither its expiry nor a newer load stands against it. A revocation does.
func (t Target) policyFor(l *Loaded) (sign.Policy, error) {
	now := t.Now
	if !t.Began.IsZero() {
		now = t.Began
	}
	p, err := t.Record.Policy(now)
	if i := t.Record.Installed; err == nil && i != nil && i.Head.Digest == l.Head.Digest {
		p.Now, p.ClockFloor = i.At, time.Time{}
		delete(p.Accepted, l.Channel)
	}
	return p, err
}

// Plan is what applying a loaded release would do. NewPlan changes nothing.
type Plan struct {
	Version  string            `json:"version"`
	Head     string            `json:"head"`
	Signers  []string          `json:"signers"`
	Channel  string            `json:"channel"`
	Fixes    []PlanFix         `json:"fixes,omitempty"` // vulnerabilities, by the release's VEX document
	Consent  Consent           `json:"consent"`         // of the site's own approvers
	Release  string            `json:"release"`
	From     int               `json:"fromRevision"`
	Next     int               `json:"nextRevision"`
	Running  string            `json:"running,omitempty"` // version that runs
	Changes  []revision.Change `json:"changes"`
	Rolls    []rollout.Pool    `json:"rolls"` // pools whose pods are replaced, in order
	Turns    []Turn            `json:"turns"` // how
	Stays    []string          `json:"stays"` // pools whose pods are not touched
	Report   preflight.Report  `json:"preflight"`
	Blocking []string          `json:"blocking,omitempty"` // changes that no upgrade can make
	RunTime  RunTime           `json:"runTime"`            // how pods find their images that the rendered manifest does not show

	Left []Left `json:"left,omitempty"` // references inside longer text that are not rewritten

	hooks         []preflight.Hook
	refs          map[string]string
	load          *Loaded
	verified      bundle.Verified
	client        *revision.Client
	request       revision.Request
	manifest      string
	agreed        bool // preflight was made, and passed, where it was agreed to
	hookManifests []string
	mounts        []Mountable
	before        int
}

// Nothing tells whether applying would change nothing at all.
func (p *Plan) Nothing() bool {
	return !slices.ContainsFunc(p.Changes, func(c revision.Change) bool { return c.Class != revision.ClassNone })
}

// Allows checks that limits and a canary name pools that roll, before anybody is asked anything.
func (p *Plan) Allows(l rollout.Limits, trial *rollout.Trial) error {
	s := rollout.NewOperation("", rollout.TypeApply, p.Rolls, 0, 0)
	return ApplyOptions{Limits: l, Trial: trial}.bound(&s)
}

// NewPlan verifies a loaded release again, renders it for this cluster, compares it with what runs and runs preflight.
func NewPlan(ctx context.Context, t Target) (*Plan, error) {
	p, err := prepare(ctx, t, t.Version)
	if err != nil {
		return nil, err
	}
	if err := p.compare(ctx, t); err != nil {
		return nil, err
	}
	if err := t.Record.undoes(p.load, p.Running); err != nil {
		return nil, err
	}
	if p.Consent, err = t.Record.Consent(p.Head); err != nil {
		return nil, err
	}
	want, err := p.want(ctx, t)
	if err != nil {
		return nil, err
	}
	snap, _ := preflight.Collect(ctx, preflight.Clients{Kube: t.Access.Kube, Config: t.Access.Config,
		Namespace: t.Access.Namespace, Release: p.Release, Now: t.Now})
	p.Report = preflight.Check(snap, want, t.Now)
	return p, nil
}

// prepare opens a loaded release and its chart, without looking at what runs.
func prepare(ctx context.Context, t Target, version string) (*Plan, error) {
	l := t.Record.Latest()
	if version != "" {
		l = t.Record.ofVersion(version)
	}
	if l == nil {
		return nil, fmt.Errorf("release %s is not loaded: wcbundle load FILE first", orNewest(version))
	}
	v, err := openLoaded(ctx, t, l)
	if err != nil {
		return nil, err
	}
	rel := v.Release()
	chart := rel.Charts[0]
	archive, err := t.Registry.Fetch(ctx, rel.Line(chart.Content.Digest).Repos[0], chart.Content, 64<<20)
	if err != nil {
		return nil, fmt.Errorf("the release's chart: %w", err)
	}
	values, err := bundle.ParseValues("the release's values", []byte(chart.Values))
	if err != nil {
		return nil, err
	}
	refs, err := References(rel, t.Record.Registry.Pull)
	if err != nil {
		return nil, err
	}
	mounts, err := mountables(ctx, t, rel)
	if err != nil {
		return nil, err
	}
	if chart.Namespace != t.Access.Namespace {
		return nil, fmt.Errorf("the release belongs into namespace %s, this site's record is in %s: use --namespace %s", chart.Namespace, t.Access.Namespace, chart.Namespace)
	}
	client, err := revision.New(revision.Config{Kubeconfig: t.Access.Kubeconfig, Context: t.Access.Context, Namespace: t.Access.Namespace})
	if err != nil {
		return nil, err
	}
	return &Plan{
		Version: rel.Version, Head: string(v.Head().Digest), Signers: v.Signers(), Channel: rel.Channel, Fixes: planFixes(v), Release: chart.Release,
		RunTime: t.Record.Registry.RunTime.Way(), refs: refs, load: l, verified: v, client: client, mounts: mounts,
		request: revision.Request{Chart: archive, Values: bundle.MergeValues(values, t.Values), Release: chart.Release, Bundle: rel.Version,
			Post: func(m []byte) ([]byte, error) {
				m, err := Rewrite(m, refs, mountReferences(mounts, t.Record.Registry.Pull))
				if err != nil {
					return nil, err
				}
				return t.Record.Registry.PodAccess().Grant(m)
			}},
	}, nil
}

// openLoaded takes a release from the registry and judges its envelope again: what is applied is what the site's policy
// lets in now, not what it once did.
func openLoaded(ctx context.Context, t Target, l *Loaded) (bundle.Verified, error) {
	repo := bundle.ReleaseRepo(t.Record.Product)
	head, err := t.Registry.Fetch(ctx, repo, l.Head, bundle.MaxManifest)
	if err != nil {
		return bundle.Verified{}, err
	}
	env, fetch, err := envelopeAt(ctx, t.Registry, repo, l.Head.Digest)
	if err != nil {
		return bundle.Verified{}, err
	}
	p, err := t.policyFor(l)
	if err != nil {
		return bundle.Verified{}, err
	}
	o, err := sign.Open(env, head, p)
	if err != nil {
		return bundle.Verified{}, err
	}
	return bundle.ReadRelease(ctx, o, fetch)
}

func orNewest(version string) string {
	if version == "" {
		return "(none)"
	}
	return version
}

// compare renders the release and classifies every change.
func (p *Plan) compare(ctx context.Context, t Target) error {
	history, err := p.client.History(ctx, p.Release)
	if err != nil && !errors.Is(err, revision.ErrNoRelease) {
		return err
	}
	prev := ""
	if len(history) > 0 {
		p.before = history[len(history)-1].Number
	}
	if cur, ok := revision.Current(history); ok {
		prev, p.From, p.Running = cur.Manifest, cur.Number, cur.Bundle
	}
	p.Next = p.before + 1
	if err := p.openWithoutRecord(ctx, t, history); err != nil {
		return err
	}
	rendered, err := p.client.Render(ctx, revision.RenderRequest{Chart: p.request.Chart, Values: p.request.Values, Release: p.Release, Post: p.request.Post})
	if err != nil {
		return fmt.Errorf("rendering release %s: %w", p.Version, err)
	}
	p.manifest, p.hookManifests = rendered.Manifest, rendered.Hooks
	if p.hooks, err = hooksOf(rendered.Hooks); err != nil {
		return err
	}
	if stray, err := Unpinned([]byte(rendered.Manifest), t.Record.Registry.Pull); err != nil || len(stray) > 0 {
		return errors.Join(err, strayError(stray))
	}
	if p.Left, err = LeftAlone([]byte(rendered.Manifest), p.refs); err != nil {
		return err
	}
	pools := poolsOf(p.verified.Release())
	if p.Changes, err = p.client.Classify(ctx, rendered.Manifest, prev, pools); err != nil {
		return err
	}
	p.split(pools)
	if p.Turns, err = turns(ctx, t, p.Rolls); err != nil {
		return err
	}
	faults, err := p.client.Operation(p.request).CRDFaults(ctx)
	for _, f := range faults {
		p.Blocking = append(p.Blocking, f+": within a major version fields are added, not removed; ask the vendor")
	}
	return err
}

// openWithoutRecord blocks where an operation is under way and its record was deleted: preflight finds those that have one.
func (p *Plan) openWithoutRecord(ctx context.Context, t Target, history []revision.Revision) error {
	if !revision.Unfinished(history) {
		return nil
	}
	_, err := OpenOperation(ctx, t.Access, p.Release)
	if errors.Is(err, rollout.ErrNoOperation) {
		p.Blocking = append(p.Blocking, fmt.Sprintf("revision %d belongs to an operation that has not ended, and its record was deleted: wcbundle resume takes it up, wcbundle abort goes back", p.before))
		return nil
	}
	return err
}

func strayError(stray []string) error {
	if len(stray) == 0 {
		return nil
	}
	return fmt.Errorf("the rendered chart names images that the release does not carry: %v: the site's values changed a reference, which only a new bundle can do", stray)
}

// split says which pools roll and which stay.
func (p *Plan) split(pools []rollout.Pool) {
	rolls := map[string]bool{}
	var undeclared []rollout.Workload
	for _, c := range p.Changes {
		if c.Class == revision.ClassRecreate {
			p.Blocking = append(p.Blocking, fmt.Sprintf("%s/%s: %v cannot be changed in place", c.Kind, c.Name, c.Why))
		}
		if c.Class != revision.ClassRestart && c.Class != revision.ClassNew || c.Pool == "" {
			continue
		}
		rolls[c.Pool] = true
		if c.Pool == rollout.BasePool && !declared(pools, c.Kind, c.Name) {
			undeclared = append(undeclared, rollout.Workload{Kind: c.Kind, Name: c.Name})
		}
	}
	pools = withBase(pools, undeclared)
	for _, pool := range pools {
		if rolls[pool.Name] {
			p.Rolls = append(p.Rolls, pool)
		} else {
			p.Stays = append(p.Stays, pool.Name)
		}
	}
}

func declared(pools []rollout.Pool, kind, name string) bool {
	return slices.ContainsFunc(pools, func(p rollout.Pool) bool {
		return slices.Contains(p.Workloads, rollout.Workload{Kind: kind, Name: name})
	})
}

// withBase puts workloads that no pool declares into the pool base, which rolls first.
func withBase(pools []rollout.Pool, undeclared []rollout.Workload) []rollout.Pool {
	if len(undeclared) == 0 {
		return pools
	}
	order := 0
	for i, p := range pools {
		if p.Name == rollout.BasePool {
			pools[i].Workloads = append(slices.Clone(p.Workloads), undeclared...)
			return pools
		}
		order = min(order, p.Order-1)
	}
	return append([]rollout.Pool{{Name: rollout.BasePool, Order: order, Workloads: undeclared}}, pools...)
}

// poolsOf turns the release's pools into the engine's.
func poolsOf(r *bundle.Release) []rollout.Pool {
	var out []rollout.Pool
	for _, p := range r.Pools {
		q := rollout.Pool{Name: p.Name, Order: p.Order, MaxUnavailable: p.MaxUnavailable, MaxSurge: p.MaxSurge,
			ReadyTimeout: duration(p.ReadyTimeout), Gates: rollout.Gates{Soak: duration(p.Gates.Soak)}}
		for _, w := range p.Workloads {
			q.Workloads = append(q.Workloads, rollout.Workload(w))
		}
		if c := p.Canary; c != nil {
			q.Canary = &rollout.Canary{Replicas: c.Replicas, Soak: duration(c.Soak)}
		}
		if d := p.Drain; d != nil {
			q.Drain = &rollout.Drain{Port: d.Port, Method: d.Method, Path: d.Path, Until: d.Until, Expect: expectOf(d.Expect), Timeout: duration(d.Timeout)}
		}
		if h := p.Hold; h != nil {
			q.Hold = &rollout.HoldRule{Ready: h.Ready, Pods: h.Pods}
			for _, f := range h.Set {
				q.Hold.Set = append(q.Hold.Set, rollout.HoldField(f))
			}
		}
		for _, g := range p.Gates.Post {
			q.Gates.Post = append(q.Gates.Post, gateOf(g))
		}
		out = append(out, q)
	}
	slices.SortStableFunc(out, func(a, b rollout.Pool) int { return a.Order - b.Order })
	return out
}

func gateOf(g bundle.Gate) rollout.Gate {
	out := rollout.Gate{ID: g.ID, Interval: duration(g.Interval)}
	if h := g.HTTP; h != nil {
		out.HTTP = &rollout.HTTPGate{Path: h.Path, Port: h.Port, Scheme: h.Scheme, Method: h.Method, Headers: h.Headers, ContentType: h.ContentType,
			Timeout: duration(h.Timeout), Body: h.BodyBytes, Expect: expectOf(h.Expect)}
		if len(h.BodyBytes) > 0 {
			out.HTTP.BodySHA = digest.FromBytes(h.BodyBytes).Encoded()
		}
	}
	if p := g.Prometheus; p != nil {
		out.Prometheus = &rollout.PrometheusGate{Query: p.Query, Service: p.Service, Max: p.Max, Min: p.Min, Traffic: p.Traffic, MinTraffic: p.MinTraffic}
		if p.Baseline != nil {
			b := rollout.BaselineRule(*p.Baseline)
			out.Prometheus.Baseline = &b
		}
	}
	return out
}

func expectOf(e bundle.HTTPExpect) rollout.HTTPExpect {
	out := rollout.HTTPExpect{Status: e.Status, JSONPath: e.JSONPath, Contains: e.Contains, Equals: e.Equals}
	if e.WER != nil {
		w := rollout.WER(*e.WER)
		out.WER = &w
	}
	return out
}

// duration reads what the release's check has accepted.
func duration(s string) rollout.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0
	}
	return rollout.Duration(d)
}
