package support

import (
	"context"
	"fmt"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
)

// lister reads one page of one kind. ns is empty for kinds of the cluster.
type lister struct {
	dir, kind, api string
	page           func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error)
}

var clusterKinds = []lister{
	{"namespaces", "NamespaceList", "v1", func(ctx context.Context, k kubernetes.Interface, _ string, o metav1.ListOptions) (runtime.Object, error) {
		return k.CoreV1().Namespaces().List(ctx, o)
	}},
	{"pvs", "PersistentVolumeList", "v1", func(ctx context.Context, k kubernetes.Interface, _ string, o metav1.ListOptions) (runtime.Object, error) {
		return k.CoreV1().PersistentVolumes().List(ctx, o)
	}},
	{"storage-classes", "StorageClassList", "storage.k8s.io/v1", func(ctx context.Context, k kubernetes.Interface, _ string, o metav1.ListOptions) (runtime.Object, error) {
		return k.StorageV1().StorageClasses().List(ctx, o)
	}},
}

var namespaceKinds = []lister{
	{"pods", "PodList", "v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.CoreV1().Pods(ns).List(ctx, o)
	}},
	{"deployments", "DeploymentList", "apps/v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.AppsV1().Deployments(ns).List(ctx, o)
	}},
	{"statefulsets", "StatefulSetList", "apps/v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.AppsV1().StatefulSets(ns).List(ctx, o)
	}},
	{"replicasets", "ReplicaSetList", "apps/v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.AppsV1().ReplicaSets(ns).List(ctx, o)
	}},
	{"daemonsets", "DaemonSetList", "apps/v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.AppsV1().DaemonSets(ns).List(ctx, o)
	}},
	{"jobs", "JobList", "batch/v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.BatchV1().Jobs(ns).List(ctx, o)
	}},
	{"events", "EventList", "v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.CoreV1().Events(ns).List(ctx, o)
	}},
	{"configmaps", "ConfigMapList", "v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.CoreV1().ConfigMaps(ns).List(ctx, o)
	}},
	{"services", "ServiceList", "v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.CoreV1().Services(ns).List(ctx, o)
	}},
	{"pvcs", "PersistentVolumeClaimList", "v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.CoreV1().PersistentVolumeClaims(ns).List(ctx, o)
	}},
	{"leases", "LeaseList", "coordination.k8s.io/v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.CoordinationV1().Leases(ns).List(ctx, o)
	}},
	{"pod-disruption-budgets", "PodDisruptionBudgetList", "policy/v1", func(ctx context.Context, k kubernetes.Interface, ns string, o metav1.ListOptions) (runtime.Object, error) {
		return k.PolicyV1().PodDisruptionBudgets(ns).List(ctx, o)
	}},
}

func (c *collector) serverVersion(context.Context) error {
	v, err := c.r.Kube.Discovery().ServerVersion()
	if err != nil {
		c.s.fail("cluster-info", "", err)
		return nil
	}
	doc, err := plain(v)
	if err != nil {
		return err
	}
	return c.s.document("cluster-info", c.s.path("cluster-info/cluster_version.json"), doc, c.blind)
}

func (c *collector) clusterLists(ctx context.Context) error {
	for _, l := range clusterKinds {
		if err := c.list(ctx, l, "", c.s.path("cluster-resources", l.dir+".json")); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) namespaceLists(ctx context.Context) error {
	for _, l := range namespaceKinds {
		for _, ns := range c.r.Namespaces {
			if err := c.list(ctx, l, ns, c.s.path("cluster-resources", l.dir, ns+".json")); err != nil {
				return err
			}
		}
	}
	return nil
}

// list keeps one kind. What cannot be read is noted; only a failing disk is an error.
func (c *collector) list(ctx context.Context, l lister, ns, path string) error {
	var docs []any
	err := c.within(ctx, func(ctx context.Context) (err error) {
		docs, err = c.pages(ctx, l, ns)
		return err
	})
	if err != nil {
		c.s.fail(l.dir, ns, err)
		return nil
	}
	return c.keepList(l.dir, path, l.api, l.kind, docs)
}

func (c *collector) keepList(name, path, api, kind string, docs []any) error {
	one := strings.TrimSuffix(kind, "List")
	for _, d := range docs { // typed clients leave these out
		if m, ok := d.(map[string]any); ok {
			m["apiVersion"], m["kind"] = api, one
		}
	}
	sort.SliceStable(docs, func(i, j int) bool { return nameOf(docs[i]) < nameOf(docs[j]) })
	if docs == nil {
		docs = []any{}
	}
	return c.s.document(name, path, map[string]any{"apiVersion": api, "kind": kind, "items": docs}, c.blind)
}

func nameOf(doc any) string {
	m, _ := doc.(map[string]any)
	meta, _ := m["metadata"].(map[string]any)
	return fmt.Sprint(meta["namespace"], "/", meta["name"])
}

func (c *collector) pages(ctx context.Context, l lister, ns string) ([]any, error) {
	opt := metav1.ListOptions{Limit: pageSize}
	var out []any
	for {
		page, err := l.page(ctx, c.r.Kube, ns, opt)
		if err != nil {
			return nil, err
		}
		doc, err := plain(page)
		if err != nil {
			return nil, err
		}
		m, _ := doc.(map[string]any)
		docs, _ := m["items"].([]any)
		out = append(out, docs...)
		meta, _ := m["metadata"].(map[string]any)
		if opt.Continue, _ = meta["continue"].(string); opt.Continue == "" {
			return out, nil
		}
	}
}

// nodes keeps the list and, per node, what is looked at first.
func (c *collector) nodes(ctx context.Context) error {
	var list *corev1.NodeList
	err := c.within(ctx, func(ctx context.Context) (err error) {
		list, err = c.r.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		c.s.fail("nodes", "", err)
		return nil
	}
	var docs []any
	for i := range list.Items {
		n := &list.Items[i]
		doc, err := plain(n)
		if err != nil {
			return err
		}
		docs = append(docs, doc)
		if err := c.node(n); err != nil {
			return err
		}
	}
	return c.keepList("nodes", c.s.path("cluster-resources/nodes.json"), "v1", "NodeList", docs)
}

func (c *collector) node(n *corev1.Node) error {
	gpu := map[string]any{}
	for k, v := range n.Labels {
		if strings.Contains(k, "nvidia.com/") || strings.Contains(k, "amd.com/") || strings.Contains(k, "gpu") {
			gpu[k] = v
		}
	}
	for name, v := range map[string]any{"conditions": n.Status.Conditions, "gpu-labels": gpu} {
		doc, err := plain(v)
		if err != nil {
			return err
		}
		if err := c.s.document("nodes", c.s.path("nodes", n.Name, name+".json"), doc, c.blind); err != nil {
			return err
		}
	}
	return nil
}

var crdKind = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// customKinds keeps the CRDs, and the instances of those that belong to the release.
func (c *collector) customKinds(ctx context.Context) error {
	if c.r.Dynamic == nil {
		c.s.fail("custom-resource-definitions", "", errNoDynamic)
		return nil
	}
	var crds *unstructured.UnstructuredList
	err := c.within(ctx, func(ctx context.Context) (err error) {
		crds, err = c.r.Dynamic.Resource(crdKind).List(ctx, metav1.ListOptions{})
		return err
	})
	if err != nil {
		c.s.fail("custom-resource-definitions", "", err)
		return nil
	}
	used := c.kindsInManifests()
	var docs []any
	for i := range crds.Items {
		crd := &crds.Items[i]
		if c.ours(crd, used) {
			if err := c.instances(ctx, crd); err != nil {
				return err
			}
		}
		doc, err := plain(crd)
		if err != nil {
			return err
		}
		docs = append(docs, doc)
	}
	return c.keepList("custom-resource-definitions", c.s.path("cluster-resources/custom-resource-definitions.json"),
		"apiextensions.k8s.io/v1", "CustomResourceDefinitionList", docs)
}

func (c *collector) ours(crd *unstructured.Unstructured, used map[string]bool) bool {
	for _, n := range c.r.CRDs {
		if n == crd.GetName() {
			return true
		}
	}
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	if used[group+"/"+kind] {
		return true
	}
	return c.r.Release != "" && (crd.GetAnnotations()["meta.helm.sh/release-name"] == c.r.Release ||
		crd.GetLabels()["app.kubernetes.io/instance"] == c.r.Release)
}

func (c *collector) instances(ctx context.Context, crd *unstructured.Unstructured) error {
	name := crd.GetName()
	if c.blind {
		c.s.fail("custom-resources", name, fmt.Errorf("withheld: secrets could not be read, so it cannot be scrubbed"))
		return nil
	}
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	kind, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "kind")
	scope, _, _ := unstructured.NestedString(crd.Object, "spec", "scope")
	version := servedVersion(crd)
	gvr := schema.GroupVersionResource{Group: group, Version: version, Resource: plural}
	scopes := c.r.Namespaces
	if scope == "Cluster" {
		scopes = []string{""}
	}
	for _, ns := range scopes {
		var list *unstructured.UnstructuredList
		err := c.within(ctx, func(ctx context.Context) (err error) {
			if ns == "" {
				list, err = c.r.Dynamic.Resource(gvr).List(ctx, metav1.ListOptions{})
				return err
			}
			list, err = c.r.Dynamic.Resource(gvr).Namespace(ns).List(ctx, metav1.ListOptions{})
			return err
		})
		if err != nil {
			c.s.fail("custom-resources", name+" "+ns, err)
			continue
		}
		if err := c.keepInstances(name, ns, group+"/"+version, kind, list); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) keepInstances(crd, ns, api, kind string, list *unstructured.UnstructuredList) error {
	var docs []any
	for i := range list.Items {
		doc, err := plain(list.Items[i].Object)
		if err != nil {
			return err
		}
		docs = append(docs, doc)
	}
	if ns == "" {
		ns = "cluster"
	}
	return c.keepList("custom-resources", c.s.path("cluster-resources/custom-resources", crd, ns+".json"), api, kind+"List", docs)
}

// servedVersion prefers the stored one.
func servedVersion(crd *unstructured.Unstructured) string {
	versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	served := ""
	for _, v := range versions {
		m, _ := v.(map[string]any)
		name, _ := m["name"].(string)
		if on, _ := m["served"].(bool); !on {
			continue
		}
		if stored, _ := m["storage"].(bool); stored || served == "" {
			served = name
		}
	}
	return served
}
