package story

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const serverRef = "registry.example.com/wordcab/modelserver:1.0.0"

// madeAtRunTime makes pods as an operator would that has the vendor's references compiled in: one that the release carries, and one that it
// does not.
func (s *Story) madeAtRunTime(ctx context.Context) error {
	st, err := s.wc(ctx, "status", "-o", "json")
	if err != nil {
		return err
	}
	var site struct{ RunTime string }
	if err := json.Unmarshal([]byte(st.stdout), &site); err != nil {
		return err
	}
	if site.RunTime == "none" {
		s.say("left out: this cluster serves no MutatingAdmissionPolicy, and its nodes have no mirrors")
		return nil
	}
	if err := s.says(ctx, "how pods made at run time find their images", site.RunTime+": ", "status"); err != nil {
		return err
	}
	pods := s.kube.CoreV1().Pods(namespace)
	made, err := pods.Create(ctx, operatorPod(serverRef), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	defer pods.Delete(context.WithoutCancel(ctx), made.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	image := made.Spec.Containers[0].Image
	if pinned := strings.HasPrefix(image, s.env.Pull+"/") && strings.Contains(image, "@sha256:"); pinned != (site.RunTime == "policy") {
		return fmt.Errorf("by %s, the pod's image has become %s", site.RunTime, image)
	}
	if err := s.starts(ctx, made.Name); err != nil {
		return err
	}
	unknown, err := pods.Create(ctx, operatorPod(serverRef+".9"), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		return err
	}
	if got := unknown.Spec.Containers[0].Image; got != serverRef+".9" {
		return fmt.Errorf("an image that the release does not carry became %s", got)
	}
	s.say("a pod with image %s, which no chart shows, runs from %s; one that no release carries is left alone", serverRef, s.env.Pull)
	return nil
}

func operatorPod(image string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "made-by-operator-"}, Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
		Containers: []corev1.Container{{Name: "server", Image: image, ImagePullPolicy: corev1.PullAlways}}}}
}

// starts waits until a pod's container has been started: then its image was found.
func (s *Story) starts(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	waits := "no node has taken it"
	for {
		p, err := s.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("pod %s does not start (%s): %w", name, waits, err)
		}
		for _, c := range p.Status.ContainerStatuses {
			if c.State.Running != nil || c.State.Terminated != nil {
				return nil
			}
			if w := c.State.Waiting; w != nil {
				waits = w.Reason + " " + w.Message
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("pod %s does not start: %s", name, waits)
		case <-time.After(200 * time.Millisecond):
		}
	}
}
