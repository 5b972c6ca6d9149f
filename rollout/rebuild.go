package rollout

import (
	"errors"
	"fmt"
	"time"
)

// Found is what is left of an operation whose record is gone: what Helm's records and the workloads still say.
type Found struct {
	ID     string
	Type   Type
	Back   bool // it was going back already
	Helm   HelmRef
	Bundle BundleRef
	Pools  []Pool            // with a workload that still carries the operation's mark
	Held   map[Workload]bool // of their workloads, those on hold
}

// Rebuild is the state of an operation whose record somebody deleted. What is not known any more is done again where that is harmless: a
// pool that was let go is looked at and gated once more, one on hold waits for its turn. Verdicts, baselines and decisions are lost.
func Rebuild(f Found, now time.Time) (State, error) {
	if f.ID == "" || f.Helm.Revision == 0 {
		return State{}, errors.New("nothing is left by which the operation could be taken up")
	}
	now = now.UTC()
	s := NewOperation(f.ID, f.Type, f.Pools, f.Helm.Before, f.Helm.FromRevision)
	s.Helm, s.Bundle, s.StartedAt, s.Phase = f.Helm, f.Bundle, now, Rolling
	s.decided(Decision{What: "rebuild", Reason: "the record was gone", At: now})
	for i := range s.Pools {
		p := &s.Pools[i]
		for _, w := range p.Workloads {
			if !f.Held[w] {
				p.State, p.Touched = PoolReleasing, true
			}
		}
		if p.State == PoolReleasing {
			p.ReleasedAt, p.ProgressAt = now, now
		}
	}
	if f.Back {
		s.Phase = RollingBack
		s.Failure = &Failure{Gate: "unknown", Reason: fmt.Sprintf("revision %d was taken back; the record that said why is gone", f.Helm.Revision), At: now}
	}
	return s, nil
}
