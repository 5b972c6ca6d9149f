package rollout

import (
	"context"
	"errors"
	"fmt"
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
	case DoRelease:
		if err := r.clear(ctx); err != nil { // the pods need the room
			return Event{}, err
		}
		return Event{Kind: EvReleased}, r.cluster.release(ctx, p.Pool)
	case DoObserve:
		seen, _, err := r.cluster.observe(ctx, *p, s.Back() || s.Type == TypeRollback, r.Now())
		return Event{Kind: EvObserved, Seen: seen}, err
	case DoCheck:
		return r.check(ctx, *p)
	case DoRehold:
		if err := r.clear(ctx); err != nil {
			return Event{}, err
		}
		if p == nil {
			return Event{Kind: EvReheld}, nil
		}
		return Event{Kind: EvReheld}, r.cluster.rehold(ctx, p.Pool, s.ID)
	case DoEvidence:
		if p == nil {
			return Event{Kind: EvEvidence}, nil
		}
		return Event{Kind: EvEvidence, Lines: r.clean(ctx, r.cluster.evidence(ctx, *p))}, nil
	case DoFinalize:
		return Event{Kind: EvFinal}, r.finalize(ctx, s)
	}
	return Event{}, fmt.Errorf("action %q is unknown", a.Kind)
}

func (r *run) expand(ctx context.Context) (Event, error) {
	err := r.Releaser.ExpandCRDs(ctx)
	if err != nil && ctx.Err() == nil {
		return Event{Kind: EvStageFailed, Reason: err.Error()}, nil
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

// check looks and asks the gates. Nobody is asked while a replica is not ready: the look alone fails the round.
func (r *run) check(ctx context.Context, p PoolState) (Event, error) {
	seen, pods, err := r.cluster.observe(ctx, p, false, r.Now())
	if err != nil {
		return Event{}, err
	}
	ev := Event{Kind: EvChecked, Seen: seen}
	if seen.Done && seen.Total == 0 {
		return ev, nil // scaled to zero on purpose: there is nobody to ask, and nothing to hold the operation for
	}
	if seen.Done {
		ev.Results = r.proxy.runGates(ctx, p.Gates.Post, pods)
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
