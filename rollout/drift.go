package rollout

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// drift names the first workload on hold that something else has let go: a GitOps controller that puts its own version back, a person,
// or an object that was deleted and made anew. The watches tell; what they tell is looked at before it is believed.
func (r *run) drift(ctx context.Context, s State) (string, error) {
	if r.watched == nil {
		return "", nil
	}
	for i := range s.Pools {
		p := &s.Pools[i]
		if p.State != PoolWaiting || p.CanaryDone {
			continue
		}
		for _, w := range p.Workloads {
			if !r.suspect(ctx, w, p.Hold, s.ID) {
				continue
			}
			live, err := r.cluster.get(ctx, w)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return "", err
			}
			if why := letGo(live, p.Hold, s.ID); why != "" {
				return why, nil
			}
			if n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas"); n == 0 && p.Hold == nil && w.Kind != "Deployment" && !born(live) {
				return fmt.Sprintf("%s of pool %s was scaled to 0 while it is on hold: scaled up again, its pods would be new ones; "+
					"leave it at 0 and go on, or go back", w, p.Name), nil
			}
		}
	}
	return "", nil
}

// born tells that a workload is held without replicas because it is new.
func born(live *unstructured.Unstructured) bool {
	o, err := original(live)
	return err == nil && o.Born
}

// suspect asks the watches only, but for an object of a kind that cannot be watched, which is read now and then.
func (r *run) suspect(ctx context.Context, w Workload, rule *HoldRule, op string) bool {
	switch {
	case rule != nil || w.APIVersion != "" || w.Kind == "LeaderWorkerSet":
		live, known := r.others.get(r.cluster, w)
		if !known {
			return r.others.due(w, r.Now())
		}
		n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas")
		return HeldBy(live) != op || !OnHold(live, rule) || rule == nil && r.emptied(w, int32(n))
	case w.Kind == "Deployment":
		d, err := r.watched.deployment(ctx, w.Name)
		return err == nil && (d.Annotations[AnnotationHeldBy] != op || !d.Spec.Paused)
	case w.Kind == "StatefulSet":
		d, err := r.watched.statefulSet(ctx, w.Name)
		return err == nil && (d.Annotations[AnnotationHeldBy] != op || partition(d) < HoldPartition || r.emptied(w, replicas(d.Spec.Replicas)))
	}
	return false
}

// emptied tells that a workload had replicas at the last look, and has none now.
func (r *run) emptied(w Workload, n int32) bool {
	if r.sizes == nil {
		r.sizes = map[Workload]int32{}
	}
	before := r.sizes[w]
	r.sizes[w] = n
	return before > 0 && n == 0
}

// letGo says how a workload that should be on hold is not; "" if it is. It is pure.
func letGo(live *unstructured.Unstructured, rule *HoldRule, op string) string {
	if HeldBy(live) == op && OnHold(live, rule) {
		return ""
	}
	text := fmt.Sprintf("%s/%s was on hold and is not any more", live.GetKind(), live.GetName())
	if by := lastWriter(live); by != "" {
		text += ", by " + by
	}
	return text + ": it is on hold again; stop whatever changes it, then resume"
}

// lastWriter is who wrote the hold's fields last, by what the API server noted; "" where it noted nobody but us.
func lastWriter(live *unstructured.Unstructured) string {
	var newest *metav1.ManagedFieldsEntry
	fields := live.GetManagedFields()
	for i := range fields {
		f := &fields[i]
		if f.Subresource != "" || f.FieldsV1 == nil || f.Time == nil {
			continue
		}
		text := string(f.FieldsV1.GetRawBytes())
		if !strings.Contains(text, `"f:paused"`) && !strings.Contains(text, `"f:partition"`) && !strings.Contains(text, `"f:template"`) {
			continue
		}
		if strings.HasPrefix(f.Manager, "wcbundle") {
			continue // Helm in here, and this
		}
		if newest == nil || !f.Time.Before(newest.Time) {
			newest = f
		}
	}
	if newest == nil {
		return ""
	}
	return newest.Manager
}
