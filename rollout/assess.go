package rollout

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	crashRestarts = 2 // restarts of a new pod in CrashLoopBackOff that end the wait
	unschedulable = 5 * time.Minute
	// clockGrain is what two times of the cluster may be wrong against each other: they count in seconds, and our clock may be up to three
	// off the API server's.
	clockGrain = 3 * time.Second
)

// deploymentView is what a Deployment's verdict is made of. Pods are all of its selector, newHash the newest template's. With upto, the
// question is only whether so many replicas are new.
type deploymentView struct {
	d       *appsv1.Deployment
	pods    []corev1.Pod
	newHash string
	upto    int
}

// assessDeployment says how far a released Deployment is. Counts of the status are believed only for the current
// generation, and a condition only if it is newer than the release: a paused Deployment keeps stale ones.
func assessDeployment(v deploymentView, releasedAt, now time.Time) Seen {
	want := int(replicas(v.d.Spec.Replicas))
	st := v.d.Status
	seen := Seen{Total: want, Ready: min(int(st.UpdatedReplicas), int(st.AvailableReplicas), want)}
	news := podsWith(v.pods, appsv1.DefaultDeploymentUniqueLabelKey, v.newHash)
	seen.Restarts = restarts(news)
	if v.newHash != "" {
		seen.Ready, seen.New = countReady(news), alive(news)
	}
	some := v.upto > 0 && v.upto < want
	if some && st.ObservedGeneration >= v.d.Generation {
		return assessSome(v, seen, releasedAt, now)
	}
	switch {
	case v.d.Spec.Paused:
		seen.Waiting = v.d.Name + " is paused"
	case st.ObservedGeneration < v.d.Generation:
		seen.Waiting = v.d.Name + " is not observed by its controller yet"
	case int(st.UpdatedReplicas) < want:
		seen.Waiting = fmt.Sprintf("%s has %d of %d new replicas", v.d.Name, st.UpdatedReplicas, want)
	case int(st.Replicas) > want:
		seen.Waiting = fmt.Sprintf("%s has %d old replicas left", v.d.Name, int(st.Replicas)-want)
	case int(st.AvailableReplicas) < want || int(st.ReadyReplicas) < want:
		seen.Waiting = fmt.Sprintf("%s has %d of %d available replicas", v.d.Name, st.AvailableReplicas, want)
	case terminatingGPU(v.pods):
		seen.Waiting = v.d.Name + " has an old pod that still holds a GPU"
	default:
		seen.Done = true
	}
	if v.d.Spec.Paused || st.ObservedGeneration < v.d.Generation {
		seen.Ready, seen.New, seen.unobserved = 0, 0, st.ObservedGeneration < v.d.Generation
		return seen // "newest" may still be the revision that was taken back, or the one to replace
	}
	seen.Failed = failedPods(news, now)
	if why := replicaFailure(v.d, releasedAt); why != "" && !seen.Done {
		seen.Failed = why
	}
	return withPod(seen, news)
}

// replicaFailure is why no pod could be made since the release; "" if nothing says so.
func replicaFailure(d *appsv1.Deployment, releasedAt time.Time) string {
	for _, c := range d.Status.Conditions {
		if c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue && c.LastTransitionTime.Time.After(releasedAt.Add(-clockGrain)) {
			return fmt.Sprintf("%s: %s: %s", d.Name, c.Reason, c.Message)
		}
	}
	return ""
}

// assessSome is for a Deployment of which only some replicas may be new, and which is on hold when it has them.
func assessSome(v deploymentView, seen Seen, releasedAt, now time.Time) Seen {
	news := podsWith(v.pods, appsv1.DefaultDeploymentUniqueLabelKey, v.newHash)
	switch {
	case !v.d.Spec.Paused || int(v.d.Status.UpdatedReplicas) < v.upto:
		seen.Waiting = fmt.Sprintf("%s has %d of %d new replicas", v.d.Name, v.d.Status.UpdatedReplicas, v.upto)
	case seen.Ready < v.upto:
		seen.Waiting = fmt.Sprintf("%s has %d of %d new ready replicas", v.d.Name, seen.Ready, v.upto)
	default:
		seen.Done = true
	}
	if seen.Failed = failedPods(news, now); seen.Failed == "" && !seen.Done {
		seen.Failed = replicaFailure(v.d, releasedAt)
	}
	return withPod(seen, news)
}

// assessStatefulSet says how far a released StatefulSet is. currentRevision == updateRevision is no proof by itself: it is
// also true for a set that is stuck on a pod of a revision that was taken back.
func assessStatefulSet(s *appsv1.StatefulSet, pods []corev1.Pod, now time.Time) Seen {
	want := int(replicas(s.Spec.Replicas))
	news := podsWith(pods, appsv1.ControllerRevisionHashLabelKey, s.Status.UpdateRevision)
	seen := Seen{Total: want, Ready: countReady(news), New: alive(news), Restarts: restarts(news)}
	from := partition(s)
	due := max(want-from, 0)
	switch {
	case from >= HoldPartition:
		seen.Waiting = s.Name + " is held"
	case s.Status.ObservedGeneration < s.Generation:
		seen.Waiting = s.Name + " is not observed by its controller yet"
	case len(pods) != want:
		seen.Waiting = fmt.Sprintf("%s has %d of %d pods", s.Name, len(pods), want)
	case seen.Ready < due:
		seen.Waiting = fmt.Sprintf("%s has %d of %d new ready replicas", s.Name, seen.Ready, due)
	case int(s.Status.AvailableReplicas) < want || int(s.Status.ReadyReplicas) < want:
		seen.Waiting = fmt.Sprintf("%s has %d of %d available replicas", s.Name, s.Status.AvailableReplicas, want)
	default:
		seen.Done = true
	}
	if from >= HoldPartition || s.Status.ObservedGeneration < s.Generation {
		seen.Ready, seen.New = 0, 0
		return seen
	}
	seen.Failed = failedPods(news, now)
	return withPod(seen, news)
}

// stuckPods are the pods that Kubernetes issue 67250 leaves behind: an ordered set waits for a pod that never becomes
// ready and so never replaces it by the template that would.
func stuckPods(s *appsv1.StatefulSet, pods []corev1.Pod) []string {
	if s.Spec.PodManagementPolicy == appsv1.ParallelPodManagement || s.Status.ObservedGeneration < s.Generation {
		return nil
	}
	var out []string
	for i := range pods {
		p := &pods[i]
		n, ok := ordinal(p.Name)
		if ok && n >= partition(s) && p.DeletionTimestamp == nil && !podReady(p) &&
			p.Labels[appsv1.ControllerRevisionHashLabelKey] != s.Status.UpdateRevision {
			out = append(out, p.Name)
		}
	}
	return out
}

// failedPods is the first reason not to wait for these pods any longer.
func failedPods(pods []corev1.Pod, now time.Time) string {
	for i := range pods {
		if why := failedPod(&pods[i], now); why != "" {
			return "pod " + pods[i].Name + ": " + why
		}
	}
	return ""
}

func failedPod(p *corev1.Pod, now time.Time) string {
	if p.DeletionTimestamp != nil {
		return ""
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && now.Sub(c.LastTransitionTime.Time) > unschedulable {
			return c.Reason + ": " + c.Message
		}
	}
	all := append(append([]corev1.ContainerStatus(nil), p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...)
	for _, c := range all {
		w := c.State.Waiting
		if w == nil {
			continue
		}
		switch w.Reason {
		case "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "CreateContainerConfigError":
			return fmt.Sprintf("container %s: %s: %s", c.Name, w.Reason, w.Message)
		case "CrashLoopBackOff":
			if c.RestartCount >= crashRestarts {
				return fmt.Sprintf("container %s: CrashLoopBackOff after %d restarts", c.Name, c.RestartCount)
			}
		}
	}
	return ""
}

// withPod names the first new pod that is not ready.
func withPod(seen Seen, news []corev1.Pod) Seen {
	if seen.Done {
		return seen
	}
	for i := range news {
		if !podReady(&news[i]) {
			seen.Waiting += "; waiting for pod " + news[i].Name
			break
		}
	}
	return seen
}

func podsWith(pods []corev1.Pod, label, value string) []corev1.Pod {
	var out []corev1.Pod
	for _, p := range pods {
		if value != "" && p.Labels[label] == value {
			out = append(out, p)
		}
	}
	return out
}

func countReady(pods []corev1.Pod) int {
	n := 0
	for i := range pods {
		if pods[i].DeletionTimestamp == nil && podReady(&pods[i]) {
			n++
		}
	}
	return n
}

// alive counts pods that are not going.
func alive(pods []corev1.Pod) int {
	n := 0
	for i := range pods {
		if pods[i].DeletionTimestamp == nil {
			n++
		}
	}
	return n
}

func podReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func restarts(pods []corev1.Pod) int {
	n := 0
	for i := range pods {
		for _, c := range pods[i].Status.ContainerStatuses {
			n += int(c.RestartCount)
		}
	}
	return n
}

// terminatingGPU: the memory of a GPU is free only when the old pod is gone.
func terminatingGPU(pods []corev1.Pod) bool {
	for i := range pods {
		if pods[i].DeletionTimestamp != nil && hasDevice(&pods[i].Spec) {
			return true
		}
	}
	return false
}

// hasDevice tells that a pod has a GPU or another device of its node's: what a name with a domain stands for.
func hasDevice(spec *corev1.PodSpec) bool {
	for _, c := range spec.Containers {
		for name, q := range c.Resources.Limits {
			if strings.Contains(string(name), "/") && !q.IsZero() {
				return true
			}
		}
	}
	return false
}

func replicas(r *int32) int32 {
	if r == nil {
		return 1
	}
	return *r
}

func partition(s *appsv1.StatefulSet) int {
	if r := s.Spec.UpdateStrategy.RollingUpdate; r != nil && r.Partition != nil {
		return int(*r.Partition)
	}
	return 0
}

func ordinal(pod string) (int, bool) {
	n, err := strconv.Atoi(pod[strings.LastIndexByte(pod, '-')+1:])
	return n, err == nil
}

// newestHash is the template hash of the ReplicaSet that a Deployment made last.
func newestHash(d *appsv1.Deployment, sets []appsv1.ReplicaSet) string {
	const revision = "deployment.kubernetes.io/revision"
	for i := range sets {
		if metav1.IsControlledBy(&sets[i], d) && sets[i].Annotations[revision] == d.Annotations[revision] {
			return sets[i].Labels[appsv1.DefaultDeploymentUniqueLabelKey]
		}
	}
	return ""
}
