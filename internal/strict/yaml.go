package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const (
	maxYAML   = 4 << 20
	maxNodes  = 100_000
	maxFaults = 20
)

// YAML decodes the one document in data into what v points to. Name is the file's, for messages. The error is an
// *Error or several joined ones, unless v is no pointer.
func YAML(name string, data []byte, v any) error {
	into, err := target(v)
	if err != nil {
		return err
	}
	root, err := document(name, data)
	if err != nil {
		return err
	}
	w := &yamlWalk{file: name, fields: fields{}}
	w.value(root, into.Type(), "", 1)
	if len(w.faults) > 0 {
		return errors.Join(w.faults...)
	}
	err = fill(into, w.out.Bytes(), func(int) (int, int) { return root.Line, root.Column })
	var fault *Error
	if errors.As(err, &fault) {
		fault.File = name
	}
	return err
}

var yamlLine = regexp.MustCompile(`^yaml: line ([0-9]+): `)

// document parses exactly one document.
func document(name string, data []byte) (root *yaml.Node, err error) {
	fault := func(line int, reason string) error { return &Error{File: name, Line: line, Column: 1, Reason: reason} }
	if len(data) > maxYAML {
		return nil, fault(1, fmt.Sprintf("larger than %d bytes", maxYAML))
	}
	if !utf8.Valid(data) {
		return nil, fault(1, "not UTF-8")
	}
	var doc, more yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	switch err := dec.Decode(&doc); {
	case err == io.EOF:
		return nil, fault(1, "the document is empty")
	case err != nil:
		line, text := 1, err.Error()
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			line, _ = strconv.Atoi(m[1])
			text = text[len(m[0]):]
		}
		return nil, fault(line, strings.TrimPrefix(text, "yaml: "))
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, fault(1, "the document is empty")
	}
	if err := dec.Decode(&more); err != io.EOF {
		return nil, fault(max(more.Line, 1), "more than one document")
	}
	return doc.Content[0], nil
}

// yamlWalk compares a node tree with a type and writes it as JSON.
type yamlWalk struct {
	file   string
	fields fields
	out    bytes.Buffer
	faults []error
	nodes  int
}

func (w *yamlWalk) fault(n *yaml.Node, path, reason, hint string) {
	if len(w.faults) < maxFaults {
		w.faults = append(w.faults, &Error{File: w.file, Line: n.Line, Column: n.Column, Path: path, Reason: reason, Hint: hint})
	}
}

func (w *yamlWalk) value(n *yaml.Node, t reflect.Type, path string, depth int) {
	w.nodes++
	if w.nodes > maxNodes || len(w.faults) >= maxFaults {
		if w.nodes == maxNodes+1 {
			w.fault(n, path, fmt.Sprintf("more than %d nodes, aliases followed", maxNodes), "")
		}
		return
	}
	if depth > maxDepth {
		w.fault(n, path, fmt.Sprintf("nested deeper than %d levels", maxDepth), "")
		return
	}
	s := shapeOf(t)
	switch n.Kind {
	case yaml.AliasNode:
		w.value(n.Alias, t, path, depth+1) // deeper, so that an alias of its own parent ends
	case yaml.MappingNode:
		if s.form != formStruct && s.form != formMap && s.form != formAny || n.ShortTag() != "!!map" {
			w.fault(n, path, s.mismatch("a mapping"), "")
			return
		}
		w.mapping(n, s, path, depth)
	case yaml.SequenceNode:
		if s.form != formList && s.form != formAny || n.ShortTag() != "!!seq" {
			w.fault(n, path, s.mismatch("a list"), "")
			return
		}
		w.list(n, s, path, depth)
	case yaml.ScalarNode:
		w.scalar(n, s, path)
	default:
		w.fault(n, path, "unexpected node", "")
	}
}

func (w *yamlWalk) mapping(n *yaml.Node, s shape, path string, depth int) {
	keys := seen{}
	w.out.WriteByte('{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!null" || key.ShortTag() == "!!merge" {
			w.fault(key, path, "a key must be a plain string", "")
			continue
		}
		if reason := keys.add(key.Value); reason != "" {
			w.fault(key, path, reason, "")
			continue
		}
		var inner reflect.Type
		if s.form == formStruct {
			known, reason, hint := w.fields.lookup(s.typ, key.Value)
			if reason != "" {
				w.fault(key, path, reason, hint)
				continue
			}
			inner = known
		} else {
			inner = s.elem()
		}
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.text(key.Value)
		w.out.WriteByte(':')
		w.value(value, inner, child(path, key.Value), depth+1)
	}
	w.out.WriteByte('}')
}

func (w *yamlWalk) list(n *yaml.Node, s shape, path string, depth int) {
	w.out.WriteByte('[')
	for i, value := range n.Content {
		if i > 0 {
			w.out.WriteByte(',')
		}
		w.value(value, s.elem(), path+"["+strconv.Itoa(i)+"]", depth+1)
	}
	w.out.WriteByte(']')
}

func (w *yamlWalk) scalar(n *yaml.Node, s shape, path string) {
	tag := n.ShortTag()
	switch tag {
	case "!!null":
		if !s.isNull {
			w.fault(n, path, s.mismatch("nothing"), "")
		}
		w.out.WriteString("null")
	case "!!bool":
		w.boolean(n, s, path)
	case "!!int", "!!float":
		w.number(n, s, path)
	case "!!str", "!!timestamp":
		if s.form != formString && s.form != formAny {
			w.fault(n, path, s.mismatch("string "+clip(n.Value)), "")
		}
		w.text(n.Value)
	default:
		w.fault(n, path, "tag "+clip(tag)+" is not allowed", "")
	}
}

func (w *yamlWalk) boolean(n *yaml.Node, s shape, path string) {
	text := strings.ToLower(n.Value)
	switch {
	case s.form == formString:
		w.fault(n, path, s.mismatch(text), `quote it: "`+n.Value+`"`)
	case s.form != formBool && s.form != formAny:
		w.fault(n, path, s.mismatch(text), "")
	case text != "true" && text != "false":
		w.fault(n, path, s.mismatch(clip(n.Value)), "write true or false")
	default:
		w.out.WriteString(text)
	}
}

func (w *yamlWalk) number(n *yaml.Node, s shape, path string) {
	if s.form == formString {
		w.text(n.Value) // the digits as written: 2.10 stays "2.10"
		return
	}
	if s.form == formAny && n.ShortTag() == "!!int" && !decimal.MatchString(n.Value) {
		w.fault(n, path, "expected a plain decimal integer, got "+clip(n.Value), "")
		return
	}
	if reason := s.number(n.Value); reason != "" {
		w.fault(n, path, reason, "")
		return
	}
	if decimal.MatchString(n.Value) {
		w.out.WriteString(n.Value)
		return
	}
	f, _ := strconv.ParseFloat(n.Value, 64)
	literal, err := json.Marshal(f)
	if err != nil {
		w.fault(n, path, "expected a finite number, got "+clip(n.Value), "")
		return
	}
	w.out.Write(literal)
}

// text writes a JSON string.
func (w *yamlWalk) text(s string) {
	literal, _ := json.Marshal(s) // a string always encodes
	w.out.Write(literal)
}
