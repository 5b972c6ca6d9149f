package revision

import (
	"fmt"
	"reflect"
	"sort"
	"strconv"
	"strings"
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
