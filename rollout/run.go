package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// patience is how long the API server may be away before a run stops; the record can be resumed.
const patience = 10 * time.Minute

// Releaser makes revisions. It belongs to one operation and knows its chart and values.
type Releaser interface {
	// ExpandCRDs applies the chart's CRDs and waits until they are served. A *StageError ends the operation before anything else is
	// changed; after another error it is tried again.
	ExpandCRDs(ctx context.Context) error
	// Stage makes the revision that follows r.Before, or finds it made already, or finishes what was left half made; the
	// result is one revision. An error that says what became of the cluster is a *StageError.
	Stage(ctx context.Context, r StageRequest) (StageResult, error)
	// Finish deletes what the revision no longer has and writes the outcome into the revision's description.
	Finish(ctx context.Context, f FinishRequest) error
}

// StageRequest asks for a revision. To is the revision to go back to; 0 means the operation's own chart and values.
type StageRequest struct {
	Op     string
	Before int // newest revision when this stage was decided; what follows it is ours
	From   int // what ran when the operation began; 0 for an install
	To     int
	Holds  Holds
}

// StageResult is the revision that was made, and what it no longer has.
type StageResult struct {
	Revision int
	Prune    []string
}

// StageError says that a revision could not be made, and whether something may have reached the cluster.
type StageError struct {
	Revision int
	Changed  bool
	Err      error
}

func (e *StageError) Error() string { return fmt.Sprintf("making revision %d: %v", e.Revision, e.Err) }

// Unwrap gives the cause.
func (e *StageError) Unwrap() error { return e.Err }

// FinishRequest ends a revision. PruneFrom is the revision whose leftovers are deleted, 0 for none.
type FinishRequest struct {
	Op        string
	Revision  int
	PruneFrom int
	Outcome   Phase
	Text      string
}

// Progress is one line about a running operation. Pool is empty for what concerns the whole.
type Progress struct {
	Time   time.Time `json:"time"`
	Op     string    `json:"op"`
	Phase  Phase     `json:"state"`
	Pool   string    `json:"pool,omitempty"`
	State  PoolPhase `json:"poolState,omitempty"`
	Ready  int       `json:"ready"`
	Total  int       `json:"total"`
	Reason string    `json:"reason,omitempty"`
}

// Outcome is how a run ended: Succeeded, RolledBack, RollbackFailed, Aborted or Held.
type Outcome struct {
	Phase            Phase  `json:"outcome"`
	Pool             string `json:"pool,omitempty"`
	Gate             string `json:"gate,omitempty"`
	Reason           string `json:"reason,omitempty"`
	HeldFor          string `json:"heldFor,omitempty"`
	FromRevision     int    `json:"fromRevision"`
	Revision         int    `json:"revision"`
	RollbackRevision int    `json:"rollbackRevision,omitempty"`
}

// Engine is what a run needs. Config, Releaser, Namespace, Release and Holder must be set.
type Engine struct {
	Config    *rest.Config
	Kube      kubernetes.Interface // nil: made from Config
	Releaser  Releaser
	Namespace string
	Release   string
	Holder    string           // who holds the lock; unique per process
	Interval  time.Duration    // between two looks; 0 = 2 s
	LockTTL   time.Duration    // 0 = DefaultLockTTL
	Now       func() time.Time // nil: the clock
	OnEvent   func(Progress)   // nil: silent
	Fetcher   Fetcher          // nil: nothing is brought to nodes beforehand
	By        string           // who decides, for the record
	Stop      <-chan struct{}  // closed: pause at the next safe point; nil: never
	// Outage says why going back would make it worse, beside nodes that are down, which the engine sees; nil, or "": nothing.
	Outage func(ctx context.Context) string
	// Lost looks for what is left of an operation whose record was deleted; nil: a lost record stays lost.
	Lost  func(ctx context.Context) (Found, error)
	Pools []Pool // as the release declares them: a resumed operation takes the bodies of requests from them
	// Scrub gives what takes secrets out of evidence before the record keeps it. nil, or an error: no evidence is kept.
	Scrub func(ctx context.Context) (func(string) string, error)
}

// Run takes the lock, writes the record and drives a new operation to its end. ErrOpen when an earlier one is not
// finished.
func Run(ctx context.Context, e Engine, op State) (Outcome, error) {
	return e.locked(ctx, func(ctx context.Context, r *run) (Outcome, error) {
		old, err := r.store.Load(ctx)
		if err != nil && !errors.Is(err, ErrNoOperation) {
			return Outcome{}, err
		}
		if err == nil && !old.Phase.Terminal() {
			return outcome(old), fmt.Errorf("%w: %s is %s", ErrOpen, old.ID, old.Phase)
		}
		op.Release, op.Namespace = e.Release, e.Namespace
		return r.drive(ctx, op, Event{Kind: EvStart})
	})
}

// ResumeOptions are what a person says when an operation goes on.
type ResumeOptions struct {
	Accept  []string // gates whose missing verdict is taken as a pass
	Reason  string   // why
	Limits  Limits   // of this run
	Promote bool     // the canary that the operation waits with
}

// Resume continues the operation of the record where it was.
func Resume(ctx context.Context, e Engine, opt ResumeOptions) (Outcome, error) {
	ev := Event{Kind: EvResume, Accept: opt.Accept, Reason: opt.Reason, Limits: opt.Limits}
	if opt.Promote {
		ev.Kind = EvPromote
	}
	return e.reopen(ctx, ev)
}

// Abort turns the operation of the record back.
func Abort(ctx context.Context, e Engine, reason string) (Outcome, error) {
	return e.reopen(ctx, Event{Kind: EvAbort, Reason: reason})
}

// Pause stops an operation that nobody runs; one that somebody runs is asked by Ask. Only pods that roll can be stopped.
func Pause(ctx context.Context, e Engine, reason string) (Outcome, error) {
	return e.reopen(ctx, Event{Kind: EvPause, Reason: reason})
}

// Follow waits until an operation that another process runs has ended, or is on hold.
func Follow(ctx context.Context, s *Store, op string) (Outcome, error) {
	for {
		st, err := s.Load(ctx)
		switch {
		case err != nil:
			return Outcome{}, err
		case st.ID != op:
			return Outcome{}, fmt.Errorf("%w: %s is over, and %s has begun", ErrNoOperation, op, st.ID)
		case st.Phase.Terminal() || st.Phase == Held:
			return outcome(st), nil
		}
		if err := wait(ctx, 2*time.Second); err != nil {
			return outcome(st), err
		}
	}
}

func (e Engine) reopen(ctx context.Context, ev Event) (Outcome, error) {
	return e.locked(ctx, func(ctx context.Context, r *run) (Outcome, error) {
		op, err := r.store.Load(ctx)
		if errors.Is(err, ErrNoOperation) && e.Lost != nil {
			op, err = r.rebuild(ctx)
		}
		if err != nil {
			return Outcome{}, err
		}
		if op.Phase.Terminal() {
			return outcome(op), fmt.Errorf("%w: %s ended as %s", ErrNoOperation, op.ID, op.Phase)
		}
		ev.By = e.By
		op.FillBodies(e.Pools)
		if err := op.allows(ev.Limits); err != nil {
			return outcome(op), err
		}
		if ev.Kind == EvPause && op.Phase != Rolling {
			return outcome(op), fmt.Errorf("%w that could be paused: %s is %s, and nobody runs it", ErrNoOperation, op.ID, op.Phase)
		}
		return r.drive(ctx, op, ev)
	})
}

// rebuild makes the record anew and saves it before anything is done by it.
func (r *run) rebuild(ctx context.Context) (State, error) {
	found, err := r.Lost(ctx)
	if err != nil {
		return State{}, err
	}
	op, err := Rebuild(found, r.Now())
	if err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrNoOperation, err)
	}
	op.Release, op.Namespace = r.Release, r.Namespace
	return op, r.store.Save(ctx, op)
}

// locked runs f with the lock, and with a context that ends when the lock is lost.
func (e Engine) locked(ctx context.Context, f func(context.Context, *run) (Outcome, error)) (Outcome, error) {
	r, err := e.prepare(ctx)
	if err != nil {
		return Outcome{}, err
	}
	if err := r.lock.acquire(ctx); err != nil {
		return Outcome{}, err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	kept := make(chan struct{})
	go func() { defer close(kept); r.lock.keep(inner, cancel) }()
	r.watch(inner)
	out, err := f(inner, r)
	cancel()
	<-kept
	if r.lock.lost.Load() {
		return out, ErrLockLost
	}
	free, stop := context.WithTimeout(context.WithoutCancel(ctx), gateTimeout)
	defer stop()
	if dropErr := r.lock.drop(free); dropErr != nil && err == nil {
		err = fmt.Errorf("freeing the lock: %w", dropErr)
	}
	return out, err
}

func (e Engine) prepare(ctx context.Context) (*run, error) {
	if e.Releaser == nil || e.Release == "" || e.Namespace == "" || e.Holder == "" || e.Config == nil {
		return nil, errors.New("engine wants Config, Releaser, Namespace, Release and Holder")
	}
	if e.Kube == nil {
		k, err := kubernetes.NewForConfig(e.Config)
		if err != nil {
			return nil, fmt.Errorf("reaching the cluster: %w", err)
		}
		e.Kube = k
	}
	if e.Interval <= 0 {
		e.Interval = 2 * time.Second
	}
	if e.LockTTL <= 0 {
		e.LockTTL = DefaultLockTTL
	}
	proxy, err := newPodProxy(e.Config)
	if err != nil {
		return nil, err
	}
	if e.Now == nil {
		ahead := proxy.clockAhead(ctx)
		e.Now = func() time.Time { return time.Now().Add(ahead) }
	}
	dyn, err := dynamic.NewForConfig(e.Config)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	disco, err := discovery.NewDiscoveryClientForConfig(e.Config)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	return &run{
		Engine: e,
		store:  NewStore(e.Kube, e.Namespace, e.Release),
		lock:   &lock{kube: e.Kube, namespace: e.Namespace, name: "wcbundle-" + e.Release, holder: e.Holder, ttl: e.LockTTL, now: e.Now},
		cluster: cluster{kube: e.Kube, dyn: dyn, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco)),
			namespace: e.Namespace, from: direct{e.Kube, e.Namespace}},
		proxy:   proxy,
		drained: map[string]bool{},
	}, nil
}

// watch lets looks read from watches. Without the right to watch they ask the API server, which then has more to do.
func (r *run) watch(ctx context.Context) {
	w, err := watch(ctx, r.Kube, r.Namespace)
	if err != nil {
		r.tell(Progress{Reason: "asking for every look instead of watching: " + err.Error()})
		return
	}
	r.watched, r.others = w, newObjects(ctx, r.cluster.dyn, r.Namespace)
}

// run is one run of an engine.
type run struct {
	Engine
	store   *Store
	lock    *lock
	cluster cluster
	watched *watched // nil: without the right to
	others  *objects // then nil, too
	proxy   *podProxy
	drained map[string]bool // uids of pods that were asked to
	sizes   map[Workload]int32
	paused  bool
	said    Progress
}

// drive is the loop: step, save, act. The state is saved before the act that it permits, and a failed save ends the run.
func (r *run) drive(ctx context.Context, s State, ev Event) (Outcome, error) {
	last, saved := Action{}, ""
	for {
		next, acts := Step(s, ev, r.Now())
		if wish, ok := r.wish(s.ID); ok {
			next, acts = Step(next, wish, r.Now())
		}
		if text := stateJSON(next); text != saved {
			next.Seq++
			if err := r.save(ctx, next); err != nil {
				return outcome(s), r.stopped(ctx, err)
			}
			saved = stateJSON(next)
		}
		s = next
		r.say(s, ev)
		if len(acts) == 0 {
			r.tidy(ctx, s)
			return outcome(s), nil
		}
		if acts[0] == last {
			if err := wait(ctx, r.pace(s, last)); err != nil {
				return outcome(s), r.stopped(ctx, err)
			}
		}
		last = acts[0]
		var err error
		if ev, err = r.insist(ctx, s, last); err != nil {
			return outcome(s), r.stopped(ctx, err)
		}
	}
}

// save writes the record, again while the API server is away. A write whose answer was lost is not somebody else's.
func (r *run) save(ctx context.Context, s State) error {
	until := r.Now().Add(patience)
	for tries := 0; ; tries++ {
		err := r.store.Save(ctx, s)
		if errors.Is(err, ErrConflict) && tries > 0 {
			if there, loadErr := r.store.Load(ctx); loadErr == nil && stateJSON(there) == stateJSON(s) {
				return nil
			}
		}
		if err == nil || errors.Is(err, ErrConflict) || ctx.Err() != nil || !r.Now().Before(until) {
			return err
		}
		r.tell(Progress{Op: s.ID, Phase: s.Phase, Pool: s.Pool, Reason: err.Error()})
		if err := wait(ctx, r.Interval); err != nil {
			return err
		}
	}
}

// pace is how long to wait before the same is done again: gates may want more time than looks.
func (r *run) pace(s State, a Action) time.Duration {
	d := r.Interval
	p := s.pool(a.Pool)
	if a.Kind != DoCheck || p == nil {
		return d
	}
	for _, g := range p.Gates.Post {
		switch {
		case g.Interval > 0:
			d = max(d, time.Duration(g.Interval))
		case g.Prometheus != nil || g.HTTP != nil && g.HTTP.BodySHA != "":
			d = max(d, time.Duration(DefaultGateInterval))
		}
	}
	return d
}

// wish is what a person wants meanwhile: by a signal here, or by a request from elsewhere.
func (r *run) wish(op string) (Event, bool) {
	if q := r.lock.asked.Swap(nil); q != nil && q.Op == op {
		switch q.What {
		case "pause":
			return Event{Kind: EvPause, By: q.By, Reason: q.Reason}, true
		case "abort":
			return Event{Kind: EvAbort, By: q.By, Reason: q.Reason}, true
		}
	}
	select {
	case <-r.Stop:
		if !r.paused {
			r.paused = true
			return Event{Kind: EvPause, By: r.By, Reason: "interrupted"}, true
		}
	default:
	}
	return Event{}, false
}

// tidy ends a run. What a fetch has left is in nobody's way for long: an error of it does not change how the operation ended.
func (r *run) tidy(ctx context.Context, s State) {
	if err := r.clear(ctx); err != nil {
		r.tell(Progress{Op: s.ID, Phase: s.Phase, Reason: "pods that fetched images are left, the next operation removes them: " + err.Error()})
	}
}

// insist performs an action, again while the API server is away.
func (r *run) insist(ctx context.Context, s State, a Action) (Event, error) {
	until := r.Now().Add(patience)
	for {
		if err := r.lock.assured(ctx); err != nil {
			return Event{}, err
		}
		ev, err := r.act(ctx, s, a)
		if err == nil || ctx.Err() != nil || !r.Now().Before(until) {
			return ev, err
		}
		r.tell(Progress{Op: s.ID, Phase: s.Phase, Pool: a.Pool, Reason: a.String() + ": " + err.Error()})
		if err := wait(ctx, r.Interval); err != nil {
			return ev, err
		}
	}
}

func (r *run) stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, ctx.Err())
	}
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// OutcomeOf is how an operation stands, as its run would return it.
func OutcomeOf(s State) Outcome { return outcome(s) }

func outcome(s State) Outcome {
	o := Outcome{Phase: s.Phase, FromRevision: s.Helm.FromRevision, Revision: s.Helm.Revision, RollbackRevision: s.Helm.RollbackRevision}
	if f := s.Failure; f != nil {
		o.Pool, o.Gate, o.Reason = f.Pool, f.Gate, f.Reason
	} else if s.Phase == Held {
		o.Pool = s.Pool
		if p := s.pool(s.Pool); p != nil && s.HeldFor == HeldForGate {
			w := s.worst(p.Results)
			o.Gate, o.Reason = w.ID, w.Message
		}
	}
	if s.Phase == Held {
		o.HeldFor = s.HeldFor
		if s.HeldFor != HeldForGate && s.Why != "" {
			o.Reason = strings.TrimPrefix(o.Reason+"; "+s.Why, "; ")
		}
	}
	return o
}

// say tells the state after an event, with what is waited for.
func (r *run) say(s State, ev Event) {
	p := Progress{Op: s.ID, Phase: s.Phase, Pool: s.Pool, Reason: ev.Seen.Waiting}
	if ps := s.pool(s.Pool); ps != nil {
		p.State, p.Ready, p.Total = ps.State, ps.Ready, ps.Total
		if w := s.worst(ps.Results); w.Verdict != Pass && (ps.State == PoolGating || ps.State == PoolSoaking) {
			p.Reason = "gate " + w.ID + ": " + string(w.Verdict) + ": " + w.Message
		}
	}
	if s.Failure != nil && s.Phase != RollingBack {
		p.Reason = s.Failure.Reason
	}
	if s.Why != "" {
		p.Reason = s.Why
	}
	r.tell(p)
}

func (r *run) tell(p Progress) {
	if r.OnEvent == nil || p == r.said {
		return
	}
	r.said = p
	p.Time = r.Now().UTC()
	r.OnEvent(p)
}
