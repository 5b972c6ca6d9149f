package revision

import (
	"maps"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// How a pod reads a ConfigMap or Secret. Only what a volume shows to a container that stays up changes under a running pod
// (kubernetes.io/docs/concepts/configuration/configmap, "Mounted ConfigMaps are updated automatically").
const (
	readVolume  = "volume"
	readSubPath = "subPath"        // a file of a volume, mounted by itself: it stays what it was
	readInit    = "init container" // which has run already
	readEnv     = "env"
	readEnvFrom = "envFrom"
)

// changedKeys are the keys of a ConfigMap or Secret that change.
type changedKeys map[string]bool

// anyOf tells whether one of the keys changes; nil are all keys.
func (c changedKeys) anyOf(keys []string) bool {
	if keys == nil {
		return len(c) > 0
	}
	return slices.ContainsFunc(keys, func(k string) bool { return c[k] })
}

// reads lists how a pod, or a pod template, reads keys of a ConfigMap or Secret that change.
func reads(pod map[string]any, kind, name string, changed changedKeys) []string {
	r := podReads{kind: kind, name: name, changed: changed, how: map[string]bool{}, volumes: map[string]mounted{}}
	for _, v := range mapsAt(pod, "spec", "volumes") {
		if m, reads := r.volume(v); reads {
			volume, _ := v["name"].(string)
			r.volumes[volume] = m
		}
	}
	for _, c := range mapsAt(pod, "spec", "containers") {
		r.container(c, readVolume)
	}
	for _, c := range mapsAt(pod, "spec", "initContainers") {
		how := readInit
		if c["restartPolicy"] == "Always" { // a sidecar: it stays up
			how = readVolume
		}
		r.container(c, how)
	}
	return slices.Sorted(maps.Keys(r.how))
}

// podReads collects how one pod reads one ConfigMap or Secret.
type podReads struct {
	kind, name string
	changed    changedKeys
	volumes    map[string]mounted
	how        map[string]bool
}

// mounted is what a volume shows: the keys by path, or all under their own names.
type mounted struct {
	all   bool
	paths map[string]string // path in the volume -> key
}

// keys under a path of the volume; "" is the whole volume, and nil are all keys.
func (m mounted) keys(sub string) []string {
	if sub == "" && m.all {
		return nil
	}
	out := []string{}
	if m.all {
		first, _, _ := strings.Cut(path.Clean(sub), "/")
		out = append(out, first)
	}
	for p, key := range m.paths {
		if p = path.Clean(p); sub == "" || p == path.Clean(sub) || strings.HasPrefix(p, path.Clean(sub)+"/") {
			out = append(out, key)
		}
	}
	return out
}

// field is the name of a reference, for a ConfigMap or a Secret.
func (r podReads) field(config, secret string) string {
	if r.kind == "Secret" {
		return secret
	}
	return config
}

// volume tells whether a volume shows the ConfigMap or Secret, and what of it.
func (r podReads) volume(v map[string]any) (mounted, bool) {
	out, found := mounted{paths: map[string]string{}}, false
	take := func(source map[string]any, nameField string) {
		if n, _ := source[nameField].(string); n != r.name {
			return
		}
		found = true
		items := mapsAt(source, "items")
		out.all = out.all || len(items) == 0
		for _, i := range items {
			p, _ := i["path"].(string)
			out.paths[p], _ = i["key"].(string)
		}
	}
	if source, ok := v[r.field("configMap", "secret")].(map[string]any); ok {
		take(source, r.field("name", "secretName"))
	}
	for _, s := range mapsAt(v, "projected", "sources") {
		if source, ok := s[r.field("configMap", "secret")].(map[string]any); ok {
			take(source, "name")
		}
	}
	return out, found
}

// container notes how a container reads it; byVolume is what a mount of a whole volume counts as.
func (r podReads) container(c map[string]any, byVolume string) {
	note := func(how string, keys []string) {
		if r.changed.anyOf(keys) {
			r.how[how] = true
		}
	}
	for _, e := range mapsAt(c, "envFrom") {
		if n, _, _ := unstructured.NestedString(e, r.field("configMapRef", "secretRef"), "name"); n == r.name {
			note(readEnvFrom, nil)
		}
	}
	for _, e := range mapsAt(c, "env") {
		ref, _, _ := unstructured.NestedMap(e, "valueFrom", r.field("configMapKeyRef", "secretKeyRef"))
		if key, _ := ref["key"].(string); ref["name"] == r.name {
			note(readEnv, []string{key})
		}
	}
	for _, m := range mapsAt(c, "volumeMounts") {
		volume, _ := m["name"].(string)
		shown, ok := r.volumes[volume]
		if !ok {
			continue
		}
		sub, _ := m["subPath"].(string)
		switch expr, _ := m["subPathExpr"].(string); {
		case byVolume == readInit:
			note(readInit, shown.keys(sub))
		case expr != "":
			note(readSubPath, shown.keys(""))
		case sub != "":
			note(readSubPath, shown.keys(sub))
		default:
			note(byVolume, shown.keys(""))
		}
	}
}

// mapsAt are the maps of a list.
func mapsAt(m map[string]any, fields ...string) []map[string]any {
	list, _, _ := unstructured.NestedSlice(m, fields...)
	var out []map[string]any
	for _, e := range list {
		if o, ok := e.(map[string]any); ok {
			out = append(out, o)
		}
	}
	return out
}
