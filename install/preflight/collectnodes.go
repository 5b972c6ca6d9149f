package preflight

import (
	"context"
	"errors"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// pods reads every pod of the cluster that is not finished: all of them take room on nodes.
func (c Clients) pods(ctx context.Context) ([]corev1.Pod, error) {
	opt := metav1.ListOptions{FieldSelector: "status.phase!=Succeeded,status.phase!=Failed", Limit: pageSize}
	var out []corev1.Pod
	for {
		list, err := c.Kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, opt)
		if err != nil {
			return nil, err
		}
		for _, p := range list.Items {
			if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				out = append(out, p)
			}
		}
		if opt.Continue = list.Continue; opt.Continue == "" {
			return out, nil
		}
	}
}

// nodes is unread when pods are: what is free would be a guess.
func (c Clients) nodes(ctx context.Context, pods Section[[]corev1.Pod]) ([]Node, error) {
	if !pods.Read {
		return nil, errors.New("pods: " + pods.cause())
	}
	opt := metav1.ListOptions{Limit: pageSize}
	var out []Node
	for {
		list, err := c.Kube.CoreV1().Nodes().List(ctx, opt)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			out = append(out, nodeOf(&list.Items[i]))
		}
		if opt.Continue = list.Continue; opt.Continue == "" {
			break
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	at := map[string]*Node{}
	for i := range out {
		at[out[i].Name] = &out[i]
	}
	for i := range pods.Value {
		p := &pods.Value[i]
		n := at[p.Spec.NodeName]
		if n == nil {
			continue
		}
		need := podRequests(&p.Spec)
		n.Requested.add(need, 1)
		if p.DeletionTimestamp != nil {
			n.Terminating.add(need, 1)
		}
	}
	return out, nil
}

func nodeOf(n *corev1.Node) Node {
	out := Node{Name: n.Name, Labels: n.Labels, Unschedulable: n.Spec.Unschedulable, Kubelet: n.Status.NodeInfo.KubeletVersion, Runtime: n.Status.NodeInfo.ContainerRuntimeVersion,
		Allocatable: quantitiesOf(n.Status.Allocatable), Requested: Quantities{}, Terminating: Quantities{}}
	for _, t := range n.Spec.Taints {
		out.Taints = append(out.Taints, Taint{t.Key, t.Value, string(t.Effect)})
	}
	for _, cond := range n.Status.Conditions {
		on := cond.Status == corev1.ConditionTrue
		switch {
		case cond.Type == corev1.NodeReady:
			out.Ready = on
		case on && (strings.HasSuffix(string(cond.Type), "Pressure") || cond.Type == corev1.NodeNetworkUnavailable):
			out.Pressure = append(out.Pressure, string(cond.Type))
		}
	}
	sort.Strings(out.Pressure)
	return out
}

func (c Clients) workloads(ctx context.Context, pods Section[[]corev1.Pod]) ([]LiveWorkload, error) {
	if !pods.Read {
		return nil, errors.New("pods: " + pods.cause())
	}
	deps, err := c.Kube.AppsV1().Deployments(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	sets, err := c.Kube.AppsV1().StatefulSets(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []LiveWorkload
	for _, d := range deps.Items {
		out = append(out, c.live(LiveWorkload{Kind: "Deployment", Name: d.Name, Replicas: replicasOf(d.Spec.Replicas)},
			d.Spec.Selector, d.Spec.Template, pods.Value))
	}
	for _, s := range sets.Items {
		out = append(out, c.live(LiveWorkload{Kind: "StatefulSet", Name: s.Name, Replicas: replicasOf(s.Spec.Replicas)},
			s.Spec.Selector, s.Spec.Template, pods.Value))
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Kind+"/"+out[i].Name < out[j].Kind+"/"+out[j].Name })
	return out, nil
}

// live counts a workload's pods per node. What one pod requests is taken from a pod that runs, since the template of a
// held workload may already be the next version's.
func (c Clients) live(w LiveWorkload, sel *metav1.LabelSelector, tpl corev1.PodTemplateSpec, pods []corev1.Pod) LiveWorkload {
	w.On, w.Requests = map[string]int{}, podRequests(&tpl.Spec)
	match, err := metav1.LabelSelectorAsSelector(sel)
	if err != nil {
		match = labels.Nothing()
	}
	for i := range pods {
		p := &pods[i]
		if p.Namespace != c.Namespace || p.DeletionTimestamp != nil || p.Spec.NodeName == "" || !match.Matches(labels.Set(p.Labels)) {
			continue
		}
		w.On[p.Spec.NodeName]++
		w.Requests = podRequests(&p.Spec)
	}
	return w
}

func replicasOf(n *int32) int {
	if n == nil {
		return 1
	}
	return int(*n)
}
