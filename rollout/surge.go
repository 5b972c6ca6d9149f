package rollout

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

const (
	surgeAuto = "auto"
	gpuName   = corev1.ResourceName("nvidia.com/gpu")
)

// freeSlots counts how many more pods of a spec's GPUs fit, node by node: six free GPUs on three nodes are no slot for
// four. A pod that is terminating still has its GPUs.
func freeSlots(nodes []corev1.Node, pods []corev1.Pod, spec *corev1.PodSpec) int64 {
	need := gpus(spec)
	if need == 0 {
		return 1
	}
	used := map[string]int64{}
	for i := range pods {
		if ph := pods[i].Status.Phase; ph != corev1.PodSucceeded && ph != corev1.PodFailed {
			used[pods[i].Spec.NodeName] += gpus(&pods[i].Spec)
		}
	}
	var slots int64
	for i := range nodes {
		n := &nodes[i]
		if n.Spec.Unschedulable || !nodeReady(n) || !labels.SelectorFromSet(spec.NodeSelector).Matches(labels.Set(n.Labels)) {
			continue
		}
		q := n.Status.Allocatable[gpuName]
		slots += max(q.Value()-used[n.Name], 0) / need
	}
	return slots
}

func nodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// resolveSurge replaces auto: one pod more where a GPU slot is free, one pod less where none is. A pool that says nothing, and whose
// chart says nothing, is replaced so too: Kubernetes' own default would take a quarter of it at once.
func (c cluster) resolveSurge(ctx context.Context, pools []PoolState) ([]Pool, error) {
	var out []Pool
	var nodes *corev1.NodeList
	var pods *corev1.PodList
	for _, ps := range pools {
		p := ps.Pool
		p.oneByOne = p.MaxSurge == "" && p.MaxUnavailable == "" && p.Name != BasePool
		if p.MaxSurge == surgeAuto || p.oneByOne {
			var err error
			if nodes == nil {
				if nodes, pods, err = c.capacity(ctx); err != nil {
					return nil, err
				}
			}
			p.MaxSurge, p.MaxUnavailable = "1", "0"
			if !c.slotFree(ctx, p, nodes.Items, pods.Items) {
				p.MaxSurge, p.MaxUnavailable = "0", "1"
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// capacity is all nodes and all pods. Whoever may not see them is taken to have no GPU free: one goes, one comes.
func (c cluster) capacity(ctx context.Context) (*corev1.NodeList, *corev1.PodList, error) {
	nodes, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err == nil {
		var pods *corev1.PodList
		if pods, err = c.kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{}); err == nil {
			return nodes, pods, nil
		}
	}
	if apierrors.IsForbidden(err) {
		return &corev1.NodeList{}, &corev1.PodList{}, nil
	}
	return nil, nil, fmt.Errorf("looking for free GPUs: %w", err)
}

// Resolved are pools as an operation would hold them now: auto is decided by the GPU slots that are free.
func Resolved(ctx context.Context, kube kubernetes.Interface, namespace string, pools []Pool) ([]Pool, error) {
	states := make([]PoolState, len(pools))
	for i, p := range pools {
		states[i].Pool = p
	}
	return cluster{kube: kube, namespace: namespace}.resolveSurge(ctx, states)
}

// OneByOne tells that the pool says nothing of how many go at once: one at a time, unless the chart says more.
func (p Pool) OneByOne() bool { return p.oneByOne }

// slotFree asks for the live Deployments of a pool; a pool that does not run yet needs no surge.
func (c cluster) slotFree(ctx context.Context, p Pool, nodes []corev1.Node, pods []corev1.Pod) bool {
	for _, w := range p.Workloads {
		if w.Kind != "Deployment" {
			continue
		}
		d, err := c.kube.AppsV1().Deployments(c.namespace).Get(ctx, w.Name, metav1.GetOptions{})
		if err != nil || freeSlots(nodes, pods, &d.Spec.Template.Spec) == 0 {
			return false
		}
	}
	return true
}
