package install

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/wordcab/wcbundle/install/prefetch"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/install/support"
	"github.com/wordcab/wcbundle/rollout"
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
	ID         string          // of the operation; "" = a new one
	Actor      *rollout.Actor  // who began it; nil = who runs this
	Despite    string          // why Rollback may go back to a revoked release; "" = it may not. It goes into the record
}

// Apply makes the plan's revision with every changed pool on hold and replaces the pools one by one. A plan whose
// preflight blocks must not come here.
func Apply(ctx context.Context, t Target, p *Plan, opt ApplyOptions) (rollout.Outcome, error) {
	if p.verified.Release() == nil {
		return rollout.Outcome{}, errors.New("refusing to apply what was not verified")
	}
	if p.Report.Blocked() && !p.agreed || len(p.Blocking) > 0 {
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
	op := rollout.NewOperation(opt.id(t.Now), kind, p.Rolls, p.before, p.From)
	op.Bundle = rollout.BundleRef{Version: p.Version, Digest: p.Head}
	op.Actor = opt.actor()
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

func (o ApplyOptions) id(now time.Time) string {
	if o.ID != "" {
		return o.ID
	}
	return newID(now)
}

func (o ApplyOptions) actor() rollout.Actor {
	if o.Actor != nil {
		return *o.Actor
	}
	return actor(o.Tool)
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
	t.Record.nowRuns(p.Version, Installed{Release: p.Release, Namespace: t.Access.Namespace, Revision: out.Revision, At: t.Now})
	return opt.Store.Save(ctx, t.Record)
}

func engine(t Target, r rollout.Releaser, release string, opt ApplyOptions) rollout.Engine {
	a := opt.actor()
	return rollout.Engine{Config: t.Access.Config, Kube: t.Access.Kube, Releaser: r, Namespace: t.Access.Namespace, Release: release,
		Holder: fmt.Sprintf("%s/%d", actor(opt.Tool).Host, os.Getpid()), OnEvent: opt.OnEvent, By: a.User + "@" + a.Host, Stop: opt.Stop, Outage: t.outage,
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
	return rollout.Actor{User: Who(), Host: host, Tool: "wcbundle " + tool}
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
