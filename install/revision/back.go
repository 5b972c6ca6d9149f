package revision

import (
	"context"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/wordcab/wcbundle/rollout"
)

// Unserved lists the kinds of a stored manifest that the cluster does not serve any more: Helm could not make them.
func (c *Client) Unserved(manifest string) ([]string, error) {
	docs, err := splitManifest([]byte(manifest))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range docs {
		if d.obj == nil {
			continue
		}
		_, err := c.at(d.obj)
		kind := d.obj.GetAPIVersion() + " " + d.obj.GetKind()
		switch {
		case meta.IsNoMatchError(err):
			if !slices.Contains(out, kind) {
				out = append(out, kind)
			}
		case err != nil:
			return nil, fmt.Errorf("looking for %s: %w", kind, err)
		}
	}
	return out, nil
}

// edited names what somebody changed in a live object against the revision that runs: fields that applying that revision again would
// set. The API server compares, with its defaults and its own spelling of numbers.
func (c *Client) edited(ctx context.Context, prev, live *unstructured.Unstructured, scaled map[rollout.Workload]int64) ([]string, error) {
	if prev == nil || live == nil {
		return nil, nil
	}
	same := prev.DeepCopy()
	if n, ok := scaled[rollout.WorkloadOf(same)]; ok {
		if err := rollout.KeepReplicas(same, &n); err != nil {
			return nil, err
		}
	}
	after, err := c.dryRun(ctx, same, same, live)
	if err != nil {
		return nil, nil // what cannot be applied is said elsewhere
	}
	a, b := significant(live), significant(after)
	if reflect.DeepEqual(a, b) {
		return nil, nil
	}
	return diff(b, a, isConfig(live)), nil
}
