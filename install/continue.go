package install

import (
	"context"
	"errors"
	"fmt"

	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/rollout"
)

// Continue takes up the operation that a killed or held run left: resume, or abort with a reason.
func Continue(ctx context.Context, t Target, abort string, opt ApplyOptions) (rollout.Outcome, error) {
	release, err := releaseName(ctx, t)
	if err != nil {
		return rollout.Outcome{}, err
	}
	op, err := OpenOperation(ctx, t.Access, release)
	if errors.Is(err, rollout.ErrNoOperation) {
		op, err = lostOperation(ctx, t, release)
	}
	if err != nil {
		return rollout.Outcome{}, err
	}
	t.Began = op.StartedAt
	p := &Plan{Release: release}
	if op.Type == rollout.TypeRollback || abort != "" { // the way back needs nothing of the release
		if p.client, err = client(t); err != nil {
			return rollout.Outcome{}, err
		}
		p.request = revision.Request{Release: release, Bundle: op.Bundle.Version}
	} else if p, err = prepare(ctx, t, op.Bundle.Version); err != nil {
		return rollout.Outcome{}, err
	} else if err := p.bringMountables(ctx, t); err != nil {
		return rollout.Outcome{}, err
	}
	e := engine(t, p.client.Operation(p.request), release, opt)
	e.Lost = func(ctx context.Context) (rollout.Found, error) { return whatIsLeft(ctx, t, release) }
	if p.verified.Release() != nil {
		e.Pools = poolsOf(p.verified.Release())
	}
	if abort != "" {
		out, err := orAsk(ctx, t, op, "abort", opt, func() (rollout.Outcome, error) { return rollout.Abort(ctx, e, abort) })
		if err == nil && t.Record.Installed != nil {
			err = SettleRunTime(ctx, t, t.running(), op.Bundle.Version)
		}
		return out, err
	}
	if err := SettleRunTime(ctx, t, op.Bundle.Version, t.running()); err != nil {
		return rollout.Outcome{}, err
	}
	out, err := rollout.Resume(ctx, e, rollout.ResumeOptions{Accept: opt.Accept, Reason: opt.Reason, Limits: opt.Limits, Promote: opt.Promote})
	if op.Type == rollout.TypeRollback {
		if err != nil || out.Phase != rollout.Succeeded {
			return out, err
		}
		return out, ranBack(ctx, t, opt, op.Bundle.Version, release, out.Revision)
	}
	return out, installed(ctx, t, opt, out, err, p)
}

// Pause stops the operation at the next safe point. Whoever runs it is asked to, and the answer waited for; what nobody runs is stopped
// here.
func Pause(ctx context.Context, t Target, opt ApplyOptions) (rollout.Outcome, error) {
	release, err := releaseName(ctx, t)
	if err != nil {
		return rollout.Outcome{}, err
	}
	op, err := OpenOperation(ctx, t.Access, release)
	if err != nil {
		return rollout.Outcome{}, err
	}
	if op.Phase.Terminal() {
		return rollout.Outcome{}, fmt.Errorf("%w is under way: %s ended as %s", rollout.ErrNoOperation, op.ID, op.Phase)
	}
	c, err := client(t)
	if err != nil {
		return rollout.Outcome{}, err
	}
	e := engine(t, c.Operation(revision.Request{Release: release, Bundle: op.Bundle.Version}), release, opt)
	return orAsk(ctx, t, op, "pause", opt, func() (rollout.Outcome, error) { return rollout.Pause(ctx, e, opt.Reason) })
}

// orAsk does it, or asks the holder of the lock to and waits for the end.
func orAsk(ctx context.Context, t Target, op rollout.State, what string, opt ApplyOptions, do func() (rollout.Outcome, error)) (rollout.Outcome, error) {
	out, err := do()
	if !errors.Is(err, rollout.ErrLocked) {
		return out, err
	}
	a := actor(opt.Tool)
	q := rollout.Request{Op: op.ID, What: what, By: a.User + "@" + a.Host, Reason: opt.Reason}
	if err := rollout.Ask(ctx, t.Access.Kube, t.Access.Namespace, op.Release, q); err != nil {
		return out, err
	}
	return rollout.Follow(ctx, rollout.NewStore(t.Access.Kube, t.Access.Namespace, op.Release), op.ID)
}

// whatIsLeft finds what is left of an operation whose record was deleted.
func whatIsLeft(ctx context.Context, t Target, release string) (rollout.Found, error) {
	c, err := client(t)
	if err != nil {
		return rollout.Found{}, err
	}
	return c.Lost(ctx, release, func(version string) ([]rollout.Pool, error) { return poolsOfVersion(ctx, t, version) })
}

// lostOperation is what such an operation would be; the run that takes it up looks again, when it has the lock.
func lostOperation(ctx context.Context, t Target, release string) (rollout.State, error) {
	f, err := whatIsLeft(ctx, t, release)
	if err != nil {
		return rollout.State{}, err
	}
	return rollout.Rebuild(f, t.Now)
}
