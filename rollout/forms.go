package rollout

import (
	"errors"
	"time"
)

// BasePool is the pool of every Deployment and StatefulSet that no declared pool names. It rolls first.
const BasePool = "base"

// Names that the operation writes on what it holds.
const (
	AnnotationHeldBy   = "bundle.wordcab.com/held-by"       // id of the operation
	AnnotationOriginal = "bundle.wordcab.com/hold-original" // JSON, what to restore; see Original
)

var (
	// ErrLocked means that another holder has the lock of the release.
	ErrLocked = errors.New("release is locked by another operation")
	// ErrLockLost means that the lock went to another holder while the operation ran.
	ErrLockLost = errors.New("lock was lost")
	// ErrConflict means that someone else wrote the record.
	ErrConflict = errors.New("operation record was written by someone else")
	// ErrOpen means that an earlier operation is not finished; it wants resume or abort.
	ErrOpen = errors.New("an earlier operation is not finished")
	// ErrNoOperation means that there is no record, or none to resume.
	ErrNoOperation = errors.New("no operation")
	// ErrInterrupted means that the context ended; the record can be resumed.
	ErrInterrupted = errors.New("interrupted, can be resumed")
)

// Pool is the replicas that serve one model, as one or more workloads. Pools roll in ascending Order, then by name.
type Pool struct {
	Name           string     `json:"name"`
	Order          int        `json:"order"`
	Workloads      []Workload `json:"workloads"`
	MaxUnavailable string     `json:"maxUnavailable,omitempty"` // integer or percentage; "" = the chart's
	MaxSurge       string     `json:"maxSurge,omitempty"`       // integer, percentage or auto; "" = the chart's
	ReadyTimeout   Duration   `json:"readyTimeout,omitempty"`   // without one more ready replica; 0 = DefaultReadyTimeout
	Gates          Gates      `json:"gates,omitzero"`
}

// DefaultReadyTimeout is how long a pool may go without one more ready replica.
const DefaultReadyTimeout = Duration(10 * time.Minute)

// Workload names one Deployment or StatefulSet.
type Workload struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
}

// String is Kind/Name.
func (w Workload) String() string { return w.Kind + "/" + w.Name }

// Gates are the checks after a pool's replicas are replaced; for Soak they must keep passing.
type Gates struct {
	Post []Gate   `json:"post,omitempty"`
	Soak Duration `json:"soak,omitempty"`
}

// Gate is one check. Exactly one of its kinds is set.
type Gate struct {
	ID   string    `json:"id"`
	HTTP *HTTPGate `json:"http,omitempty"`
}

// HTTPGate asks every pod of the pool. Port is a number or a port's name; default is the first port of the pod.
type HTTPGate struct {
	Path   string     `json:"path"`
	Port   string     `json:"port,omitempty"`
	Expect HTTPExpect `json:"expect,omitzero"`
}

// HTTPExpect is what the answer must be: Status (default 200) and, with JSONPath, values that must be among the selected.
type HTTPExpect struct {
	Status   int      `json:"status,omitempty"`
	JSONPath string   `json:"jsonpath,omitempty"`
	Contains []string `json:"contains,omitempty"`
}

// Duration is a time.Duration that is text ("2m0s") in JSON.
type Duration time.Duration

// MarshalText writes a Go duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads a Go duration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Verdict of a gate.
type Verdict string

// The verdicts. The zero value is none of them and counts as error.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
	Broken       Verdict = "error" // the gate could not be asked
)

// GateResult is the last verdict of a gate, with what was measured in Message.
type GateResult struct {
	ID      string  `json:"id"`
	Verdict Verdict `json:"verdict"`
	Message string  `json:"message,omitempty"`
}
