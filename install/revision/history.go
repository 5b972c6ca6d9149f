package revision

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sort"
	"strconv"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
)

// Labels of a release record.
const (
	LabelOp      = "bundle.wordcab.com/op"
	LabelBundle  = "bundle.wordcab.com/bundle"
	LabelOutcome = "bundle.wordcab.com/outcome"
	LabelStep    = "bundle.wordcab.com/step" // forward | back
	// LabelNumber is the revision that the labels are about: plain Helm copies the labels of the revision before into its own.
	LabelNumber = "bundle.wordcab.com/revision"
)

// Outcomes of a revision.
const (
	OutcomeRolling    = "rolling"
	OutcomeSucceeded  = "succeeded"
	OutcomeRolledBack = "rolled-back"
	OutcomeFailed     = "failed"
	OutcomeForeign    = "foreign" // made by plain Helm, deployed or superseded
)

var (
	// ErrNoRelease means that there is no release of that name.
	ErrNoRelease = errors.New("release not found")
	// ErrNoTarget means that no revision can be gone back to.
	ErrNoTarget = errors.New("no earlier successful revision differs from what runs")
)

// Revision is one line of a release's history.
type Revision struct {
	Number         int            `json:"revision"`
	Status         string         `json:"status"` // Helm's
	Chart          string         `json:"chart"`
	Version        string         `json:"version"`
	AppVersion     string         `json:"appVersion,omitempty"`
	Description    string         `json:"description"`
	Updated        time.Time      `json:"updated"`
	Op             string         `json:"op,omitempty"`
	Bundle         string         `json:"bundle,omitempty"`
	Outcome        string         `json:"outcome"`
	ManifestDigest string         `json:"manifestDigest"`
	ValuesDigest   string         `json:"valuesDigest"`
	Manifest       string         `json:"-"`
	Values         map[string]any `json:"-"`
}

// Pending tells whether Helm would refuse to go on: someone is at it, or died there.
func (r Revision) Pending() bool { return strings.HasPrefix(r.Status, "pending-") }

// Good tells whether the revision ran as it should.
func (r Revision) Good() bool {
	if r.Status != string(release.StatusDeployed) && r.Status != string(release.StatusSuperseded) {
		return false
	}
	return r.Outcome == OutcomeSucceeded || r.Outcome == OutcomeForeign
}

// History lists the revisions of a release, oldest first. ErrNoRelease when there are none.
func (c *Client) History(ctx context.Context, name string) ([]Revision, error) {
	cfg, err := c.helm(nil)
	if err != nil {
		return nil, err
	}
	list, err := cfg.Releases.History(name)
	if errors.Is(err, driver.ErrReleaseNotFound) || (err == nil && len(list) == 0) {
		return nil, fmt.Errorf("%w: %s", ErrNoRelease, name)
	}
	if err != nil {
		return nil, fmt.Errorf("reading history of %s: %w", name, err)
	}
	out := make([]Revision, 0, len(list))
	for _, rel := range list {
		r, err := toRevision(rel)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Number < out[j].Number })
	return out, ctx.Err()
}

func toRevision(rel *release.Release) (Revision, error) {
	r := Revision{Number: rel.Version, Manifest: rel.Manifest, Values: rel.Config}
	if n := rel.Labels[LabelNumber]; n == "" || n == strconv.Itoa(rel.Version) {
		r.Op, r.Bundle, r.Outcome = rel.Labels[LabelOp], rel.Labels[LabelBundle], rel.Labels[LabelOutcome]
	}
	if rel.Info != nil {
		r.Status, r.Description, r.Updated = rel.Info.Status.String(), rel.Info.Description, rel.Info.LastDeployed.Time
	}
	if rel.Chart != nil && rel.Chart.Metadata != nil {
		r.Chart, r.Version, r.AppVersion = rel.Chart.Metadata.Name, rel.Chart.Metadata.Version, rel.Chart.Metadata.AppVersion
	}
	if r.Outcome == "" {
		r.Outcome = OutcomeForeign
	}
	values, err := json.Marshal(rel.Config)
	if err != nil {
		return r, fmt.Errorf("values of revision %d: %w", rel.Version, err)
	}
	r.ManifestDigest, r.ValuesDigest = digest([]byte(rel.Manifest)), digest(values)
	return r, nil
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// Previous is the newest good revision that differs from what runs: never a failed one, and never the one that the last
// rollback already went back to, because that has the same manifest and values.
func Previous(history []Revision) (Revision, error) {
	cur, ok := Current(history)
	for i := len(history) - 1; i >= 0; i-- {
		r := history[i]
		if !r.Good() || (ok && r.Number >= cur.Number) {
			continue
		}
		if !ok || r.ManifestDigest != cur.ManifestDigest || r.ValuesDigest != cur.ValuesDigest {
			return r, nil
		}
	}
	return Revision{}, ErrNoTarget
}

// Current is the revision that Helm calls deployed; the newest if there are several.
func Current(history []Revision) (Revision, bool) {
	for i := len(history) - 1; i >= 0; i-- {
		if history[i].Status == string(release.StatusDeployed) {
			return history[i], true
		}
	}
	return Revision{}, false
}

// SetDescription writes the outcome of a revision: the text for people, the label for Previous. An empty op leaves the
// label of the operation alone.
func (c *Client) SetDescription(ctx context.Context, name string, number int, op, outcome, text string) error {
	labels := map[string]string{LabelOutcome: outcome}
	if op != "" {
		labels[LabelOp] = op
	}
	return c.describe(ctx, name, number, text, labels)
}

func (c *Client) describe(ctx context.Context, name string, number int, text string, labels map[string]string) error {
	cfg, err := c.helm(nil)
	if err != nil {
		return err
	}
	rel, err := cfg.Releases.Get(name, number)
	if err != nil {
		return fmt.Errorf("reading revision %d of %s: %w", number, name, err)
	}
	if rel.Labels == nil {
		rel.Labels = map[string]string{}
	}
	maps.Copy(rel.Labels, labels)
	rel.Info.Description = cut(text, 240)
	if err := cfg.Releases.Update(rel); err != nil {
		return fmt.Errorf("describing revision %d of %s: %w", number, name, err)
	}
	return ctx.Err()
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
