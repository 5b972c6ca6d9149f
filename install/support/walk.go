package support

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// walker redacts a decoded document. blind means that the literals are not known: free text goes too.
type walker struct {
	scrub *scrubber
	blind bool
	hit   func(rule string, n int)
}

// plain turns any value into maps, slices, strings and json.Numbers.
func plain(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	return plainJSON(raw)
}

func plainJSON(raw []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var out any
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	return out, nil
}

func plainYAML(raw []byte) (any, error) {
	j, err := yaml.YAMLToJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	return plainJSON(j)
}

// value redacts v, which stands under key.
func (w walker) value(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		return w.mapping(v)
	case []any:
		return w.list(key, v)
	case string:
		if sensitiveKey(key) && sensitiveValue(key, v) {
			w.hit("sensitive-key", 1)
			return mask
		}
		return w.text(v)
	case json.Number:
		if sensitiveKey(key) && sensitiveValue(key, v.String()) {
			w.hit("sensitive-key", 1)
			return mask
		}
		if s := w.text(v.String()); s != v.String() { // a number may be a secret's value
			return s
		}
	}
	return v
}

func (w walker) text(s string) string { return string(w.scrub.text([]byte(s), w.hit)) }

func (w walker) mapping(m map[string]any) map[string]any {
	w.dropKnown(m)
	if name, ok := m["name"].(string); ok {
		if v, ok := m["value"].(string); ok && (w.blind && v != "" || sensitiveKey(name) && sensitiveValue(name, v)) {
			w.hit("env", 1)
			m["value"] = mask
		}
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		if w.blind && freeText[k] {
			w.hit("withheld", 1)
			out[w.text(k)] = mask
			continue
		}
		out[w.text(k)] = w.value(k, v)
	}
	return out
}

// freeText are the keys under which anything may stand.
var freeText = map[string]bool{"args": true, "command": true, "annotations": true, "data": true, "binaryData": true,
	"stringData": true, "message": true, "note": true}

// dropKnown takes out what is never wanted: a Secret's data, what kubectl applied last, field owners.
func (w walker) dropKnown(m map[string]any) {
	if m["kind"] == "Secret" {
		for _, k := range []string{"data", "stringData"} {
			if d, ok := m[k].(map[string]any); ok {
				m[k] = lengths(d)
				w.hit("secret-data", len(d))
			}
		}
	}
	if meta, ok := m["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
		if a, ok := meta["annotations"].(map[string]any); ok {
			if _, ok := a[lastApplied]; ok {
				delete(a, lastApplied)
				w.hit("last-applied", 1)
			}
		}
	}
}

func lengths(d map[string]any) map[string]any {
	out := make(map[string]any, len(d))
	for k, v := range d {
		s, _ := v.(string)
		out["key "+k] = fmt.Sprintf("%d bytes as written", len(s))
	}
	return out
}

// list redacts the value after a flag that says secret, as in ["--api-key", "abc"].
func (w walker) list(key string, l []any) []any {
	out := make([]any, len(l))
	after := false
	for i, v := range l {
		s, isText := v.(string)
		if after && isText && !strings.HasPrefix(s, "-") {
			w.hit("flag", 1)
			out[i], after = mask, false
			continue
		}
		after = isText && strings.HasPrefix(s, "-") && !strings.ContainsAny(s, "= ") && sensitiveKey(s)
		out[i] = w.value(key, v)
	}
	return out
}
