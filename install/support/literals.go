package support

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	pieceLen    = 64       // longer forms are kept in pieces of this length
	minLine     = 12       // shortest line of a value that counts by itself
	maxLiterals = 64 << 20 // all literals together, in bytes
)

// ErrTooManySecrets is returned when the Secrets are too large to be looked for.
var ErrTooManySecrets = errors.New("secrets of the namespaces are too large to scrub for")

// literals is the set of strings that must not leave. public values are not secret though a Secret holds them.
type literals struct {
	set    map[string]struct{}
	public map[string]bool
	bytes  int
}

func newLiterals(public []string) *literals {
	l := &literals{set: map[string]struct{}{}, public: map[string]bool{}}
	for _, p := range public {
		l.public[p] = true
	}
	return l
}

// addSecret takes one value of a Secret, whole and in the parts by which it may appear elsewhere.
func (l *literals) addSecret(value []byte) {
	l.addForms(value)
	l.addForms(bytes.TrimSpace(value))
	text := string(value)
	if strings.ContainsAny(text, "\n\r") {
		for _, line := range strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }) {
			line = strings.TrimSpace(line)
			if len(line) >= minLine && !strings.HasPrefix(line, "-----") {
				l.addForms([]byte(line))
			}
			if key, v, ok := strings.Cut(line, "="); ok && sensitiveKey(strings.TrimSpace(key)) {
				l.addForms([]byte(strings.Trim(strings.TrimSpace(v), `"'`)))
			}
		}
	}
	if len(text) <= 1<<20 && strings.ContainsAny(text, ":{") {
		var doc any
		if yaml.Unmarshal(value, &doc) == nil {
			l.addSensitive(doc, false)
		}
	}
}

// addSensitive takes what a document keeps under keys that say secret.
func (l *literals) addSensitive(v any, under bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			l.addSensitive(x, sensitiveKey(k))
		}
	case []any:
		for _, x := range v {
			l.addSensitive(x, under)
		}
	case string:
		if under {
			l.addForms([]byte(v))
		}
	}
}

func (l *literals) addForms(v []byte) {
	if len(v) < minLiteral || l.public[string(v)] {
		return
	}
	l.addPieces(string(v))
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		l.addPieces(enc.EncodeToString(v))
		for shift := range 3 {
			l.addPieces(core64(enc, v, shift))
		}
	}
	h := hex.EncodeToString(v)
	l.addPieces(h)
	l.addPieces(strings.ToUpper(h))
	for _, u := range []string{url.QueryEscape(string(v)), url.PathEscape(string(v))} {
		l.addPieces(u)
		l.addPieces(lowerEscapes(u))
	}
	for _, html := range []bool{true, false} {
		once := jsonEscape(string(v), html)
		l.addPieces(once)
		l.addPieces(jsonEscape(once, html))
	}
}

// core64 is the part of v's base64 that is the same whatever stands before (shift bytes of it in the same group of
// three) and after.
func core64(enc *base64.Encoding, v []byte, shift int) string {
	s := enc.EncodeToString(append(make([]byte, shift), v...))
	from := (shift*8 + 5) / 6
	return s[from : (shift+len(v))*8/6]
}

var escapeUpper = regexp.MustCompile(`%[0-9A-F]{2}`)

func lowerEscapes(s string) string { return escapeUpper.ReplaceAllStringFunc(s, strings.ToLower) }

func jsonEscape(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if e.Encode(s) != nil { // strings always encode
		return s
	}
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSuffix(b.String(), "\n"), `"`), `"`)
}

// addPieces keeps a form. All pieces of a long one are literals: wherever the form is whole, every piece is found, and
// a cut form still loses the pieces that are whole.
func (l *literals) addPieces(form string) {
	for len(form) > pieceLen {
		l.add(form[:pieceLen])
		if len(form) < 2*pieceLen {
			l.add(form[len(form)-pieceLen:])
			return
		}
		form = form[pieceLen:]
	}
	l.add(form)
}

func (l *literals) add(s string) {
	if len(s) < minLiteral || l.public[s] {
		return
	}
	if _, ok := l.set[s]; !ok {
		l.set[s] = struct{}{}
		l.bytes += len(s)
	}
}

func (l *literals) matcher() (*matcher, error) {
	if l.bytes > maxLiterals {
		return nil, ErrTooManySecrets
	}
	return newMatcher(l.set), nil
}
