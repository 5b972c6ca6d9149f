package preflight

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// quantitiesOf turns Kubernetes quantities into plain numbers.
func quantitiesOf(l corev1.ResourceList) Quantities {
	out := Quantities{}
	for name, q := range l {
		out[string(name)] = amount(string(name), q)
	}
	return out
}

func amount(name string, q resource.Quantity) int64 {
	if name == "cpu" || strings.HasSuffix(name, ".cpu") {
		return q.MilliValue()
	}
	return q.Value()
}

// podRequests is what the scheduler reserves for a pod: its containers and sidecars together, or its hungriest init
// container, whichever is more, and the overhead. An extended amount that has only a limit counts as its request.
func podRequests(p *corev1.PodSpec) Quantities {
	sum, sidecars, peak := Quantities{"pods": 1}, Quantities{}, Quantities{}
	for _, c := range p.Containers {
		sum.add(containerRequests(c), 1)
	}
	for _, c := range p.InitContainers {
		need := containerRequests(c)
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sum.add(need, 1)
			sidecars.add(need, 1)
			peak.atLeast(sidecars)
			continue
		}
		need.add(sidecars, 1)
		peak.atLeast(need)
	}
	sum.atLeast(peak)
	sum.add(quantitiesOf(p.Overhead), 1)
	return sum
}

func containerRequests(c corev1.Container) Quantities {
	need := quantitiesOf(c.Resources.Limits)
	for name, v := range quantitiesOf(c.Resources.Requests) {
		need[name] = v
	}
	return need
}

func (q Quantities) add(o Quantities, times int64) {
	for k, v := range o {
		q[k] += v * times
	}
}

func (q Quantities) atLeast(o Quantities) {
	for k, v := range o {
		q[k] = max(q[k], v)
	}
}

func (q Quantities) clone() Quantities {
	out := make(Quantities, len(q))
	out.add(q, 1)
	return out
}

// accelerators is the part of q that names devices of a vendor, such as nvidia.com/gpu.
func accelerators(q Quantities) Quantities {
	out := Quantities{}
	for k, v := range q {
		domain, _, qualified := strings.Cut(k, "/")
		if qualified && v > 0 && domain != "kubernetes.io" && !strings.HasSuffix(domain, ".kubernetes.io") {
			out[k] = v
		}
	}
	return out
}

// mayRun reports whether the pod's own rules (selector, required affinity, tolerations) admit the node, whatever state
// the node is in just now. Taints that only mirror that state are left to healthy.
func mayRun(p *corev1.PodSpec, n Node) bool {
	if p.NodeName != "" && p.NodeName != n.Name {
		return false
	}
	for k, v := range p.NodeSelector {
		if got, ok := n.Labels[k]; !ok || got != v {
			return false
		}
	}
	if !affinityAdmits(p.Affinity, n) {
		return false
	}
	for _, t := range n.Taints {
		if strings.HasPrefix(t.Key, "node.kubernetes.io/") || t.Effect == string(corev1.TaintEffectPreferNoSchedule) {
			continue
		}
		if !slices.ContainsFunc(p.Tolerations, func(tol corev1.Toleration) bool { return tolerates(tol, t) }) {
			return false
		}
	}
	return true
}

// healthy reports whether the scheduler would put a new pod on the node now.
func healthy(n Node) bool { return n.Ready && !n.Unschedulable && len(n.Pressure) == 0 }

func tolerates(tol corev1.Toleration, t Taint) bool {
	if tol.Effect != "" && string(tol.Effect) != t.Effect {
		return false
	}
	if tol.Key == "" {
		return tol.Operator == corev1.TolerationOpExists
	}
	if tol.Key != t.Key {
		return false
	}
	switch tol.Operator {
	case corev1.TolerationOpExists:
		return true
	case "", corev1.TolerationOpEqual:
		return tol.Value == t.Value
	}
	return false
}

func affinityAdmits(a *corev1.Affinity, n Node) bool {
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return true
	}
	for _, term := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
			continue // an empty term matches nothing
		}
		if termAdmits(term, n) {
			return true
		}
	}
	return false
}

func termAdmits(term corev1.NodeSelectorTerm, n Node) bool {
	for _, e := range term.MatchExpressions {
		if !exprAdmits(e, n.Labels) {
			return false
		}
	}
	for _, e := range term.MatchFields {
		if !exprAdmits(e, map[string]string{"metadata.name": n.Name}) {
			return false
		}
	}
	return true
}

func exprAdmits(e corev1.NodeSelectorRequirement, labels map[string]string) bool {
	v, has := labels[e.Key]
	switch e.Operator {
	case corev1.NodeSelectorOpIn:
		return has && slices.Contains(e.Values, v)
	case corev1.NodeSelectorOpNotIn:
		return !has || !slices.Contains(e.Values, v)
	case corev1.NodeSelectorOpExists:
		return has
	case corev1.NodeSelectorOpDoesNotExist:
		return !has
	case corev1.NodeSelectorOpGt, corev1.NodeSelectorOpLt:
		return has && len(e.Values) == 1 && compares(e.Operator, v, e.Values[0])
	}
	return false
}

func compares(op corev1.NodeSelectorOperator, have, want string) bool {
	a, err := strconv.ParseInt(have, 10, 64)
	if err != nil {
		return false
	}
	b, err := strconv.ParseInt(want, 10, 64)
	if err != nil {
		return false
	}
	if op == corev1.NodeSelectorOpGt {
		return a > b
	}
	return a < b
}

// MayRun tells whether the scheduler would ever put a pod on a node as it is now: its rules admit the node, the node is healthy, and it has
// as many devices as the pod asks for, whoever uses them.
func MayRun(p *corev1.PodSpec, node *corev1.Node) bool {
	n := nodeOf(node)
	for device, want := range accelerators(podRequests(p)) {
		if n.Allocatable[device] < want {
			return false
		}
	}
	return healthy(n) && mayRun(p, n)
}
