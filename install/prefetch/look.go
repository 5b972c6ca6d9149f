package prefetch

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// pullFaults are what a kubelet says of an image that it cannot have. It tries again by itself.
var pullFaults = []string{"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed"}

// imageThere are faults of a container whose image is there: with the image alone nothing is wrong.
var imageThere = []string{"CrashLoopBackOff", "RunContainerError", "CreateContainerError", "CreateContainerConfigError"}

// finding is how far a pod that fetches is: done, in want of something, or neither yet.
type finding struct {
	done  bool
	lack  string
	image bool // the kubelet cannot have an image: every pod that needs it fails there
}

// look judges a pod by what its kubelet says.
func look(p *corev1.Pod) finding {
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		return finding{done: true}
	case corev1.PodFailed:
		return finding{lack: said(p.Status.Reason, p.Status.Message)}
	}
	all := finding{done: len(p.Spec.Containers) > 0}
	for _, c := range p.Spec.Containers {
		i := slices.IndexFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == c.Name })
		if i < 0 {
			all.done = false
			continue
		}
		f := lookContainer(c, p.Status.ContainerStatuses[i])
		if f.lack != "" && !(all.image && !f.image) {
			all.lack, all.image = f.lack, f.image
		}
		all.done = all.done && f.done
	}
	return all
}

func lookContainer(c corev1.Container, s corev1.ContainerStatus) finding {
	w := s.State.Waiting
	if w != nil && slices.Contains(pullFaults, w.Reason) {
		return finding{lack: said(w.Reason, c.Image+": "+w.Message), image: true}
	}
	if !strings.HasPrefix(c.Name, modelPrefix) {
		started := s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil
		return finding{done: started || w != nil && slices.Contains(imageThere, w.Reason)}
	}
	if t := s.State.Terminated; t != nil && t.ExitCode == 0 {
		return finding{done: true}
	}
	if t := s.LastTerminationState.Terminated; t != nil && t.ExitCode != 0 && s.RestartCount >= 2 {
		return finding{lack: said(fmt.Sprintf("the model could not be fetched, exit code %d", t.ExitCode), t.Message)}
	}
	if w != nil && w.Reason != "CrashLoopBackOff" && slices.Contains(imageThere, w.Reason) {
		return finding{lack: said(w.Reason, w.Message)}
	}
	return finding{}
}

func said(reason, message string) string {
	return strings.TrimSuffix(strings.Join(strings.Fields(reason+": "+message), " "), ":")
}
