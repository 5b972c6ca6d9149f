package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// annotationDrained is on a pod that was asked to end its work, from before it was asked: it serves nobody any more, even if it is kept.
const annotationDrained = "bundle.wordcab.com/drained-by"

// drain asks the replica that is replaced next, of each workload, to end its work, and looks whether it has.
func (r *run) drain(ctx context.Context, s State, p PoolState) (Event, error) {
	ev := Event{Kind: EvDrained, Seen: Seen{Done: true}}
	for _, w := range p.Workloads {
		pod, err := r.cluster.nextPod(ctx, w)
		if err != nil {
			return Event{}, err
		}
		if pod == nil {
			continue
		}
		if err := r.askToDrain(ctx, s.ID, p.Drain, pod); err != nil {
			ev.Seen.Done, ev.Seen.Waiting = false, fmt.Sprintf("pod %s cannot be asked to drain: %v", pod.Name, err)
			return ev, ctx.Err()
		}
		if why := r.busy(ctx, p.Drain, pod); why != "" {
			ev.Seen.Done, ev.Seen.Waiting = false, fmt.Sprintf("pod %s ends its work: %s", pod.Name, why)
		}
	}
	return ev, ctx.Err()
}

// askToDrain asks once in a run: a run that follows on a killed one asks again, which a drain must be able to hear twice.
func (r *run) askToDrain(ctx context.Context, op string, d *Drain, pod *corev1.Pod) error {
	if r.drained[string(pod.UID)] {
		return nil
	}
	if err := r.cluster.mark(ctx, pod, op); err != nil {
		return err
	}
	port, err := podPort(pod, d.Port)
	if err != nil {
		return err
	}
	method := d.Method
	if method == "" {
		method = http.MethodPost
	}
	status, _, err := r.proxy.ask(ctx, pod, port, method, d.Path)
	if err != nil {
		return err
	}
	if status < 200 || status > 299 {
		return fmt.Errorf("%s %s answers %d", method, d.Path, status)
	}
	r.drained[string(pod.UID)] = true
	return nil
}

// busy says what a replica still has to do; "" when it is done.
func (r *run) busy(ctx context.Context, d *Drain, pod *corev1.Pod) string {
	if d.Until == "" {
		return ""
	}
	port, err := podPort(pod, d.Port)
	if err != nil {
		return err.Error()
	}
	status, body, err := r.proxy.ask(ctx, pod, port, http.MethodGet, d.Until)
	if err != nil {
		return err.Error()
	}
	if v, why := judgeAnswer(d.Expect, status, body); v != Pass {
		return "GET " + d.Until + ": " + why
	}
	return ""
}

// nextPod is the replica of a partitioned workload that the next step replaces: the highest ordinal that is not new. nil if all are.
func (c cluster) nextPod(ctx context.Context, w Workload) (*corev1.Pod, error) {
	label, newest := appsv1.ControllerRevisionHashLabelKey, ""
	var pods []corev1.Pod
	switch w.Kind {
	case "StatefulSet":
		s, mine, err := c.statefulSet(ctx, w.Name)
		if err != nil {
			return nil, err
		}
		pods, newest = mine, s.Status.UpdateRevision
	case "LeaderWorkerSet":
		mine, err := c.from.pods(ctx, labels.SelectorFromSet(labels.Set{lwsName: w.Name, lwsWorker: "0"}))
		if err != nil {
			return nil, err
		}
		sts, err := c.from.statefulSet(ctx, w.Name)
		if err != nil {
			return nil, err
		}
		pods, label, newest = mine, lwsRevision, sts.Labels[lwsRevision]
	default:
		return nil, nil
	}
	pods = slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return p.Labels[label] == newest || p.DeletionTimestamp != nil })
	if len(pods) == 0 {
		return nil, nil
	}
	last := slices.MaxFunc(pods, func(a, b corev1.Pod) int {
		x, _ := ordinal(a.Name)
		y, _ := ordinal(b.Name)
		return x - y
	})
	return &last, nil
}

func (c cluster) mark(ctx context.Context, pod *corev1.Pod, op string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "annotations": map[string]any{annotationDrained: op}}})
	if err != nil {
		return err
	}
	_, err = c.kube.CoreV1().Pods(c.namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}

// dropDrained deletes pods that were drained and are still there, on the way back: their controller makes them anew.
func (c cluster) dropDrained(ctx context.Context, p Pool) error {
	var faults []error
	for _, w := range p.Workloads {
		pods, err := c.podsOf(ctx, w)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		for i := range pods {
			if pods[i].Annotations[annotationDrained] == "" || pods[i].DeletionTimestamp != nil {
				continue
			}
			opt := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(pods[i].UID))}
			err := c.kube.CoreV1().Pods(c.namespace).Delete(ctx, pods[i].Name, opt)
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				faults = append(faults, fmt.Errorf("replacing drained pod %s: %w", pods[i].Name, err))
			}
		}
	}
	return errors.Join(faults...)
}

func (c cluster) podsOf(ctx context.Context, w Workload) ([]corev1.Pod, error) {
	if w.Kind == "LeaderWorkerSet" {
		return c.from.pods(ctx, labels.SelectorFromSet(labels.Set{lwsName: w.Name}))
	}
	_, pods, err := c.statefulSet(ctx, w.Name)
	return pods, err
}
