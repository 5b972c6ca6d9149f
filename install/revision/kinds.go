package revision

import (
	"errors"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/wordcab/wcbundle/install/detach"
)

// Kinds are the kinds of the objects in manifests, as the cluster serves them. Kinds that it does not serve yet are of CRDs to come: their
// group is taken whole.
func (c *Client) Kinds(manifests ...string) ([]detach.Kind, error) {
	mapper, err := c.get.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	var out []detach.Kind
	for _, m := range manifests {
		docs, err := splitManifest([]byte(m))
		if err != nil {
			return nil, err
		}
		for _, d := range docs {
			if d.obj == nil {
				continue
			}
			gvk := d.obj.GroupVersionKind()
			k := detach.Kind{GroupVersionResource: schema.GroupVersionResource{Group: gvk.Group, Resource: "*"}}
			found, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
			switch {
			case err == nil:
				k.Resource, k.Cluster = found.Resource.Resource, found.Scope.Name() == meta.RESTScopeNameRoot
			case !meta.IsNoMatchError(err):
				return nil, err
			}
			if !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	return out, nil
}

// RunningManifest is the stored manifest of what runs, "" for none.
func (c *Client) RunningManifest(release string) (string, error) { return c.deployedManifest(release) }

// CRDGroups are the API groups of the CRDs of the chart that runs, of one that is to run (nil for none), and of manifests.
func (c *Client) CRDGroups(release string, chart []byte, manifests ...string) ([]string, error) {
	running, err := c.runningCRDs(release)
	if err != nil && !errors.Is(err, ErrNoRelease) {
		return nil, err
	}
	var crds []*unstructured.Unstructured
	for _, crd := range running {
		crds = append(crds, crd)
	}
	if chart != nil {
		ch, err := loadChart(chart)
		if err != nil {
			return nil, err
		}
		coming, err := crdsOf(ch)
		if err != nil {
			return nil, err
		}
		crds = append(crds, coming...)
	}
	for _, m := range manifests {
		templates, err := crdsAmong(m)
		if err != nil {
			return nil, err
		}
		crds = append(crds, templates...)
	}
	var out []string
	for _, crd := range crds {
		g, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
		if g != "" && !slices.Contains(out, g) {
			out = append(out, g)
		}
	}
	return out, nil
}
