package revision

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
// Nothing is applied if any of them would narrow; what is there of them, and their objects, is kept in Secrets first.
func (o *Operation) ExpandCRDs(ctx context.Context) error {
	crds, runs, err := o.crds()
	if err != nil || len(crds) == 0 {
		return err
	}
	apply, faults, err := o.c.expandable(ctx, crds, runs)
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: %s", ErrNarrowed, strings.Join(faults, "; "))
	}
	if err := o.snapshot(ctx, apply); err != nil {
		return err
	}
	return o.c.expand(ctx, crds, apply)
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

// CRDFaults says why the chart's CRDs cannot be brought in; none where they can.
func (o *Operation) CRDFaults(ctx context.Context) ([]string, error) {
	crds, runs, err := o.crds()
	if err != nil {
		return nil, err
	}
	_, faults, err := o.c.expandable(ctx, crds, runs)
	return faults, err
}

// crds are those of the chart, and those of the chart that runs.
func (o *Operation) crds() ([]*unstructured.Unstructured, map[string]*unstructured.Unstructured, error) {
	if o.req.Chart == nil {
		return nil, nil, nil
	}
	ch, err := loadChart(o.req.Chart)
	if err != nil {
		return nil, nil, err
	}
	crds, err := crdsOf(ch)
	if err != nil {
		return nil, nil, err
	}
	runs, err := o.c.runningCRDs(o.req.Release)
	return crds, runs, err
}

// expandable are the CRDs that are to be applied, and why others cannot be.
func (c *Client) expandable(ctx context.Context, crds []*unstructured.Unstructured, runs map[string]*unstructured.Unstructured) (apply []*unstructured.Unstructured, faults []string, err error) {
	for _, crd := range crds {
		live, err := c.dyn.Resource(crdAt).Get(ctx, crd.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			apply = append(apply, crd)
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading CRD %s: %w", crd.GetName(), err)
		}
		lost := narrowed(live, crd)
		switch {
		case len(lost) == 0:
			next := crd.DeepCopy()
			if err := keepStorage(live, next); err != nil {
				return nil, nil, fmt.Errorf("CRD %s: %w", crd.GetName(), err)
			}
			apply = append(apply, next)
		case !served(live, crd, runs[crd.GetName()]):
			for _, l := range lost {
				faults = append(faults, fmt.Sprintf("CRD %s would lose: %s", crd.GetName(), l))
			}
		}
	}
	return apply, faults, nil
}

func (c *Client) expand(ctx context.Context, crds, apply []*unstructured.Unstructured) error {
	for _, crd := range apply {
		if _, err := c.dyn.Resource(crdAt).Apply(ctx, crd.GetName(), crd, metav1.ApplyOptions{FieldManager: crdManager, Force: true}); err != nil {
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
