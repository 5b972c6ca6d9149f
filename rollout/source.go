package rollout

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// syncWait is how long the watches may take to have seen everything once.
const syncWait = 30 * time.Second

// source is where workloads and pods are read. What it returns must not be changed.
type source interface {
	deployment(ctx context.Context, name string) (*appsv1.Deployment, error)
	statefulSet(ctx context.Context, name string) (*appsv1.StatefulSet, error)
	replicaSets(ctx context.Context, sel labels.Selector) ([]appsv1.ReplicaSet, error)
	pods(ctx context.Context, sel labels.Selector) ([]corev1.Pod, error)
}

// direct asks the API server each time.
type direct struct {
	kube      kubernetes.Interface
	namespace string
}

func (d direct) deployment(ctx context.Context, name string) (*appsv1.Deployment, error) {
	return d.kube.AppsV1().Deployments(d.namespace).Get(ctx, name, metav1.GetOptions{})
}

func (d direct) statefulSet(ctx context.Context, name string) (*appsv1.StatefulSet, error) {
	return d.kube.AppsV1().StatefulSets(d.namespace).Get(ctx, name, metav1.GetOptions{})
}

func (d direct) replicaSets(ctx context.Context, sel labels.Selector) ([]appsv1.ReplicaSet, error) {
	list, err := d.kube.AppsV1().ReplicaSets(d.namespace).List(ctx, metav1.ListOptions{LabelSelector: sel.String()})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (d direct) pods(ctx context.Context, sel labels.Selector) ([]corev1.Pod, error) {
	list, err := d.kube.CoreV1().Pods(d.namespace).List(ctx, metav1.ListOptions{LabelSelector: sel.String()})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// watched is what watches of the namespace have told so far: looking costs the API server nothing, however many pools and pods there
// are. It may be behind; a verdict on which the operation acts is taken from the API server itself (run.look).
type watched struct {
	deployments appslisters.DeploymentNamespaceLister
	sets        appslisters.StatefulSetNamespaceLister
	replicas    appslisters.ReplicaSetNamespaceLister
	podList     corelisters.PodNamespaceLister
}

// watch begins the watches; they end with ctx. An error means that there is no right to watch, or no answer.
func watch(ctx context.Context, kube kubernetes.Interface, namespace string) (*watched, error) {
	f := informers.NewSharedInformerFactoryWithOptions(kube, 0, informers.WithNamespace(namespace), informers.WithTransform(slim))
	apps, core := f.Apps().V1(), f.Core().V1()
	w := &watched{apps.Deployments().Lister().Deployments(namespace), apps.StatefulSets().Lister().StatefulSets(namespace),
		apps.ReplicaSets().Lister().ReplicaSets(namespace), core.Pods().Lister().Pods(namespace)}
	refused := make(chan error, 8)
	all := []cache.SharedIndexInformer{apps.Deployments().Informer(), apps.StatefulSets().Informer(), apps.ReplicaSets().Informer(), core.Pods().Informer()}
	synced := make([]cache.InformerSynced, 0, len(all))
	for _, i := range all {
		err := i.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) { // it would go to stderr else
			select {
			case refused <- err:
			default:
			}
		})
		if err != nil {
			return nil, err
		}
		synced = append(synced, i.HasSynced)
	}
	f.StartWithContext(ctx)
	wait, cancel := context.WithTimeout(ctx, syncWait)
	defer cancel()
	done := make(chan bool, 1)
	go func() { done <- cache.WaitForCacheSync(wait.Done(), synced...) }()
	select {
	case ok := <-done:
		if ok {
			return w, nil
		}
	case err := <-refused:
		return nil, fmt.Errorf("watching namespace %s: %w", namespace, err)
	}
	return nil, fmt.Errorf("watching namespace %s: not everything was seen in %s", namespace, syncWait)
}

// slim drops what nobody here reads: most of an object's size are the fields' owners.
func slim(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	switch o := obj.(type) {
	case *corev1.Pod:
		o.Spec.Volumes, o.Spec.Tolerations, o.Spec.Affinity = nil, nil, nil
		for i := range o.Spec.Containers {
			c := &o.Spec.Containers[i]
			c.Env, c.VolumeMounts, c.LivenessProbe, c.ReadinessProbe, c.StartupProbe, c.Command, c.Args = nil, nil, nil, nil, nil, nil, nil
		}
	case *appsv1.ReplicaSet:
		o.Spec.Template = corev1.PodTemplateSpec{}
	}
	return obj, nil
}

func (w *watched) deployment(_ context.Context, name string) (*appsv1.Deployment, error) {
	return w.deployments.Get(name)
}

func (w *watched) statefulSet(_ context.Context, name string) (*appsv1.StatefulSet, error) {
	return w.sets.Get(name)
}

func (w *watched) replicaSets(_ context.Context, sel labels.Selector) ([]appsv1.ReplicaSet, error) {
	list, err := w.replicas.List(sel)
	return values(list), err
}

func (w *watched) pods(_ context.Context, sel labels.Selector) ([]corev1.Pod, error) {
	list, err := w.podList.List(sel)
	return values(list), err
}

func values[T any](list []*T) []T {
	out := make([]T, len(list))
	for i, v := range list {
		out[i] = *v
	}
	return out
}
