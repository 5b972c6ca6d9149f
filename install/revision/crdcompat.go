package revision

import (
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// narrowed lists what an object of the old CRD may have or be, and one of the target may not. Within a major version CRDs only grow.
// What it does not compare are CEL rules, which the API server applies to changes only, and the type of a field that is new where any was
// kept before.
func narrowed(old, target *unstructured.Unstructured) []string {
	var lost []string
	for _, f := range [][]string{{"group"}, {"scope"}, {"names", "kind"}, {"names", "plural"}} {
		a, _, _ := unstructured.NestedString(old.Object, append([]string{"spec"}, f...)...)
		b, _, _ := unstructured.NestedString(target.Object, append([]string{"spec"}, f...)...)
		if a != b && a != "" && b != "" {
			lost = append(lost, fmt.Sprintf("%s %s becomes %s", strings.Join(f, "."), a, b))
		}
	}
	if a, b := conversion(old), conversion(target); a != b {
		lost = append(lost, fmt.Sprintf("conversion %s becomes %s", a, b))
	}
	after := crdVersions(target)
	for name, v := range crdVersions(old) {
		n, ok := after[name]
		if !ok {
			lost = append(lost, "version "+name)
			continue
		}
		lost = append(lost, narrowedVersion(v, n, name)...)
	}
	sort.Strings(lost)
	return lost
}

func narrowedVersion(old, target map[string]any, name string) []string {
	var lost []string
	if is, set := target["served"].(bool); yes(old["served"]) && set && !is {
		lost = append(lost, "version "+name+" is not served any more")
	}
	was, _, _ := unstructured.NestedMap(old, "subresources")
	is, _, _ := unstructured.NestedMap(target, "subresources")
	for sub, v := range was {
		if is[sub] == nil {
			lost = append(lost, "subresource "+sub+" of "+name)
		} else if !reflect.DeepEqual(v, is[sub]) {
			lost = append(lost, "paths of subresource "+sub+" of "+name)
		}
	}
	oldSchema, _, _ := unstructured.NestedMap(old, "schema", "openAPIV3Schema")
	newSchema, _, _ := unstructured.NestedMap(target, "schema", "openAPIV3Schema")
	return append(lost, narrowedSchema(oldSchema, newSchema, name)...)
}

func conversion(crd *unstructured.Unstructured) string {
	s, found, _ := unstructured.NestedString(crd.Object, "spec", "conversion", "strategy")
	if !found {
		return "None"
	}
	return s
}

func crdVersions(crd *unstructured.Unstructured) map[string]map[string]any {
	list, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
	out := map[string]map[string]any{}
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			if name, ok := m["name"].(string); ok {
				out[name] = m
			}
		}
	}
	return out
}

// The extensions of a CRD's schema that say what a value may be.
const (
	xUnknown  = "x-kubernetes-preserve-unknown-fields"
	xIntOrStr = "x-kubernetes-int-or-string"
	xEmbedded = "x-kubernetes-embedded-resource"
	xListType = "x-kubernetes-list-type"
	xListKeys = "x-kubernetes-list-map-keys"
)

// yes is a flag that is there and true.
func yes(v any) bool { b, _ := v.(bool); return b }

// narrowedSchema compares two OpenAPI v3 schemas, path by path.
func narrowedSchema(old, target map[string]any, path string) []string {
	var lost []string
	say := func(format string, a ...any) { lost = append(lost, fmt.Sprintf(format, a...)+" of "+path) }
	switch a, b := old["type"], target["type"]; {
	case yes(old[xIntOrStr]) && !yes(target[xIntOrStr]) && b != nil:
		say("int or string -> %v", b)
	case yes(target[xIntOrStr]) && (a == "integer" || a == "string"), a == "integer" && b == "number":
	case a != b && b != nil:
		say("type %v -> %v", show(a), b)
	}
	if yes(old[xUnknown]) && !yes(target[xUnknown]) {
		say("unknown fields")
	}
	if yes(old["nullable"]) && !yes(target["nullable"]) {
		say("null")
	}
	if yes(target[xEmbedded]) && !yes(old[xEmbedded]) {
		say("anything but whole objects")
	}
	if kind := target[xListType]; (kind == "set" || kind == "map") && (old[xListType] != kind || !reflect.DeepEqual(old[xListKeys], target[xListKeys])) {
		say("elements that are equal, or have equal keys,")
	}
	is, _ := target["properties"].(map[string]any)
	for _, r := range texts(target["required"]) {
		field, _ := is[r].(map[string]any)
		if !slices.Contains(texts(old["required"]), r) && field["default"] == nil {
			say("%s is required, which it was not,", r)
		}
	}
	lost = append(lost, bounds(old, target, path)...)
	lost = append(lost, alternatives(old, target, path)...)
	lost = append(lost, narrowedFields(old, target, path)...)
	return append(lost, narrowedInner(old, target, path)...)
}

// narrowedFields compares what an object may have: fields, or any that are of a schema.
func narrowedFields(old, target map[string]any, path string) []string {
	var lost []string
	was, _ := old["properties"].(map[string]any)
	is, _ := target["properties"].(map[string]any)
	any1, _ := target["additionalProperties"].(map[string]any)
	for name, v := range was {
		n, ok := is[name].(map[string]any)
		if !ok {
			n = any1
		}
		switch sub, _ := v.(map[string]any); {
		case n != nil:
			lost = append(lost, narrowedSchema(sub, n, path+"."+name)...)
		case !yes(target[xUnknown]) && !yes(target["additionalProperties"]):
			lost = append(lost, "field "+path+"."+name)
		}
	}
	return lost
}

// narrowedInner compares the elements of a list and the values of a map.
func narrowedInner(old, target map[string]any, path string) []string {
	var lost []string
	for field, mark := range map[string]string{"items": "[]", "additionalProperties": ".*"} {
		a, had := old[field].(map[string]any)
		b, has := target[field].(map[string]any)
		switch {
		case !had && !yes(old[field]), yes(target[field]), !has && yes(target[xUnknown]):
		case has && had:
			lost = append(lost, narrowedSchema(a, b, path+mark)...)
		default:
			lost = append(lost, field+" of "+path)
		}
	}
	return lost
}

// alternatives compares the schemas that a value must be of, all, any, just one or none: whether one implies another is not worked out.
func alternatives(old, target map[string]any, path string) []string {
	var lost []string
	for _, f := range []string{"allOf", "anyOf", "oneOf", "not"} {
		a, b := old[f], target[f]
		if b == nil || reflect.DeepEqual(a, b) {
			continue
		}
		was, _ := a.([]any)
		is, _ := b.([]any)
		if f == "allOf" && within(is, was) || f == "anyOf" && a != nil && within(was, is) {
			continue
		}
		lost = append(lost, f+" of "+path)
	}
	return lost
}

// within tells that all of a are among b.
func within(a, b []any) bool {
	for _, x := range a {
		if !slices.ContainsFunc(b, func(y any) bool { return reflect.DeepEqual(x, y) }) {
			return false
		}
	}
	return true
}

// bounds compares what limits a value.
func bounds(old, target map[string]any, path string) []string {
	var lost []string
	say := func(what string, a, b any) {
		lost = append(lost, fmt.Sprintf("%s %s -> %s of %s", what, show(a), show(b), path))
	}
	for _, f := range []string{"maximum", "maxLength", "maxItems", "maxProperties"} {
		if a, b := numeric(old[f]), numeric(target[f]); b != nil && (a == nil || *b < *a) {
			say(f, old[f], target[f])
		}
	}
	for _, f := range []string{"minimum", "minLength", "minItems", "minProperties"} {
		if a, b := numeric(old[f]), numeric(target[f]); b != nil && (a == nil || *b > *a) {
			say(f, old[f], target[f])
		}
	}
	for limit, flag := range map[string]string{"maximum": "exclusiveMaximum", "minimum": "exclusiveMinimum"} {
		if yes(target[flag]) && !yes(old[flag]) && reflect.DeepEqual(numeric(old[limit]), numeric(target[limit])) && target[limit] != nil {
			say(flag, old[flag], true)
		}
	}
	for _, f := range []string{"pattern", "format", "multipleOf"} {
		if b := target[f]; b != nil && !reflect.DeepEqual(old[f], b) {
			say(f, old[f], b)
		}
	}
	if yes(target["uniqueItems"]) && !yes(old["uniqueItems"]) {
		say("uniqueItems", old["uniqueItems"], true)
	}
	if values, limited := target["enum"].([]any); limited {
		was, had := old["enum"].([]any)
		if !had {
			say("enum", nil, values)
		}
		for _, v := range was {
			if !slices.ContainsFunc(values, func(x any) bool { return reflect.DeepEqual(x, v) }) {
				lost = append(lost, fmt.Sprintf("value %s of %s", show(v), path))
			}
		}
	}
	return lost
}

func numeric(v any) *float64 {
	var f float64
	switch n := v.(type) {
	case int64:
		f = float64(n)
	case float64:
		f = n
	case int:
		f = float64(n)
	default:
		return nil
	}
	return &f
}

func texts(v any) []string {
	list, _ := v.([]any)
	var out []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// keepStorage lets a CRD store the version that it stores now: another one is stored when the way back is given up (Contract), because
// what was written in it could not be read by what ran before.
func keepStorage(live, target *unstructured.Unstructured) error {
	stored := storageVersion(live)
	list, _, err := unstructured.NestedSlice(target.Object, "spec", "versions")
	if err != nil || stored == "" {
		return err
	}
	if _, ok := crdVersions(target)[stored]; !ok {
		return fmt.Errorf("the cluster stores version %s, which the release does not have", stored)
	}
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			m["storage"] = m["name"] == stored
		}
	}
	return unstructured.SetNestedSlice(target.Object, list, "spec", "versions")
}

func storageVersion(crd *unstructured.Unstructured) string {
	for name, v := range crdVersions(crd) {
		if s, _ := v["storage"].(bool); s {
			return name
		}
	}
	return ""
}
