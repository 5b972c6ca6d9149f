package preflight

import "time"

// Section is one part of a snapshot. Value means something only when Read is true; otherwise Cause says why it could
// not be read. The zero value was not read.
type Section[T any] struct {
	Read  bool   `json:"read"`
	Cause string `json:"cause,omitempty"`
	Value T      `json:"value"`
}

// Got is a section that was read.
func Got[T any](v T) Section[T] { return Section[T]{Read: true, Value: v} }

func (s Section[T]) cause() string {
	if s.Cause == "" {
		return "not collected"
	}
	return s.Cause
}

// Snapshot is what the cluster looked like at one moment. It is safe to store: certificates appear as names and dates,
// Secrets otherwise not at all.
type Snapshot struct {
	Namespace      string                  `json:"namespace"`
	Release        string                  `json:"release"`
	Server         Section[string]         `json:"server"` // version as the API server says it, such as v1.34.4
	ServerCerts    Section[[]Certificate]  `json:"serverCerts"`
	Nodes          Section[[]Node]         `json:"nodes"`
	Workloads      Section[[]LiveWorkload] `json:"workloads"`
	StorageClasses Section[[]StorageClass] `json:"storageClasses"`
	Quotas         Section[[]Quota]        `json:"quotas"`
	TLSSecrets     Section[[]TLSSecret]    `json:"tlsSecrets"`
	Revisions      Section[[]Revision]     `json:"revisions"` // ascending
	Operation      Section[Operation]      `json:"operation"`
	PodPolicy      Section[string]         `json:"podPolicy"` // version of the API that has MutatingAdmissionPolicy; empty = not served
}

// Quantities are amounts by Kubernetes resource name: cpu in thousandths, memory and storage in bytes, the rest counts.
type Quantities map[string]int64

// Node is a node as the scheduler sees it. Requested is what all pods bound to it and not finished request, and
// Terminating is the part of it that pods being deleted still hold.
type Node struct {
	Name          string            `json:"name"`
	Labels        map[string]string `json:"labels,omitempty"`
	Taints        []Taint           `json:"taints,omitempty"`
	Ready         bool              `json:"ready"`
	Pressure      []string          `json:"pressure,omitempty"` // names of pressure conditions that are true
	Unschedulable bool              `json:"unschedulable,omitempty"`
	Kubelet       string            `json:"kubelet,omitempty"` // version
	Runtime       string            `json:"runtime,omitempty"` // name://version
	Allocatable   Quantities        `json:"allocatable"`
	Requested     Quantities        `json:"requested"`
	Terminating   Quantities        `json:"terminating,omitempty"`
}

// Taint is a node's taint.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// LiveWorkload is a Deployment or StatefulSet that runs now. On counts its living pods per node; Requests is what one
// pod of it requests.
type LiveWorkload struct {
	Kind     string         `json:"kind"`
	Name     string         `json:"name"`
	Replicas int            `json:"replicas"`
	Requests Quantities     `json:"requests,omitempty"`
	On       map[string]int `json:"on,omitempty"`
}

// StorageClass is what of a class may not change under a running release. Parameters are a digest of the sorted pairs.
type StorageClass struct {
	Name        string `json:"name"`
	Default     bool   `json:"default,omitempty"`
	Provisioner string `json:"provisioner"`
	Parameters  string `json:"parameters,omitempty"`
	Reclaim     string `json:"reclaim,omitempty"`
	Binding     string `json:"binding,omitempty"`
}

// Quota is a ResourceQuota of the namespace without scopes.
type Quota struct {
	Name string     `json:"name"`
	Hard Quantities `json:"hard"`
	Used Quantities `json:"used"`
}

// Certificate is a certificate's name and dates.
type Certificate struct {
	Subject   string    `json:"subject"`
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// TLSSecret is a Secret of type kubernetes.io/tls. Problem says why its certificates could not be read.
type TLSSecret struct {
	Name    string        `json:"name"`
	Certs   []Certificate `json:"certs,omitempty"`
	Problem string        `json:"problem,omitempty"`
}

// Revision is a Helm revision. Stored is the size of its record in the cluster, in bytes. Problem says why the record
// could not be decoded; Number, Status and Stored are right even then.
type Revision struct {
	Number  int       `json:"number"`
	Status  string    `json:"status"`
	Chart   string    `json:"chart,omitempty"`
	Version string    `json:"version,omitempty"`
	Updated time.Time `json:"updated,omitzero"`
	Stored  int       `json:"stored"`
	Problem string    `json:"problem,omitempty"`
}

// Operation is the open operation, or the zero value when there is none. Holder is who holds a lease that has not
// expired.
type Operation struct {
	ID     string `json:"id,omitempty"`
	State  string `json:"state,omitempty"`
	Open   bool   `json:"open,omitempty"`
	Holder string `json:"holder,omitempty"`
}

// Baseline is what a later preflight compares with: how the cluster was when the release was last known good.
type Baseline struct {
	Revision       int                   `json:"revision"`
	GPUs           map[string]Quantities `json:"gpus"` // by node
	StorageClasses []StorageClass        `json:"storageClasses"`
}

// BaselineOf takes the baseline of a snapshot. ok is false when nodes or storage classes could not be read: an
// unread section must not become an empty baseline.
func BaselineOf(s Snapshot, revision int) (b Baseline, ok bool) {
	if !s.Nodes.Read || !s.StorageClasses.Read {
		return Baseline{}, false
	}
	b = Baseline{Revision: revision, GPUs: map[string]Quantities{}, StorageClasses: s.StorageClasses.Value}
	for _, n := range s.Nodes.Value {
		if g := accelerators(n.Allocatable); len(g) > 0 {
			b.GPUs[n.Name] = g
		}
	}
	return b, true
}
