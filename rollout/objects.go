package rollout

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// askEvery is how often an object that cannot be watched is read.
const askEvery = 30 * time.Second

// objects are what watches tell of workloads that are of no built-in kind. A kind is watched from the first time on that one of it is asked
// for: its CRD may come with the operation.
type objects struct {
	ctx       context.Context
	factory   dynamicinformer.DynamicSharedInformerFactory
	namespace string

	mu    sync.Mutex
	kinds map[schema.GroupVersionResource]cache.SharedIndexInformer
	asked map[Workload]time.Time
}

// newObjects watches nothing yet; the watches end with ctx.
func newObjects(ctx context.Context, dyn dynamic.Interface, namespace string) *objects {
	return &objects{ctx: ctx, factory: dynamicinformer.NewFilteredDynamicSharedInformerFactory(dyn, 0, namespace, nil), namespace: namespace,
		kinds: map[schema.GroupVersionResource]cache.SharedIndexInformer{}, asked: map[Workload]time.Time{}}
}

// get is what the watch of its kind knows of an object; false while it knows nothing, or may not watch.
func (o *objects) get(c cluster, w Workload) (*unstructured.Unstructured, bool) {
	gvr, err := c.resource(w)
	if err != nil {
		return nil, false
	}
	i := o.informer(gvr)
	if !i.HasSynced() {
		return nil, false
	}
	got, found, err := i.GetIndexer().GetByKey(o.namespace + "/" + w.Name)
	if !found || err != nil {
		return nil, false
	}
	live, ok := got.(*unstructured.Unstructured)
	return live, ok
}

func (o *objects) informer(gvr schema.GroupVersionResource) cache.SharedIndexInformer {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := o.kinds[gvr]
	if i == nil {
		i = o.factory.ForResource(gvr).Informer()
		quiet := func(context.Context, *cache.Reflector, error) {} // it would go to stderr else; what is not watched is asked for
		if i.SetTransform(slim) == nil && i.SetWatchErrorHandlerWithContext(quiet) == nil {
			go i.RunWithContext(o.ctx)
		}
		o.kinds[gvr] = i
	}
	return i
}

// due tells whether it is time to read an object that no watch knows of, and notes that it is.
func (o *objects) due(w Workload, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.asked[w]) < askEvery {
		return false
	}
	o.asked[w] = now
	return true
}
