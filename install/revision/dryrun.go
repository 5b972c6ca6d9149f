package revision

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/jsonmergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
)

// dryRun is what the API server would make of live if target were applied over prev (nil: nothing that is live is taken
// away, as on the wire): merged three ways, defaulted, admitted, not stored.
func (c *Client) dryRun(ctx context.Context, prev, target, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	if prev == nil {
		prev = target
	}
	patch, kind, err := mergePatch(prev, target, live)
	if err != nil {
		return nil, err
	}
	if string(patch) == "{}" {
		return live, nil
	}
	at, err := c.at(target)
	if err != nil {
		return nil, err
	}
	return at.Patch(ctx, target.GetName(), kind, patch, metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: "wcbundle"})
}

// mergePatch is the three-way patch from prev to target over live: strategic where the kind is built in, JSON else.
func mergePatch(prev, target, live *unstructured.Unstructured) ([]byte, types.PatchType, error) {
	var text [3][]byte
	for i, o := range []*unstructured.Unstructured{prev, target, live} {
		b, err := json.Marshal(o.Object)
		if err != nil {
			return nil, "", fmt.Errorf("comparing %s %s: %w", target.GetKind(), target.GetName(), err)
		}
		text[i] = b
	}
	typed, err := scheme.Scheme.New(target.GroupVersionKind())
	if err != nil { // not built in
		patch, err := jsonmergepatch.CreateThreeWayJSONMergePatch(text[0], text[1], text[2])
		return patch, types.MergePatchType, err
	}
	meta, err := strategicpatch.NewPatchMetaFromStruct(typed)
	if err != nil {
		return nil, "", fmt.Errorf("comparing %s %s: %w", target.GetKind(), target.GetName(), err)
	}
	patch, err := strategicpatch.CreateThreeWayMergePatch(text[0], text[1], text[2], meta, true)
	return patch, types.StrategicMergePatchType, err
}
