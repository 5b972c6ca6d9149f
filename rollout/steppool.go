package rollout

import (
	"fmt"
	"slices"
	"time"
)

// begin lets a pool take its turn: how it is now and what its pods need come first, then the pods. A pool whose canary waited goes on.
func (s *State) begin(p *PoolState, now time.Time) {
	switch {
	case s.Phase == RollingBack || p.Before != nil:
		s.prepared(p, now)
	default:
		p.State, p.ProgressAt = PoolMeasuring, now
	}
}

// prepared is where a pool is measured: what its pods need is brought, once.
func (s *State) prepared(p *PoolState, now time.Time) {
	if !s.fetches(p) || p.CanaryDone {
		s.step(p, now)
		return
	}
	p.State, p.ProgressAt, p.Ready, p.Total, p.Lacks = PoolFetching, now, 0, 0, nil
}

// step says how many replicas may be new next, and drains the one that goes if the pool wants that.
func (s *State) step(p *PoolState, now time.Time) {
	p.Upto = 0
	if s.Phase == Rolling {
		p.Upto = p.next(s.doneReplicas(p))
		if p.Drain != nil && p.Before != nil && p.Before.Total > 0 {
			p.State, p.ProgressAt = PoolDraining, now
			return
		}
	}
	s.release(p, now)
}

// doneReplicas are those that are new and ready when a step is decided.
func (s *State) doneReplicas(p *PoolState) int {
	if p.State == PoolReplacing || p.CanaryDone {
		return p.Ready
	}
	return 0
}

// next is how many replicas may be new after the next step; 0 = all of them.
func (p *PoolState) next(done int) int {
	total := 0
	if p.Before != nil {
		total = p.Before.Total
	}
	upto := 0
	switch {
	case total == 0: // a pool that is new has nothing to be careful with
		return 0
	case p.Drain != nil:
		upto = done + 1
	case p.Canary != nil && !p.CanaryDone:
		upto = p.Canary.Replicas
	}
	if upto >= total {
		return 0
	}
	return upto
}

// canary tells whether the replicas that are new are the pool's canary.
func (p *PoolState) canary() bool {
	return p.Canary != nil && !p.CanaryDone && p.Upto > 0 && p.Upto >= p.Canary.Replicas
}

// soak is how long the gates must keep passing.
func (p *PoolState) soak() Duration {
	if p.canary() {
		return p.Canary.Soak
	}
	return p.Gates.Soak
}

// release hands a pool, or the next of its replicas, over to new pods.
func (s *State) release(p *PoolState, now time.Time) {
	if p.State == PoolFetching {
		p.Total = 0 // of nodes
	}
	if p.State == PoolFetching || p.State == PoolMeasuring || p.State == PoolWaiting && !p.CanaryDone {
		p.Ready = 0
	}
	p.State = PoolReleasing
	p.Touched = p.Touched || s.Phase == Rolling
	p.ReleasedAt, p.ProgressAt = now, now
}

// onPool applies an answer about the pool whose turn it is.
func (s *State) onPool(e Event, now time.Time) {
	p := s.pool(s.Pool)
	if p == nil {
		return
	}
	switch {
	case e.Kind == EvMeasured && p.State == PoolMeasuring:
		before := e.Before
		p.Before, p.NodesDown, p.Baselines = &before, e.NodesDown, e.Baselines
		s.prepared(p, now)
	case e.Kind == EvFetched && p.State == PoolFetching:
		s.onFetched(p, e.Fetched, now)
	case e.Kind == EvDrained && p.State == PoolDraining:
		s.onDrained(p, e.Seen, now)
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

// onDrained releases a replica that has ended its work. One that does not end it in time fails the pool: it still serves.
func (s *State) onDrained(p *PoolState, seen Seen, now time.Time) {
	limit := p.Drain.Timeout
	if limit <= 0 {
		limit = DefaultDrainTimeout
	}
	p.Waiting = cut(seen.Waiting, maxMessage)
	switch {
	case seen.Failed != "":
		s.fail(p, "drain", seen.Failed, now)
	case seen.Done:
		s.release(p, now)
	case now.Sub(p.ProgressAt) > time.Duration(limit):
		s.fail(p, "drain", fmt.Sprintf("not drained in %s: %s", time.Duration(limit), seen.Waiting), now)
	}
}

func (s *State) onObserved(p *PoolState, seen Seen, now time.Time) {
	if seen.Ready > p.Ready {
		p.ProgressAt = now
	}
	p.Ready, p.Total, p.Waiting = seen.Ready, seen.Total, cut(seen.Waiting, maxMessage)
	limit := p.ReadyTimeout
	if limit <= 0 {
		limit = DefaultReadyTimeout
	}
	switch {
	case s.readyOnly() && (seen.Done || p.asBefore(seen)):
		s.done(p, now)
	case seen.Failed != "":
		s.fail(p, "ready", seen.Failed, now)
	case seen.Done && (p.Upto == 0 || p.canary()):
		p.State = PoolGating
	case seen.Done && s.Asked != nil: // between two replicas
		s.step(p, now)
		s.hold(Rolling, HeldForPause, s.Asked.text())
	case seen.Done:
		s.step(p, now)
	case now.Sub(p.ProgressAt) > time.Duration(limit):
		s.fail(p, "ready", fmt.Sprintf("no further replica became ready in %s (%d of %d): %s",
			time.Duration(limit), seen.Ready, seen.Total, seen.Waiting), now)
	}
}

// asBefore: a pool that was not well before it was touched is back when it is as well as it was.
func (p *PoolState) asBefore(seen Seen) bool {
	return p.Before != nil && p.Before.Ready < p.Before.Total && seen.New >= seen.Total && seen.Ready >= p.Before.Ready
}

// readyOnly: old pods that come back were gated when they were new, and today's gates may ask for today's model.
func (s *State) readyOnly() bool { return s.Phase == RollingBack }

func (s *State) onGated(p *PoolState, e Event, now time.Time) {
	switch s.judge(p, e, now) {
	case Pass:
		if p.soak() <= 0 {
			s.passed(p, now)
			return
		}
		p.State, p.SoakUntil, p.Restarts = PoolSoaking, now.Add(time.Duration(p.soak())), e.Seen.Restarts
	}
}

// passed ends a pool, or its canary: then the other replicas follow, or a person says so first.
func (s *State) passed(p *PoolState, now time.Time) {
	trial := s.Trial != nil && s.Trial.Pool == p.Name && !s.Trial.Promoted
	if !p.canary() {
		s.done(p, now)
		if trial {
			s.hold(Rolling, HeldForCanary, fmt.Sprintf("pool %s is the canary", p.Name))
		}
		return
	}
	n := p.Upto
	p.CanaryDone, p.Fails, p.Unclear = true, 0, 0
	if !trial {
		s.step(p, now)
		return
	}
	p.State = PoolWaiting
	s.hold(Rolling, HeldForCanary, fmt.Sprintf("%d of %d replicas of pool %s are the canary", n, p.Total, p.Name))
}

func (s *State) onSoak(p *PoolState, e Event, now time.Time) {
	if e.Seen.Restarts > p.Restarts {
		s.fail(p, "soak", fmt.Sprintf("containers restarted %d times during the soak", e.Seen.Restarts-p.Restarts), now)
		return
	}
	if s.judge(p, e, now) == Pass && !now.Before(p.SoakUntil) {
		s.passed(p, now)
	}
}

// judge sums up one round of gates and, when the rounds are enough, fails or holds. A replica that is no longer ready
// counts as a failed gate.
func (s *State) judge(p *PoolState, e Event, now time.Time) Verdict {
	p.Results, p.Waiting = e.Results, ""
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
		if p.Unclear >= p.patience(worst.ID) {
			s.Failure = nil
			s.hold(s.Phase, HeldForGate, fmt.Sprintf("gate %s: %s: %s", worst.ID, worst.Verdict, worst.Message))
		}
	}
	return worst.Verdict
}

// patience is how many rounds in a row a gate may be unable to say. Prometheus needs a while to know pods that are new.
func (p *PoolState) patience(gate string) int {
	for _, g := range p.Gates.Post {
		if g.ID == gate && g.Prometheus != nil {
			return unclearPrometheus
		}
	}
	return unclearRounds
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
	p.State, p.DoneAt, p.Fails, p.Unclear, p.Waiting = PoolDone, now, 0, 0, ""
	p.Results = slices.Clone(p.Results)
	for i := range p.Results { // the record has room for a hundred pools
		p.Results[i].Message = cut(p.Results[i].Message, 120)
	}
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
	s.Phase, s.HeldFor, s.Why = Rehold, "", ""
}
