package revision

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	crdManager = "wcbundle-crds"
	crdWait    = 60 * time.Second
	crdPoll    = 200 * time.Millisecond
)

// ErrNarrowed means that a CRD of the chart removes what the cluster serves.
var ErrNarrowed = errors.New("CRD would lose versions or fields")

var crdAt = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// ExpandCRDs applies the CRDs of the chart's crds folder by server-side apply and waits until they are established.
// Nothing is applied if any of them would narrow.
func (o *Operation) ExpandCRDs(ctx context.Context) error {
	if o.req.Chart == nil {
		return nil
	}
	ch, err := loadChart(o.req.Chart)
	if err != nil {
		return err
	}
	crds, err := crdsOf(ch)
	if err != nil {
		return err
	}
	runs, err := o.c.runningCRDs(o.req.Release)
	if err != nil {
		return err
	}
	return o.c.expand(ctx, crds, runs)
}

func crdsOf(ch *chart.Chart) ([]*unstructured.Unstructured, error) {
	var crds []*unstructured.Unstructured
	for _, f := range ch.CRDObjects() {
		docs, err := splitManifest(f.File.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Filename, err)
		}
		for _, d := range docs {
			if d.obj != nil {
				crds = append(crds, d.obj)
			}
		}
	}
	return crds, nil
}

// runningCRDs are those of the chart that runs, by name; none on a fresh site.
func (c *Client) runningCRDs(release string) (map[string]*unstructured.Unstructured, error) {
	cfg, err := c.helm(nil)
	if err != nil {
		return nil, err
	}
	rel, err := cfg.Releases.Deployed(release)
	if errors.Is(err, driver.ErrReleaseNotFound) || errors.Is(err, driver.ErrNoDeployedReleases) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the CRDs of release %s that runs: %w", release, err)
	}
	list, err := crdsOf(rel.Chart)
	out := map[string]*unstructured.Unstructured{}
	for _, crd := range list {
		out[crd.GetName()] = crd
	}
	return out, err
}

// served tells that the cluster has all that a CRD asks for and more, and that the surplus is not something that the release takes
// away: it stayed when a newer release was rolled back. Such a CRD is left as it is.
func served(live, target, runs *unstructured.Unstructured) bool {
	return runs != nil && len(narrowed(runs, target)) == 0 && len(narrowed(target, live)) == 0
}

func (c *Client) expand(ctx context.Context, crds []*unstructured.Unstructured, runs map[string]*unstructured.Unstructured) error {
	at := c.dyn.Resource(crdAt)
	var apply []*unstructured.Unstructured
	for _, crd := range crds {
		live, err := at.Get(ctx, crd.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			apply = append(apply, crd)
			continue
		}
		if err != nil {
			return fmt.Errorf("reading CRD %s: %w", crd.GetName(), err)
		}
		switch lost := narrowed(live, crd); {
		case len(lost) == 0:
			apply = append(apply, crd)
		case !served(live, crd, runs[crd.GetName()]):
			return fmt.Errorf("%w: %s: %v", ErrNarrowed, crd.GetName(), lost)
		}
	}
	for _, crd := range apply {
		if _, err := at.Apply(ctx, crd.GetName(), crd, metav1.ApplyOptions{FieldManager: crdManager, Force: true}); err != nil {
			return fmt.Errorf("applying CRD %s: %w", crd.GetName(), err)
		}
	}
	for _, crd := range crds {
		if err := c.established(ctx, crd.GetName()); err != nil {
			return err
		}
	}
	if len(crds) != 0 {
		c.get.reset()
	}
	return nil
}

func (c *Client) established(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, crdWait)
	defer cancel()
	for {
		live, err := c.dyn.Resource(crdAt).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("reading CRD %s: %w", name, err)
		}
		if condition(live, "Established") && condition(live, "NamesAccepted") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for CRD %s to be established: %w", name, ctx.Err())
		case <-time.After(crdPoll):
		}
	}
}

func condition(o *unstructured.Unstructured, kind string) bool {
	list, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, e := range list {
		if m, ok := e.(map[string]any); ok && m["type"] == kind {
			return m["status"] == "True"
		}
	}
	return false
}

// narrowed lists the versions and fields that the new CRD no longer has.
func narrowed(old, target *unstructured.Unstructured) []string {
	var lost []string
	after := crdVersions(target)
	for name, v := range crdVersions(old) {
		n, ok := after[name]
		if !ok {
			lost = append(lost, "version "+name)
			continue
		}
		oldSchema, _, _ := unstructured.NestedMap(v, "schema", "openAPIV3Schema")
		newSchema, _, _ := unstructured.NestedMap(n, "schema", "openAPIV3Schema")
		lost = append(lost, lostFields(oldSchema, newSchema, name)...)
	}
	sort.Strings(lost)
	return lost
}

func crdVersions(crd *unstructured.Unstructured) map[string]map[string]any {
	list, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	out := map[string]map[string]any{}
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			if name, ok := m["name"].(string); ok {
				out[name] = m
			}
		}
	}
	return out
}

func lostFields(old, target map[string]any, path string) []string {
	if t, ok := target["x-kubernetes-preserve-unknown-fields"].(bool); ok && t {
		return nil
	}
	var lost []string
	was, _ := old["properties"].(map[string]any)
	is, _ := target["properties"].(map[string]any)
	for name, v := range was {
		n, ok := is[name].(map[string]any)
		if !ok {
			lost = append(lost, "field "+path+"."+name)
			continue
		}
		if sub, ok := v.(map[string]any); ok {
			if sub["type"] != n["type"] {
				lost = append(lost, fmt.Sprintf("type of %s.%s", path, name))
			}
			lost = append(lost, lostFields(sub, n, path+"."+name)...)
		}
	}
	if wasItems, ok := old["items"].(map[string]any); ok {
		if isItems, ok := target["items"].(map[string]any); ok {
			lost = append(lost, lostFields(wasItems, isItems, path+"[]")...)
		} else {
			lost = append(lost, "elements of "+path)
		}
	}
	return lost
}
