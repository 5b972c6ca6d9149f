package rollout

import (
	"fmt"
	"slices"
	"time"
)

// How often in a row a gate must fail before the operation turns back, and how often it may be unable to say before the
// operation holds.
const (
	failRounds    = 2
	unclearRounds = 5
)

// EventKind names what happened.
type EventKind string

// The events. Each answers the action of the state it is sent in; Resume, Abort and Pause come from a person.
const (
	EvStart       EventKind = "start"
	EvResume      EventKind = "resume"       // Accept: gates whose missing verdict is taken as a pass
	EvAbort       EventKind = "abort"        // Reason
	EvPause       EventKind = "pause"        // stop at the next safe point
	EvCRDs        EventKind = "crds"         // expanded and established
	EvStaged      EventKind = "staged"       // Revision, Prune
	EvStageFailed EventKind = "stage-failed" // Reason, Changed: something may have reached the cluster
	EvFetched     EventKind = "fetched"      // Fetched
	EvReleased    EventKind = "released"
	EvObserved    EventKind = "observed" // Seen
	EvChecked     EventKind = "checked"  // Seen, Results
	EvReheld      EventKind = "reheld"
	EvEvidence    EventKind = "evidence"      // Lines
	EvReverted    EventKind = "reverted"      // Revision
	EvRevertFail  EventKind = "revert-failed" // Reason
	EvFinal       EventKind = "finalized"
)

// Event is what happened, and what was seen.
type Event struct {
	Kind     EventKind
	Revision int
	Reason   string
	Changed  bool
	Prune    []string
	Accept   []string
	Lines    []string
	Seen     Seen
	Results  []GateResult
	Fetched  Fetched
}

// Seen is what a look at a pool's workloads showed.
type Seen struct {
	Done     bool   // every replica is new, ready and available
	Failed   string // a reason not to wait any longer, for example CrashLoopBackOff of a pod
	Waiting  string // what is waited for
	Ready    int    // new and ready replicas
	Total    int    // wanted replicas
	Restarts int    // of the containers of the new pods
}

// ActionKind names what to do.
type ActionKind string

// The actions. Each first observes whether it is done already.
const (
	DoCRDs     ActionKind = "expand-crds"
	DoStage    ActionKind = "stage"
	DoFetch    ActionKind = "fetch"
	DoRelease  ActionKind = "release"
	DoObserve  ActionKind = "observe"
	DoCheck    ActionKind = "check"
	DoRehold   ActionKind = "rehold"
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
	case EvResume:
		s.resume(e, now)
	case EvAbort:
		s.abort(e, now)
	case EvPause:
		s.pause()
	default:
		s.advance(e, now)
	}
	s.settle(now)
	return s, s.next()
}

// advance applies an answer in the phase that asked for it.
func (s *State) advance(e Event, now time.Time) {
	switch s.Phase {
	case CRDs:
		s.onCRDs(e, now)
	case Staging:
		s.onStaging(e, now)
	case Rolling, RollingBack:
		s.onPool(e, now)
	case Rehold:
		if e.Kind == EvReheld {
			s.Phase = Evidence
		}
	case Evidence:
		if e.Kind == EvEvidence {
			s.Failure.Evidence = e.Lines
			s.afterEvidence()
		}
	case Reverting:
		s.onReverting(e, now)
	case Finalizing, FinalizingBack:
		s.onFinal(e, now)
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
			s.afterEvidence()
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

// takeTurn gives the turn to the first pool that is not done.
func (s *State) takeTurn(now time.Time) {
	for _, name := range s.Order {
		p := s.pool(name)
		if p == nil || p.State == PoolDone {
			continue
		}
		s.Pool = name
		if p.State == PoolWaiting {
			s.begin(p, now)
		}
		return
	}
	s.Pool = ""
	if s.Phase == Rolling {
		s.Phase = Finalizing
	} else {
		s.Phase = FinalizingBack
	}
}

// begin lets a pool take its turn: what its pods need comes first, then the pods.
func (s *State) begin(p *PoolState, now time.Time) {
	if !s.fetches(p) {
		s.release(p, now)
		return
	}
	p.State, p.ProgressAt, p.Ready, p.Total, p.Lacks = PoolFetching, now, 0, 0, nil
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
		return one(DoRehold, s.Pool)
	case Evidence:
		return one(DoEvidence, s.Pool)
	case Reverting:
		return one(DoRevert, "")
	case Finalizing, FinalizingBack:
		return one(DoFinalize, "")
	case Rolling, RollingBack:
		switch s.pool(s.Pool).State {
		case PoolFetching:
			return one(DoFetch, s.Pool)
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

// afterEvidence decides where a failure leads. There is no going back from a first install, and only one from any
// operation.
func (s *State) afterEvidence() {
	if s.OnFailure == OnFailureHold || s.Type == TypeInstall || s.Helm.RollbackTarget == 0 || s.Type == TypeRollback {
		from := Rolling
		if s.Failure.Gate == "stage" {
			from = Staging
		}
		s.hold(from)
		return
	}
	s.Phase = Reverting
	s.Helm.RevertBefore = max(s.Helm.Revision, s.Helm.Before)
}

func (s *State) hold(from Phase) { s.Phase, s.HeldFrom = Held, from }

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
		p.State, p.Fails, p.Unclear, p.Ready = PoolWaiting, 0, 0, 0
	}
	slices.Reverse(waiting)
	s.Order = slices.Concat(failed, touched, waiting)
}

func (s *State) end(p Phase, now time.Time) { s.Phase, s.Pool, s.EndedAt = p, "", now }

func (s *State) resume(e Event, now time.Time) {
	s.Accepted = append(s.Accepted, e.Accept...)
	if p := s.pool(s.Pool); p != nil && p.State == PoolFetching {
		p.ProgressAt = now // nobody looked meanwhile
	}
	if s.Phase != Held {
		return
	}
	s.Phase, s.HeldFrom = s.HeldFrom, ""
	if p := s.pool(s.Pool); p != nil {
		p.Fails, p.Unclear = 0, 0
		if p.State == PoolFailed { // held again after the failure: it must be released again
			p.State, s.Failure = PoolWaiting, nil
		}
	}
}

func (s *State) pause() {
	if s.Phase == Rolling {
		s.hold(Rolling)
	}
}

// abort before staging ends the operation; afterwards it goes back as a failure would.
func (s *State) abort(e Event, now time.Time) {
	if s.Phase.Terminal() || s.Back() {
		return
	}
	f := Failure{Pool: s.Pool, Gate: "abort", Reason: e.Reason, At: now}
	switch {
	case s.Phase == Locked || s.Phase == CRDs:
		s.Failure = &f
		s.end(Aborted, now)
	case s.Type != TypeApply || s.Helm.RollbackTarget == 0:
		s.Failure = &f
		s.end(RollbackFailed, now)
	default:
		if s.Failure == nil {
			s.Failure = &f
		}
		s.OnFailure, s.HeldFrom = OnFailureRollback, ""
		s.Phase, s.Helm.RevertBefore = Reverting, max(s.Helm.Revision, s.Helm.Before)
	}
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
	}
	if s.Failure != nil {
		line += fmt.Sprintf(" failure=%s/%s: %s", s.Failure.Pool, s.Failure.Gate, s.Failure.Reason)
	}
	return line
}
