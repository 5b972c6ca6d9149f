package revision

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"syscall"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// TestCRDCompatibility: what a CRD may accept after a release and may not is told, path by path.
func TestCRDCompatibility(t *testing.T) {
	crd := func(schema string, more string) *unstructured.Unstructured {
		return one(t, "{spec: {scope: Namespaced, versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, properties: {a: "+schema+"}}}}]"+more+"}}")
	}
	for name, tc := range map[string]struct {
		old, target *unstructured.Unstructured
		want        string
	}{
		"the same":             {crd("{type: string}", ""), crd("{type: string}", ""), ""},
		"a field more":         {crd("{type: object}", ""), crd("{type: object, properties: {b: {type: string}}}", ""), ""},
		"wider":                {crd("{type: integer, maximum: 3, minimum: 2}", ""), crd("{type: integer, maximum: 4, minimum: 1}", ""), ""},
		"a value more":         {crd("{type: string, enum: [x]}", ""), crd("{type: string, enum: [x, z]}", ""), ""},
		"anything":             {crd("{type: object, properties: {b: {type: string}}}", ""), crd("{type: object, x-kubernetes-preserve-unknown-fields: true}", ""), ""},
		"another type":         {crd("{type: string}", ""), crd("{type: integer}", ""), "type string -> integer of v1.a"},
		"a value less":         {crd("{type: string, enum: [x, z]}", ""), crd("{type: string, enum: [x]}", ""), "value z of v1.a"},
		"values":               {crd("{type: string}", ""), crd("{type: string, enum: [x]}", ""), "enum (none) -> [x] of v1.a"},
		"required":             {crd("{type: object, properties: {b: {type: string}}}", ""), crd("{type: object, required: [b], properties: {b: {type: string}}}", ""), "b is required, which it was not, of v1.a"},
		"less":                 {crd("{type: integer}", ""), crd("{type: integer, maximum: 3}", ""), "maximum (none) -> 3 of v1.a"},
		"more":                 {crd("{type: integer, minimum: 1}", ""), crd("{type: integer, minimum: 3}", ""), "minimum 1 -> 3 of v1.a"},
		"shorter":              {crd("{type: string, maxLength: 9}", ""), crd("{type: string, maxLength: 8}", ""), "maxLength 9 -> 8 of v1.a"},
		"a pattern":            {crd("{type: string}", ""), crd("{type: string, pattern: x}", ""), "pattern (none) -> x of v1.a"},
		"known fields only":    {crd("{type: object, x-kubernetes-preserve-unknown-fields: true}", ""), crd("{type: object, properties: {b: {type: string}}}", ""), "unknown fields of v1.a"},
		"no null":              {crd("{type: string, nullable: true}", ""), crd("{type: string}", ""), "null of v1.a"},
		"elements":             {crd("{type: array, items: {type: string}}", ""), crd("{type: array, items: {type: integer}}", ""), "type string -> integer of v1.a[]"},
		"values of a map":      {crd("{type: object, additionalProperties: {type: string}}", ""), crd("{type: object}", ""), "additionalProperties of v1.a"},
		"not null":             {crd("{type: string, nullable: true}", ""), crd("{type: string, nullable: false}", ""), "null of v1.a"},
		"said to be pruned":    {crd("{type: object, x-kubernetes-preserve-unknown-fields: true}", ""), crd("{type: object, x-kubernetes-preserve-unknown-fields: false}", ""), "unknown fields of v1.a"},
		"kept, of that type":   {crd("{type: string}", ""), crd("{type: object, x-kubernetes-preserve-unknown-fields: true}", ""), "type string -> object of v1.a"},
		"a number":             {crd("{type: integer}", ""), crd("{type: number}", ""), ""},
		"an integer":           {crd("{type: number}", ""), crd("{type: integer}", ""), "type number -> integer of v1.a"},
		"int or string":        {crd("{type: integer}", ""), crd("{x-kubernetes-int-or-string: true}", ""), ""},
		"string only":          {crd("{x-kubernetes-int-or-string: true}", ""), crd("{type: string}", ""), "int or string -> string of v1.a"},
		"less, without equal":  {crd("{type: integer, maximum: 3}", ""), crd("{type: integer, maximum: 3, exclusiveMaximum: true}", ""), "exclusiveMaximum (none) -> true of v1.a"},
		"more, without equal":  {crd("{type: integer, maximum: 3}", ""), crd("{type: integer, maximum: 4, exclusiveMaximum: true}", ""), ""},
		"required, by default": {crd("{type: object}", ""), crd("{type: object, required: [b], properties: {b: {type: string, default: x}}}", ""), ""},
		"a list, a set":        {crd("{type: array, items: {type: string}}", ""), crd("{type: array, x-kubernetes-list-type: set, items: {type: string}}", ""), "elements that are equal, or have equal keys, of v1.a"},
		"an alternative less":  {crd("{type: string, anyOf: [{format: x}, {format: z}]}", ""), crd("{type: string, anyOf: [{format: x}]}", ""), "anyOf of v1.a"},
		"an alternative more":  {crd("{type: string, anyOf: [{format: x}]}", ""), crd("{type: string, anyOf: [{format: z}, {format: x}]}", ""), ""},
		"just one of":          {crd("{type: string}", ""), crd("{type: string, oneOf: [{format: x}]}", ""), "oneOf of v1.a"},
		"all of fewer":         {crd("{type: string, allOf: [{format: x}, {format: z}]}", ""), crd("{type: string, allOf: [{format: x}]}", ""), ""},
		"fields become a map":  {crd("{type: object, properties: {b: {type: string}}}", ""), crd("{type: object, additionalProperties: {type: integer}}", ""), "type string -> integer of v1.a.b"},
		"a map becomes fields": {crd("{type: object, additionalProperties: {type: string}}", ""), crd("{type: object, properties: {b: {type: string}}}", ""), "additionalProperties of v1.a"},
		"a map of anything":    {crd("{type: object, additionalProperties: {type: string}}", ""), crd("{type: object, additionalProperties: true}", ""), ""},
		"another kind":         {crd("{type: string}", ", names: {kind: A, plural: as}"), crd("{type: string}", ", names: {kind: B, plural: as}"), "names.kind A becomes B"},
		"no status":            {one(t, "{spec: {versions: [{name: v1, subresources: {status: {}}}]}}"), one(t, "{spec: {versions: [{name: v1}]}}"), "subresource status of v1"},
		"another conversion":   {crd("{type: string}", ""), crd("{type: string}", ", conversion: {strategy: Webhook}"), "conversion None becomes Webhook"},
		"the whole cluster's":  {crd("{type: string}", ""), one(t, "{spec: {scope: Cluster, versions: [{name: v1, served: true, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}}}}}]}}"), "scope Namespaced becomes Cluster"},
		"not served any more":  {crd("{type: string}", ""), one(t, "{spec: {versions: [{name: v1, served: false, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}}}}}]}}"), "version v1 is not served any more"},
		"another version only": {crd("{type: string}", ""), one(t, "{spec: {versions: [{name: v2, served: true}]}}"), "version v1"},
	} {
		if got := strings.Join(narrowed(tc.old, tc.target), "; "); got != tc.want {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// TestPassing: an API server that is away is waited for; what it refuses, it would refuse again.
func TestPassing(t *testing.T) {
	away := &url.Error{Op: "Get", URL: "https://site", Err: syscall.ECONNREFUSED}
	for name, tc := range map[string]struct {
		err  error
		want bool
	}{
		"away":               {fmt.Errorf("reading CRD x: %w", away), true},
		"starting":           {apierrors.NewServiceUnavailable("not yet"), true},
		"busy":               {apierrors.NewTooManyRequests("later", 1), true},
		"narrowed":           {fmt.Errorf("%w: field x", ErrNarrowed), false},
		"refused":            {apierrors.NewForbidden(crdAt.GroupResource(), "x", nil), false},
		"waited for in vain": {fmt.Errorf("waiting for CRD x: %w", context.DeadlineExceeded), false},
	} {
		if got := passing(tc.err); got != tc.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestEdge62StorageStays: a release's CRD stores what the cluster stores, until the way back is given up.
func TestEdge62StorageStays(t *testing.T) {
	live := one(t, "{spec: {versions: [{name: v1, storage: true}]}}")
	target := one(t, "{spec: {versions: [{name: v1, storage: false}, {name: v2, storage: true}]}}")
	if err := keepStorage(live, target); err != nil || storageVersion(target) != "v1" {
		t.Errorf("stores %s, %v", storageVersion(target), err)
	}
	if err := keepStorage(live, one(t, "{spec: {versions: [{name: v2, storage: true}]}}")); err == nil {
		t.Error("a CRD without the version that is stored")
	}
}
