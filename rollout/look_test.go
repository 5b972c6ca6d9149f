package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// group are pods of groups of two, ready or not.
func group(ready ...bool) []corev1.Pod {
	var out []corev1.Pod
	for i, is := range ready {
		p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("llm-%d-%d", i/2, i%2), Labels: map[string]string{lwsGroup: strconv.Itoa(i / 2)}}}
		if is {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		out = append(out, p)
	}
	return out
}

// TestAssessGroups: groups are counted for the generation that the controller has seen, and up to the partition.
func TestAssessGroups(t *testing.T) {
	set := func(partition, observed, updated, ready, all string) string {
		return "{kind: LeaderWorkerSet, apiVersion: leaderworkerset.x-k8s.io/v1, metadata: {name: llm, generation: 3}, spec: {replicas: 2, leaderWorkerTemplate: {size: 2}, rolloutStrategy: {rollingUpdateConfiguration: {partition: " +
			partition + "}}}, status: {observedGeneration: " + observed + ", updatedReplicas: " + updated + ", readyReplicas: " + ready + ", replicas: " + all + "}}"
	}
	for name, tc := range map[string]struct {
		text    string
		done    bool
		waiting string
	}{
		"done":               {set("0", "3", "2", "2", "2"), true, ""},
		"held":               {set("1000000", "3", "2", "2", "2"), false, "is held"},
		"of an old template": {set("0", "2", "2", "2", "2"), false, "not observed"},
		"one group":          {set("0", "3", "1", "2", "2"), false, "1 of 2 new groups"},
		"9: a surge group":   {set("0", "3", "2", "2", "3"), false, "1 groups too many"},
		"the first step":     {set("1", "3", "1", "2", "2"), true, ""},
		"not ready":          {set("0", "3", "2", "1", "2"), false, "1 of 2 ready"},
	} {
		got := assessLeaderWorkerSet(object(t, tc.text), group(true, true, true, true), t0)
		if got.Done != tc.done || !strings.Contains(got.Waiting, tc.waiting) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	ahead := object(t, set("0", "3", "2", "2", "2")) // a surge group that is gone is counted still
	for name, pods := range map[string][]corev1.Pod{"a worker is not ready": group(true, true, true, false), "a worker is missing": group(true, true, true), "a group is missing": group(true, true),
		"only the surge's is ready": group(true, true, false, false, true, true)} {
		if got := assessLeaderWorkerSet(ahead, pods, t0); got.Done || got.Ready != 1 || !strings.Contains(got.Waiting, "1 of 2 ready groups") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestAssessCustom: an object is done when the conditions that its rule names are true for what is live, and never because it says nothing.
func TestAssessCustom(t *testing.T) {
	rule := &HoldRule{Set: []HoldField{{".spec.paused", true}}, Ready: []string{"Ready"}}
	for name, tc := range map[string]struct {
		text    string
		done    bool
		waiting string
	}{
		"silent": {"{kind: P, apiVersion: e/v1, metadata: {name: a, generation: 2}, spec: {}}", false, "no condition Ready"},
		"held":   {"{kind: P, apiVersion: e/v1, metadata: {name: a, generation: 2}, spec: {paused: true}}", false, "is held"},
		"old": {"{kind: P, apiVersion: e/v1, metadata: {name: a, generation: 2}, status: {observedGeneration: 1, conditions: [{type: Ready, status: 'True'}]}}",
			false, "generation 1, not 2"},
		"false": {"{kind: P, apiVersion: e/v1, metadata: {name: a, generation: 2}, status: {observedGeneration: 2, conditions: [{type: Ready, status: 'False', message: loading}]}}",
			false, "loading"},
		"ready": {"{kind: P, apiVersion: e/v1, metadata: {name: a, generation: 2}, status: {conditions: [{type: Ready, status: 'True', observedGeneration: 2}]}}",
			true, ""},
	} {
		got := assessCustom(object(t, tc.text), rule, nil, t0)
		if got.Done != tc.done || !strings.Contains(got.Waiting, tc.waiting) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// TestEdge80WhoLetGo names who took a hold away.
func TestEdge80WhoLetGo(t *testing.T) {
	u := object(t, "{kind: Deployment, apiVersion: apps/v1, metadata: {name: llm, annotations: {bundle.wordcab.com/held-by: op}}, spec: {paused: true}}")
	if why := letGo(u, nil, "op"); why != "" {
		t.Errorf("on hold, and %s", why)
	}
	at := metav1.NewTime(t0)
	later := metav1.NewTime(t0) // within the same second, which is what the API server notes
	u.SetManagedFields([]metav1.ManagedFieldsEntry{
		{Manager: "wcbundle-rollout", Time: &at, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:paused":{}}}`)}},
		{Manager: "kustomize-controller", Time: &later, FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{"f:template":{}}}`)}},
		{Manager: "kube-controller-manager", Time: &later, Subresource: "status", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:status":{"f:paused":{}}}`)}},
	})
	u.Object["spec"] = map[string]any{"paused": false}
	if why := letGo(u, nil, "op"); !strings.Contains(why, "by kustomize-controller") {
		t.Errorf("let go, and %q", why)
	}
}

// TestOutage: a node may fall at any time; more than one, or all, are no fault of a release.
func TestOutage(t *testing.T) {
	for _, tc := range []struct {
		down, all, before int
		out               bool
	}{{0, 4, 0, false}, {1, 4, 0, false}, {2, 4, 0, true}, {2, 4, 1, false}, {1, 1, 0, true}, {1, 1, 1, false}, {3, 4, 3, false}} {
		if got := nodesOut(tc.down, tc.all, tc.before) != ""; got != tc.out {
			t.Errorf("%d of %d, %d before: %t", tc.down, tc.all, tc.before, got)
		}
	}
}

// TestEdge36CanaryDeployment: a canary is done when so many pods are new and ready, and the Deployment is on hold again.
func TestEdge36CanaryDeployment(t *testing.T) {
	const l = "pod-template-hash"
	one := []corev1.Pod{pod("asr-1", l, "new", true, nil), pod("asr-2", l, "old", true, nil)}
	d := deployment(2, 2, 1, 2, 2)
	if got := assessDeployment(deploymentView{d, one, "new", 1}, t0, t0); got.Done {
		t.Errorf("it still rolls: %+v", got)
	}
	d.Spec.Paused = true
	if got := assessDeployment(deploymentView{d, one, "new", 1}, t0, t0); !got.Done || got.Ready != 1 {
		t.Errorf("one is new, ready and on hold: %+v", got)
	}
	one[0] = pod("asr-1", l, "new", false, waiting("CrashLoopBackOff", 3))
	if got := assessDeployment(deploymentView{d, one, "new", 1}, t0, t0); got.Done || got.Failed == "" {
		t.Errorf("the canary crashes: %+v", got)
	}
	refused := deployment(2, 2, 0, 2, 2)
	refused.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate",
		Message: "exceeded quota", LastTransitionTime: metav1.NewTime(t0)}}
	if got := assessDeployment(deploymentView{refused, one[1:], "new", 1}, t0, t0); !strings.Contains(got.Failed, "exceeded quota") {
		t.Errorf("the canary cannot be made: %+v", got)
	}
}
