package revision

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// cosmeticLabel and cosmeticAnnotation are the keys of a pod template that say nothing about what runs. Charts put them
// there to force a restart, or by habit.
func cosmeticLabel(key string) bool {
	return key == "helm.sh/chart" || key == "app.kubernetes.io/version"
}

func cosmeticAnnotation(key string) bool {
	return strings.HasPrefix(key, "checksum/") || key == "rollme" || key == AnnotationRestarted
}

// keepCosmetics writes the live values of cosmetic keys into the pod templates of a manifest where nothing else differs,
// so that the stored manifest is what runs and nothing restarts.
func (c *Client) keepCosmetics(ctx context.Context, manifest []byte, prev string) ([]byte, error) {
	docs, err := splitManifest(manifest)
	if err != nil {
		return nil, err
	}
	before, err := splitManifest([]byte(prev))
	if err != nil {
		return nil, fmt.Errorf("deployed revision: %w", err)
	}
	old := byID(before)
	changed := false
	for i, d := range docs {
		if d.obj == nil || !hasTemplate(d.obj) {
			continue
		}
		kept, err := c.keptTemplate(ctx, d.obj, old[d.id()])
		if err != nil {
			return nil, err
		}
		if kept == nil {
			continue
		}
		if docs[i].text, err = yaml.Marshal(kept.Object); err != nil {
			return nil, fmt.Errorf("writing %s %s: %w", kept.GetKind(), kept.GetName(), err)
		}
		changed = true
	}
	if !changed {
		return manifest, nil
	}
	return joinManifest(docs), nil
}

// keptTemplate is the object with live cosmetics if that makes its template the live one, nil if there is nothing to keep.
func (c *Client) keptTemplate(ctx context.Context, target, prev *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	live, err := c.live(ctx, target)
	if err != nil || live == nil {
		return nil, err
	}
	kept := target.DeepCopy()
	if !copyCosmetics(kept, live) {
		return nil, nil
	}
	after, err := c.dryRun(ctx, prev, kept, live)
	if err != nil {
		return nil, nil // what cannot be applied is refused when it is, with the whole reason
	}
	if !reflect.DeepEqual(template(after), template(live)) {
		return nil, nil
	}
	return kept, nil
}

// copyCosmetics takes the cosmetic keys of live's templates into target's, and tells whether that changed anything.
func copyCosmetics(target, live *unstructured.Unstructured) bool {
	changed := false
	for _, at := range templatesAt(target) {
		for field, is := range map[string]func(string) bool{"labels": cosmeticLabel, "annotations": cosmeticAnnotation} {
			changed = copyCosmetic(target, live, slices.Concat(at, []string{"metadata", field}), is) || changed
		}
	}
	return changed
}

func copyCosmetic(target, live *unstructured.Unstructured, path []string, is func(string) bool) bool {
	mine, _, err := unstructured.NestedStringMap(target.Object, path...)
	if err != nil {
		return false
	}
	theirs, _, _ := unstructured.NestedStringMap(live.Object, path...)
	if mine == nil {
		mine = map[string]string{}
	}
	changed := false
	for k, v := range theirs {
		if is(k) && mine[k] != v {
			mine[k], changed = v, true
		}
	}
	for k := range mine {
		if _, had := theirs[k]; is(k) && !had {
			delete(mine, k)
			changed = true
		}
	}
	return changed && unstructured.SetNestedStringMap(target.Object, mine, path...) == nil
}

// templatesAt are the paths of a workload's pod templates; none for a kind that is not known to have any.
func templatesAt(o *unstructured.Unstructured) [][]string {
	switch o.GetKind() {
	case "Deployment", "StatefulSet", "DaemonSet":
		if o.GroupVersionKind().Group == "apps" {
			return [][]string{{"spec", "template"}}
		}
	}
	if !isLeaderWorkerSet(o) {
		return nil
	}
	out := [][]string{{"spec", "leaderWorkerTemplate", "workerTemplate"}}
	if leader := []string{"spec", "leaderWorkerTemplate", "leaderTemplate"}; hasMap(o, leader) {
		out = append(out, leader)
	}
	return out
}

func hasMap(o *unstructured.Unstructured, path []string) bool {
	_, found, err := unstructured.NestedMap(o.Object, path...)
	return found && err == nil
}

func isLeaderWorkerSet(o *unstructured.Unstructured) bool {
	return o.GetKind() == "LeaderWorkerSet" && o.GroupVersionKind().Group == "leaderworkerset.x-k8s.io"
}

func hasTemplate(o *unstructured.Unstructured) bool { return len(templatesAt(o)) > 0 }

// podTemplates are a workload's pod templates.
func podTemplates(o *unstructured.Unstructured) []map[string]any {
	var out []map[string]any
	for _, at := range templatesAt(o) {
		if t, found, _ := unstructured.NestedMap(o.Object, at...); found {
			out = append(out, t)
		}
	}
	return out
}

// template is what of a workload its controller compares when it decides whether its pods are of the newest revision.
func template(o *unstructured.Unstructured) map[string]any {
	if !isLeaderWorkerSet(o) {
		t, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
		return t
	}
	out := map[string]any{}
	for _, f := range []string{"leaderWorkerTemplate", "networkConfig"} {
		if m, found, _ := unstructured.NestedMap(o.Object, "spec", f); found {
			out[f] = m
		}
	}
	return out
}
