package revision

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// maxChart bounds a chart archive, in bytes. What Helm unpacks from it is bounded by Helm, at 100 MiB.
const maxChart = 16 << 20

// RenderRequest asks for what a chart renders to. Post, if set, changes the manifest before anyone sees it; it is what an
// upgrade stores too. KubeVersion is for an offline rendering ("" = the SDK's default).
type RenderRequest struct {
	Chart       []byte // tgz
	Values      map[string]any
	Release     string
	Namespace   string // offline only; a Client has its own
	Post        func(manifest []byte) ([]byte, error)
	KubeVersion string
}

// Rendered is what a chart renders to. Hooks are the manifests of its hooks, which name images too.
type Rendered struct {
	Manifest string
	Hooks    []string
	CRDs     [][]byte
}

// RenderOffline renders with no cluster: lookup finds nothing and the capabilities are the SDK's.
func RenderOffline(ctx context.Context, r RenderRequest) (Rendered, error) {
	in := action.NewInstall(new(action.Configuration))
	in.ClientOnly, in.Namespace = true, r.Namespace
	if r.KubeVersion != "" {
		v, err := chartutil.ParseKubeVersion(r.KubeVersion)
		if err != nil {
			return Rendered{}, fmt.Errorf("kubernetes version %q: %w", r.KubeVersion, err)
		}
		in.KubeVersion = v
	}
	return runRender(ctx, in, r)
}

// Render renders as the next revision of the release would be, with the cluster's capabilities and lookups. Nothing is
// changed.
func (c *Client) Render(ctx context.Context, r RenderRequest) (Rendered, error) {
	cfg, err := c.helm(nil)
	if err != nil {
		return Rendered{}, err
	}
	r.Namespace = c.namespace
	ch, err := loadChart(r.Chart)
	if err != nil {
		return Rendered{}, err
	}
	_, err = c.History(ctx, r.Release)
	fresh := errors.Is(err, ErrNoRelease)
	if err != nil && !fresh {
		return Rendered{}, err
	}
	missing, err := c.missingCRDs(ch)
	if err != nil {
		return Rendered{}, err
	}
	if missing {
		return c.renderAhead(ctx, r, !fresh)
	}
	if fresh {
		in := action.NewInstall(cfg)
		in.Namespace, in.SkipCRDs, in.DryRunOption = c.namespace, true, "server"
		return runRender(ctx, in, r)
	}
	up := action.NewUpgrade(cfg)
	up.Namespace, up.SkipCRDs, up.DryRun, up.DryRunOption, up.ResetValues = c.namespace, true, true, "server", true
	up.PostRenderer = post(r.Post)
	rel, err := up.RunWithContext(ctx, r.Release, ch, copyValues(r.Values))
	if err != nil {
		return Rendered{}, fmt.Errorf("rendering %s: %w", ch.Name(), err)
	}
	return rendered(rel, ch), nil
}

// missingCRDs tells whether the chart brings a CRD that the cluster does not serve yet. Helm refuses to look at custom
// resources before their CRD is there, and a plan must not put it there.
func (c *Client) missingCRDs(ch *chart.Chart) (bool, error) {
	mapper, err := c.get.ToRESTMapper()
	if err != nil {
		return false, err
	}
	for _, crd := range ch.CRDObjects() {
		docs, err := splitManifest(crd.File.Data)
		if err != nil {
			return false, fmt.Errorf("reading CRD %s: %w", crd.Filename, err)
		}
		for _, d := range docs {
			if d.obj == nil {
				continue
			}
			group, _, _ := unstructured.NestedString(d.obj.Object, "spec", "group")
			kind, _, _ := unstructured.NestedString(d.obj.Object, "spec", "names", "kind")
			_, err := mapper.RESTMapping(schema.GroupKind{Group: group, Kind: kind})
			if meta.IsNoMatchError(err) {
				return true, nil
			}
			if err != nil {
				return false, fmt.Errorf("looking for CRD %s: %w", d.obj.GetName(), err)
			}
		}
	}
	return false, nil
}

// renderAhead renders with the cluster's version and APIs but without asking it about the objects. lookup finds nothing.
func (c *Client) renderAhead(ctx context.Context, r RenderRequest, upgrade bool) (Rendered, error) {
	disc, err := c.get.ToDiscoveryClient()
	if err != nil {
		return Rendered{}, err
	}
	v, err := disc.ServerVersion()
	if err != nil {
		return Rendered{}, fmt.Errorf("asking the cluster for its version: %w", err)
	}
	apis, err := action.GetVersionSet(disc)
	if err != nil {
		return Rendered{}, fmt.Errorf("asking the cluster for its APIs: %w", err)
	}
	in := action.NewInstall(new(action.Configuration))
	in.ClientOnly, in.Namespace, in.IsUpgrade, in.APIVersions = true, r.Namespace, upgrade, apis
	if in.KubeVersion, err = chartutil.ParseKubeVersion(v.GitVersion); err != nil {
		return Rendered{}, fmt.Errorf("kubernetes version %q: %w", v.GitVersion, err)
	}
	return runRender(ctx, in, r)
}

func runRender(ctx context.Context, in *action.Install, r RenderRequest) (Rendered, error) {
	ch, err := loadChart(r.Chart)
	if err != nil {
		return Rendered{}, err
	}
	in.ReleaseName, in.DryRun = r.Release, true
	in.PostRenderer = post(r.Post)
	rel, err := in.RunWithContext(ctx, ch, copyValues(r.Values))
	if err != nil {
		return Rendered{}, fmt.Errorf("rendering %s: %w", ch.Name(), err)
	}
	return rendered(rel, ch), nil
}

func rendered(rel *release.Release, ch *chart.Chart) Rendered {
	out := Rendered{Manifest: rel.Manifest}
	for _, h := range rel.Hooks {
		out.Hooks = append(out.Hooks, h.Manifest)
	}
	for _, crd := range ch.CRDObjects() {
		out.CRDs = append(out.CRDs, crd.File.Data)
	}
	return out
}

func loadChart(tgz []byte) (*chart.Chart, error) {
	if len(tgz) == 0 {
		return nil, errors.New("loading chart: no archive was given")
	}
	if len(tgz) > maxChart {
		return nil, fmt.Errorf("loading chart: %d bytes, at most %d", len(tgz), maxChart)
	}
	ch, err := loader.LoadArchive(bytes.NewReader(tgz))
	if err != nil {
		return nil, fmt.Errorf("loading chart: %w", err)
	}
	return ch, checkSchemas(ch)
}

// copyValues keeps the caller's map from being changed: Helm coalesces into it.
func copyValues(v map[string]any) map[string]any {
	if v == nil {
		return map[string]any{}
	}
	return copyMap(v)
}

func copyMap(m map[string]any) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		if sub, ok := v.(map[string]any); ok {
			v = copyMap(sub)
		}
		out[k] = v
	}
	return out
}

// post makes a function Helm's post-renderer; nil stays nil.
func post(f func([]byte) ([]byte, error)) postFunc { return f }

type postFunc func([]byte) ([]byte, error)

// Run implements Helm's PostRenderer.
func (f postFunc) Run(in *bytes.Buffer) (*bytes.Buffer, error) {
	if f == nil {
		return in, nil
	}
	out, err := f(in.Bytes())
	if err != nil {
		return nil, err
	}
	return bytes.NewBuffer(out), nil
}
