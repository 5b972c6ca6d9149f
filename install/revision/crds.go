package revision

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/wordcab/wcbundle/rollout"
)

const (
	crdManager = "wcbundle-crds"
	crdWait    = 60 * time.Second
	crdPoll    = 200 * time.Millisecond
)

// ErrNarrowed means that a CRD of the chart removes what the cluster serves.
var ErrNarrowed = errors.New("CRD would lose versions or fields")

var crdAt = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// ExpandCRDs applies the CRDs of the chart's crds folder by server-side apply and waits until they are established. Those among its
// templates are Helm's to apply; they are judged and kept with the others. Nothing is applied if any of them would narrow; what is there of
// them, and their objects, is kept in Secrets first.
// What would not be otherwise the next time is a rollout.StageError.
func (o *Operation) ExpandCRDs(ctx context.Context) error {
	err := o.expandCRDs(ctx)
	if err == nil || passing(err) || ctx.Err() != nil {
		return err
	}
	return &rollout.StageError{Err: err}
}

// passing tells that an error says something about the API server, not about what was asked of it.
func passing(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) { // it answered all the time that it was waited for
		return false
	}
	return errors.As(err, new(*url.Error)) || apierrors.IsServiceUnavailable(err) || apierrors.IsInternalError(err) || apierrors.IsTooManyRequests(err) ||
		apierrors.IsServerTimeout(err) || apierrors.IsTimeout(err)
}

func (o *Operation) expandCRDs(ctx context.Context) error {
	set, err := o.crds(ctx)
	if err != nil || len(set.folder)+len(set.templates) == 0 {
		return err
	}
	apply, coming, faults, err := o.c.expandable(ctx, set)
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return fmt.Errorf("%w: %s", ErrNarrowed, strings.Join(faults, "; "))
	}
	if err := o.snapshot(ctx, append(slices.Clone(apply), coming...)); err != nil {
		return err
	}
	return o.c.expand(ctx, set.folder, apply)
}

// crdSet are the CRDs of a chart, and those of the chart that runs, by name.
type crdSet struct {
	folder    []*unstructured.Unstructured // crds: we apply them, before Helm
	templates []*unstructured.Unstructured // Helm applies them, with the rest
	runs      map[string]*unstructured.Unstructured
}

// isCRD tells a custom resource definition.
func isCRD(o *unstructured.Unstructured) bool {
	return o.GetKind() == "CustomResourceDefinition" && o.GroupVersionKind().Group == crdAt.Group
}

// crdsAmong are those of a manifest.
func crdsAmong(manifest string) ([]*unstructured.Unstructured, error) {
	docs, err := splitManifest([]byte(manifest))
	var out []*unstructured.Unstructured
	for _, d := range docs {
		if d.obj != nil && isCRD(d.obj) {
			out = append(out, d.obj)
		}
	}
	return out, err
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
	list, err := crdsOfRelease(rel)
	out := map[string]*unstructured.Unstructured{}
	for _, crd := range list {
		out[crd.GetName()] = crd
	}
	return out, err
}

func crdsOfRelease(rel *release.Release) ([]*unstructured.Unstructured, error) {
	templates, err := crdsAmong(rel.Manifest)
	if err != nil || rel.Chart == nil {
		return templates, err
	}
	folder, err := crdsOf(rel.Chart)
	return append(folder, templates...), err
}

// served tells that the cluster has all that a CRD asks for and more, and that the surplus is not something that the release takes
// away: it stayed when a newer release was rolled back. Such a CRD is left as it is.
func served(live, target, runs *unstructured.Unstructured) bool {
	return runs != nil && len(narrowed(runs, target)) == 0 && len(narrowed(target, live)) == 0
}

// CRDFaults says why the chart's CRDs cannot be brought in; none where they can.
func (o *Operation) CRDFaults(ctx context.Context) ([]string, error) {
	set, err := o.crds(ctx)
	if err != nil {
		return nil, err
	}
	_, _, faults, err := o.c.expandable(ctx, set)
	return faults, err
}

// crds are those of the chart, and those of the chart that runs.
func (o *Operation) crds(ctx context.Context) (crdSet, error) {
	var set crdSet
	if o.req.Chart == nil {
		return set, nil
	}
	ch, err := loadChart(o.req.Chart)
	if err != nil {
		return set, err
	}
	if set.folder, err = crdsOf(ch); err != nil {
		return set, err
	}
	text, err := o.c.Render(ctx, RenderRequest{Chart: o.req.Chart, Values: o.req.Values, Release: o.req.Release, Post: o.req.Post})
	if err != nil {
		return set, err
	}
	if set.templates, err = crdsAmong(text.Manifest); err != nil {
		return set, err
	}
	set.runs, err = o.c.runningCRDs(o.req.Release)
	return set, err
}

// expandable are the CRDs that are to be applied, those that Helm will bring, and why others cannot be.
func (c *Client) expandable(ctx context.Context, set crdSet) (apply, coming []*unstructured.Unstructured, faults []string, err error) {
	for _, crd := range append(slices.Clone(set.folder), set.templates...) {
		next, lost, err := c.widened(ctx, crd, set.runs[crd.GetName()])
		switch {
		case err != nil:
			return nil, nil, nil, err
		case len(lost) > 0:
			for _, l := range lost {
				faults = append(faults, fmt.Sprintf("CRD %s would lose: %s", crd.GetName(), l))
			}
		case next != nil && slices.Contains(set.templates, crd):
			coming = append(coming, next)
		case next != nil:
			apply = append(apply, next)
		}
	}
	return apply, coming, faults, nil
}

// widened is what the cluster's CRD becomes: nil where it has all of it and more, which stays; lost is why it cannot become that.
func (c *Client) widened(ctx context.Context, crd, runs *unstructured.Unstructured) (next *unstructured.Unstructured, lost []string, err error) {
	live, err := c.dyn.Resource(crdAt).Get(ctx, crd.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return crd, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading CRD %s: %w", crd.GetName(), err)
	}
	if lost = narrowed(live, crd); len(lost) > 0 {
		if served(live, crd, runs) {
			lost = nil
		}
		return nil, lost, nil
	}
	next = crd.DeepCopy()
	if err := keepStorage(live, next); err != nil {
		return nil, nil, fmt.Errorf("CRD %s: %w", crd.GetName(), err)
	}
	return next, nil, nil
}

// keepCRD makes a CRD that Helm is about to send no narrower than the cluster's, and lets it store what the cluster stores.
func keepCRD(live, target *unstructured.Unstructured) error {
	if len(narrowed(live, target)) == 0 {
		return keepStorage(live, target)
	}
	spec, _, err := unstructured.NestedMap(live.Object, "spec")
	if err != nil {
		return err
	}
	return unstructured.SetNestedMap(target.Object, spec, "spec")
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
