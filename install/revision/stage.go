package revision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/wordcab/wcbundle/rollout"
	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
)

const (
	hookTimeout = 10 * time.Minute
	stageTries  = 3
	stepForward = "forward"
	stepBack    = "back"
)

// errForeign: what follows the revision that the operation began with is not the operation's.
var errForeign = errors.New("another tool made a revision meanwhile")

// Request is what an operation applies. For a rollback, and for a resume after staging, Chart may be nil.
type Request struct {
	Chart   []byte // tgz
	Values  map[string]any
	Release string
	Bundle  string // version of the bundle, for the labels; at most 63 characters of a label's alphabet
	Post    func(manifest []byte) ([]byte, error)
}

// Operation makes the revisions of one rollout operation. It implements rollout.Releaser.
type Operation struct {
	c   *Client
	req Request
}

var _ rollout.Releaser = (*Operation)(nil)

// Operation prepares one; nothing is done yet.
func (c *Client) Operation(r Request) *Operation { return &Operation{c: c, req: r} }

// Stage makes the revision after r.Before, or finds it; see the package comment.
func (o *Operation) Stage(ctx context.Context, r rollout.StageRequest) (rollout.StageResult, error) {
	var err error
	for range stageTries {
		var res rollout.StageResult
		var done bool
		if res, done, err = o.tryStage(ctx, r); done {
			return res, err
		}
	}
	if last, e := o.last(); e == nil && last != nil && last.Version > r.Before && last.Info.Status.IsPending() {
		err = errors.Join(err, o.markFailed(ctx, last, "could not be made: "+cut(err.Error(), 160)))
	}
	return rollout.StageResult{}, &rollout.StageError{Revision: r.Before + 1, Changed: true, Err: err}
}

// tryStage says done when there is a result or an error that trying again would not change.
func (o *Operation) tryStage(ctx context.Context, r rollout.StageRequest) (rollout.StageResult, bool, error) {
	last, err := o.last()
	if err != nil {
		return rollout.StageResult{}, true, err
	}
	found, err := o.observe(ctx, r, last)
	if err != nil || found {
		return o.result(r, last, nil), true, err
	}
	w := &wire{holds: r.Holds, keepAbsent: r.To == 0, op: r.Op}
	if w.live, err = o.c.scaled(ctx); err != nil {
		return rollout.StageResult{}, true, err
	}
	if r.To != 0 {
		if w.marks, err = o.marksBack(ctx, r); err != nil {
			return rollout.StageResult{}, true, err
		}
	}
	made := o.make(ctx, r, w)
	if last, err = o.last(); err != nil {
		return rollout.StageResult{}, true, err // the cluster is away; what was made is found by the next try
	}
	switch {
	case made == nil:
		if err := o.label(ctx, r, last); err != nil {
			return rollout.StageResult{}, true, err
		}
		return o.result(r, last, w.absent), true, nil
	case last == nil || last.Version <= r.Before:
		return rollout.StageResult{}, true, &rollout.StageError{Revision: 0, Changed: false, Err: made}
	case last.Info.Status.IsPending():
		return rollout.StageResult{}, false, made
	}
	return rollout.StageResult{}, true, &rollout.StageError{Revision: last.Version, Changed: true, Err: made}
}

// marksBack compares the stored manifests of what is gone back from and to.
func (o *Operation) marksBack(ctx context.Context, r rollout.StageRequest) (map[rollout.Workload]bool, error) {
	cfg, err := o.c.helm(nil)
	if err != nil {
		return nil, err
	}
	target, err := cfg.Releases.Get(o.req.Release, r.To)
	if err != nil {
		return nil, fmt.Errorf("reading revision %d: %w", r.To, err)
	}
	from, err := cfg.Releases.Get(o.req.Release, r.Before)
	if err != nil {
		return nil, fmt.Errorf("reading revision %d: %w", r.Before, err)
	}
	if isOf(from, r.Op) { // what has not been let go since still reads what it read
		return nil, nil
	}
	return o.c.marksBack(ctx, target.Manifest, from.Manifest, r.Op)
}

func (o *Operation) result(r rollout.StageRequest, last *release.Release, absent []string) rollout.StageResult {
	if last == nil {
		return rollout.StageResult{}
	}
	return rollout.StageResult{Revision: last.Version, Prune: absent}
}

// last is the newest revision, nil if there is none.
func (o *Operation) last() (*release.Release, error) {
	cfg, err := o.c.helm(nil)
	if err != nil {
		return nil, err
	}
	rel, err := cfg.Releases.Last(o.req.Release)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the newest revision of %s: %w", o.req.Release, err)
	}
	return rel, nil
}

// observe finds the revision made already, or removes the record of one that a killed run left half made.
func (o *Operation) observe(ctx context.Context, r rollout.StageRequest, last *release.Release) (bool, error) {
	if last == nil || last.Version <= r.Before {
		return false, nil
	}
	status := last.Info.Status
	switch mine, back := isOf(last, r.Op), madeBack(r, last); {
	case r.To != 0 && mine && !back:
		// An operation that was aborted while it staged: its revision is what is gone back from, whole or not.
		if status.IsPending() {
			return false, o.markFailed(ctx, last, "aborted while it was staged")
		}
		return false, nil
	case !mine && !back:
		return false, &rollout.StageError{Revision: last.Version, Err: errForeign}
	case status == release.StatusDeployed:
		return true, o.label(ctx, r, last)
	}
	cfg, err := o.c.helm(nil)
	if err != nil {
		return false, err
	}
	if _, err := cfg.Releases.Delete(o.req.Release, last.Version); err != nil {
		return false, fmt.Errorf("removing the half made revision %d: %w", last.Version, err)
	}
	return false, ctx.Err()
}

// isOf tells whether a revision is an operation's: plain Helm copies labels.
func isOf(rel *release.Release, op string) bool {
	return rel.Labels[LabelOp] == op && rel.Labels[LabelNumber] == strconv.Itoa(rel.Version)
}

// madeBack tells whether a revision after r.Before is the rollback that r asks for. A rollback has its target's labels
// until we relabel it, so until then Helm's own text must do; the lock and the number make it ours.
func madeBack(r rollout.StageRequest, last *release.Release) bool {
	if r.To == 0 {
		return false
	}
	return last.Labels[LabelOp] == r.Op && last.Labels[LabelStep] == stepBack ||
		last.Info.Status == release.StatusPendingRollback ||
		last.Info.Description == fmt.Sprintf("Rollback to %d", r.To)
}

// markFailed ends a record that nobody works on any more.
func (o *Operation) markFailed(ctx context.Context, rel *release.Release, why string) error {
	cfg, err := o.c.helm(nil)
	if err != nil {
		return err
	}
	if rel.Labels == nil {
		rel.Labels = map[string]string{}
	}
	rel.Labels[LabelOutcome], rel.Labels[LabelNumber] = OutcomeFailed, strconv.Itoa(rel.Version)
	rel.SetStatus(release.StatusFailed, why)
	if err := cfg.Releases.Update(rel); err != nil {
		return fmt.Errorf("marking revision %d as failed: %w", rel.Version, err)
	}
	return ctx.Err()
}

// label writes whose revision it is and that it is rolling, unless that is there already.
func (o *Operation) label(ctx context.Context, r rollout.StageRequest, last *release.Release) error {
	step := stepForward
	if r.To != 0 {
		step = stepBack
	}
	if last == nil || last.Labels[LabelOp] == r.Op && last.Labels[LabelStep] == step && last.Labels[LabelNumber] == strconv.Itoa(last.Version) {
		return nil
	}
	text := fmt.Sprintf("rolling back to %d", r.To) // only a rollback has not its labels from the first write on
	return o.c.describe(ctx, o.req.Release, last.Version, text, map[string]string{
		LabelOp: r.Op, LabelStep: step, LabelOutcome: OutcomeRolling, LabelNumber: strconv.Itoa(last.Version)})
}

func (o *Operation) make(ctx context.Context, r rollout.StageRequest, w *wire) error {
	cfg, err := o.c.helm(w)
	if err != nil {
		return err
	}
	if r.To != 0 {
		back := action.NewRollback(cfg)
		back.Version, back.Timeout = r.To, hookTimeout // what is old is removed by tidy, not by Helm
		return back.Run(o.req.Release)
	}
	ch, err := loadChart(o.req.Chart)
	if err != nil {
		return err
	}
	labels := map[string]string{LabelOp: r.Op, LabelStep: stepForward, LabelOutcome: OutcomeRolling, LabelBundle: o.req.Bundle,
		LabelNumber: strconv.Itoa(r.Before + 1)}
	if r.Before == 0 {
		in := action.NewInstall(cfg)
		in.ReleaseName, in.Namespace, in.SkipCRDs, in.Timeout, in.Labels = o.req.Release, o.c.namespace, true, hookTimeout, labels
		in.Description, in.PostRenderer, in.CreateNamespace = "rolling", post(o.req.Post), false
		_, err = in.RunWithContext(ctx, ch, copyValues(o.req.Values))
		return err
	}
	prev, err := o.c.deployedManifest(o.req.Release)
	if err != nil {
		return err
	}
	up := action.NewUpgrade(cfg)
	up.Namespace, up.SkipCRDs, up.ResetValues, up.Timeout = o.c.namespace, true, true, hookTimeout
	up.Labels, up.Description = labels, "rolling"
	up.PostRenderer = postFunc(func(in []byte) ([]byte, error) {
		out, err := o.finalManifest(in)
		if err != nil {
			return nil, err
		}
		if out, err = o.c.keepCosmetics(ctx, out, prev); err != nil {
			return nil, err
		}
		return o.c.restartForConfig(ctx, out, prev, r.Op)
	})
	_, err = up.RunWithContext(ctx, o.req.Release, ch, copyValues(o.req.Values))
	return err
}

func (o *Operation) finalManifest(in []byte) ([]byte, error) {
	if o.req.Post == nil {
		return in, nil
	}
	return o.req.Post(in)
}

func (c *Client) deployedManifest(name string) (string, error) {
	cfg, err := c.helm(nil)
	if err != nil {
		return "", err
	}
	rel, err := cfg.Releases.Deployed(name)
	if errors.Is(err, driver.ErrNoDeployedReleases) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the deployed revision of %s: %w", name, err)
	}
	return rel.Manifest, nil
}

// Finish deletes the leftovers of r.PruneFrom, writes the outcome, and tidies the history.
func (o *Operation) Finish(ctx context.Context, r rollout.FinishRequest) error {
	if r.PruneFrom != 0 {
		if err := o.prune(ctx, r.PruneFrom, r.Revision); err != nil {
			return err
		}
	}
	outcome := OutcomeFailed
	switch r.Outcome {
	case rollout.Succeeded:
		outcome = OutcomeSucceeded
	case rollout.RolledBack:
		outcome = OutcomeRolledBack
	}
	if err := o.c.SetDescription(ctx, o.req.Release, r.Revision, r.Op, outcome, r.Text); err != nil {
		return err
	}
	if r.Outcome != rollout.Succeeded {
		return nil
	}
	return o.tidy(ctx)
}

// tidy removes old revisions, never one that could be gone back to next, and ends records that a killed client left pending.
func (o *Operation) tidy(ctx context.Context) error {
	history, err := o.c.History(ctx, o.req.Release)
	if err != nil {
		return err
	}
	cfg, err := o.c.helm(nil)
	if err != nil {
		return err
	}
	for _, r := range history[:len(history)-1] {
		if !r.Pending() {
			continue
		}
		rel, err := cfg.Releases.Get(o.req.Release, r.Number)
		if err == nil {
			err = o.markFailed(ctx, rel, "left as "+r.Status+" by a client that died")
		}
		if err != nil {
			return err
		}
	}
	old := outdated(history)
	for _, number := range old {
		if _, err := cfg.Releases.Delete(o.req.Release, number); err != nil {
			return fmt.Errorf("removing revision %d, which is old: %w", number, err)
		}
	}
	return o.c.dropSnapshots(ctx, o.req.Release, slices.DeleteFunc(history, func(r Revision) bool { return slices.Contains(old, r.Number) }))
}

// outdated are the revisions beyond the newest maxHistory, but for what runs and what rollback --to previous means. It is pure.
func outdated(history []Revision) []int {
	if len(history) <= maxHistory {
		return nil
	}
	keep := map[int]bool{}
	if cur, ok := Current(history); ok {
		keep[cur.Number] = true
	}
	if prev, err := Previous(history); err == nil {
		keep[prev.Number] = true
	}
	var out []int
	for _, r := range history[:len(history)-maxHistory] {
		if !keep[r.Number] {
			out = append(out, r.Number)
		}
	}
	return out
}
