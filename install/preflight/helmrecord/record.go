// Package helmrecord reads what Helm 3 stores about a release, without Helm.
//
// Each revision is one Secret of type helm.sh/release.v1, labelled owner=helm, name, status and version. Its key
// "release" holds base64 of gzip of a JSON document; of that this package reads name, version, info (status,
// description, last_deployed), chart.metadata (name, version, appVersion), config and manifest. Everything else, the
// chart's files above all, is skipped. A record that unpacks to more than [MaxRecord] bytes is refused before it is
// held in memory.
package helmrecord

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// SecretType is the type of the Secrets that hold revisions.
const SecretType corev1.SecretType = "helm.sh/release.v1"

// MaxRecord is how large an unpacked record may be, in bytes.
const MaxRecord = 64 << 20

const pageSize = 50

// ErrFormat is returned for a record that is not in Helm's form.
var ErrFormat = errors.New("not a helm release record")

// Record is a stored revision. Config holds the values that the operator gave: it may contain secrets, and so may
// Manifest.
type Record struct {
	Name        string
	Namespace   string
	Revision    int
	Status      string
	Description string
	Updated     time.Time
	Chart       string
	Version     string
	AppVersion  string
	Config      map[string]any
	Manifest    string
}

// Stored is a revision as found: Err says why Record could not be decoded; the rest comes from the Secret's labels.
type Stored struct {
	Release  string
	Revision int
	Status   string
	Bytes    int // size of the stored record
	Record   Record
	Err      error
}

type wire struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Version   int    `json:"version"`
	Info      struct {
		Status       string    `json:"status"`
		Description  string    `json:"description"`
		LastDeployed time.Time `json:"last_deployed"`
	} `json:"info"`
	Chart struct {
		Metadata struct {
			Name       string `json:"name"`
			Version    string `json:"version"`
			AppVersion string `json:"appVersion"`
		} `json:"metadata"`
	} `json:"chart"`
	Config   map[string]any `json:"config"`
	Manifest string         `json:"manifest"`
}

// Decode reads the value of a Secret's "release" key.
func Decode(raw []byte) (Record, error) {
	packed, err := base64.StdEncoding.DecodeString(string(raw))
	if err != nil {
		return Record{}, fmt.Errorf("decoding base64: %w", ErrFormat)
	}
	plain := packed
	if bytes.HasPrefix(packed, []byte{0x1f, 0x8b, 0x08}) { // records of before compression are plain JSON
		if plain, err = unpack(packed); err != nil {
			return Record{}, err
		}
	}
	var w wire
	if err := json.Unmarshal(plain, &w); err != nil {
		return Record{}, fmt.Errorf("decoding json: %w", ErrFormat)
	}
	m := w.Chart.Metadata
	return Record{Name: w.Name, Namespace: w.Namespace, Revision: w.Version, Status: w.Info.Status,
		Description: w.Info.Description, Updated: w.Info.LastDeployed, Chart: m.Name, Version: m.Version,
		AppVersion: m.AppVersion, Config: w.Config, Manifest: w.Manifest}, nil
}

func unpack(packed []byte) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("opening gzip: %w", ErrFormat)
	}
	plain, err := io.ReadAll(io.LimitReader(zr, MaxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("unpacking: %w", ErrFormat)
	}
	if len(plain) > MaxRecord {
		return nil, fmt.Errorf("record of over %d bytes: %w", MaxRecord, ErrFormat)
	}
	return plain, nil
}

// List reads all revisions of a release, ascending; an empty release means all releases of the namespace. A record
// that does not decode is listed with its Err.
func List(ctx context.Context, k kubernetes.Interface, namespace, release string) ([]Stored, error) {
	sel := "owner=helm"
	if release != "" {
		sel += ",name=" + release
	}
	opt := metav1.ListOptions{LabelSelector: sel, Limit: pageSize}
	var out []Stored
	for {
		page, err := k.CoreV1().Secrets(namespace).List(ctx, opt)
		if err != nil {
			return nil, fmt.Errorf("listing helm revisions: %w", err)
		}
		for i := range page.Items {
			if page.Items[i].Type == SecretType {
				out = append(out, stored(&page.Items[i]))
			}
		}
		if opt.Continue = page.Continue; opt.Continue == "" {
			break
		}
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].Release != out[j].Release {
			return out[i].Release < out[j].Release
		}
		return out[i].Revision < out[j].Revision
	})
	return out, nil
}

func stored(s *corev1.Secret) Stored {
	raw := s.Data["release"]
	out := Stored{Release: s.Labels["name"], Status: s.Labels["status"], Bytes: len(raw)}
	n, err := strconv.Atoi(s.Labels["version"])
	if err != nil || n < 1 {
		out.Err = fmt.Errorf("secret %s has no revision number: %w", s.Name, ErrFormat)
		return out
	}
	out.Revision = n
	if out.Record, err = Decode(raw); err != nil {
		out.Err = fmt.Errorf("decoding revision %d: %w", n, err)
	}
	return out
}
