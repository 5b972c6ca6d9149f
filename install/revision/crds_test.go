package revision

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func crdWith(fields ...string) *unstructured.Unstructured {
	properties := map[string]any{}
	for _, f := range fields {
		properties[f] = map[string]any{"type": "string"}
	}
	return &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"versions": []any{map[string]any{"name": "v1",
		"schema": map[string]any{"openAPIV3Schema": map[string]any{"properties": properties}}}}}}}
}

// TestEdge61CRDThatARollbackLeft is about a CRD that a newer release widened and a rollback left as it was (rollout.md 8, 61): a release
// of the old line can be applied, one that takes a field away from what runs cannot.
func TestEdge61CRDThatARollbackLeft(t *testing.T) {
	old, wide := crdWith("a"), crdWith("a", "b")
	for name, c := range map[string]struct {
		live, target, runs *unstructured.Unstructured
		want               bool
	}{
		"a patch of the old line":              {wide, old, old, true},
		"the release takes a field away":       {wide, old, wide, false},
		"nothing is known of what runs":        {wide, old, nil, false},
		"the cluster lacks what it asks for":   {wide, crdWith("a", "c"), old, false},
		"another field in place of what it is": {crdWith("b"), crdWith("a"), crdWith("a"), false},
	} {
		if got := served(c.live, c.target, c.runs); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
