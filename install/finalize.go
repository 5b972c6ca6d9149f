package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/rollout"
)

// Finalization is what giving up the way back to earlier revisions changes of the CRDs.
type Finalization struct {
	Release string                 `json:"release"`
	CRDs    []revision.Contraction `json:"crds"`

	client *revision.Client
}

// Nothing tells whether there is nothing to do.
func (f *Finalization) Nothing() bool {
	for _, c := range f.CRDs {
		if !c.Nothing() {
			return false
		}
	}
	return true
}

// NewFinalization looks what would be done. It is refused while an operation is under way.
func NewFinalization(ctx context.Context, t Target) (*Finalization, error) {
	release, err := releaseName(ctx, t)
	if err != nil {
		return nil, err
	}
	op, err := OpenOperation(ctx, t.Access, release)
	if err == nil && !op.Phase.Terminal() {
		return nil, fmt.Errorf("%w: %s is %s", rollout.ErrOpen, op.ID, op.Phase)
	}
	if err != nil && !errors.Is(err, rollout.ErrNoOperation) {
		return nil, err
	}
	c, err := client(t)
	if err != nil {
		return nil, err
	}
	crds, err := c.Contractions(ctx, release)
	return &Finalization{Release: release, CRDs: crds, client: c}, err
}

// Do finalizes, under the release's lock. It may be run again.
func (f *Finalization) Do(ctx context.Context, t Target, tool string) error {
	held, unlock, err := rollout.Lock(ctx, t.Access.Kube, t.Access.Namespace, f.Release, fmt.Sprintf("%s/%d", actor(tool).Host, os.Getpid()))
	if err != nil {
		return err
	}
	return errors.Join(f.doLocked(held, t), unlock())
}

// doLocked looks again, now that nothing can begin: what was shown may be old.
func (f *Finalization) doLocked(ctx context.Context, t Target) error {
	now, err := NewFinalization(ctx, t)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(f.CRDs, now.CRDs, revision.Contraction.Same) {
		return errors.New("what finalizing would change is not what was shown any more, nothing was done: run it again")
	}
	return f.client.Contract(ctx, f.Release, now.CRDs)
}
