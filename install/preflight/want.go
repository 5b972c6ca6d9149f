package preflight

// DefaultMinorSkip is how many minor versions an upgrade may go at once when the release does not say.
const DefaultMinorSkip = 6

// Want is what is to be installed, as plain data.
type Want struct {
	Target       string   // version to install, semver
	Installed    string   // version installed now; empty means a fresh install
	From         string   // semver range of versions that may be upgraded from; empty = any
	MaxMinorSkip int      // 0 = DefaultMinorSkip
	Waypoints    []string // versions that an upgrade must stop at
	KubeVersion  string   // semver range of Kubernetes versions; empty = any

	Manifest string // the rendered chart, YAML documents; hooks included where they run pods
	Pools    []Pool // in any order; Check goes by Order and then Name
	Images   []Content
	Models   []Content
	Mounts   []string // references of image volumes that are models, in the form that nodes mount
	Scratch  Space    // disk that loading needs
	Memory   Space    // memory that loading needs
	Stored   int      // size of the Helm record to be written, in bytes; 0 = judge by the last one

	RunTime RunTime

	Baseline *Baseline // nil = none recorded yet
}

// Pool is a pool that the upgrade may roll. MaxSurge and MaxUnavailable are as in the release: an integer, a percentage,
// auto (surge only), or empty for the chart's own. Unchanged says that its pods stay as they are, so it needs no surge.
type Pool struct {
	Name           string
	Order          int
	Workloads      []WorkloadRef
	MaxSurge       string
	MaxUnavailable string
	Unchanged      bool
	Replicas       int // what percentages are of; 0 = taken from the rendered workload
}

// WorkloadRef names a Deployment or StatefulSet.
type WorkloadRef struct{ Kind, Name string }

// Presence says whether the registry has something. The zero value is unknown, and unknown blocks.
type Presence int

// Presences.
const (
	PresenceUnknown Presence = iota
	Present
	Absent
)

// Content is an image or a model of the release. Ref is its name in the release; Rendered is how the rendered manifest
// writes it when that differs (an image rewritten to the registry of the cluster).
type Content struct {
	Ref      string
	Rendered string
	Digest   string
	Presence Presence
	Cause    string // why the presence is unknown
}

// Space is an amount that is needed and what is free, in bytes. Free means something only when Known.
type Space struct {
	Where string
	Need  int64
	Free  int64
	Known bool
}
