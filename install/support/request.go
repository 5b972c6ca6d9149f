package support

import (
	"context"
	"fmt"
	"io"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// MediaType of a support bundle.
const MediaType = "application/vnd.wordcab.support.v1.tar+gzip"

// Defaults of a [Request].
const (
	DefaultSince        = 24 * time.Hour
	DefaultMaxBytes     = 500 << 20
	DefaultPerContainer = 20 << 20
	DefaultTimeout      = 30 * time.Second
)

// LogSource gives a container's log. The API server is one.
type LogSource interface {
	Logs(ctx context.Context, namespace, pod string, opt *corev1.PodLogOptions) (io.ReadCloser, error)
}

// Request says what to collect. Kube, Namespaces and Now are needed; every other zero value has the default that is
// named beside it.
type Request struct {
	Kube         kubernetes.Interface
	Dynamic      dynamic.Interface // nil: CRDs and custom resources are left out, and listed as such
	Logs         LogSource         // nil: from Kube
	Namespaces   []string
	Release      string            // empty: every Helm release of the namespaces
	CRDs         []string          // names of further CRDs whose instances are wanted
	Since        time.Duration     // DefaultSince
	MaxBytes     int64             // DefaultMaxBytes, of all files before packing
	PerContainer int64             // DefaultPerContainer, of each log
	Timeout      time.Duration     // DefaultTimeout, of each collector and each log
	Now          time.Time         // names the bundle and dates its files
	Extra        map[string][]byte // further text files, by path below extra/; scrubbed like all others
	Scratch      string            // folder for scrubbed files while packing; the system's when empty
}

func (r Request) withDefaults() (Request, error) {
	if r.Kube == nil || len(r.Namespaces) == 0 || r.Now.IsZero() {
		return r, fmt.Errorf("support request needs a cluster, a namespace and a time")
	}
	if r.Since <= 0 {
		r.Since = DefaultSince
	}
	if r.MaxBytes <= 0 {
		r.MaxBytes = DefaultMaxBytes
	}
	if r.PerContainer <= 0 {
		r.PerContainer = DefaultPerContainer
	}
	if r.Timeout <= 0 {
		r.Timeout = DefaultTimeout
	}
	if r.Logs == nil {
		r.Logs = apiLogs{r.Kube}
	}
	return r, nil
}

// Manifest is what a finished bundle holds. It is also manifest.json, there without Archive.
type Manifest struct {
	Name       string                    `json:"name"` // the folder in the archive
	Created    time.Time                 `json:"created"`
	Namespaces []string                  `json:"namespaces"`
	Release    string                    `json:"release,omitempty"`
	Files      []File                    `json:"files"`
	Errors     []CollectError            `json:"-"`
	Redactions map[string]map[string]int `json:"-"`
	Archive    ocispec.Descriptor        `json:"-"` // of the bytes that were written
}

// File is a file of the archive. Note says what a reader should know, such as where a log begins.
type File struct {
	Path      string `json:"path"`
	SHA256    string `json:"sha256"`
	Size      int64  `json:"size"`
	Collector string `json:"collector"`
	Truncated bool   `json:"truncated,omitempty"`
	Note      string `json:"note,omitempty"`
}

// CollectError is a part that is missing from the bundle, and why.
type CollectError struct {
	Collector string `json:"collector"`
	Subject   string `json:"subject,omitempty"`
	Message   string `json:"message"`
}

// ResidualError is returned when the finished archive still held a secret. Nothing was written. It says in which file
// and by which rule, never what.
type ResidualError struct{ File, Rule string }

func (e *ResidualError) Error() string {
	return fmt.Sprintf("sealing support bundle: %s still holds a secret (%s); nothing was written", e.File, e.Rule)
}

type apiLogs struct{ kube kubernetes.Interface }

func (a apiLogs) Logs(ctx context.Context, namespace, pod string, opt *corev1.PodLogOptions) (io.ReadCloser, error) {
	return a.kube.CoreV1().Pods(namespace).GetLogs(pod, opt).Stream(ctx)
}
