package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

const (
	fieldManager = "wcbundle-rollout"
	countWait    = 5 * time.Second
	countPoll    = 50 * time.Millisecond
)

// cluster is the hands of the engine: it looks at workloads and patches holds.
type cluster struct {
	kube      kubernetes.Interface
	dyn       dynamic.Interface
	mapper    meta.RESTMapper
	namespace string
	from      source // what looks read
}

// at is where the API server keeps a workload.
func (c cluster) at(w Workload) (dynamic.ResourceInterface, error) {
	gvr, err := c.resource(w)
	if err != nil {
		return nil, err
	}
	return c.dyn.Resource(gvr).Namespace(c.namespace), nil
}

// resource is what the API server calls a workload's kind.
func (c cluster) resource(w Workload) (schema.GroupVersionResource, error) {
	if gvr, ok := known[w.Kind]; ok && w.APIVersion == "" {
		return gvr, nil
	}
	gv, err := schema.ParseGroupVersion(w.APIVersion)
	if err != nil {
		return schema.GroupVersionResource{}, fmt.Errorf("%s: %w", w, err)
	}
	m, err := c.mapper.RESTMapping(schema.GroupKind{Group: gv.Group, Kind: w.Kind}, gv.Version)
	if err != nil {
		return schema.GroupVersionResource{}, fmt.Errorf("%s: %w", w, err)
	}
	return m.Resource, nil
}

// get reads a live workload.
func (c cluster) get(ctx context.Context, w Workload) (*unstructured.Unstructured, error) {
	at, err := c.at(w)
	if err != nil {
		return nil, err
	}
	live, err := at.Get(ctx, w.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", w, err)
	}
	return live, nil
}

func (c cluster) patch(ctx context.Context, w Workload, patch []byte) error {
	at, err := c.at(w)
	if err != nil {
		return err
	}
	if _, err = at.Patch(ctx, w.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager}); err != nil {
		return fmt.Errorf("patching %s: %w", w, err)
	}
	return nil
}

// each applies the patch that make returns to every workload of a pool. A nil patch means that it is done already. A
// workload that does not exist is passed over: going back may have deleted it.
func (c cluster) each(ctx context.Context, p Pool, make func(*unstructured.Unstructured) ([]byte, error)) error {
	for _, w := range p.Workloads {
		live, err := c.get(ctx, w)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		patch, err := make(live)
		if err != nil {
			return err
		}
		if patch == nil {
			continue
		}
		if err := c.patch(ctx, w, patch); err != nil {
			return err
		}
	}
	return nil
}

// release lets a pool roll, or upto replicas of each of its workloads.
func (c cluster) release(ctx context.Context, p Pool, op string, upto int) error {
	if upto > 0 && p.Hold == nil {
		for _, w := range p.Workloads {
			if w.Kind == "Deployment" {
				if err := c.releaseCounted(ctx, p, w, op, upto); err != nil {
					return err
				}
			}
		}
	}
	return c.each(ctx, p, func(live *unstructured.Unstructured) ([]byte, error) {
		if live.GetKind() == "Deployment" && upto > 0 && p.Hold == nil {
			return nil, nil
		}
		return ReleasePatch(live, p, upto)
	})
}

// releaseCounted lets a Deployment begin one more new pod, up to so many, and holds it again. Meanwhile no new pod counts as available, so
// that its controller makes no other. A run that is killed in between is caught up with by the next look. One whose controller makes none,
// which a look finds the reason for, is held again after a while, too.
func (c cluster) releaseCounted(ctx context.Context, p Pool, w Workload, op string, upto int) error {
	goal := -1
	for until := time.Now().Add(countWait); ; {
		live, err := c.get(ctx, w)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		made, _, _ := unstructured.NestedInt64(live.Object, "status", "updatedReplicas")
		seen, _, _ := unstructured.NestedInt64(live.Object, "status", "observedGeneration")
		current := seen >= live.GetGeneration()
		if goal < 0 && current {
			goal = min(upto, int(made)+1)
		}
		switch held := OnHold(live, nil); {
		case held && current && made >= int64(upto):
			return nil
		case held && !current:
			return nil // the next look knows more
		case held:
			patch, err := ReleasePatch(live, p, upto)
			if err != nil || patch == nil {
				return err
			}
			if err := c.patch(ctx, w, patch); err != nil {
				return err
			}
		case current && goal >= 0 && int(made) >= goal || time.Now().After(until):
			patch, err := ReholdPatch(live, nil, op)
			if err != nil || patch == nil {
				return err
			}
			return c.patch(ctx, w, patch)
		}
		if err := wait(ctx, countPoll); err != nil {
			return err
		}
	}
}

func (c cluster) rehold(ctx context.Context, p Pool, op string) error {
	return c.each(ctx, p, func(live *unstructured.Unstructured) ([]byte, error) { return ReholdPatch(live, p.Hold, op) })
}

func (c cluster) settle(ctx context.Context, p Pool) error { return c.each(ctx, p, SettlePatch) }

// count is how many replicas a pool has, and how many of them are ready, whatever their template.
func (c cluster) count(ctx context.Context, p Pool) (Count, error) {
	var n Count
	for _, w := range p.Workloads {
		live, err := c.get(ctx, w)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return n, err
		}
		all, _, _ := unstructured.NestedInt64(live.Object, "status", "replicas")
		ready, _, _ := unstructured.NestedInt64(live.Object, "status", "readyReplicas")
		n.Total, n.Ready = n.Total+int(all), n.Ready+int(ready)
	}
	return n, nil
}

// observe looks at every workload of a pool and sums up. back says that one may be gone.
func (c cluster) observe(ctx context.Context, p PoolState, back bool, now time.Time) (Seen, []corev1.Pod, error) {
	sum := Seen{Done: true}
	var pods []corev1.Pod
	for _, w := range p.Workloads {
		one, mine, err := c.look(ctx, w, p, now)
		if apierrors.IsNotFound(err) && back {
			continue // it was new in the revision that was taken back
		}
		if apierrors.IsNotFound(err) {
			one, err = Seen{Failed: w.String() + " does not exist"}, nil
		}
		if err != nil {
			return Seen{}, nil, err
		}
		pods = append(pods, mine...)
		sum.Done, sum.unobserved = sum.Done && one.Done, sum.unobserved || one.unobserved
		sum.Ready, sum.New, sum.Total, sum.Restarts = sum.Ready+one.Ready, sum.New+one.New, sum.Total+one.Total, sum.Restarts+one.Restarts
		if sum.Failed == "" {
			sum.Failed = one.Failed
		}
		if sum.Waiting == "" {
			sum.Waiting = one.Waiting
		}
	}
	return sum, pods, nil
}

func (c cluster) look(ctx context.Context, w Workload, p PoolState, now time.Time) (Seen, []corev1.Pod, error) {
	switch {
	case p.Hold != nil:
		return c.lookCustom(ctx, w, p, now)
	case w.Kind == "Deployment":
		return c.lookDeployment(ctx, w.Name, p, now)
	case w.Kind == "StatefulSet":
		return c.lookStatefulSet(ctx, w.Name, p.ReleasedAt, now)
	case w.Kind == "LeaderWorkerSet":
		return c.lookLeaderWorkerSet(ctx, w, now)
	}
	return Seen{}, nil, fmt.Errorf("%s: its pool has no rule how to hold it", w)
}

func (c cluster) lookDeployment(ctx context.Context, name string, p PoolState, now time.Time) (Seen, []corev1.Pod, error) {
	d, err := c.from.deployment(ctx, name)
	if err != nil {
		return Seen{}, nil, fmt.Errorf("reading Deployment/%s: %w", name, err)
	}
	sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return Seen{}, nil, fmt.Errorf("selector of Deployment/%s: %w", name, err)
	}
	sets, err := c.from.replicaSets(ctx, sel)
	if err != nil {
		return Seen{}, nil, fmt.Errorf("listing ReplicaSets of %s: %w", name, err)
	}
	pods, err := c.from.pods(ctx, sel)
	if err != nil {
		return Seen{}, nil, fmt.Errorf("listing pods of %s: %w", name, err)
	}
	hash := newestHash(d, sets)
	seen := assessDeployment(deploymentView{d, pods, hash, p.Upto}, p.ReleasedAt, now)
	return seen, podsWith(pods, appsv1.DefaultDeploymentUniqueLabelKey, hash), nil
}

func (c cluster) lookStatefulSet(ctx context.Context, name string, since, now time.Time) (Seen, []corev1.Pod, error) {
	s, pods, err := c.statefulSet(ctx, name)
	if err != nil {
		return Seen{}, nil, err
	}
	seen := assessStatefulSet(s, pods, now)
	if !seen.Done && seen.Failed == "" && len(pods) < seen.Total {
		if seen.Failed, err = c.failedCreate(ctx, "StatefulSet", name, since); err != nil {
			return Seen{}, nil, err
		}
	}
	return seen, podsWith(pods, appsv1.ControllerRevisionHashLabelKey, s.Status.UpdateRevision), nil
}

func (c cluster) statefulSet(ctx context.Context, name string) (*appsv1.StatefulSet, []corev1.Pod, error) {
	s, err := c.from.statefulSet(ctx, name)
	if err != nil {
		return nil, nil, fmt.Errorf("reading StatefulSet/%s: %w", name, err)
	}
	sel, err := metav1.LabelSelectorAsSelector(s.Spec.Selector)
	if err != nil {
		return nil, nil, fmt.Errorf("selector of StatefulSet/%s: %w", name, err)
	}
	pods, err := c.from.pods(ctx, sel)
	if err != nil {
		return nil, nil, fmt.Errorf("listing pods of %s: %w", name, err)
	}
	return s, slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, s) }), nil
}

// unstick frees the StatefulSets of a pool whose turn it is from pods that are not ready and not of the revision that they should be: an
// ordered set waits for them for ever (Kubernetes issue 67250), whether they are of a revision that was taken back, broke before the
// operation, or were drained.
func (c cluster) unstick(ctx context.Context, p Pool) error {
	for _, w := range p.Workloads {
		if w.Kind != "StatefulSet" || w.APIVersion != "" {
			continue
		}
		s, pods, err := c.statefulSet(ctx, w.Name)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range stuckPods(s, pods) {
			i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == name })
			opt := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pods[i].UID))} // the pod that was seen
			err := c.kube.CoreV1().Pods(c.namespace).Delete(ctx, name, opt)
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return fmt.Errorf("deleting stuck pod %s: %w", name, err)
			}
		}
	}
	return nil
}

// failedCreate finds a refusal of a workload's pods (quota, admission) that is newer than the release.
func (c cluster) failedCreate(ctx context.Context, kind, name string, since time.Time) (string, error) {
	events, err := c.kube.CoreV1().Events(c.namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.kind=" + kind + ",involvedObject.name=" + name + ",reason=FailedCreate"})
	if err != nil {
		return "", fmt.Errorf("listing events of %s: %w", name, err)
	}
	for _, e := range events.Items {
		if e.LastTimestamp.Time.After(since.Add(-clockGrain)) && e.Count >= crashRestarts {
			return fmt.Sprintf("%s: FailedCreate: %s", name, e.Message), nil
		}
	}
	return "", nil
}

// stateJSON is for comparing two states.
func stateJSON(s State) string {
	b, err := json.Marshal(s)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
