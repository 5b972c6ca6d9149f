package rollout

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// How often in a row a gate must fail before the operation turns back, and how often it may be unable to say before the
// operation holds.
const (
	failRounds        = 2
	unclearRounds     = 5
	unclearPrometheus = 20
)

// EventKind names what happened.
type EventKind string

// The events. Each answers the action of the state it is sent in; Resume, Abort and Pause come from a person.
const (
	EvStart       EventKind = "start"
	EvResume      EventKind = "resume"       // Accept: gates whose missing verdict is taken as a pass; Limits, By, Reason
	EvPromote     EventKind = "promote"      // of a canary that waits; By, Reason
	EvAbort       EventKind = "abort"        // By, Reason
	EvPause       EventKind = "pause"        // stop at the next safe point; By, Reason
	EvCRDs        EventKind = "crds"         // expanded and established
	EvStaged      EventKind = "staged"       // Revision, Prune
	EvStageFailed EventKind = "stage-failed" // Reason, Changed: something may have reached the cluster
	EvMeasured    EventKind = "measured"     // Before
	EvFetched     EventKind = "fetched"      // Fetched
	EvDrained     EventKind = "drained"      // Seen: Done, or what is waited for
	EvReleased    EventKind = "released"
	EvObserved    EventKind = "observed" // Seen
	EvChecked     EventKind = "checked"  // Seen, Results
	EvReheld      EventKind = "reheld"
	EvEvidence    EventKind = "evidence"      // Lines, Outage
	EvReverted    EventKind = "reverted"      // Revision
	EvRevertFail  EventKind = "revert-failed" // Reason
	EvFinal       EventKind = "finalized"
)

// Event is what happened, and what was seen.
type Event struct {
	Kind      EventKind
	Revision  int
	Reason    string
	Changed   bool
	Prune     []string
	Accept    []string
	Lines     []string
	Seen      Seen
	Results   []GateResult
	Fetched   Fetched
	Before    Count
	By        string              // who decided
	NodesDown int                 // before the pool is touched
	Baselines map[string]Baseline // then
	Limits    Limits
	Outage    string // why going back would make it worse
	Drift     string // what has lost its hold, and by whom
}

// Seen is what a look at a pool's workloads showed.
type Seen struct {
	Done     bool   // every replica is new, ready and available
	Failed   string // a reason not to wait any longer, for example CrashLoopBackOff of a pod
	Waiting  string // what is waited for
	Ready    int    // new and ready replicas
	New      int    // new replicas
	Total    int    // wanted replicas
	Restarts int    // of the containers of the new pods

	unobserved bool // a controller has not seen yet what was asked of it last
}

// ActionKind names what to do.
type ActionKind string

// The actions. Each first observes whether it is done already.
const (
	DoCRDs     ActionKind = "expand-crds"
	DoStage    ActionKind = "stage"
	DoMeasure  ActionKind = "measure"
	DoFetch    ActionKind = "fetch"
	DoDrain    ActionKind = "drain"
	DoRelease  ActionKind = "release"
	DoObserve  ActionKind = "observe"
	DoCheck    ActionKind = "check"
	DoRehold   ActionKind = "rehold" // of a pool, or of every pool that is not done
	DoEvidence ActionKind = "evidence"
	DoRevert   ActionKind = "revert"
	DoFinalize ActionKind = "finalize"
)

// Action is what to do, for which pool.
type Action struct {
	Kind ActionKind
	Pool string
}

// String is KIND or KIND POOL.
func (a Action) String() string {
	if a.Pool == "" {
		return string(a.Kind)
	}
	return string(a.Kind) + " " + a.Pool
}

// Step is the machine: the state after an event, and what to do next. It is pure. An event that does not belong to the
// state changes nothing and asks for the state's action again. No action means that the run stops here.
func Step(s State, e Event, now time.Time) (State, []Action) {
	s = s.clone()
	now = now.UTC()
	switch e.Kind {
	case EvStart:
		if s.StartedAt.IsZero() {
			s.StartedAt = now
		}
	case EvResume, EvPromote:
		s.resume(e, now)
	case EvAbort:
		s.abort(e, now)
	case EvPause:
		s.pause(e, now)
	default:
		s.advance(e, now)
	}
	s.settle(now)
	return s, s.next()
}

// advance applies an answer in the phase that asked for it.
func (s *State) advance(e Event, now time.Time) {
	if e.Drift != "" && s.Phase == Rolling {
		s.HeldFor, s.Why, s.Phase = HeldForDrift, e.Drift, Rehold
		return
	}
	switch s.Phase {
	case CRDs:
		s.onCRDs(e, now)
	case Staging:
		s.onStaging(e, now)
	case Rolling, RollingBack:
		s.onPool(e, now)
	case Rehold:
		s.onReheld(e)
	case Evidence:
		if e.Kind == EvEvidence {
			s.Failure.Evidence = e.Lines
			s.afterEvidence(e.Outage)
		}
	case Reverting:
		s.onReverting(e, now)
	case Finalizing, FinalizingBack:
		s.onFinal(e, now)
	}
}

// onReheld: after a failure its evidence is kept; after a pause or a drift the operation waits.
func (s *State) onReheld(e Event) {
	switch {
	case e.Kind != EvReheld:
	case s.Failure != nil:
		s.Phase = Evidence
	default:
		if p := s.pool(s.Pool); p != nil && p.State == PoolReplacing {
			p.State = PoolReleasing // it must be let go again
		}
		s.hold(Rolling, s.HeldFor, s.Why)
	}
}

func (s *State) onCRDs(e Event, now time.Time) {
	switch e.Kind {
	case EvCRDs:
		s.Phase = Staging
	case EvStageFailed:
		s.Failure = &Failure{Gate: "crds", Reason: e.Reason, At: now}
		s.end(Aborted, now)
	}
}

func (s *State) onStaging(e Event, now time.Time) {
	switch e.Kind {
	case EvStaged:
		s.Phase, s.Helm.Revision, s.Prune, s.Failure = Staged, e.Revision, e.Prune, nil
	case EvStageFailed:
		s.Failure = &Failure{Gate: "stage", Reason: e.Reason, At: now}
		s.Helm.Revision = e.Revision
		switch {
		case !e.Changed:
			s.end(Aborted, now)
		case s.Type == TypeRollback:
			s.end(RollbackFailed, now)
		default:
			s.afterEvidence("")
		}
	}
}

func (s *State) onReverting(e Event, now time.Time) {
	switch e.Kind {
	case EvReverted:
		s.Helm.RollbackRevision = e.Revision
		s.turnBack()
		s.Phase = RollingBack
	case EvRevertFail:
		s.Failure.Reason += "; going back failed: " + e.Reason
		s.end(RollbackFailed, now)
	}
}

func (s *State) onFinal(e Event, now time.Time) {
	switch {
	case e.Kind != EvFinal:
	case s.Phase == Finalizing:
		s.end(Succeeded, now)
	default:
		s.end(RolledBack, now)
	}
}

// settle moves through the phases that need no act of their own.
func (s *State) settle(now time.Time) {
	switch s.Phase {
	case Locked:
		s.Phase = CRDs
		if s.Type == TypeRollback {
			s.Phase = Staging // going back never touches a CRD: the old program ignores what was added
		}
	case Staged:
		s.Phase = Rolling
	}
	if s.Phase == Rolling || s.Phase == RollingBack {
		s.takeTurn(now)
	}
}

// takeTurn gives the turn to the first pool that is not done and may have it.
func (s *State) takeTurn(now time.Time) {
	left := false
	for _, name := range s.Order {
		p := s.pool(name)
		if p == nil || p.State == PoolDone {
			continue
		}
		if p.State == PoolWaiting && s.Phase == Rolling {
			if kind, why := s.barred(now); kind != "" {
				s.hold(Rolling, kind, why)
				return
			}
			if len(s.Limits.Only) > 0 && !slices.Contains(s.Limits.Only, name) {
				left = true
				continue
			}
		}
		s.Pool = name
		switch {
		case p.State == PoolWaiting:
			s.begin(p, now)
		case s.Asked != nil && s.Phase == Rolling:
			s.stopInPool(p)
		}
		return
	}
	s.Pool = ""
	switch {
	case left:
		s.hold(Rolling, HeldForLimit, "done: "+strings.Join(s.Limits.Only, ", "))
	case s.Phase == Rolling:
		s.Phase = Finalizing
	default:
		s.Phase = FinalizingBack
	}
}

// barred says why no further pool may be begun now; "" if one may.
func (s *State) barred(now time.Time) (kind, why string) {
	if s.Asked != nil {
		return HeldForPause, s.Asked.text()
	}
	if u := s.pool(s.Limits.Until); u != nil && u.State == PoolDone {
		return HeldForLimit, "done up to " + u.Name
	}
	if end := s.Limits.WindowEnd; !end.IsZero() && !now.Before(end) {
		return HeldForWindow, "the change window ended at " + end.UTC().Format(time.RFC3339)
	}
	return "", ""
}

// stopInPool pauses in the middle of a pool. Where replicas go one by one the step is ended first; a rolling one is held again, and
// the pods under way come up.
func (s *State) stopInPool(p *PoolState) {
	switch p.State {
	case PoolDraining:
	case PoolReleasing, PoolReplacing:
		if p.Upto == 0 {
			s.HeldFor, s.Why, s.Phase = HeldForPause, s.Asked.text(), Rehold
		}
	default: // no pod is on its way
		s.hold(Rolling, HeldForPause, s.Asked.text())
	}
}

// next is the action of a state; none for Held and the terminal ones.
func (s *State) next() []Action {
	one := func(k ActionKind, pool string) []Action { return []Action{{k, pool}} }
	switch s.Phase {
	case CRDs:
		return one(DoCRDs, "")
	case Staging:
		return one(DoStage, "")
	case Rehold:
		if s.HeldFor == HeldForDrift {
			return one(DoRehold, "")
		}
		return one(DoRehold, s.Pool)
	case Evidence:
		return one(DoEvidence, s.Pool)
	case Reverting:
		return one(DoRevert, "")
	case Finalizing, FinalizingBack:
		return one(DoFinalize, "")
	case Rolling, RollingBack:
		switch s.pool(s.Pool).State {
		case PoolMeasuring:
			return one(DoMeasure, s.Pool)
		case PoolFetching:
			return one(DoFetch, s.Pool)
		case PoolDraining:
			return one(DoDrain, s.Pool)
		case PoolReleasing:
			return one(DoRelease, s.Pool)
		case PoolReplacing:
			return one(DoObserve, s.Pool)
		default:
			return one(DoCheck, s.Pool)
		}
	}
	return nil
}

// afterEvidence decides where a failure leads. There is no going back from a first install, only one from any operation, and none
// into an outage.
func (s *State) afterEvidence(outage string) {
	from := Rolling
	if s.Failure.Gate == "stage" {
		from = Staging
	}
	switch {
	case s.OnFailure == OnFailureHold || s.Type == TypeInstall || s.Helm.RollbackTarget == 0 || s.Type == TypeRollback:
		s.hold(from, HeldForFailure, "")
	case outage != "":
		s.hold(from, HeldForOutage, "not rolled back: "+outage)
	default:
		s.Phase = Reverting
		s.Helm.RevertBefore = max(s.Helm.Revision, s.Helm.Before)
	}
}

func (s *State) hold(from Phase, kind, why string) {
	s.Phase, s.HeldFrom, s.HeldFor, s.Why, s.Asked = Held, from, kind, why, nil
}

// turnBack reverses the direction: the failed pool first, then those that had been replaced, last first, then those
// that only lose their hold.
func (s *State) turnBack() {
	var failed, touched, waiting []string
	for i := range s.Order {
		name := s.Order[len(s.Order)-1-i]
		p := s.pool(name)
		switch {
		case s.Failure != nil && name == s.Failure.Pool:
			failed = append(failed, name)
		case p.Touched:
			touched = append(touched, name)
		default:
			waiting = append(waiting, name)
		}
		p.State, p.Fails, p.Unclear, p.Ready, p.Upto = PoolWaiting, 0, 0, 0, 0
	}
	slices.Reverse(waiting)
	s.Order = slices.Concat(failed, touched, waiting)
}

func (s *State) end(p Phase, now time.Time) {
	s.Phase, s.Pool, s.EndedAt, s.Asked = p, "", now, nil
}

// String is one line of a state, for people and golden files.
func (s State) String() string {
	line := fmt.Sprintf("%s rev=%d", s.Phase, s.Helm.Revision)
	if s.Helm.RollbackRevision != 0 {
		line += fmt.Sprintf(" back=%d", s.Helm.RollbackRevision)
	}
	for _, name := range s.Order {
		p := s.pool(name)
		mark := ""
		if name == s.Pool {
			mark = "*"
		}
		line += fmt.Sprintf(" %s%s=%s(%d/%d)", mark, name, p.State, p.Ready, p.Total)
		if p.Upto > 0 {
			line += fmt.Sprintf("upto%d", p.Upto)
		}
	}
	if s.HeldFor != "" {
		line += fmt.Sprintf(" for=%s", s.HeldFor)
	}
	if s.Why != "" {
		line += fmt.Sprintf(" why=%q", s.Why)
	}
	if s.Failure != nil {
		line += fmt.Sprintf(" failure=%s/%s: %s", s.Failure.Pool, s.Failure.Gate, s.Failure.Reason)
	}
	return line
}
