package rollout

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func num(n int32) *int32 { return &n }

func pod(name, label, hash string, ready bool, change func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{label: hash}}}
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: status}}
	if change != nil {
		change(&p)
	}
	return p
}

func waiting(reason string, restarts int32) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "main", RestartCount: restarts,
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}}
	}
}

func deployment(gen, seen int64, updated, available, total int32) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "asr", Generation: gen}, Spec: appsv1.DeploymentSpec{Replicas: num(2)},
		Status: appsv1.DeploymentStatus{ObservedGeneration: seen, UpdatedReplicas: updated, AvailableReplicas: available, ReadyReplicas: available, Replicas: total}}
}

func TestEdge41AssessDeployment(t *testing.T) {
	const l = appsv1.DefaultDeploymentUniqueLabelKey
	two := []corev1.Pod{pod("asr-1", l, "new", true, nil), pod("asr-2", l, "new", true, nil)}
	stale := deployment(2, 2, 2, 2, 2)
	stale.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
	refused := deployment(2, 2, 1, 1, 1)
	refused.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentReplicaFailure, Status: corev1.ConditionTrue,
		Reason: "FailedCreate", Message: "quota", LastTransitionTime: metav1.NewTime(t0.Add(time.Second))}}
	tests := map[string]struct {
		d      *appsv1.Deployment
		pods   []corev1.Pod
		done   bool
		failed string
	}{
		"done":               {deployment(2, 2, 2, 2, 2), two, true, ""},
		"not observed":       {deployment(3, 2, 2, 2, 2), two, false, ""},
		"old replica left":   {deployment(2, 2, 2, 3, 3), two, false, ""},
		"not available":      {deployment(2, 2, 2, 1, 2), two, false, ""},
		"41: stale deadline": {stale, two, true, ""},
		"quota":              {refused, two[:1], false, "FailedCreate"},
		"crash once":         {deployment(2, 2, 2, 1, 2), []corev1.Pod{pod("asr-1", l, "new", false, waiting("CrashLoopBackOff", 1))}, false, ""},
		"crash twice":        {deployment(2, 2, 2, 1, 2), []corev1.Pod{pod("asr-1", l, "new", false, waiting("CrashLoopBackOff", 2))}, false, "CrashLoopBackOff"},
		"pull":               {deployment(2, 2, 2, 1, 2), []corev1.Pod{pod("asr-1", l, "new", false, waiting("ImagePullBackOff", 0))}, false, "ImagePullBackOff"},
		"old pod's pull":     {deployment(2, 2, 2, 1, 2), []corev1.Pod{pod("asr-1", l, "old", false, waiting("ImagePullBackOff", 0))}, false, ""},
		"pull, not observed": {deployment(3, 2, 2, 1, 2), []corev1.Pod{pod("asr-1", l, "new", false, waiting("ImagePullBackOff", 0))}, false, ""},
		"config":             {deployment(2, 2, 2, 1, 2), []corev1.Pod{pod("asr-1", l, "new", false, waiting("CreateContainerConfigError", 0))}, false, "CreateContainerConfigError"},
	}
	for name, tc := range tests {
		got := assessDeployment(deploymentView{tc.d, tc.pods, "new", 0}, t0, t0.Add(time.Minute))
		if got.Done != tc.done || (got.Failed == "") != (tc.failed == "") || !strings.Contains(got.Failed, tc.failed) {
			t.Errorf("%s: %+v", name, got)
		}
		if !got.Done && got.Waiting == "" {
			t.Errorf("%s: waits for nothing", name)
		}
	}
}

// TestStuck: only a pod of a revision that was taken back, and only in an ordered set.
func TestStuck(t *testing.T) {
	const l = appsv1.ControllerRevisionHashLabelKey
	set := func(policy appsv1.PodManagementPolicyType, partition int32) *appsv1.StatefulSet {
		s := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "asr"}}
		s.Spec.Replicas, s.Spec.PodManagementPolicy = num(2), policy
		s.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: &partition}
		s.Status = appsv1.StatefulSetStatus{UpdateRevision: "good", CurrentRevision: "good", ReadyReplicas: 1, AvailableReplicas: 1}
		return s
	}
	pods := []corev1.Pod{pod("asr-0", l, "good", true, nil), pod("asr-1", l, "bad", false, nil)}
	if got := stuckPods(set(appsv1.OrderedReadyPodManagement, 0), pods); len(got) != 1 || got[0] != "asr-1" {
		t.Errorf("stuck %v", got)
	}
	if seen := assessStatefulSet(set(appsv1.OrderedReadyPodManagement, 0), pods, t0); seen.Done {
		t.Error("a stuck set is done, though its two revisions are equal")
	}
	for name, got := range map[string][]string{
		"parallel":   stuckPods(set(appsv1.ParallelPodManagement, 0), pods),
		"partition":  stuckPods(set(appsv1.OrderedReadyPodManagement, 2), pods),
		"loads":      stuckPods(set(appsv1.OrderedReadyPodManagement, 0), []corev1.Pod{pod("asr-1", l, "good", false, nil)}),
		"still runs": stuckPods(set(appsv1.OrderedReadyPodManagement, 0), []corev1.Pod{pod("asr-1", l, "bad", true, nil)}),
	} {
		if len(got) != 0 {
			t.Errorf("%s: %v would be deleted", name, got)
		}
	}
}

// TestEdge24Unschedulable: a pod that no node takes is waited for for five minutes, not for ever.
func TestEdge24Unschedulable(t *testing.T) {
	const l = appsv1.DefaultDeploymentUniqueLabelKey
	p := pod("asr-1", l, "new", false, func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
			Reason: "Unschedulable", Message: "0/4 nodes are available: 4 Insufficient nvidia.com/gpu.", LastTransitionTime: metav1.NewTime(t0)})
	})
	for after, failed := range map[time.Duration]bool{4 * time.Minute: false, 6 * time.Minute: true} {
		got := assessDeployment(deploymentView{deployment(2, 2, 2, 1, 2), []corev1.Pod{p}, "new", 0}, t0, t0.Add(after))
		if (got.Failed != "") != failed || failed && !strings.Contains(got.Failed, "Insufficient nvidia.com/gpu") {
			t.Errorf("after %s: %+v", after, got)
		}
	}
}
