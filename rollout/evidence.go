package rollout

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	evidencePods  = 3        // failing pods whose logs are kept
	evidenceLines = 200      // last lines per log
	evidenceBytes = 32 << 10 // per log
)

// evidence is what the failed pool's pods leave behind, before going back deletes them: verdicts, pod states, events and
// the last lines of the logs. What cannot be had is said, not an error: the way back must not wait for a log.
func (c cluster) evidence(ctx context.Context, p PoolState) []string {
	var out []string
	for _, r := range p.Results {
		out = append(out, fmt.Sprintf("gate %s: %s: %s", r.ID, r.Verdict, r.Message))
	}
	_, pods, err := c.observe(ctx, p, false, time.Time{})
	if err != nil {
		return append(out, "pods: "+err.Error())
	}
	shown := 0
	for i := range pods {
		if podReady(&pods[i]) && len(p.Results) == 0 || shown == evidencePods {
			continue
		}
		shown++
		out = append(out, podLines(&pods[i])...)
		out = append(out, c.eventLines(ctx, pods[i].Name)...)
		for _, ctr := range pods[i].Spec.Containers {
			if crashed(&pods[i], ctr.Name) {
				out = append(out, c.logLines(ctx, pods[i].Name, ctr.Name, true)...)
			}
			out = append(out, c.logLines(ctx, pods[i].Name, ctr.Name, false)...)
		}
	}
	return out
}

func podLines(p *corev1.Pod) []string {
	out := []string{fmt.Sprintf("pod %s: %s on %s", p.Name, p.Status.Phase, p.Spec.NodeName)}
	for _, c := range p.Status.ContainerStatuses {
		line := fmt.Sprintf("pod %s: container %s: image %s, ready %t, restarts %d", p.Name, c.Name, c.Image, c.Ready, c.RestartCount)
		if w := c.State.Waiting; w != nil {
			line += ", waiting: " + w.Reason + " " + w.Message
		}
		if t := c.LastTerminationState.Terminated; t != nil {
			line += fmt.Sprintf(", last exit %d %s", t.ExitCode, t.Reason)
		}
		out = append(out, line)
	}
	return out
}

func (c cluster) eventLines(ctx context.Context, pod string) []string {
	list, err := c.kube.CoreV1().Events(c.namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
	if err != nil {
		return []string{"events of " + pod + ": " + err.Error()}
	}
	var out []string
	for _, e := range list.Items {
		out = append(out, fmt.Sprintf("event %s: %s %s: %s", pod, e.Type, e.Reason, e.Message))
	}
	return out
}

// crashed tells whether there was a container before this one, whose last words say more.
func crashed(p *corev1.Pod, container string) bool {
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == container {
			return c.RestartCount > 0
		}
	}
	return false
}

func (c cluster) logLines(ctx context.Context, pod, container string, previous bool) []string {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	lines, limit := int64(evidenceLines), int64(evidenceBytes)
	opt := &corev1.PodLogOptions{Container: container, TailLines: &lines, LimitBytes: &limit, Previous: previous}
	body, err := c.kube.CoreV1().Pods(c.namespace).GetLogs(pod, opt).Stream(ctx)
	if err != nil {
		return []string{"log of " + pod + ": " + err.Error()}
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, evidenceBytes))
	if err != nil {
		return []string{"log of " + pod + ": " + err.Error()}
	}
	what := "log "
	if previous {
		what = "log before the crash of "
	}
	var out []string
	for _, l := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		out = append(out, what+pod+"/"+container+": "+l)
	}
	return out
}

// clean takes secrets out of evidence: pods log what they should not. What cannot be cleaned is not kept.
func (r *run) clean(ctx context.Context, lines []string) []string {
	if r.Scrub == nil {
		return []string{"evidence was not kept: nothing was given to take secrets out of it"}
	}
	scrub, err := r.Scrub(ctx)
	if err != nil {
		return []string{"evidence was not kept, because secrets could not be taken out of it: " + err.Error()}
	}
	for i, l := range lines {
		lines[i] = strings.TrimRight(scrub(l), "\n")
	}
	return lines
}
