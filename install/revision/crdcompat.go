package revision

import (
	"fmt"
	"reflect"
	"slices"
	"sort"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// narrowed lists what an object of the old CRD may have or be, and one of the target may not. Within a major version CRDs only grow.
// What it does not compare are CEL rules: the API server applies them to changes only.
func narrowed(old, target *unstructured.Unstructured) []string {
	var lost []string
	for _, f := range []string{"group", "scope"} {
		a, _, _ := unstructured.NestedString(old.Object, "spec", f)
		b, _, _ := unstructured.NestedString(target.Object, "spec", f)
		if a != b && a != "" && b != "" {
			lost = append(lost, fmt.Sprintf("%s %s becomes %s", f, a, b))
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
		if was, _ := v["served"].(bool); was {
			if is, set := n["served"].(bool); set && !is {
				lost = append(lost, "version "+name+" is not served any more")
			}
		}
		oldSchema, _, _ := unstructured.NestedMap(v, "schema", "openAPIV3Schema")
		newSchema, _, _ := unstructured.NestedMap(n, "schema", "openAPIV3Schema")
		lost = append(lost, narrowedSchema(oldSchema, newSchema, name)...)
	}
	sort.Strings(lost)
	return lost
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

// narrowedSchema compares two OpenAPI v3 schemas, path by path.
func narrowedSchema(old, target map[string]any, path string) []string {
	const unknown = "x-kubernetes-preserve-unknown-fields"
	if keeps, _ := target[unknown].(bool); keeps && target["properties"] == nil {
		return nil
	}
	var lost []string
	say := func(format string, a ...any) { lost = append(lost, fmt.Sprintf(format, a...)+" of "+path) }
	if was, _ := old[unknown].(bool); was && target[unknown] == nil {
		say("unknown fields")
	}
	if a, b := old["type"], target["type"]; a != b && b != nil {
		say("type %v -> %v", a, b)
	}
	if was, _ := old["nullable"].(bool); was && target["nullable"] == nil {
		say("null")
	}
	lost = append(lost, bounds(old, target, path)...)
	for _, r := range texts(target["required"]) {
		if !slices.Contains(texts(old["required"]), r) {
			say("%s is required, which it was not,", r)
		}
	}
	was, _ := old["properties"].(map[string]any)
	is, _ := target["properties"].(map[string]any)
	for name, v := range was {
		n, ok := is[name].(map[string]any)
		if !ok {
			if target["additionalProperties"] == nil {
				lost = append(lost, "field "+path+"."+name)
			}
			continue
		}
		if sub, ok := v.(map[string]any); ok {
			lost = append(lost, narrowedSchema(sub, n, path+"."+name)...)
		}
	}
	for field, mark := range map[string]string{"items": "[]", "additionalProperties": ".*"} {
		a, had := old[field].(map[string]any)
		if !had {
			continue
		}
		if b, has := target[field].(map[string]any); has {
			lost = append(lost, narrowedSchema(a, b, path+mark)...)
		} else {
			say("%s", field)
		}
	}
	return lost
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
	for _, f := range []string{"pattern", "format", "multipleOf", "uniqueItems"} {
		if b := target[f]; b != nil && !reflect.DeepEqual(old[f], b) {
			say(f, old[f], b)
		}
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
