package rollout

import (
	"time"
)

// decided keeps who decided what, and why.
func (s *State) decided(d Decision) {
	const keep = 50
	s.Decisions = append(s.Decisions, d)
	if n := len(s.Decisions); n > keep {
		s.Decisions = s.Decisions[n-keep:]
	}
}

func (d Decision) text() string {
	text := "paused"
	if d.By != "" {
		text += " by " + d.By
	}
	if d.Reason != "" {
		text += ": " + d.Reason
	}
	return text
}

// resume goes on. A canary that waits is only promoted by that word.
func (s *State) resume(e Event, now time.Time) {
	if s.Phase.Terminal() || (s.Phase == Held && s.HeldFor == HeldForCanary) != (e.Kind == EvPromote) {
		return
	}
	if s.Phase == Held || len(e.Accept) == 0 {
		s.decided(Decision{What: string(e.Kind), By: e.By, Reason: e.Reason, At: now})
	}
	for _, gate := range e.Accept {
		s.Accepted = append(s.Accepted, gate)
		s.decided(Decision{What: "accept", Gate: gate, By: e.By, Reason: e.Reason, At: now})
	}
	p := s.pool(s.Pool)
	if p != nil {
		p.ProgressAt = now // nobody looked meanwhile
	}
	if s.Phase == Held || e.Limits.given() {
		s.Limits = e.Limits
	}
	if s.Phase != Held {
		return
	}
	if e.Kind == EvPromote {
		s.Trial.Promoted = true
		s.sortOrder()
	}
	s.Phase, s.HeldFrom, s.HeldFor, s.Why = s.HeldFrom, "", "", ""
	if p == nil {
		return
	}
	p.Fails, p.Unclear = 0, 0
	switch p.State {
	case PoolFailed: // held again after the failure: it must be released again
		p.State, s.Failure = PoolWaiting, nil
	case PoolReleasing:
		p.ReleasedAt = now
	case PoolSoaking: // from the beginning: it may have been anything while nobody looked
		p.SoakUntil = now.Add(time.Duration(p.soak()))
	}
}

// pause stops at the next safe point. On the way back there is none.
func (s *State) pause(e Event, now time.Time) {
	if s.Phase.Terminal() || s.Phase == Held || s.Back() || s.Asked != nil {
		return
	}
	s.Asked = &Decision{What: "pause", By: e.By, Reason: e.Reason, At: now}
	s.decided(*s.Asked)
}

// abort before staging ends the operation; afterwards it goes back as a failure would.
func (s *State) abort(e Event, now time.Time) {
	if s.Phase.Terminal() || s.Back() {
		return
	}
	s.decided(Decision{What: "abort", By: e.By, Reason: e.Reason, At: now})
	f := Failure{Pool: s.Pool, Gate: "abort", Reason: e.Reason, At: now}
	s.HeldFor, s.Why, s.Asked = "", "", nil
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
