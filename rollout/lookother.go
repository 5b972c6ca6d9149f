package rollout

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
)

// Labels that the LeaderWorkerSet controller puts on pods.
const (
	lwsName     = "leaderworkerset.sigs.k8s.io/name"
	lwsGroup    = "leaderworkerset.sigs.k8s.io/group-index"
	lwsWorker   = "leaderworkerset.sigs.k8s.io/worker-index"
	lwsRevision = "leaderworkerset.sigs.k8s.io/template-revision-hash"
)

// lookLeaderWorkerSet looks at groups: a replica is a leader with its workers. The pods are the leaders, which are who answers.
func (c cluster) lookLeaderWorkerSet(ctx context.Context, w Workload, now time.Time) (Seen, []corev1.Pod, error) {
	live, err := c.get(ctx, w)
	if err != nil {
		return Seen{}, nil, err
	}
	pods, err := c.from.pods(ctx, labels.SelectorFromSet(labels.Set{lwsName: w.Name}))
	if err != nil {
		return Seen{}, nil, fmt.Errorf("listing pods of %s: %w", w, err)
	}
	newest := ""
	if sts, err := c.from.statefulSet(ctx, w.Name); err == nil { // the leaders' set
		newest = sts.Labels[lwsRevision]
	}
	news := podsWith(pods, lwsRevision, newest)
	return assessLeaderWorkerSet(live, news, now), podsWith(news, lwsWorker, "0"), nil
}

// readyGroups counts the groups of which so many pods are ready. Those from want on are of a surge, and will go.
func readyGroups(pods []corev1.Pod, want, size int) int {
	ready := map[int]int{}
	for i := range pods {
		group, err := strconv.Atoi(pods[i].Labels[lwsGroup])
		if err == nil && group < want && pods[i].DeletionTimestamp == nil && podReady(&pods[i]) {
			ready[group]++
		}
	}
	n := 0
	for _, pods := range ready {
		if pods >= size {
			n++
		}
	}
	return n
}

// assessLeaderWorkerSet says how far a released set is. Its status still counts groups of the surge for a moment when they are gone, so that
// the pods of the new revision must be ready, too.
func assessLeaderWorkerSet(live *unstructured.Unstructured, news []corev1.Pod, now time.Time) Seen {
	get := func(otherwise int64, path ...string) int {
		n, found, err := unstructured.NestedInt64(live.Object, path...)
		if !found || err != nil {
			n = otherwise
		}
		return int(n)
	}
	want, from := get(1, "spec", "replicas"), get(0, lwsUpdate("partition")...)
	due := max(want-from, 0)
	updated, ready, all := get(0, "status", "updatedReplicas"), get(0, "status", "readyReplicas"), get(0, "status", "replicas")
	whole := readyGroups(news, want, get(1, "spec", "leaderWorkerTemplate", "size"))
	seen := Seen{Total: want, New: updated, Ready: min(updated, ready, whole), Restarts: restarts(news)}
	name := live.GetName()
	observed := get(live.GetGeneration(), "status", "observedGeneration") >= int(live.GetGeneration())
	switch {
	case from >= HoldPartition:
		seen.Waiting = name + " is held"
	case !observed:
		seen.Waiting = name + " is not observed by its controller yet"
	case updated < due:
		seen.Waiting = fmt.Sprintf("%s has %d of %d new groups", name, updated, due)
	case all > want:
		seen.Waiting = fmt.Sprintf("%s has %d groups too many", name, all-want)
	case ready < want || all < want || whole < due:
		seen.Waiting = fmt.Sprintf("%s has %d of %d ready groups", name, min(ready, want-due+whole), want)
	case terminatingGPU(news):
		seen.Waiting = name + " has an old pod that still holds a GPU"
	default:
		seen.Done = true
	}
	if from >= HoldPartition || !observed {
		seen.Ready, seen.New = 0, 0
		return seen
	}
	seen.Failed = failedPods(news, now)
	return withPod(seen, news)
}

// lookCustom believes the conditions that the rule names, for the generation that is live: an object without any says nothing.
func (c cluster) lookCustom(ctx context.Context, w Workload, p PoolState, now time.Time) (Seen, []corev1.Pod, error) {
	live, err := c.get(ctx, w)
	if err != nil {
		return Seen{}, nil, err
	}
	var pods []corev1.Pod
	if p.Hold.Pods != "" {
		sel, err := labels.Parse(p.Hold.Pods)
		if err != nil {
			return Seen{}, nil, fmt.Errorf("pods of %s: %w", w, err)
		}
		if pods, err = c.from.pods(ctx, sel); err != nil {
			return Seen{}, nil, fmt.Errorf("listing pods of %s: %w", w, err)
		}
	}
	return assessCustom(live, p.Hold, pods, now), pods, nil
}

func assessCustom(live *unstructured.Unstructured, rule *HoldRule, pods []corev1.Pod, now time.Time) Seen {
	seen := Seen{Total: 1, Restarts: restarts(pods)}
	if OnHold(live, rule) {
		seen.Waiting = live.GetName() + " is held"
		return seen
	}
	whole, _, _ := unstructured.NestedInt64(live.Object, "status", "observedGeneration")
	list, _, _ := unstructured.NestedSlice(live.Object, "status", "conditions")
	for _, want := range rule.Ready {
		if why := conditionLacks(list, want, whole, live.GetGeneration()); why != "" {
			seen.Waiting = live.GetName() + ": " + why
			seen.Failed = failedPods(pods, now)
			return withPod(seen, pods)
		}
	}
	seen.Done, seen.New, seen.Ready = true, 1, 1
	return seen
}

// conditionLacks says what is missing of a condition that must be True for a generation; "" if nothing is.
func conditionLacks(conditions []any, kind string, whole, generation int64) string {
	for _, e := range conditions {
		c, ok := e.(map[string]any)
		if !ok || c["type"] != kind {
			continue
		}
		seen := whole
		if n, ok := c["observedGeneration"].(int64); ok {
			seen = n
		}
		switch {
		case seen < generation:
			return fmt.Sprintf("condition %s is of generation %d, not %d", kind, seen, generation)
		case c["status"] != string(metav1.ConditionTrue):
			return fmt.Sprintf("condition %s is %v: %v", kind, c["status"], c["message"])
		}
		return ""
	}
	return "has no condition " + kind + " yet"
}
