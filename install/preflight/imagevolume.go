package preflight

import (
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// firstMounting is the first version of each runtime that mounts images as volumes.
var firstMounting = map[string]string{"containerd": "2.1.0", "cri-o": "1.31.0"}

// Image volumes are in kubelets from firstImageVolumes on, and on without being asked for from defaultImageVolumes on.
const (
	firstImageVolumes   = "1.31.0"
	defaultImageVolumes = "1.35.0"
)

// imageVolumes asks whether the nodes that a pod with image volumes may land on can mount them: a runtime that cannot would start it
// with an empty folder, or never.
func (c *checker) imageVolumes(string) {
	if c.badManifest() {
		return
	}
	asked := false
	for _, w := range c.ren.workloads {
		if !mountsImages(w) {
			continue
		}
		asked = true
		if !c.s.Nodes.Read {
			c.unread("nodes", c.s.Nodes.cause())
			return
		}
		c.add(c.mountResult(w))
	}
	if !asked {
		c.pass("no rendered workload mounts an image as a volume")
	}
}

func mountsImages(w workload) bool {
	for _, v := range w.pod.Volumes {
		if v.Image != nil {
			return true
		}
	}
	return false
}

func (c *checker) mountResult(w workload) Result {
	var cannot, unsure []string
	able := 0
	for _, n := range c.s.Nodes.Value {
		if !healthy(n) || !mayRun(&w.pod, n) || strings.HasPrefix(n.Runtime, "kwok://") {
			continue
		}
		why, sure := mounting(n)
		switch {
		case why == "":
			able++
		case sure:
			cannot = append(cannot, n.Name+" ("+why+")")
		default:
			unsure = append(unsure, n.Name+" ("+why+")")
		}
	}
	r := Result{Verdict: Pass, Subject: w.ref(), Message: fmt.Sprintf("%s mounts images as volumes; %d nodes can", w.ref(), able)}
	switch {
	case len(cannot) > 0:
		r.Verdict = Fail
		r.Message = fmt.Sprintf("%s mounts images as volumes, and these nodes cannot: %s", w.ref(), listText(cannot))
		r.Remedy = "let the chart fetch its models by an init container (its values say how), or upgrade the nodes' runtime and kubelet"
	case len(unsure) > 0:
		r.Verdict = Warned
		r.Message = fmt.Sprintf("%s mounts images as volumes, and nobody can see from here whether these nodes do: %s", w.ref(), listText(unsure))
		r.Remedy = "check that the feature gate ImageVolume is on for the API server and these kubelets"
	}
	return r
}

// mounting says why a node cannot mount images, or may not; "" when it can.
func mounting(n Node) (why string, sure bool) {
	name, version, _ := strings.Cut(n.Runtime, "://")
	version, _, _ = strings.Cut(version, "~") // as Debian has it
	runtime, err := semver.NewVersion(version)
	first, known := firstMounting[name]
	if err != nil || !known {
		return fmt.Sprintf("runtime %.60q", n.Runtime), name == "docker"
	}
	if before(runtime, first) {
		return fmt.Sprintf("%s %s, needs %s", name, version, first), true
	}
	kubelet, err := semver.NewVersion(n.Kubelet)
	switch {
	case err != nil:
		return fmt.Sprintf("kubelet %.60q", n.Kubelet), false
	case before(kubelet, firstImageVolumes):
		return fmt.Sprintf("kubelet %s, needs %s", n.Kubelet, firstImageVolumes), true
	case before(kubelet, defaultImageVolumes):
		return fmt.Sprintf("kubelet %s has them off by default", n.Kubelet), false
	}
	return "", false
}

// before compares without what follows the three numbers: 2.1.0-rc.1 and 1.35.0-eks are what they are close to.
func before(v *semver.Version, first string) bool {
	plain := semver.New(v.Major(), v.Minor(), v.Patch(), "", "")
	return plain.LessThan(semver.MustParse(first))
}
