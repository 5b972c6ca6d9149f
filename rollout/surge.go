package rollout

import (
	"context"
	"fmt"
	"maps"
	"math"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	resourcehelper "k8s.io/component-helpers/resource"
	schedulinghelper "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

const surgeAuto = "auto"

// freeSlots counts how many more pods of a spec fit, node by node: six free GPUs on three nodes are no slot for four. A pod that is
// terminating still has its own. What the scheduler asks of a node is asked here, too: the node's selector, affinity and taints, and every
// resource; inter-pod affinity and spreading are not.
func freeSlots(nodes []corev1.Node, pods []corev1.Pod, spec *corev1.PodSpec) int64 {
	like := &corev1.Pod{Spec: *spec}
	need := requests(like)
	used := map[string]corev1.ResourceList{}
	for i := range pods {
		if ph := pods[i].Status.Phase; ph != corev1.PodSucceeded && ph != corev1.PodFailed && pods[i].Spec.NodeName != "" {
			used[pods[i].Spec.NodeName] = plus(used[pods[i].Spec.NodeName], requests(&pods[i]))
		}
	}
	var slots int64
	for i := range nodes {
		if admits(&nodes[i], like) {
			slots += fits(nodes[i].Status.Allocatable, used[nodes[i].Name], need)
		}
	}
	return slots
}

// requests are what a pod asks of its node, itself included. Templates say only limits where the API server would take them for requests.
func requests(p *corev1.Pod) corev1.ResourceList {
	p = p.DeepCopy()
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			r := &list[i].Resources
			r.Requests = maps.Clone(r.Requests)
			if r.Requests == nil {
				r.Requests = corev1.ResourceList{}
			}
			for name, q := range r.Limits {
				if _, said := r.Requests[name]; !said {
					r.Requests[name] = q
				}
			}
		}
	}
	return plus(resourcehelper.PodRequests(p, resourcehelper.PodResourcesOptions{}), corev1.ResourceList{corev1.ResourcePods: resource.MustParse("1")})
}

func plus(a, b corev1.ResourceList) corev1.ResourceList {
	out := maps.Clone(a)
	if out == nil {
		out = corev1.ResourceList{}
	}
	for name, q := range b {
		sum := out[name].DeepCopy()
		sum.Add(q)
		out[name] = sum
	}
	return out
}

// admits tells whether the scheduler would look at a node for a pod.
func admits(n *corev1.Node, p *corev1.Pod) bool {
	if n.Spec.Unschedulable || !nodeReady(n) {
		return false
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(p).Match(n); !ok || err != nil {
		return false
	}
	_, barred := schedulinghelper.FindMatchingUntoleratedTaint(logr.Discard(), n.Spec.Taints, p.Spec.Tolerations, func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}, false)
	return !barred
}

// fits is how many more pods a node has room for. A node that does not say how many pods it takes is not asked.
func fits(all, used, need corev1.ResourceList) int64 {
	slots := int64(math.MaxInt32)
	for name, q := range need {
		has, said := all[name]
		if q.IsZero() || name == corev1.ResourcePods && !said {
			continue
		}
		free := has.DeepCopy()
		free.Sub(used[name])
		slots = min(slots, max(free.MilliValue(), 0)/q.MilliValue())
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
