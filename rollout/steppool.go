package rollout

import (
	"fmt"
	"slices"
	"time"
)

// onPool applies an answer about the pool whose turn it is.
func (s *State) onPool(e Event, now time.Time) {
	p := s.pool(s.Pool)
	if p == nil {
		return
	}
	switch {
	case e.Kind == EvFetched && p.State == PoolFetching:
		s.onFetched(p, e.Fetched, now)
	case e.Kind == EvReleased && p.State == PoolReleasing:
		p.State, p.ProgressAt = PoolReplacing, now
	case e.Kind == EvObserved && p.State == PoolReplacing:
		s.onObserved(p, e.Seen, now)
	case e.Kind == EvChecked && p.State == PoolGating:
		s.onGated(p, e, now)
	case e.Kind == EvChecked && p.State == PoolSoaking:
		s.onSoak(p, e, now)
	}
}

func (s *State) onObserved(p *PoolState, seen Seen, now time.Time) {
	if seen.Ready > p.Ready {
		p.ProgressAt = now
	}
	p.Ready, p.Total = seen.Ready, seen.Total
	limit := p.ReadyTimeout
	if limit <= 0 {
		limit = DefaultReadyTimeout
	}
	switch {
	case seen.Failed != "":
		s.fail(p, "ready", seen.Failed, now)
	case seen.Done && s.readyOnly():
		s.done(p, now)
	case seen.Done:
		p.State = PoolGating
	case now.Sub(p.ProgressAt) > time.Duration(limit):
		s.fail(p, "ready", fmt.Sprintf("no further replica became ready in %s (%d of %d): %s",
			time.Duration(limit), seen.Ready, seen.Total, seen.Waiting), now)
	}
}

// readyOnly: old pods that come back were gated when they were new, and today's gates may ask for today's model.
func (s *State) readyOnly() bool { return s.Phase == RollingBack }

func (s *State) onGated(p *PoolState, e Event, now time.Time) {
	switch s.judge(p, e, now) {
	case Pass:
		if p.Gates.Soak <= 0 {
			s.done(p, now)
			return
		}
		p.State, p.SoakUntil, p.Restarts = PoolSoaking, now.Add(time.Duration(p.Gates.Soak)), e.Seen.Restarts
	}
}

func (s *State) onSoak(p *PoolState, e Event, now time.Time) {
	if e.Seen.Restarts > p.Restarts {
		s.fail(p, "soak", fmt.Sprintf("containers restarted %d times during the soak", e.Seen.Restarts-p.Restarts), now)
		return
	}
	if s.judge(p, e, now) == Pass && !now.Before(p.SoakUntil) {
		s.done(p, now)
	}
}

// judge sums up one round of gates and, when the rounds are enough, fails or holds. A replica that is no longer ready
// counts as a failed gate.
func (s *State) judge(p *PoolState, e Event, now time.Time) Verdict {
	p.Results = e.Results
	if e.Seen.Failed != "" {
		s.fail(p, "ready", e.Seen.Failed, now)
		return Fail
	}
	results := e.Results
	if !e.Seen.Done {
		results = append([]GateResult{{ID: "ready", Verdict: Fail, Message: e.Seen.Waiting}}, results...)
	}
	worst := s.worst(results)
	switch worst.Verdict {
	case Pass:
		p.Fails, p.Unclear = 0, 0
	case Fail:
		p.Fails++
		if p.Fails >= failRounds {
			s.fail(p, worst.ID, worst.Message, now)
		}
	default:
		p.Unclear++
		if p.Unclear >= unclearRounds {
			s.Failure = nil
			s.hold(s.Phase)
		}
	}
	return worst.Verdict
}

// worst is the result that decides a round: a fail, else one that could not say and that nobody accepted, else a pass.
func (s *State) worst(results []GateResult) GateResult {
	out := GateResult{Verdict: Pass}
	for _, r := range results {
		switch {
		case r.Verdict == Fail:
			return r
		case r.Verdict != Pass && !slices.Contains(s.Accepted, r.ID):
			out = r
		}
	}
	return out
}

func (s *State) done(p *PoolState, now time.Time) {
	p.State, p.DoneAt, p.Fails, p.Unclear = PoolDone, now, 0, 0
}

// fail turns the operation around, once: what fails while it goes back is held for a person.
func (s *State) fail(p *PoolState, gate, reason string, now time.Time) {
	p.State = PoolFailed
	if s.Phase == RollingBack {
		s.Failure.Reason += fmt.Sprintf("; going back failed at pool %s: %s", p.Name, reason)
		s.end(RollbackFailed, now)
		return
	}
	s.Failure = &Failure{Pool: p.Name, Gate: gate, Reason: reason, At: now}
	s.Phase = Rehold
}
