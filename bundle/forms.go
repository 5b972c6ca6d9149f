package bundle

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types and artifact types of every form that wcbundle writes.
const (
	ArtifactRelease  = "application/vnd.wordcab.release.v1"          // artifactType of the head
	ArtifactBundle   = "application/vnd.wordcab.bundle.v1"           // artifactType of the carrier
	ArtifactPatch    = "application/vnd.wordcab.patch.v1"            // artifactType of a patch's root
	ArtifactEnvelope = "application/vnd.wordcab.envelope.v1"         // artifactType of the signature artifact
	ArtifactTrust    = "application/vnd.wordcab.trust.v1"            // artifactType of the chain of trust policies
	MediaTrust       = "application/vnd.wordcab.trust.v1+json"       // that chain, see package sign
	MediaRelease     = "application/vnd.wordcab.release.v1+json"     // release.json, first layer of the head
	MediaPatch       = "application/vnd.wordcab.patch.v1+json"       // patch.json, config of a patch's root
	MediaEnvelope    = "application/vnd.dsse.envelope.v1+json"       // DSSE envelope
	MediaDelta       = "application/vnd.wordcab.delta.v1"            // one delta, see package delta
	MediaVEX         = "application/vnd.openvex+json"                // OpenVEX document, a further layer of the head
	MediaEmpty       = "application/vnd.oci.empty.v1+json"           // the OCI empty config
	ArtifactModel    = "application/vnd.cncf.model.manifest.v1+json" // artifactType of a model (CNCF ModelPack)
	MediaModelConfig = "application/vnd.cncf.model.config.v1+json"
	MediaModelWeight = "application/vnd.cncf.model.weight.v1.tar" // weights as tar: image volumes can mount it
	MediaHelmConfig  = "application/vnd.cncf.helm.config.v1+json"
	MediaHelmChart   = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
)

// APIVersion is the version of the definition form, bundle.yaml.
const APIVersion = "bundle.wordcab.com/v1alpha1"

// Limits on what is read from a file that nobody has verified yet, in bytes.
const (
	MaxRelease  = 4 << 20 // release.json and patch.json
	MaxManifest = 4 << 20 // any OCI manifest or index
	MaxEnvelope = 1 << 20 // a DSSE envelope
	MaxBlobs    = 200_000 // blobs in one file
	MaxClosure  = 100_000 // lines of a closure
)

// Definition is bundle.yaml, what a release engineer writes. Paths are relative to the file.
type Definition struct {
	APIVersion string        `json:"apiVersion"`
	Kind       string        `json:"kind"` // "Bundle"
	Metadata   Metadata      `json:"metadata"`
	Platforms  []string      `json:"platforms,omitempty"` // os/arch; default linux/amd64
	Upgrade    Upgrade       `json:"upgrade,omitzero"`
	Charts     []ChartSource `json:"charts"`
	Images     []ImageSource `json:"images,omitempty"`
	Models     []ModelSource `json:"models,omitempty"`
	Retired    []Retired     `json:"retired,omitempty"`
	Pools      []Pool        `json:"pools,omitempty"`
	Registry   *SiteRegistry `json:"registry,omitempty"` // for sites that have none: wcbundle registry install
	Security   *Security     `json:"security,omitempty"`
}

// Metadata names a release. Sequence only grows within a channel; it is what rollback protection compares.
type Metadata struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"` // semver
	Channel  string   `json:"channel"` // stable | security
	Sequence uint64   `json:"sequence"`
	Epoch    uint64   `json:"epoch,omitempty"`   // bumped by the root role only; restarts the sequence
	Sites    []string `json:"sites,omitempty"`   // site ids; empty = every site
	Expires  string   `json:"expires,omitempty"` // RFC 3339; empty = never
}

// Upgrade says from where a site may come: a semver range, how many minor versions may be skipped (default 6) and
// the versions that it must stop at.
type Upgrade struct {
	From         string   `json:"from,omitempty"`
	MaxMinorSkip int      `json:"maxMinorSkip,omitempty"`
	Waypoints    []string `json:"waypoints,omitempty"`
}

// ChartSource is a Helm chart directory or archive. Variants are further lists of value files whose images must be in
// the bundle too.
type ChartSource struct {
	Name      string     `json:"name"`
	Source    string     `json:"source"`
	Release   string     `json:"release"`
	Namespace string     `json:"namespace"`
	Values    []string   `json:"values,omitempty"`
	Variants  [][]string `json:"variants,omitempty"`
}

// ImageSource says where the image behind a reference is taken from: oci:DIR[:TAG], docker-archive:FILE, or a registry
// reference. A reference that rendering finds and that has no line here is pulled from its own registry. Key is a file with
// a public key: the image, or the index that it is taken from, must have a cosign signature by it in the source.
type ImageSource struct {
	Ref    string `json:"ref"`
	Source string `json:"source,omitempty"`
	Key    string `json:"key,omitempty"`
}

// ModelSource is a folder or file of weights. Ref is how charts name the model; the default is
// models/ID:VERSION of the release.
type ModelSource struct {
	ID         string            `json:"id"`
	Ref        string            `json:"ref,omitempty"`
	Source     string            `json:"source"`
	Default    bool              `json:"default,omitempty"`
	Supersedes string            `json:"supersedes,omitempty"`
	Requires   ModelRequirements `json:"requires,omitzero"`
}

// ModelRequirements are what a node must have to serve the model. GPUMemory is a Kubernetes quantity.
type ModelRequirements struct {
	GPUMemory         string `json:"gpuMemory,omitempty"`
	ComputeCapability string `json:"computeCapability,omitempty"`
	Driver            string `json:"driver,omitempty"`
}

// Retired names a model that is no longer a default and since when; it stays callable for two quarters.
type Retired struct {
	ID    string `json:"id"`
	Since string `json:"since"`
}

// Pool is the replicas that serve one model. Pools roll in ascending order, one at a time.
type Pool struct {
	Name           string     `json:"name"`
	Order          int        `json:"order"`
	Workloads      []Workload `json:"workloads"`
	MaxUnavailable string     `json:"maxUnavailable,omitempty"` // integer or percentage; "" = the chart's
	MaxSurge       string     `json:"maxSurge,omitempty"`       // integer, percentage or auto (from free GPU slots)
	ReadyTimeout   string     `json:"readyTimeout,omitempty"`   // Go duration per replica, default 10m
	Gates          Gates      `json:"gates,omitzero"`
	Canary         *Canary    `json:"canary,omitempty"` // replicas that go first and pass the gates before the others follow
	Drain          *Drain     `json:"drain,omitempty"`  // asked of each replica before it is replaced; not for a Deployment
	Hold           *Hold      `json:"hold,omitempty"`   // for workloads of a kind that is not known
}

// Workload names one object that owns pods: a Deployment, StatefulSet or LeaderWorkerSet; or, with its apiVersion and the pool's hold,
// a custom object.
type Workload struct {
	APIVersion string `json:"apiVersion,omitempty"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
}

// Gates are the checks after a pool's replicas are replaced. Soak is a Go duration during which they must keep passing.
type Gates struct {
	Post []Gate `json:"post,omitempty"`
	Soak string `json:"soak,omitempty"`
}

// Security says which vulnerabilities a release fixes: by an OpenVEX document of its own, required in channel security, and
// by the releases of channel security whose fixes are in it.
type Security struct {
	VEX      string      `json:"vex,omitempty"`
	Contains []Contained `json:"contains,omitempty"`
}

// Contained is a release of channel security whose fixes are in this release too. A site that runs one is not given a release
// that does not contain it.
type Contained struct {
	Version string   `json:"version"`
	Fixes   []string `json:"fixes"` // vulnerabilities, such as CVE-2026-1234
}

// Release is release.json, the first layer of the head. All that the install side needs is in it.
type Release struct {
	Name      string        `json:"name"`
	Version   string        `json:"version"`
	Channel   string        `json:"channel"`
	Sequence  uint64        `json:"sequence"`
	Epoch     uint64        `json:"epoch,omitempty"`
	Created   string        `json:"created,omitempty"` // RFC 3339 UTC, from SOURCE_DATE_EPOCH; absent without it, so that builds repeat
	Expires   string        `json:"expires,omitempty"`
	Sites     []string      `json:"sites,omitempty"`
	Platforms []string      `json:"platforms"`
	Upgrade   Upgrade       `json:"upgrade"`
	Charts    []Chart       `json:"charts"`
	Images    []Image       `json:"images"`
	Models    []Model       `json:"models,omitempty"`
	Retired   []Retired     `json:"retired,omitempty"`
	Pools     []Pool        `json:"pools,omitempty"`
	Registry  *SiteRegistry `json:"registry,omitempty"`
	Contains  []Contained   `json:"contains,omitempty"`
	Closure   []Blob        `json:"closure"` // every manifest and blob of the release but the head, release.json and its config
}

// Chart is a chart in the release, as an OCI artifact with Helm's media types. Values are the default value files, merged.
type Chart struct {
	Name      string             `json:"name"`
	Version   string             `json:"version"`
	Release   string             `json:"release"`
	Namespace string             `json:"namespace"`
	Manifest  ocispec.Descriptor `json:"manifest"`
	Content   ocispec.Descriptor `json:"content"`
	Values    string             `json:"values,omitempty"` // YAML, the definition's value files merged
}

// Image is a reference as charts write it and the manifest or index behind it, untouched. Referrers are what its source held
// about it: signatures, attestations, SBOMs. They travel as they are, and nothing is decided by them.
type Image struct {
	Ref       string             `json:"ref"`
	Manifest  ocispec.Descriptor `json:"manifest"`
	Referrers []Referrer         `json:"referrers,omitempty"` // at most 64
}

// Referrer is a manifest about an image or about a manifest of its index.
type Referrer struct {
	Manifest ocispec.Descriptor `json:"manifest"`
	Tag      string             `json:"tag,omitempty"` // cosign's, sha256-HEX.sig|att|sbom; without, the manifest names its subject
}

// Model is a model as a ModelPack artifact.
type Model struct {
	ID         string             `json:"id"`
	Ref        string             `json:"ref"`
	Manifest   ocispec.Descriptor `json:"manifest"`
	Default    bool               `json:"default,omitempty"`
	Supersedes string             `json:"supersedes,omitempty"`
	Requires   ModelRequirements  `json:"requires,omitzero"`
}

// Blob is a line of the closure: a blob, and in which repositories a registry must hold it (without the registry's host).
type Blob struct {
	ocispec.Descriptor
	Kind  string   `json:"kind"` // manifest | blob
	Repos []string `json:"repos"`
}

// Plan lines of a patch: how one target blob comes to be.
const (
	HowBase  = "base"  // already at the site: one of the bases has it
	HowFull  = "full"  // travels whole
	HowDelta = "delta" // rebuilt from base blobs
)

// Patch is patch.json: what turns one of the base releases into the target release.
type Patch struct {
	Name   string      `json:"name"`
	Target PatchEnd    `json:"target"`
	Bases  []PatchEnd  `json:"bases"` // any of these may be at the site
	Plan   []PatchLine `json:"plan"`  // one line per blob of the target's closure, head and release.json included
	Peak   PatchPeak   `json:"peak"`
}

// PatchEnd names a release at one end of a patch.
type PatchEnd struct {
	Version  string             `json:"version"`
	Sequence uint64             `json:"sequence"`
	Head     ocispec.Descriptor `json:"head"`
}

// PatchLine says how one target blob comes to be.
type PatchLine struct {
	Target ocispec.Descriptor   `json:"target"`
	How    string               `json:"how"`
	Delta  *ocispec.Descriptor  `json:"delta,omitempty"`
	From   []ocispec.Descriptor `json:"from,omitempty"` // base blobs, in the order that the delta numbers them
	Codec  string               `json:"codec,omitempty"`
}

// PatchPeak is what applying needs, in bytes: memory and scratch disk of the hungriest line.
type PatchPeak struct {
	Memory  int64 `json:"memory"`
	Scratch int64 `json:"scratch"`
}
