package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// JSON decodes the one value in data into what v points to. The error is an *Error, unless v is no pointer.
func JSON(data []byte, v any) error {
	into, err := target(v)
	if err != nil {
		return err
	}
	if err := syntax(data); err != nil {
		return err
	}
	w := &jsonWalk{data: data, dec: json.NewDecoder(bytes.NewReader(data)), fields: fields{}}
	w.dec.UseNumber()
	if err := w.value(into.Type(), "", 1); err != nil {
		return err
	}
	return fill(into, data, func(offset int) (int, int) { return place(data, offset) })
}

// fill decodes checked JSON into a fresh value first, so that a failure leaves the destination alone.
func fill(into reflect.Value, data []byte, at func(offset int) (line, column int)) error {
	fresh := reflect.New(into.Type())
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(fresh.Interface()); err != nil {
		offset, path := 0, ""
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			offset, path = int(wrong.Offset), wrong.Field
		}
		line, column := at(offset)
		return &Error{Line: line, Column: column, Path: path, Reason: strings.TrimPrefix(err.Error(), "json: ")}
	}
	into.Set(fresh.Elem())
	return nil
}

func syntax(data []byte) error {
	fault := func(offset int, reason string) error {
		line, column := place(data, offset)
		return &Error{Line: line, Column: column, Reason: reason}
	}
	if !utf8.Valid(data) {
		offset := 0
		for rest := data; ; {
			r, size := utf8.DecodeRune(rest)
			if r == utf8.RuneError && size == 1 {
				return fault(offset, "not UTF-8")
			}
			offset, rest = offset+size, rest[size:]
		}
	}
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	var bad *json.SyntaxError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return fault(int(bad.Offset)-1, bad.Error())
	}
	return fault(0, err.Error())
}

// jsonWalk compares the tokens of valid JSON with a type; it keeps no tree, so that memory does not grow with the input
// before the type has accepted it.
type jsonWalk struct {
	data   []byte
	dec    *json.Decoder
	fields fields
}

func (w *jsonWalk) fault(offset int, path, reason, hint string) error {
	line, column := place(w.data, offset)
	return &Error{Line: line, Column: column, Path: path, Reason: reason, Hint: hint}
}

// next returns the next token and where it starts.
func (w *jsonWalk) next(path string) (json.Token, int, error) {
	start := int(w.dec.InputOffset())
	for start < len(w.data) && strings.IndexByte(" \t\r\n,:", w.data[start]) >= 0 {
		start++
	}
	token, err := w.dec.Token()
	if err != nil {
		return nil, start, w.fault(start, path, err.Error(), "")
	}
	if _, ok := token.(string); ok && halfSurrogate(w.data[start:w.dec.InputOffset()]) {
		return nil, start, w.fault(start, path, "string escapes half a surrogate pair", "")
	}
	return token, start, nil
}

func (w *jsonWalk) value(t reflect.Type, path string, depth int) error {
	token, start, err := w.next(path)
	if err != nil {
		return err
	}
	s, reason := shapeOf(t), ""
	switch token := token.(type) {
	case json.Delim:
		if depth > maxDepth {
			return w.fault(start, path, fmt.Sprintf("nested deeper than %d levels", maxDepth), "")
		}
		if token == '{' {
			if s.form != formStruct && s.form != formMap && s.form != formAny {
				return w.fault(start, path, s.mismatch("a mapping"), "")
			}
			return w.mapping(s, path, depth)
		}
		if s.form != formList && s.form != formAny {
			return w.fault(start, path, s.mismatch("a list"), "")
		}
		return w.list(s, path, depth)
	case string:
		if s.form != formString && s.form != formAny {
			reason = s.mismatch("string " + clip(token))
		}
	case json.Number:
		reason = s.number(token.String())
	case bool:
		if s.form != formBool && s.form != formAny {
			reason = s.mismatch(strconv.FormatBool(token))
		}
	case nil:
		if !s.isNull {
			reason = s.mismatch("null")
		}
	}
	if reason != "" {
		return w.fault(start, path, reason, "")
	}
	return nil
}

func (w *jsonWalk) mapping(s shape, path string, depth int) error {
	keys := seen{}
	for w.dec.More() {
		token, start, err := w.next(path)
		if err != nil {
			return err
		}
		key, ok := token.(string)
		if !ok {
			return w.fault(start, path, "a key must be a string", "")
		}
		if reason := keys.add(key); reason != "" {
			return w.fault(start, path, reason, "")
		}
		var inner reflect.Type
		if s.form == formStruct {
			known, reason, hint := w.fields.lookup(s.typ, key)
			if reason != "" {
				return w.fault(start, path, reason, hint)
			}
			inner = known
		} else {
			inner = s.elem()
		}
		if err := w.value(inner, child(path, key), depth+1); err != nil {
			return err
		}
	}
	_, _, err := w.next(path)
	return err
}

func (w *jsonWalk) list(s shape, path string, depth int) error {
	for i := 0; w.dec.More(); i++ {
		if err := w.value(s.elem(), path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
			return err
		}
	}
	_, _, err := w.next(path)
	return err
}

// halfSurrogate finds an escape such as \ud800 that has no partner; encoding/json would replace it silently.
func halfSurrogate(raw []byte) bool {
	for i := 0; i+1 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		i++
		if raw[i] != 'u' {
			continue
		}
		unit := escaped(raw, i-1)
		switch {
		case unit < 0xd800 || unit > 0xdfff:
			i += 4
		case unit < 0xdc00 && escaped(raw, i+5) >= 0xdc00 && escaped(raw, i+5) <= 0xdfff:
			i += 10
		default:
			return true
		}
	}
	return false
}

// escaped reads the \uXXXX at i, or returns -1.
func escaped(raw []byte, i int) int {
	if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
		return -1
	}
	n, err := strconv.ParseUint(string(raw[i+2:i+6]), 16, 16)
	if err != nil {
		return -1
	}
	return int(n)
}
