package prefetch

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/wordcab/wcbundle/rollout"
)

// Fetcher fetches for the pools of one release. It keeps nothing: another process goes on where this one was.
type Fetcher struct {
	Kube      kubernetes.Interface
	Namespace string
	Release   string
}

var _ rollout.Fetcher = Fetcher{}

// Fetch makes the pods that are not there and says how far they are.
func (f Fetcher) Fetch(ctx context.Context, op string, p rollout.Pool) (rollout.Fetched, error) {
	orders, err := f.orders(ctx, op, p)
	if refused(err) { // no right to look: the upgrade needs none of this
		return rollout.Fetched{Total: 1, Lacks: []rollout.Lack{{Node: "(all)", Reason: err.Error()}}}, nil
	}
	if err != nil || len(orders) == 0 {
		return rollout.Fetched{}, err
	}
	have, err := f.pods(ctx)
	if err != nil {
		return rollout.Fetched{}, err
	}
	if err := f.programs(ctx); err != nil && !refused(err) {
		return rollout.Fetched{}, err
	}
	found := map[string][]finding{}
	runs := map[string]bool{}
	for _, o := range orders {
		one, err := f.send(ctx, o, have)
		if err != nil {
			return rollout.Fetched{}, err
		}
		found[o.place.node] = append(found[o.place.node], one)
		runs[o.place.node] = runs[o.place.node] || o.place.runs
		delete(have, o.name())
	}
	for name := range have { // of another pool or operation
		if err := f.remove(ctx, name); err != nil {
			return rollout.Fetched{}, err
		}
	}
	return sum(found, runs), nil
}

// send makes a pod, or looks at it.
func (f Fetcher) send(ctx context.Context, o order, have map[string]*corev1.Pod) (finding, error) {
	if p := have[o.name()]; p != nil {
		return look(p), nil
	}
	_, err := f.Kube.CoreV1().Pods(f.Namespace).Create(ctx, o.pod(), metav1.CreateOptions{})
	switch {
	case refused(err):
		return finding{lack: "the pod that fetches is refused: " + err.Error()}, nil
	case apierrors.IsAlreadyExists(err):
		err = nil
	}
	if err != nil {
		return finding{}, fmt.Errorf("making a pod that fetches on node %s: %w", o.place.node, err)
	}
	return finding{}, nil
}

// refused tells errors that no second try changes: rights, quotas, admission.
func refused(err error) bool {
	return apierrors.IsForbidden(err) || apierrors.IsInvalid(err) || apierrors.IsBadRequest(err)
}

// sum counts nodes.
func sum(found map[string][]finding, runs map[string]bool) rollout.Fetched {
	out := rollout.Fetched{Total: len(found)}
	for _, node := range slices.Sorted(maps.Keys(found)) {
		done, lack := true, rollout.Lack{Node: node}
		for _, f := range found[node] {
			done = done && f.done
			if f.lack != "" && !lack.Fatal {
				lack.Reason, lack.Fatal = f.lack, f.image && runs[node]
			}
		}
		switch {
		case lack.Reason != "":
			out.Lacks = append(out.Lacks, lack)
		case done:
			out.Have++
		default:
			out.At = append(out.At, node)
		}
	}
	return out
}

// orders are what is to be fetched for a pool as its workloads are now.
func (f Fetcher) orders(ctx context.Context, op string, p rollout.Pool) ([]order, error) {
	nodes, err := f.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return nil, fmt.Errorf("listing nodes: %w", err)
	}
	var out []order
	for _, w := range p.Workloads {
		l, err := f.workload(ctx, w)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if l.replicas == 0 { // scaled to zero on purpose
			continue
		}
		runs, err := f.runsOn(ctx, l.selector)
		if err != nil {
			return nil, err
		}
		for _, at := range places(&l.template.Spec, l.replicas, nodes.Items, runs) {
			out = append(out, order{namespace: f.Namespace, release: f.Release, op: op, workload: w.String(), spec: &l.template.Spec, place: at})
		}
	}
	return out, nil
}

// live is what a workload is now.
type live struct {
	template corev1.PodTemplateSpec
	selector *metav1.LabelSelector
	replicas int
}

func (f Fetcher) workload(ctx context.Context, w rollout.Workload) (live, error) {
	var l live
	var n *int32
	var err error
	if w.Kind == "StatefulSet" {
		var s *appsv1.StatefulSet
		if s, err = f.Kube.AppsV1().StatefulSets(f.Namespace).Get(ctx, w.Name, metav1.GetOptions{}); err == nil {
			l, n = live{template: s.Spec.Template, selector: s.Spec.Selector}, s.Spec.Replicas
		}
	} else {
		var d *appsv1.Deployment
		if d, err = f.Kube.AppsV1().Deployments(f.Namespace).Get(ctx, w.Name, metav1.GetOptions{}); err == nil {
			l, n = live{template: d.Spec.Template, selector: d.Spec.Selector}, d.Spec.Replicas
		}
	}
	if err != nil {
		return l, fmt.Errorf("reading %s: %w", w, err)
	}
	l.replicas = 1
	if n != nil {
		l.replicas = int(*n)
	}
	return l, nil
}

func (f Fetcher) runsOn(ctx context.Context, s *metav1.LabelSelector) (map[string]bool, error) {
	sel, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return nil, err
	}
	list, err := f.Kube.CoreV1().Pods(f.Namespace).List(ctx, metav1.ListOptions{LabelSelector: sel.String()})
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	out := map[string]bool{}
	for _, p := range list.Items {
		if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			out[p.Spec.NodeName] = true
		}
	}
	return out, nil
}

// pods are ours, by name; those that are being deleted are gone.
func (f Fetcher) pods(ctx context.Context) (map[string]*corev1.Pod, error) {
	list, err := f.Kube.CoreV1().Pods(f.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labelFor + "=" + f.Release})
	if err != nil {
		return nil, fmt.Errorf("listing pods that fetch: %w", err)
	}
	out := map[string]*corev1.Pod{}
	for i := range list.Items {
		if list.Items[i].DeletionTimestamp == nil {
			out[list.Items[i].Name] = &list.Items[i]
		}
	}
	return out, nil
}

// programs brings the program that does nothing.
func (f Fetcher) programs(ctx context.Context) error {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: f.Namespace, Name: programsOf(f.Release),
		Labels: map[string]string{"app.kubernetes.io/managed-by": "wcbundle", labelFor: f.Release}}, BinaryData: map[string][]byte{}}
	for _, arch := range architectures {
		b, err := Nothing(arch)
		if err != nil {
			return err
		}
		cm.BinaryData[arch] = b
	}
	_, err := f.Kube.CoreV1().ConfigMaps(f.Namespace).Create(ctx, cm, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (f Fetcher) remove(ctx context.Context, pod string) error {
	err := f.Kube.CoreV1().Pods(f.Namespace).Delete(ctx, pod, metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) || refused(err) {
		err = nil
	}
	return err
}

// Clear removes all pods that fetch for the release, and their program. Who has no right to remove them had none to make them.
func (f Fetcher) Clear(ctx context.Context) error {
	have, err := f.pods(ctx)
	if refused(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for name := range have {
		errs = append(errs, f.remove(ctx, name))
	}
	err = f.Kube.CoreV1().ConfigMaps(f.Namespace).Delete(ctx, programsOf(f.Release), metav1.DeleteOptions{})
	if !apierrors.IsNotFound(err) && !refused(err) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
