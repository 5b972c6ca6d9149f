package rollout

import (
	"errors"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
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
	Canary         *Canary    `json:"canary,omitempty"` // replicas that go first and are gated before the others
	Drain          *Drain     `json:"drain,omitempty"`  // asked of each replica before it is replaced; not for a Deployment
	Hold           *HoldRule  `json:"hold,omitempty"`   // how to hold workloads of a kind that is not known here

	oneByOne bool // neither number is given: one replica at a time, unless the chart says more
}

// Canary is the first replicas of a pool: they must pass the pool's gates, and keep passing for Soak, before the others follow.
type Canary struct {
	Replicas int      `json:"replicas"`
	Soak     Duration `json:"soak,omitempty"`
}

// Drain asks a replica to finish its work before it is replaced: Method (default POST) on Path, then GET on Until, if given, until it
// answers as expected. A replica that is not done after Timeout (default 10 min) fails the pool.
type Drain struct {
	Port    string     `json:"port,omitempty"`
	Method  string     `json:"method,omitempty"`
	Path    string     `json:"path"`
	Until   string     `json:"until,omitempty"`
	Expect  HTTPExpect `json:"expect,omitzero"`
	Timeout Duration   `json:"timeout,omitempty"`
}

// HoldRule holds a custom object by fields of its own. Paths are .a.b.c; Ready are conditions that must be True for the generation.
type HoldRule struct {
	Set   []HoldField `json:"set"`
	Ready []string    `json:"ready"`
	Pods  string      `json:"pods,omitempty"` // label selector of its pods, for gates and reasons
}

// HoldField is one field and what it is while held; at release it gets back what the chart said.
type HoldField struct {
	Path string `json:"path"`
	Held any    `json:"held"`
}

// DefaultReadyTimeout is how long a pool may go without one more ready replica.
const DefaultReadyTimeout = Duration(10 * time.Minute)

// DefaultDrainTimeout is how long a replica may take to end its work.
const DefaultDrainTimeout = Duration(10 * time.Minute)

// Workload names a Deployment, StatefulSet or LeaderWorkerSet, or a custom object whose pool has a HoldRule. APIVersion is only for
// the last.
type Workload struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

// String is Kind/Name.
func (w Workload) String() string { return w.Kind + "/" + w.Name }

// The kinds that are known, and where the API server has them.
var known = map[string]schema.GroupVersionResource{
	"Deployment":      {Group: "apps", Version: "v1", Resource: "deployments"},
	"StatefulSet":     {Group: "apps", Version: "v1", Resource: "statefulsets"},
	"LeaderWorkerSet": {Group: "leaderworkerset.x-k8s.io", Version: "v1", Resource: "leaderworkersets"},
}

// GroupVersion is the apiVersion of its objects.
func (w Workload) GroupVersion() string {
	if at, ok := known[w.Kind]; ok && w.APIVersion == "" {
		return at.GroupVersion().String()
	}
	return w.APIVersion
}

// WorkloadOf is the name of an object as pools give it.
func WorkloadOf(o *unstructured.Unstructured) Workload {
	w := Workload{Kind: o.GetKind(), Name: o.GetName()}
	if at, ok := known[w.Kind]; !ok || at.Group != o.GroupVersionKind().Group {
		w.APIVersion = o.GetAPIVersion()
	}
	return w
}

// Gates are the checks after a pool's replicas are replaced; for Soak they must keep passing.
type Gates struct {
	Post []Gate   `json:"post,omitempty"`
	Soak Duration `json:"soak,omitempty"`
}

// Gate is one check. Exactly one of its kinds is set.
type Gate struct {
	ID         string          `json:"id"`
	Interval   Duration        `json:"interval,omitempty"` // between two rounds; default the engine's for a GET, DefaultGateInterval else
	HTTP       *HTTPGate       `json:"http,omitempty"`
	Prometheus *PrometheusGate `json:"prometheus,omitempty"`
}

// DefaultGateInterval is for gates that cost something: a request with a body makes a model work, Prometheus has news every 15 s.
const DefaultGateInterval = Duration(15 * time.Second)

// HTTPGate asks every pod of the pool. Port is a number or a port's name; default is the first port of the pod. With a body it is a golden
// request: what it answers is known.
type HTTPGate struct {
	Path        string            `json:"path"`
	Port        string            `json:"port,omitempty"`
	Scheme      string            `json:"scheme,omitempty"` // http (default) or https
	Method      string            `json:"method,omitempty"` // GET, or POST with a body
	Headers     map[string]string `json:"headers,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Timeout     Duration          `json:"timeout,omitempty"` // default 10 s
	BodySHA     string            `json:"bodySHA,omitempty"` // SHA-256 of Body in hexadecimal
	Body        []byte            `json:"-"`                 // not in the record: see FillBodies
	Expect      HTTPExpect        `json:"expect,omitzero"`
}

// HTTPExpect is what the answer must be: Status (default 200) and, with JSONPath, values that must be among the selected, or the one that
// is selected.
type HTTPExpect struct {
	Status   int      `json:"status,omitempty"`
	JSONPath string   `json:"jsonpath,omitempty"`
	Contains []string `json:"contains,omitempty"`
	Equals   *string  `json:"equals,omitempty"`
	WER      *WER     `json:"wer,omitempty"`
}

// WER bounds the word error rate of the selected text: substitutions, deletions and insertions by the words of the reference.
type WER struct {
	Reference string  `json:"reference"`
	Max       float64 `json:"max"`
}

// PrometheusGate compares the one value of an instant query. $pool and $namespace are replaced in both queries, nothing else is.
type PrometheusGate struct {
	Query      string        `json:"query"`
	Service    string        `json:"service,omitempty"` // [https:]NAMESPACE/NAME:PORT
	Max        *float64      `json:"max,omitempty"`
	Min        *float64      `json:"min,omitempty"`
	Baseline   *BaselineRule `json:"baseline,omitempty"`
	Traffic    string        `json:"traffic,omitempty"` // a query: below MinTraffic the gate cannot say
	MinTraffic float64       `json:"minTraffic,omitempty"`
}

// BaselineRule compares with what was measured before the pool was touched: at most MaxRatio times that, or at most MinAbs.
type BaselineRule struct {
	MaxRatio float64 `json:"maxRatio"`
	MinAbs   float64 `json:"minAbs,omitempty"`
}

// Baseline is what a gate measured before its pool was touched; without a value, Note says why.
type Baseline struct {
	Value *float64  `json:"value,omitempty"`
	Note  string    `json:"note,omitempty"`
	At    time.Time `json:"at,omitzero"`
}

// FillBodies gives gates the bodies of their requests, which no record keeps: those of the same pool, gate and digest.
func (s *State) FillBodies(from []Pool) {
	bodies := map[string][]byte{}
	for _, p := range from {
		for _, g := range p.Gates.Post {
			if g.HTTP != nil && g.HTTP.BodySHA != "" {
				bodies[p.Name+"/"+g.ID+"/"+g.HTTP.BodySHA] = g.HTTP.Body
			}
		}
	}
	for i := range s.Pools {
		gates := slices.Clone(s.Pools[i].Gates.Post)
		for n, g := range gates {
			if g.HTTP != nil && g.HTTP.BodySHA != "" && g.HTTP.Body == nil {
				h := *g.HTTP
				h.Body = bodies[s.Pools[i].Name+"/"+g.ID+"/"+h.BodySHA]
				gates[n].HTTP = &h
			}
		}
		s.Pools[i].Gates.Post = gates
	}
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
