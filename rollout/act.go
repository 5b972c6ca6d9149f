package rollout

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// act performs one action and returns its answer. An error is one that may pass: the action is tried again.
func (r *run) act(ctx context.Context, s State, a Action) (Event, error) {
	p := s.pool(a.Pool)
	switch a.Kind {
	case DoCRDs:
		return r.expand(ctx)
	case DoStage:
		return r.stage(ctx, s)
	case DoRevert:
		return r.revert(ctx, s)
	case DoFetch:
		return r.fetch(ctx, s, p)
	case DoMeasure:
		return r.measure(ctx, s, p.Pool)
	case DoDrain:
		return r.watchful(ctx, s, r.drain)
	case DoRelease:
		if err := r.clear(ctx); err != nil { // the pods need the room
			return Event{}, err
		}
		return Event{Kind: EvReleased}, r.release(ctx, s, *p)
	case DoObserve:
		return r.watchful(ctx, s, r.observe)
	case DoCheck:
		return r.watchful(ctx, s, r.check)
	case DoRehold:
		if err := r.clear(ctx); err != nil {
			return Event{}, err
		}
		return Event{Kind: EvReheld}, r.rehold(ctx, s, p)
	case DoEvidence:
		if p == nil {
			return Event{Kind: EvEvidence}, nil
		}
		return Event{Kind: EvEvidence, Lines: r.clean(ctx, r.cluster.evidence(ctx, *p)), Outage: r.outage(ctx, *p)}, nil
	case DoFinalize:
		return Event{Kind: EvFinal}, r.finalize(ctx, s)
	}
	return Event{}, fmt.Errorf("action %q is unknown", a.Kind)
}

func (r *run) expand(ctx context.Context) (Event, error) {
	err := r.Releaser.ExpandCRDs(ctx)
	var bad *StageError
	if errors.As(err, &bad) {
		return Event{Kind: EvStageFailed, Reason: bad.Err.Error()}, nil
	}
	return Event{Kind: EvCRDs}, err
}

// stage lets Helm finish even when the context ends: a revision is whole or it is not there.
func (r *run) stage(ctx context.Context, s State) (Event, error) {
	pools, err := r.cluster.resolveSurge(ctx, s.Pools)
	if err != nil {
		return Event{}, err
	}
	req := StageRequest{Op: s.ID, Before: s.Helm.Before, From: s.Helm.FromRevision, Holds: NewHolds(s.ID, pools)}
	if s.Type == TypeRollback {
		req.To = s.Helm.RollbackTarget
	}
	res, err := r.Releaser.Stage(context.WithoutCancel(ctx), req)
	var bad *StageError
	switch {
	case errors.As(err, &bad):
		return Event{Kind: EvStageFailed, Reason: bad.Err.Error(), Changed: bad.Changed, Revision: bad.Revision}, nil
	case err != nil:
		return Event{}, err
	}
	return Event{Kind: EvStaged, Revision: res.Revision, Prune: res.Prune}, nil
}

func (r *run) revert(ctx context.Context, s State) (Event, error) {
	pools, err := r.cluster.resolveSurge(ctx, s.Pools)
	if err != nil {
		return Event{}, err
	}
	req := StageRequest{Op: s.ID, Before: s.Helm.RevertBefore, From: s.Helm.FromRevision,
		To: s.Helm.RollbackTarget, Holds: NewHolds(s.ID, pools)}
	res, err := r.Releaser.Stage(context.WithoutCancel(ctx), req)
	var bad *StageError
	switch {
	case errors.As(err, &bad):
		return Event{Kind: EvRevertFail, Reason: bad.Err.Error()}, nil
	case err != nil:
		return Event{}, err
	}
	return Event{Kind: EvReverted, Revision: res.Revision}, nil
}

// measure says how a pool is before it is touched.
func (r *run) measure(ctx context.Context, s State, p Pool) (Event, error) {
	before, err := r.cluster.count(ctx, p)
	if err != nil {
		return Event{}, err
	}
	down, _, err := r.cluster.nodes(ctx)
	if err != nil { // whoever may not list nodes has no outage to compare with
		down = 0
	}
	return Event{Kind: EvMeasured, Before: before, NodesDown: down, Baselines: r.asking(s).baselines(ctx, p, r.Now())}, ctx.Err()
}

func (r *run) asking(s State) asking { return asking{r.proxy, r.Namespace, s.Prometheus} }

// release lets a pool roll. On the way back, pods that were drained and not replaced are replaced: they serve nobody any more.
func (r *run) release(ctx context.Context, s State, p PoolState) error {
	if s.Back() && p.Drain != nil {
		if err := r.cluster.dropDrained(ctx, p.Pool); err != nil {
			return err
		}
	}
	return r.cluster.release(ctx, p.Pool, s.ID, p.Upto)
}

// rehold stops a pool, or, without one, all that have not had their turn.
func (r *run) rehold(ctx context.Context, s State, p *PoolState) error {
	if p != nil {
		return r.cluster.rehold(ctx, p.Pool, s.ID)
	}
	for i := range s.Pools {
		if s.Pools[i].State != PoolWaiting || s.Pools[i].CanaryDone {
			continue
		}
		if err := r.cluster.rehold(ctx, s.Pools[i].Pool, s.ID); err != nil {
			return err
		}
	}
	return nil
}

// watchful looks at the pools on hold, too, while it does something about the one whose turn it is.
func (r *run) watchful(ctx context.Context, s State, do func(context.Context, State, PoolState) (Event, error)) (Event, error) {
	ev, err := do(ctx, s, *s.pool(s.Pool))
	if err == nil && s.Phase == Rolling {
		ev.Drift, err = r.drift(ctx, s)
	}
	return ev, err
}

// look is at a pool by the watches, which cost nothing. What is not as it was is asked of the API server itself before the operation
// moves on by it: still says what it was.
func (r *run) look(ctx context.Context, p PoolState, back bool, still func(Seen) bool) (Seen, []corev1.Pod, error) {
	if r.watched != nil {
		c := r.cluster
		c.from = r.watched
		seen, pods, err := c.observe(ctx, p, back, r.Now())
		if err == nil && seen.Failed == "" && still(seen) {
			return seen, pods, nil
		}
	}
	return r.cluster.observe(ctx, p, back, r.Now())
}

// unstick asks the watches whether a set is stuck, and frees it by what the API server says.
func (r *run) unstick(ctx context.Context, p Pool) error {
	for _, w := range p.Workloads {
		if w.Kind != "StatefulSet" || w.APIVersion != "" {
			continue
		}
		c := r.cluster
		if r.watched != nil {
			c.from = r.watched
		}
		s, pods, err := c.statefulSet(ctx, w.Name)
		if err == nil && len(stuckPods(s, pods)) > 0 {
			return r.cluster.unstick(ctx, p)
		}
	}
	return nil
}

func never(Seen) bool      { return false }
func underWay(s Seen) bool { return !s.Done }
func done(s Seen) bool     { return s.Done }

func (r *run) observe(ctx context.Context, s State, p PoolState) (Event, error) {
	still := underWay
	if p.Upto > 0 {
		still = never // what is let go and held again quickly is not looked at through watches, which are behind
	}
	seen, _, err := r.look(ctx, p, s.Back() || s.Type == TypeRollback, still)
	if err == nil && p.Upto > 0 && !seen.Done && seen.Failed == "" && !seen.unobserved { // the next one, or what a killed run has left
		err = r.cluster.release(ctx, p.Pool, s.ID, p.Upto)
	}
	if err == nil && !seen.Done {
		err = r.unstick(ctx, p.Pool)
	}
	return Event{Kind: EvObserved, Seen: seen}, err
}

// check looks and asks the gates. Nobody is asked while a replica is not ready: the look alone fails the round.
func (r *run) check(ctx context.Context, s State, p PoolState) (Event, error) {
	seen, pods, err := r.look(ctx, p, false, done)
	if err != nil {
		return Event{}, err
	}
	ev := Event{Kind: EvChecked, Seen: seen}
	if seen.Done && seen.Total == 0 {
		return ev, nil // scaled to zero on purpose: there is nobody to ask, and nothing to hold the operation for
	}
	if seen.Done {
		ev.Results = r.asking(s).runGates(ctx, p, pods)
	}
	return ev, ctx.Err()
}

// finalize gives the workloads the chart's own strategy back and writes the outcomes into the revisions.
func (r *run) finalize(ctx context.Context, s State) error {
	for _, p := range s.Pools {
		if err := r.cluster.settle(ctx, p.Pool); err != nil {
			return err
		}
	}
	if s.Phase == Finalizing {
		f := FinishRequest{Op: s.ID, Revision: s.Helm.Revision, Outcome: Succeeded, Text: "succeeded"}
		if s.Type == TypeApply {
			f.PruneFrom = s.Helm.FromRevision
		}
		if s.Type == TypeRollback {
			f.Text = fmt.Sprintf("succeeded: rollback to %d", s.Helm.RollbackTarget)
		}
		return r.Releaser.Finish(ctx, f)
	}
	if s.Helm.Revision != 0 {
		bad := FinishRequest{Op: s.ID, Revision: s.Helm.Revision, Outcome: RolledBack, Text: fmt.Sprintf("failed at pool %s gate %s: %s; rolled back by %d",
			s.Failure.Pool, s.Failure.Gate, s.Failure.Reason, s.Helm.RollbackRevision)}
		if err := r.Releaser.Finish(ctx, bad); err != nil {
			return err
		}
	}
	return r.Releaser.Finish(ctx, FinishRequest{Op: s.ID, Revision: s.Helm.RollbackRevision, Outcome: Succeeded,
		Text: fmt.Sprintf("succeeded: rollback to %d", s.Helm.RollbackTarget)})
}
