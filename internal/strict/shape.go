package strict

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

const maxDepth = 64

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
	anyType         = reflect.TypeFor[any]()
	decimal         = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)
)

// form is what a Go type takes.
type form int

const (
	formAny form = iota
	formStruct
	formMap
	formList
	formString
	formInt
	formUint
	formFloat
	formBool
)

var formNames = map[form]string{
	formAny: "a value", formStruct: "a mapping", formMap: "a mapping", formList: "a list", formString: "a string",
	formInt: "an integer", formUint: "an integer", formFloat: "a number", formBool: "true or false",
}

// shape is a Go type seen as what a document may hold in its place.
type shape struct {
	form   form
	typ    reflect.Type // without pointers
	isNull bool         // null is allowed
}

func shapeOf(t reflect.Type) shape {
	s := shape{typ: t}
	for s.typ.Kind() == reflect.Pointer {
		s.isNull = true
		s.typ = s.typ.Elem()
	}
	switch ptr := reflect.PointerTo(s.typ); {
	case ptr.Implements(jsonUnmarshaler):
		s.form, s.typ, s.isNull = formAny, anyType, true
		return s
	case ptr.Implements(textUnmarshaler):
		s.form = formString
		return s
	}
	switch s.typ.Kind() {
	case reflect.Struct:
		s.form = formStruct
	case reflect.Map:
		s.form, s.isNull = formMap, true
	case reflect.Slice, reflect.Array:
		s.form, s.isNull = formList, s.typ.Kind() == reflect.Slice
		if s.isNull && s.typ.Elem().Kind() == reflect.Uint8 {
			s.form = formString // base64, as encoding/json has it
		}
	case reflect.String:
		s.form = formString
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.form = formInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.form = formUint
	case reflect.Float32, reflect.Float64:
		s.form = formFloat
	case reflect.Bool:
		s.form = formBool
	default:
		s.form, s.isNull = formAny, true
	}
	return s
}

// elem is the type of a list's or map's values.
func (s shape) elem() reflect.Type {
	if s.form == formAny {
		return anyType
	}
	return s.typ.Elem()
}

// number says why a literal does not fit the shape, or "".
func (s shape) number(literal string) string {
	bits := 64
	if s.form == formInt || s.form == formUint || s.form == formFloat {
		bits = s.typ.Bits()
	}
	var err error
	switch s.form {
	case formAny, formFloat:
		_, err = strconv.ParseFloat(literal, bits)
	case formInt, formUint:
		if !decimal.MatchString(literal) {
			return "expected a plain decimal integer, got " + clip(literal)
		}
		if s.form == formInt {
			_, err = strconv.ParseInt(literal, 10, bits)
		} else {
			_, err = strconv.ParseUint(literal, 10, bits)
		}
	default:
		return s.mismatch("a number")
	}
	if err != nil {
		return fmt.Sprintf("number %s is out of range for %s", clip(literal), s.typ.Kind())
	}
	return ""
}

func (s shape) mismatch(got string) string {
	return fmt.Sprintf("expected %s, got %s", formNames[s.form], got)
}

// fields caches what the json tags of each struct type say.
type fields map[reflect.Type]map[string]reflect.Type

func (f fields) of(t reflect.Type) map[string]reflect.Type {
	if known, ok := f[t]; ok {
		return known
	}
	known := map[string]reflect.Type{}
	f[t] = known
	var embedded []reflect.Type
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		inner := field.Type
		if inner.Kind() == reflect.Pointer {
			inner = inner.Elem()
		}
		switch {
		case field.Tag.Get("json") == "-":
		case field.Anonymous && name == "" && inner.Kind() == reflect.Struct:
			embedded = append(embedded, inner)
		case !field.IsExported():
		case name == "":
			known[field.Name] = field.Type
		default:
			known[name] = field.Type
		}
	}
	for _, e := range embedded {
		for name, typ := range f.of(e) {
			if _, shadowed := known[name]; !shadowed {
				known[name] = typ
			}
		}
	}
	return known
}

// lookup finds the type of a struct's field, or says why there is none.
func (f fields) lookup(t reflect.Type, name string) (typ reflect.Type, reason, hint string) {
	known := f.of(t)
	if typ, ok := known[name]; ok {
		return typ, "", ""
	}
	names := make([]string, 0, len(known))
	for k := range known {
		if fold(k) == fold(name) {
			return nil, fmt.Sprintf("unknown field %s: it differs in case from %q", clip(name), k), fmt.Sprintf("write %q", k)
		}
		names = append(names, k)
	}
	sort.Strings(names)
	if near := nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	} else if len(names) > 0 && len(names) <= 16 {
		hint = "known here: " + strings.Join(names, ", ")
	}
	return nil, "unknown field " + clip(name), hint
}

// seen finds keys that occur twice in one mapping.
type seen map[string]string

func (s seen) add(key string) (reason string) {
	folded := fold(key)
	first, again := s[folded]
	s[folded] = key
	switch {
	case !again:
		return ""
	case first == key:
		return "key " + clip(key) + " is here twice"
	}
	return fmt.Sprintf("keys %s and %s differ only in case", clip(first), clip(key))
}

// target checks what the caller passed and returns the type to fill.
func target(v any) (reflect.Value, error) {
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return reflect.Value{}, errors.New("strict: the destination must be a pointer that is not nil")
	}
	return p.Elem(), nil
}

func child(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
