package siteregistry

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podsSay is why pods are not ready, in their own words: conditions, waiting containers, the last lines of those that ended.
func (i *installer) podsSay(ctx context.Context, of string) string {
	list, err := i.opt.Kube.CoreV1().Pods(i.opt.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + of})
	if err != nil {
		return err.Error()
	}
	if len(list.Items) == 0 {
		return "it has no pod"
	}
	var out []string
	for _, p := range list.Items {
		if says := i.podSays(ctx, p); says != "" {
			out = append(out, fmt.Sprintf("pod %s on node %q: %s", p.Name, p.Spec.NodeName, says))
		}
		if len(out) == 3 {
			break
		}
	}
	return strings.Join(out, "; ")
}

func (i *installer) podSays(ctx context.Context, p corev1.Pod) string {
	for _, s := range p.Status.ContainerStatuses {
		if s.Ready {
			continue
		}
		if ended := s.LastTerminationState.Terminated; ended != nil {
			return fmt.Sprintf("its program ended with %d%s", ended.ExitCode, i.lastWords(ctx, p, true))
		}
		if w := s.State.Waiting; w != nil {
			return strings.TrimSpace(w.Reason + " " + w.Message)
		}
		return "it runs and is not ready" + i.lastWords(ctx, p, false)
	}
	for _, c := range p.Status.Conditions {
		if c.Status == corev1.ConditionFalse && c.Message != "" {
			return c.Message
		}
	}
	return ""
}

func (i *installer) lastWords(ctx context.Context, p corev1.Pod, before bool) string {
	lines, bytes := int64(3), int64(2000)
	b, err := i.opt.Kube.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines, LimitBytes: &bytes, Previous: before}).DoRaw(ctx)
	if err != nil || len(b) == 0 {
		return ""
	}
	return ", saying " + strings.Join(strings.Fields(string(b)), " ")
}
