package prefetch

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/wordcab/wcbundle/install/preflight"
)

// spareNodes are fetched for beside one for each replica.
const spareNodes = 2

// place is a node that a workload's pods are fetched for.
type place struct {
	node string
	arch string
	runs bool // the workload has a pod there now
}

// places are the nodes to fetch for: those where the workload runs, and as many others as a replacement of every replica could land on.
func places(spec *corev1.PodSpec, replicas int, nodes []corev1.Node, runs map[string]bool) []place {
	var now, others []place
	for i := range nodes {
		n := &nodes[i]
		if !real(n) || !preflight.MayRun(spec, n) {
			continue
		}
		p := place{node: n.Name, arch: n.Status.NodeInfo.Architecture, runs: runs[n.Name]}
		if p.runs {
			now = append(now, p)
		} else {
			others = append(others, p)
		}
	}
	byName := func(a, b place) int { return cmp.Compare(a.node, b.node) }
	slices.SortFunc(now, byName)
	slices.SortFunc(others, byName)
	return append(now, others[:min(len(others), replicas+spareNodes)]...)
}

// real tells nodes that have a kubelet and images for Linux from those that are only said to be there.
func real(n *corev1.Node) bool {
	runtime := n.Status.NodeInfo.ContainerRuntimeVersion
	system := n.Status.NodeInfo.OperatingSystem
	return runtime != "" && !strings.HasPrefix(runtime, "kwok://") && n.Annotations["kwok.x-k8s.io/node"] == "" && (system == "" || system == "linux")
}
