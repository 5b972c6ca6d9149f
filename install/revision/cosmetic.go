package revision

import (
	"context"
	"fmt"
	"reflect"
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

// copyCosmetics takes the cosmetic keys of live's template into target's, and tells whether that changed anything.
func copyCosmetics(target, live *unstructured.Unstructured) bool {
	changed := false
	for field, is := range map[string]func(string) bool{"labels": cosmeticLabel, "annotations": cosmeticAnnotation} {
		path := []string{"spec", "template", "metadata", field}
		mine, _, err := unstructured.NestedStringMap(target.Object, path...)
		if err != nil {
			continue
		}
		theirs, _, _ := unstructured.NestedStringMap(live.Object, path...)
		if mine == nil {
			mine = map[string]string{}
		}
		local := false
		for k, v := range theirs {
			if is(k) && mine[k] != v {
				mine[k], local = v, true
			}
		}
		for k := range mine {
			if _, had := theirs[k]; is(k) && !had {
				delete(mine, k)
				local = true
			}
		}
		if local {
			changed = unstructured.SetNestedStringMap(target.Object, mine, path...) == nil || changed
		}
	}
	return changed
}

func hasTemplate(o *unstructured.Unstructured) bool {
	switch o.GetKind() {
	case "Deployment", "StatefulSet", "DaemonSet":
		return o.GroupVersionKind().Group == "apps"
	}
	return false
}

func template(o *unstructured.Unstructured) map[string]any {
	t, _, _ := unstructured.NestedMap(o.Object, "spec", "template")
	return t
}
