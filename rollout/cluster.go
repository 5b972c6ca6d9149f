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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const fieldManager = "wcbundle-rollout"

// cluster is the hands of the engine: it looks at workloads and patches holds.
type cluster struct {
	kube      kubernetes.Interface
	namespace string
}

// get reads a live workload as an unstructured object.
func (c cluster) get(ctx context.Context, w Workload) (*unstructured.Unstructured, error) {
	var obj runtime.Object
	var err error
	switch w.Kind {
	case "Deployment":
		obj, err = c.kube.AppsV1().Deployments(c.namespace).Get(ctx, w.Name, metav1.GetOptions{})
	case "StatefulSet":
		obj, err = c.kube.AppsV1().StatefulSets(c.namespace).Get(ctx, w.Name, metav1.GetOptions{})
	default:
		return nil, fmt.Errorf("%s: only a Deployment or a StatefulSet can be in a pool", w)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", w, err)
	}
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", w, err)
	}
	u := &unstructured.Unstructured{Object: m}
	u.SetKind(w.Kind)
	return u, nil
}

func (c cluster) patch(ctx context.Context, w Workload, patch []byte) error {
	opt := metav1.PatchOptions{FieldManager: fieldManager}
	var err error
	if w.Kind == "Deployment" {
		_, err = c.kube.AppsV1().Deployments(c.namespace).Patch(ctx, w.Name, types.MergePatchType, patch, opt)
	} else {
		_, err = c.kube.AppsV1().StatefulSets(c.namespace).Patch(ctx, w.Name, types.MergePatchType, patch, opt)
	}
	if err != nil {
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

func (c cluster) release(ctx context.Context, p Pool) error { return c.each(ctx, p, ReleasePatch) }

func (c cluster) rehold(ctx context.Context, p Pool, op string) error {
	return c.each(ctx, p, func(live *unstructured.Unstructured) ([]byte, error) { return ReholdPatch(live, op) })
}

func (c cluster) settle(ctx context.Context, p Pool) error { return c.each(ctx, p, SettlePatch) }

// observe looks at every workload of a pool and sums up. back allows the fix-up of a stuck StatefulSet.
func (c cluster) observe(ctx context.Context, p PoolState, back bool, now time.Time) (Seen, []corev1.Pod, error) {
	sum := Seen{Done: true}
	var pods []corev1.Pod
	for _, w := range p.Workloads {
		one, mine, err := c.look(ctx, w, p.ReleasedAt, now)
		if apierrors.IsNotFound(err) && back {
			continue // it was new in the revision that was taken back
		}
		if apierrors.IsNotFound(err) {
			one, err = Seen{Failed: w.String() + " does not exist"}, nil
		}
		if err != nil {
			return Seen{}, nil, err
		}
		if back && !one.Done && w.Kind == "StatefulSet" {
			if err := c.unstick(ctx, w); err != nil {
				return Seen{}, nil, err
			}
		}
		pods = append(pods, mine...)
		sum.Done = sum.Done && one.Done
		sum.Ready, sum.Total, sum.Restarts = sum.Ready+one.Ready, sum.Total+one.Total, sum.Restarts+one.Restarts
		if sum.Failed == "" {
			sum.Failed = one.Failed
		}
		if sum.Waiting == "" {
			sum.Waiting = one.Waiting
		}
	}
	return sum, pods, nil
}

func (c cluster) look(ctx context.Context, w Workload, since, now time.Time) (Seen, []corev1.Pod, error) {
	switch w.Kind {
	case "Deployment":
		return c.lookDeployment(ctx, w.Name, since, now)
	case "StatefulSet":
		return c.lookStatefulSet(ctx, w.Name, since, now)
	}
	return Seen{}, nil, fmt.Errorf("%s: only a Deployment or a StatefulSet can be in a pool", w)
}

func (c cluster) lookDeployment(ctx context.Context, name string, since, now time.Time) (Seen, []corev1.Pod, error) {
	d, err := c.kube.AppsV1().Deployments(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Seen{}, nil, fmt.Errorf("reading Deployment/%s: %w", name, err)
	}
	sel, err := metav1.LabelSelectorAsSelector(d.Spec.Selector)
	if err != nil {
		return Seen{}, nil, fmt.Errorf("selector of Deployment/%s: %w", name, err)
	}
	list := metav1.ListOptions{LabelSelector: sel.String()}
	sets, err := c.kube.AppsV1().ReplicaSets(c.namespace).List(ctx, list)
	if err != nil {
		return Seen{}, nil, fmt.Errorf("listing ReplicaSets of %s: %w", name, err)
	}
	pods, err := c.kube.CoreV1().Pods(c.namespace).List(ctx, list)
	if err != nil {
		return Seen{}, nil, fmt.Errorf("listing pods of %s: %w", name, err)
	}
	hash := newestHash(d, sets.Items)
	seen := assessDeployment(deploymentView{d, pods.Items, hash}, since, now)
	return seen, podsWith(pods.Items, appsv1.DefaultDeploymentUniqueLabelKey, hash), nil
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
	s, err := c.kube.AppsV1().StatefulSets(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("reading StatefulSet/%s: %w", name, err)
	}
	sel, err := metav1.LabelSelectorAsSelector(s.Spec.Selector)
	if err != nil {
		return nil, nil, fmt.Errorf("selector of StatefulSet/%s: %w", name, err)
	}
	pods, err := c.kube.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: sel.String()})
	if err != nil {
		return nil, nil, fmt.Errorf("listing pods of %s: %w", name, err)
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return !metav1.IsControlledBy(&p, s) })
	return s, pods.Items, nil
}

// unstick deletes what stuckPods names, if it is still the pod that was seen.
func (c cluster) unstick(ctx context.Context, w Workload) error {
	s, pods, err := c.statefulSet(ctx, w.Name)
	if err != nil {
		return err
	}
	for _, name := range stuckPods(s, pods) {
		i := slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Name == name })
		opt := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pods[i].UID))}
		err := c.kube.CoreV1().Pods(c.namespace).Delete(ctx, name, opt)
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("deleting stuck pod %s: %w", name, err)
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
		if e.LastTimestamp.Time.After(since) && e.Count >= crashRestarts {
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
