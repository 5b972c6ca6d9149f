package revision

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/wordcab/wcbundle/rollout"
)

// Unfinished tells whether the newest revision belongs to an operation that has not ended.
func Unfinished(history []Revision) bool {
	return len(history) > 0 && history[len(history)-1].Outcome == OutcomeRolling
}

// Lost looks for an operation whose record was deleted: its id is on the newest revision, and its mark on each workload that it has
// touched. pools gives the pools of a release's version. rollout.ErrNoOperation where no revision is under way.
func (c *Client) Lost(ctx context.Context, release string, pools func(version string) ([]rollout.Pool, error)) (rollout.Found, error) {
	history, err := c.History(ctx, release)
	if err != nil {
		return rollout.Found{}, err
	}
	f, ok := lostOperation(history)
	if !ok {
		return f, fmt.Errorf("%w: no revision of %s is under way", rollout.ErrNoOperation, release)
	}
	declared, err := pools(f.Bundle.Version)
	if err != nil {
		return f, err
	}
	marked, err := c.marked(ctx, declared)
	if err != nil {
		return f, err
	}
	f.Held = map[rollout.Workload]bool{}
	var stray []rollout.Workload
	for w, by := range marked {
		f.Held[w] = by == f.ID
		if !slices.ContainsFunc(declared, func(p rollout.Pool) bool { return slices.Contains(p.Workloads, w) }) {
			stray = append(stray, w)
		}
	}
	for _, p := range declared {
		p.Workloads = slices.DeleteFunc(slices.Clone(p.Workloads), func(w rollout.Workload) bool { _, ok := marked[w]; return !ok })
		if len(p.Workloads) > 0 {
			f.Pools = append(f.Pools, p)
		}
	}
	if len(stray) > 0 {
		slices.SortFunc(stray, func(a, b rollout.Workload) int { return strings.Compare(a.String(), b.String()) })
		f.Pools = append(f.Pools, rollout.Pool{Name: rollout.BasePool, Order: -1 << 30, Workloads: stray})
	}
	return f, nil
}

// lostOperation reads the revisions of an operation off their labels. It is pure.
func lostOperation(history []Revision) (rollout.Found, bool) {
	if !Unfinished(history) {
		return rollout.Found{}, false
	}
	last := history[len(history)-1]
	f := rollout.Found{ID: last.Op, Type: rollout.TypeApply, Bundle: rollout.BundleRef{Version: last.Bundle}}
	f.Helm = rollout.HelmRef{Revision: last.Number, Before: last.Number - 1}
	target, back := strings.CutPrefix(last.Description, "rolling back to ")
	if back {
		f.Type = rollout.TypeRollback
		f.Helm.RollbackTarget, _ = strconv.Atoi(target)
		for _, r := range history[:len(history)-1] { // of the same operation: that is what is gone back from
			if r.Op == last.Op {
				f.Back, f.Type = true, rollout.TypeApply
				f.Helm.RollbackRevision, f.Helm.Revision, f.Helm.RevertBefore, f.Helm.Before = last.Number, r.Number, last.Number-1, r.Number-1
				f.Bundle.Version = r.Bundle
				break
			}
		}
	}
	for _, r := range history {
		if r.Number < f.Helm.Revision && r.Good() {
			f.Helm.FromRevision = r.Number
		}
	}
	if !back {
		f.Helm.RollbackTarget = f.Helm.FromRevision
	}
	if f.Helm.FromRevision == 0 {
		f.Type = rollout.TypeInstall
	}
	return f, true
}

// marked are the workloads with an operation's mark, and by whom they are held; "" for those that were let go.
func (c *Client) marked(ctx context.Context, pools []rollout.Pool) (map[rollout.Workload]string, error) {
	out := map[rollout.Workload]string{}
	keep := func(o *unstructured.Unstructured) {
		if _, ours := o.GetAnnotations()[rollout.AnnotationOriginal]; ours {
			out[rollout.WorkloadOf(o)] = rollout.HeldBy(o)
		}
	}
	for _, kind := range []string{"deployments", "statefulsets"} {
		list, err := c.dyn.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: kind}).Namespace(c.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", kind, err)
		}
		for i := range list.Items {
			keep(&list.Items[i])
		}
	}
	for _, p := range pools {
		for _, w := range p.Workloads {
			if w.APIVersion == "" && w.Kind != "LeaderWorkerSet" {
				continue
			}
			o := &unstructured.Unstructured{}
			o.SetAPIVersion(w.GroupVersion())
			o.SetKind(w.Kind)
			o.SetName(w.Name)
			live, err := c.live(ctx, o)
			if err != nil && !apierrors.IsNotFound(err) {
				return nil, err
			}
			if live != nil {
				keep(live)
			}
		}
	}
	return out, nil
}
