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
		if p.State != PoolWaiting || p.CanaryDone || p.Hold != nil {
			continue
		}
		for _, w := range p.Workloads {
			if !r.suspect(ctx, w, s.ID) {
				continue
			}
			live, err := r.cluster.get(ctx, w)
			if apierrors.IsNotFound(err) {
				continue
			}
			if err != nil {
				return "", err
			}
			if why := letGo(live, s.ID); why != "" {
				return why, nil
			}
			if n, _, _ := unstructured.NestedInt64(live.Object, "spec", "replicas"); n == 0 && w.Kind == "StatefulSet" {
				return fmt.Sprintf("%s of pool %s was scaled to 0 while it is on hold: scaled up again, its pods would be new ones; "+
					"leave it at 0 and go on, or go back", w, p.Name), nil
			}
		}
	}
	return "", nil
}

// suspect asks the watches only.
func (r *run) suspect(ctx context.Context, w Workload, op string) bool {
	if w.APIVersion != "" {
		return false
	}
	if r.sizes == nil {
		r.sizes = map[string]int32{}
	}
	switch w.Kind {
	case "Deployment":
		d, err := r.watched.deployment(ctx, w.Name)
		return err == nil && (d.Annotations[AnnotationHeldBy] != op || !d.Spec.Paused)
	case "StatefulSet":
		d, err := r.watched.statefulSet(ctx, w.Name)
		if err != nil {
			return false
		}
		before, n := r.sizes[w.Name], replicas(d.Spec.Replicas)
		r.sizes[w.Name] = n
		return d.Annotations[AnnotationHeldBy] != op || partition(d) < HoldPartition || before > 0 && n == 0
	}
	return false
}

// letGo says how a workload that should be on hold is not; "" if it is. It is pure.
func letGo(live *unstructured.Unstructured, op string) string {
	if HeldBy(live) == op && OnHold(live, nil) {
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
