package rollout

import (
	"sort"
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
	PoolFetching  PoolPhase = "Fetching" // Ready and Total count nodes
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
	Pool       string      `json:"pool,omitempty"`
	OnFailure  string      `json:"onFailure,omitempty"`
	Prefetch   string      `json:"prefetch,omitempty"` // try, required, or off, which is the empty one too
	Seq        int64       `json:"seq"`
	Helm       HelmRef     `json:"helm"`
	Pools      []PoolState `json:"pools,omitempty"`
	Order      []string    `json:"order,omitempty"`
	Prune      []string    `json:"prune,omitempty"`
	Accepted   []string    `json:"accepted,omitempty"` // gates whose missing verdict a person accepted
	Failure    *Failure    `json:"failure,omitempty"`
	StartedAt  time.Time   `json:"startedAt,omitzero"`
	EndedAt    time.Time   `json:"endedAt,omitzero"`
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
	State      PoolPhase    `json:"state"`
	Touched    bool         `json:"touched,omitempty"` // was released in the forward direction
	Ready      int          `json:"ready"`
	Total      int          `json:"total"`
	Lacks      []string     `json:"lacks,omitempty"` // nodes without everything that the pods need when fetching ended
	ReleasedAt time.Time    `json:"releasedAt,omitzero"`
	ProgressAt time.Time    `json:"progressAt,omitzero"`
	SoakUntil  time.Time    `json:"soakUntil,omitzero"`
	DoneAt     time.Time    `json:"doneAt,omitzero"`
	Restarts   int          `json:"restarts,omitempty"` // of the new pods when the soak began
	Fails      int          `json:"fails,omitempty"`    // rounds in a row
	Unclear    int          `json:"unclear,omitempty"`  // rounds in a row
	Results    []GateResult `json:"results,omitempty"`
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
		s.Order = append(s.Order, p.Name)
	}
	return s
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
	if s.Failure != nil {
		f := *s.Failure
		s.Failure = &f
	}
	return s
}
