package revision

import (
	"cmp"
	"context"
	"fmt"

	"github.com/wordcab/wcbundle/rollout"
	"helm.sh/helm/v3/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/resource"
)

// wire is Helm's client with the holds in its outgoing objects. It is of one call of Stage.
type wire struct {
	*kube.Client
	holds      rollout.Holds
	live       map[rollout.Workload]int64 // replicas that an autoscaler owns
	keepAbsent bool                       // do not delete what the target no longer has
	absent     []string                   // what was not deleted for that reason
	op         string
	marks      map[rollout.Workload]bool // whose pods are replaced though the target's template is theirs
}

// Create sends new objects, held where they are of a pool.
func (w *wire) Create(target kube.ResourceList) (*kube.Result, error) {
	if err := w.inject(target); err != nil {
		return nil, err
	}
	return w.Client.Create(target)
}

// Update sends changes, held where they are of a pool. It always merges three ways: Helm's own two-way merge of custom
// objects leaves what was edited by hand.
func (w *wire) Update(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	return w.UpdateThreeWayMerge(original, target, force)
}

// UpdateThreeWayMerge is Update; Helm calls it by name when it adopts objects.
func (w *wire) UpdateThreeWayMerge(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	if err := w.inject(target); err != nil {
		return &kube.Result{}, err // Helm reads the result of a failed update
	}
	if w.keepAbsent {
		for _, gone := range original.Difference(target) {
			w.absent = append(w.absent, gone.Mapping.GroupVersionKind.Kind+"/"+gone.Name)
		}
		original = original.Intersect(target)
	}
	if err := baseless(&original, target); err != nil {
		return &kube.Result{}, err
	}
	absent := original.Difference(target)
	original = original.Filter(func(i *resource.Info) bool {
		return !holdsData(i.Mapping.GroupVersionKind) || !absent.Contains(i)
	})
	return w.Client.UpdateThreeWayMerge(original, target, force)
}

func (w *wire) inject(target kube.ResourceList) error {
	return target.Visit(func(info *resource.Info, err error) error {
		if err != nil {
			return err
		}
		obj, ok := info.Object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("holding %s: sent as %T", info.Name, info.Object)
		}
		if isCRD(obj) {
			return keepLive(info, obj)
		}
		return w.injectOne(obj, func() (bool, error) { return lacks(info) })
	})
}

// baseless gives what the revision before does not have a base of its own: the target, so that nothing that is live is taken away. With
// Helm's base, which is what is live, custom objects that are there already are refused: the merge takes their resourceVersion away.
func baseless(original *kube.ResourceList, target kube.ResourceList) error {
	return target.Visit(func(info *resource.Info, err error) error {
		if err == nil && original.Get(info) == nil {
			base := *info
			base.Object = info.Object.DeepCopyObject()
			original.Append(&base)
		}
		return err
	})
}

// keepLive is keepCRD with what the cluster has, if it has it.
func keepLive(info *resource.Info, target *unstructured.Unstructured) error {
	got, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading CRD %s: %w", info.Name, err)
	}
	live, ok := got.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("reading CRD %s: it came as %T", info.Name, got)
	}
	return keepCRD(live, target)
}

// holdsData tells the kinds whose deletion takes data with it: that of volumes, or every object of a CRD or namespace. No revision deletes
// them, neither forward nor back.
func holdsData(k schema.GroupVersionKind) bool {
	switch k.Group + "/" + k.Kind {
	case "/PersistentVolumeClaim", "/PersistentVolume", "/Namespace", "apiextensions.k8s.io/CustomResourceDefinition":
		return true
	}
	return false
}

// injectOne holds an object that is of a pool. born asks whether it is not there yet.
func (w *wire) injectOne(obj *unstructured.Unstructured, born func() (bool, error)) error {
	key := rollout.WorkloadOf(obj)
	if w.marks[key] {
		if err := mark(obj, w.op); err != nil {
			return err
		}
	}
	if n, scaled := w.live[key]; scaled {
		if err := rollout.KeepReplicas(obj, &n); err != nil {
			return err
		}
	}
	h, held := w.holds[key]
	if !held {
		return nil
	}
	var err error
	if h.Born, err = born(); err != nil {
		return fmt.Errorf("looking for %s: %w", key, err)
	}
	return rollout.Inject(obj, h)
}

// lacks tells that the cluster has no such object yet.
func lacks(info *resource.Info) (bool, error) {
	_, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}

// scaled finds the workloads whose replicas an autoscaler owns, and how many run. KEDA works through such autoscalers too.
func (c *Client) scaled(ctx context.Context) (map[rollout.Workload]int64, error) {
	list, err := c.kube.AutoscalingV2().HorizontalPodAutoscalers(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing autoscalers: %w", err)
	}
	out := map[rollout.Workload]int64{}
	for _, h := range list.Items {
		o := &unstructured.Unstructured{}
		o.SetAPIVersion(cmp.Or(h.Spec.ScaleTargetRef.APIVersion, "apps/v1"))
		o.SetKind(h.Spec.ScaleTargetRef.Kind)
		o.SetName(h.Spec.ScaleTargetRef.Name)
		live, err := c.live(ctx, o)
		if apierrors.IsForbidden(err) {
			continue // of no kind of the release: those a run may read
		}
		if err != nil {
			return nil, err
		}
		if live == nil {
			continue // it owns nothing yet
		}
		if n, found, err := unstructured.NestedInt64(live.Object, "spec", "replicas"); found && err == nil {
			out[rollout.WorkloadOf(o)] = n
		}
	}
	return out, nil
}
