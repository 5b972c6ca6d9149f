package revision

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const (
	maxWhy   = 8  // differences that are named
	maxValue = 60 // bytes of a value that are shown
)

// diff names the fields that differ, at most maxWhy. hide keeps values out.
func diff(a, b any, hide bool) []string {
	d := differ{hide: hide}
	d.walk("", a, b)
	if d.more > 0 {
		d.out = append(d.out, fmt.Sprintf("and %d more", d.more))
	}
	return d.out
}

type differ struct {
	hide bool
	out  []string
	more int
}

func (d *differ) say(path string, a, b any) {
	if len(d.out) == maxWhy {
		d.more++
		return
	}
	path = strings.TrimPrefix(path, ".")
	if d.hide {
		d.out = append(d.out, path+" changed")
		return
	}
	if strings.HasSuffix(path, ".image") {
		oldRepo, oldTag := splitImage(fmt.Sprint(a))
		newRepo, newTag := splitImage(fmt.Sprint(b))
		if oldRepo == newRepo {
			d.out = append(d.out, "image "+oldTag+" -> "+newTag)
			return
		}
	}
	d.out = append(d.out, path+" "+show(a)+" -> "+show(b))
}

func (d *differ) walk(path string, a, b any) {
	if reflect.DeepEqual(a, b) {
		return
	}
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			for _, k := range keys(x, y) {
				d.walk(path+"."+k, x[k], y[k])
			}
			return
		}
	case []any:
		if y, ok := b.([]any); ok {
			d.list(path, x, y)
			return
		}
	}
	d.say(path, a, b)
}

// list pairs elements by name where they have one, by place else.
func (d *differ) list(path string, a, b []any) {
	an, bn := named(a), named(b)
	if an != nil && bn != nil {
		for _, k := range keys(an, bn) {
			d.walk(path+"["+k+"]", an[k], bn[k])
		}
		return
	}
	for i := range max(len(a), len(b)) {
		var x, y any
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		d.walk(path+"["+strconv.Itoa(i)+"]", x, y)
	}
}

func named(list []any) map[string]any {
	out := map[string]any{}
	for _, e := range list {
		m, ok := e.(map[string]any)
		name, isText := m["name"].(string)
		if !ok || !isText || out[name] != nil {
			return nil
		}
		out[name] = m
	}
	return out
}

func keys(a, b map[string]any) []string {
	var out []string
	for k := range a {
		out = append(out, k)
	}
	for k := range b {
		if _, both := a[k]; !both {
			out = append(out, k)
		}
	}
	sort.Strings(out)
	return out
}

func show(v any) string {
	if v == nil {
		return "(none)"
	}
	return cut(fmt.Sprint(v), maxValue)
}

func splitImage(ref string) (repo, tag string) {
	if i := strings.IndexByte(ref, '@'); i >= 0 {
		return ref[:i], ref[i+1:]
	}
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		return ref[:i], ref[i+1:]
	}
	return ref, "latest"
}

// consumes lists how a pod template reads a ConfigMap or Secret: env, envFrom, subPath, volume.
func consumes(tpl map[string]any, kind, name string) []string {
	found := map[string]bool{}
	volumes := volumesOf(tpl, kind, name)
	for _, field := range []string{"initContainers", "containers"} {
		list, _, _ := unstructured.NestedSlice(tpl, "spec", field)
		for _, e := range list {
			if c, ok := e.(map[string]any); ok {
				containerReads(c, kind, name, volumes, found)
			}
		}
	}
	var out []string
	for k := range found {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func volumesOf(tpl map[string]any, kind, name string) map[string]bool {
	out := map[string]bool{}
	list, _, _ := unstructured.NestedSlice(tpl, "spec", "volumes")
	for _, e := range list {
		v, ok := e.(map[string]any)
		if !ok {
			continue
		}
		ref, _, _ := unstructured.NestedString(v, "configMap", "name")
		if kind == "Secret" {
			ref, _, _ = unstructured.NestedString(v, "secret", "secretName")
		}
		if ref != name && projects(v, kind, name) {
			ref = name
		}
		if volume, ok := v["name"].(string); ok && ref == name {
			out[volume] = true
		}
	}
	return out
}

// projects tells that a projected volume has a ConfigMap or Secret among its sources.
func projects(volume map[string]any, kind, name string) bool {
	list, _, _ := unstructured.NestedSlice(volume, "projected", "sources")
	field := "configMap"
	if kind == "Secret" {
		field = "secret"
	}
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			if ref, _, _ := unstructured.NestedString(m, field, "name"); ref == name {
				return true
			}
		}
	}
	return false
}

func containerReads(c map[string]any, kind, name string, volumes, found map[string]bool) {
	fromRef, keyRef := "configMapRef", "configMapKeyRef"
	if kind == "Secret" {
		fromRef, keyRef = "secretRef", "secretKeyRef"
	}
	each := func(field string, f func(map[string]any)) {
		list, _, _ := unstructured.NestedSlice(c, field)
		for _, e := range list {
			if m, ok := e.(map[string]any); ok {
				f(m)
			}
		}
	}
	each("envFrom", func(m map[string]any) {
		if n, _, _ := unstructured.NestedString(m, fromRef, "name"); n == name {
			found["envFrom"] = true
		}
	})
	each("env", func(m map[string]any) {
		if n, _, _ := unstructured.NestedString(m, "valueFrom", keyRef, "name"); n == name {
			found["env"] = true
		}
	})
	each("volumeMounts", func(m map[string]any) {
		volume, _ := m["name"].(string)
		if !volumes[volume] {
			return
		}
		if sub, _ := m["subPath"].(string); sub != "" {
			found["subPath"] = true
		} else {
			found["volume"] = true
		}
	})
}
