package rollout

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"
)

// Type of an operation.
type Type string

// The types.
const (
	TypeInstall  Type = "install"  // the first revision: pools are born held
	TypeApply    Type = "apply"    // a new revision over a running one
	TypeRollback Type = "rollback" // back to an earlier revision, asked for by a person
)

// Phase of an operation.
type Phase string

// The phases; see the package comment for their order.
const (
	Locked         Phase = "Locked"
	CRDs           Phase = "CRDs"
	Staging        Phase = "Staging"
	Staged         Phase = "Staged"
	Rolling        Phase = "Rolling"
	Rehold         Phase = "Rehold"
	Evidence       Phase = "Evidence"
	Reverting      Phase = "Reverting"
	RollingBack    Phase = "RollingBack"
	Finalizing     Phase = "Finalizing"
	FinalizingBack Phase = "FinalizingBack"
	Held           Phase = "Held"
	Succeeded      Phase = "Succeeded"
	RolledBack     Phase = "RolledBack"
	RollbackFailed Phase = "RollbackFailed"
	Aborted        Phase = "Aborted"
)

// Terminal tells whether nothing can follow. Held is not terminal.
func (p Phase) Terminal() bool {
	return p == Succeeded || p == RolledBack || p == RollbackFailed || p == Aborted
}

// PoolPhase of one pool in the current direction.
type PoolPhase string

// The phases of a pool.
const (
	PoolWaiting   PoolPhase = "Waiting"
	PoolMeasuring PoolPhase = "Measuring" // how it is before it is touched
	PoolFetching  PoolPhase = "Fetching"  // Ready and Total count nodes
	PoolDraining  PoolPhase = "Draining"  // the replica that goes next
	PoolReleasing PoolPhase = "Releasing"
	PoolReplacing PoolPhase = "Replacing"
	PoolGating    PoolPhase = "Gating"
	PoolSoaking   PoolPhase = "Soaking"
	PoolDone      PoolPhase = "Done"
	PoolFailed    PoolPhase = "Failed"
)

// What a failed pool leads to.
const (
	OnFailureRollback = "rollback"
	OnFailureHold     = "hold"
)

// What an operation on hold waits for.
const (
	HeldForGate    = "gate"    // a gate cannot say: resume --accept GATE, or resume to ask again
	HeldForFailure = "failure" // a pool failed and the policy is hold, or there is no way back
	HeldForPause   = "pause"   // a person asked for it
	HeldForLimit   = "limit"   // what was asked for is done: --until, --only
	HeldForWindow  = "window"  // the change window is over
	HeldForCanary  = "canary"  // to be promoted or dropped
	HeldForDrift   = "drift"   // something else takes the holds away
	HeldForOutage  = "outage"  // a pool failed, and going back would lead into an outage
)

// State is the operation record; see the package comment.
type State struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	ID         string      `json:"id"`
	Type       Type        `json:"type"`
	Release    string      `json:"release"`
	Namespace  string      `json:"namespace"`
	Actor      Actor       `json:"actor,omitzero"`
	Bundle     BundleRef   `json:"bundle,omitzero"`
	Phase      Phase       `json:"state"`
	HeldFrom   Phase       `json:"heldFrom,omitempty"`
	HeldFor    string      `json:"heldFor,omitempty"`
	Why        string      `json:"why,omitempty"`   // of the hold, for people
	Asked      *Decision   `json:"asked,omitempty"` // a pause that waits for a safe point
	Pool       string      `json:"pool,omitempty"`
	OnFailure  string      `json:"onFailure,omitempty"`
	Prefetch   string      `json:"prefetch,omitempty"` // try, required, or off, which is the empty one too
	Limits     Limits      `json:"limits,omitzero"`
	Trial      *Trial      `json:"trial,omitempty"`
	Prometheus string      `json:"prometheus,omitempty"` // where the site's is, if not where the gates say
	Seq        int64       `json:"seq"`
	Helm       HelmRef     `json:"helm"`
	Pools      []PoolState `json:"pools,omitempty"`
	Order      []string    `json:"order,omitempty"`
	Prune      []string    `json:"prune,omitempty"`
	Accepted   []string    `json:"accepted,omitempty"`  // gates whose missing verdict a person accepted
	Decisions  []Decision  `json:"decisions,omitempty"` // of people, the newest 50
	Failure    *Failure    `json:"failure,omitempty"`
	StartedAt  time.Time   `json:"startedAt,omitzero"`
	EndedAt    time.Time   `json:"endedAt,omitzero"`
}

// Limits bound one run of an operation: it goes on hold where they end.
type Limits struct {
	Until     string    `json:"until,omitempty"`    // the last pool to be done
	Only      []string  `json:"only,omitempty"`     // the only pools to be done
	WindowEnd time.Time `json:"windowEnd,omitzero"` // no further pool is begun from here on
}

func (l Limits) given() bool { return l.Until != "" || len(l.Only) > 0 || !l.WindowEnd.IsZero() }

// Trial is a canary that a person asked for: a pool, or some replicas of it, goes first and waits to be promoted or dropped.
type Trial struct {
	Pool     string `json:"pool"`
	Replicas int    `json:"replicas,omitempty"` // 0 = the whole pool
	Promoted bool   `json:"promoted,omitempty"`
}

// Decision is what a person decided, and why.
type Decision struct {
	What   string    `json:"what"` // pause, resume, accept, promote, abort
	Gate   string    `json:"gate,omitempty"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at,omitzero"`
}

// Actor is who runs the operation.
type Actor struct {
	User string `json:"user,omitempty"`
	Host string `json:"host,omitempty"`
	Tool string `json:"tool,omitempty"`
}

// BundleRef says what is applied. rollout only carries it.
type BundleRef struct {
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
}

// HelmRef are the revisions of the operation; 0 = none.
type HelmRef struct {
	Before           int    `json:"before"`
	FromRevision     int    `json:"fromRevision"`
	Revision         int    `json:"revision,omitempty"`
	RollbackTarget   int    `json:"rollbackTarget,omitempty"`
	RevertBefore     int    `json:"revertBefore,omitempty"`
	RollbackRevision int    `json:"rollbackRevision,omitempty"`
	ManifestSHA      string `json:"manifestSHA,omitempty"`
}

// PoolState is a pool and how far it is.
type PoolState struct {
	Pool
	State      PoolPhase           `json:"state"`
	Touched    bool                `json:"touched,omitempty"`    // was released in the forward direction
	Upto       int                 `json:"upto,omitempty"`       // how many replicas may be new by now; 0 = all of them
	CanaryDone bool                `json:"canaryDone,omitempty"` // the canary replicas have passed their gates
	Before     *Count              `json:"before,omitempty"`     // how it was before it was touched
	NodesDown  int                 `json:"nodesDown,omitempty"`  // then
	Baselines  map[string]Baseline `json:"baselines,omitempty"`  // then, by gate
	Ready      int                 `json:"ready"`
	Total      int                 `json:"total"`
	Waiting    string              `json:"waiting,omitempty"` // what for, as the last look saw it
	Lacks      []string            `json:"lacks,omitempty"`   // nodes without everything that the pods need when fetching ended
	ReleasedAt time.Time           `json:"releasedAt,omitzero"`
	ProgressAt time.Time           `json:"progressAt,omitzero"`
	SoakUntil  time.Time           `json:"soakUntil,omitzero"`
	DoneAt     time.Time           `json:"doneAt,omitzero"`
	Restarts   int                 `json:"restarts,omitempty"` // of the new pods when the soak began
	Fails      int                 `json:"fails,omitempty"`    // rounds in a row
	Unclear    int                 `json:"unclear,omitempty"`  // rounds in a row
	Results    []GateResult        `json:"results,omitempty"`
}

// Count is how many replicas a pool had, and how many of them were ready.
type Count struct {
	Ready int `json:"ready"`
	Total int `json:"total"`
}

// Failure is why an operation did not go through.
type Failure struct {
	Pool     string    `json:"pool,omitempty"`
	Gate     string    `json:"gate"`
	Reason   string    `json:"reason"`
	Evidence []string  `json:"evidence,omitempty"`
	At       time.Time `json:"at"`
}

// NewOperation is the state before the first step. The pools are those that change; they are put in order, and each is
// rolled. from is the revision that runs (0 for an install), before is the newest revision of any status.
func NewOperation(id string, t Type, pools []Pool, before, from int) State {
	s := State{APIVersion: "bundle.wordcab.com/v1", Kind: "Operation", ID: id, Type: t, Phase: Locked, OnFailure: OnFailureRollback}
	s.Helm = HelmRef{Before: before, FromRevision: from, RollbackTarget: from}
	sorted := append([]Pool(nil), pools...)
	sort.SliceStable(sorted, func(i, j int) bool {
		if sorted[i].Order != sorted[j].Order {
			return sorted[i].Order < sorted[j].Order
		}
		return sorted[i].Name < sorted[j].Name
	})
	for _, p := range sorted {
		s.Pools = append(s.Pools, PoolState{Pool: p, State: PoolWaiting})
	}
	s.sortOrder()
	return s
}

// sortOrder puts the pools in the order of their turns, which is that of Pools.
func (s *State) sortOrder() {
	s.Order = nil
	for i := range s.Pools {
		s.Order = append(s.Order, s.Pools[i].Name)
	}
}

// Try makes a pool, or some replicas of it, the canary of the operation: it goes first, and the operation then waits for a person.
func (s *State) Try(pool string, replicas int) error {
	p := s.pool(pool)
	if p == nil {
		return fmt.Errorf("pool %s is not among those that change: %s", pool, strings.Join(s.Order, ", "))
	}
	if replicas > 0 {
		c := Canary{Replicas: replicas}
		if p.Canary != nil {
			c.Soak = p.Canary.Soak
		}
		p.Canary = &c
	}
	s.Trial = &Trial{Pool: pool, Replicas: replicas}
	s.Order = append([]string{pool}, slices.DeleteFunc(s.Order, func(n string) bool { return n == pool })...)
	return nil
}

// Limit checks that the limits name pools of the operation, and takes them.
func (s *State) Limit(l Limits) error {
	if err := s.allows(l); err != nil {
		return err
	}
	s.Limits = l
	return nil
}

func (s *State) allows(l Limits) error {
	for _, name := range append(slices.Clone(l.Only), l.Until) {
		if name != "" && s.pool(name) == nil {
			return fmt.Errorf("pool %s is not among those that change: %s", name, strings.Join(s.Order, ", "))
		}
	}
	return nil
}

// NewRollback is NewOperation for going back to revision to: after a failure nothing is tried but holding.
func NewRollback(id string, pools []Pool, before, from, to int) State {
	s := NewOperation(id, TypeRollback, pools, before, from)
	s.Helm.RollbackTarget = to
	return s
}

// Back tells whether the operation brings old pods back, where readiness is the only gate.
func (s State) Back() bool {
	return s.Phase == Reverting || s.Phase == RollingBack || s.Phase == FinalizingBack
}

func (s *State) pool(name string) *PoolState {
	for i := range s.Pools {
		if s.Pools[i].Name == name {
			return &s.Pools[i]
		}
	}
	return nil
}

// clone copies what Step changes, so that the caller's state stays as it was.
func (s State) clone() State {
	s.Pools = append([]PoolState(nil), s.Pools...)
	s.Order = append([]string(nil), s.Order...)
	s.Accepted = append([]string(nil), s.Accepted...)
	s.Decisions = append([]Decision(nil), s.Decisions...)
	if s.Trial != nil {
		t := *s.Trial
		s.Trial = &t
	}
	if s.Failure != nil {
		f := *s.Failure
		s.Failure = &f
	}
	return s
}
