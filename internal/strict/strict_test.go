package strict

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type line struct {
	ocispec.Descriptor
	Kind  string   `json:"kind"`
	Repos []string `json:"repos"`
}

type inner struct {
	From  string `json:"from,omitempty"`
	Skip  int    `json:"maxMinorSkip,omitempty"`
	Small uint8  `json:"small,omitempty"`
}

type sample struct {
	Name      string            `json:"name"`
	Sequence  uint64            `json:"sequence"`
	Ratio     float64           `json:"ratio,omitempty"`
	On        bool              `json:"on,omitempty"`
	Sites     []string          `json:"sites"`
	Upgrade   inner             `json:"upgrade,omitzero"`
	Maybe     *inner            `json:"maybe,omitempty"`
	Closure   []line            `json:"closure,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
	Values    any               `json:"values,omitempty"`
	When      time.Time         `json:"when,omitzero"`
	Variants  [][]string        `json:"variants,omitempty"`
	Forbidden string            `json:"-"`
}

func TestJSONAccepts(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	cases := []struct {
		name, in string
		want     sample
	}{
		{"empty", `{}`, sample{}},
		{"largest sequence", ` {"sequence":18446744073709551615} ` + "\n", sample{Sequence: 1<<64 - 1}},
		{"above 2^53", `{"sequence":9007199254740993}`, sample{Sequence: 9007199254740993}},
		{"float", `{"ratio":1.5e1}`, sample{Ratio: 15}},
		{"null list and pointer", `{"sites":null,"maybe":null,"labels":null}`, sample{}},
		{"nested", `{"upgrade":{"from":">=2","maxMinorSkip":-3},"maybe":{"small":255}}`,
			sample{Upgrade: inner{From: ">=2", Skip: -3}, Maybe: &inner{Small: 255}}},
		{"embedded descriptor", `{"closure":[{"mediaType":"m","digest":"` + digest + `","size":7,"platform":{"os":"linux","architecture":"amd64"},"kind":"blob","repos":["a"]}]}`,
			sample{Closure: []line{{Descriptor: ocispec.Descriptor{MediaType: "m", Digest: godigest.Digest(digest), Size: 7,
				Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}}, Kind: "blob", Repos: []string{"a"}}}}},
		{"any", `{"values":{"a":[1,2.5,"x",null,true]}}`, sample{Values: map[string]any{"a": []any{1.0, 2.5, "x", nil, true}}}},
		{"surrogate pair", `{"name":"\ud83d\ude00\\ud800 \ufffd"}`, sample{Name: "\U0001F600\\ud800 \ufffd"}},
		{"lists of lists", `{"variants":[[],["a","b"]]}`, sample{Variants: [][]string{{}, {"a", "b"}}}},
		{"time", `{"when":"2026-01-02T03:04:05Z"}`, sample{When: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}},
	}
	for _, c := range cases {
		var got sample
		if err := JSON([]byte(c.in), &got); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestJSONRefuses(t *testing.T) {
	cases := []struct {
		name, in     string
		line, column int
		path, reason string
	}{
		{"nothing", ``, 1, 1, "", "unexpected end"},
		{"syntax", "{\n  \"name\": }", 2, 11, "", "invalid character"},
		{"trailing value", `{} {}`, 1, 4, "", "after top-level value"},
		{"trailing junk", "{}\nx", 2, 1, "", "after top-level value"},
		{"not UTF-8", "{\"name\":\"a\xff\"}", 1, 11, "", "not UTF-8"},
		{"duplicate", "{\"sequence\":7,\n\"sequence\":9}", 2, 1, "", "twice"},
		{"folded field", `{"sequence":7,"SEQUENCE":99}`, 1, 15, "", "differ only in case"},
		{"folded field alone", `{"Sequence":7}`, 1, 2, "", "differs in case"},
		{"kelvin sign", `{"labels":{"k":"1","` + "\u212a" + `":"2"}}`, 1, 20, "labels", "differ only in case"},
		{"duplicate in any", `{"values":{"a":{"b":1,"b":2}}}`, 1, 23, "values.a", "twice"},
		{"unknown", `{"upgrade":{"form":""}}`, 1, 13, "upgrade", `unknown field "form"`},
		{"dash field", `{"Forbidden":"x"}`, 1, 2, "", "unknown field"},
		{"unexported", `{"private":"x"}`, 1, 2, "", "unknown field"},
		{"unknown in embedded", `{"closure":[{"digset":"x"}]}`, 1, 14, "closure[0]", "unknown field"},
		{"float sequence", `{"sequence":7.0}`, 1, 13, "sequence", "plain decimal integer"},
		{"exponent", `{"sequence":1e3}`, 1, 13, "sequence", "plain decimal integer"},
		{"quoted", `{"sequence":"7"}`, 1, 13, "sequence", "expected an integer, got string"},
		{"negative", `{"sequence":-1}`, 1, 13, "sequence", "out of range"},
		{"minus zero", `{"upgrade":{"maxMinorSkip":-0}}`, 1, 28, "upgrade.maxMinorSkip", "plain decimal"},
		{"2^64", `{"sequence":18446744073709551616}`, 1, 13, "sequence", "out of range"},
		{"uint8", `{"upgrade":{"small":256}}`, 1, 21, "upgrade.small", "out of range for uint8"},
		{"float too large", `{"ratio":1e999}`, 1, 10, "ratio", "out of range"},
		{"null string", `{"name":null}`, 1, 9, "name", "got null"},
		{"null struct", `{"upgrade":null}`, 1, 12, "upgrade", "got null"},
		{"null number", `{"sequence":null}`, 1, 13, "sequence", "got null"},
		{"number for string", `{"name":7}`, 1, 9, "name", "expected a string"},
		{"bool for string", `{"name":true}`, 1, 9, "name", "expected a string"},
		{"string for list", `{"sites":"a"}`, 1, 10, "sites", "expected a list"},
		{"list for mapping", `{"upgrade":[]}`, 1, 12, "upgrade", "expected a mapping"},
		{"mapping for list", `{"sites":{}}`, 1, 10, "sites", "expected a list"},
		{"top level list", `[]`, 1, 1, "", "expected a mapping"},
		{"half surrogate", `{"name":"\ud800x"}`, 1, 9, "name", "surrogate"},
		{"half surrogate in key", `{"labels":{"\udc00":"x"}}`, 1, 12, "labels", "surrogate"},
		{"too deep", `{"values":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, 1, 74, "values" + strings.Repeat("[0]", 63), "nested deeper"},
		{"bad time", `{"when":"yesterday"}`, 1, 1, "", "cannot parse"},
	}
	for _, c := range cases {
		got := sample{Name: "untouched"}
		err := JSON([]byte(c.in), &got)
		var fault *Error
		if !errors.As(err, &fault) {
			t.Errorf("%s: got %v, want an *Error", c.name, err)
			continue
		}
		if fault.Line != c.line || fault.Column != c.column || fault.Path != c.path || !strings.Contains(fault.Reason, c.reason) {
			t.Errorf("%s: got %+v", c.name, *fault)
		}
		if got.Name != "untouched" {
			t.Errorf("%s: the destination was changed", c.name)
		}
	}
}

func TestDestination(t *testing.T) {
	var nilForm *sample
	for _, v := range []any{nil, sample{}, nilForm} {
		if JSON([]byte(`{}`), v) == nil || YAML("f", []byte(`{}`), v) == nil {
			t.Errorf("%T accepted as destination", v)
		}
	}
}

func TestDepthLimitIsExact(t *testing.T) {
	var v any
	if err := JSON([]byte(strings.Repeat("[", 64)+strings.Repeat("]", 64)), &v); err != nil {
		t.Errorf("64 levels: %v", err)
	}
	if err := JSON([]byte(strings.Repeat("[", 65)+strings.Repeat("]", 65)), &v); err == nil {
		t.Error("65 levels were accepted")
	}
}

func TestYAMLAccepts(t *testing.T) {
	cases := []struct {
		name, in string
		want     sample
	}{
		{"comment and block", "# yaml-language-server: $schema=x\nname: wordcab\nsequence: 57\nsites: [a, b]\n",
			sample{Name: "wordcab", Sequence: 57, Sites: []string{"a", "b"}}},
		{"document marks", "---\nname: a\n...\n", sample{Name: "a"}},
		{"numbers in strings as written", "name: 2.10\nsites: [2.4.0, 010, 0x1F, 2026-01-02, no]\n",
			sample{Name: "2.10", Sites: []string{"2.4.0", "010", "0x1F", "2026-01-02", "no"}}},
		{"largest", "sequence: 18446744073709551615", sample{Sequence: 1<<64 - 1}},
		{"empty list", "sites:\nname: a", sample{Name: "a"}},
		{"alias", "sites: &s [a]\nvariants: [*s, *s]\n", sample{Sites: []string{"a"}, Variants: [][]string{{"a"}, {"a"}}}},
		{"bool", "on: True", sample{On: true}},
		{"any", "values: {a: [1, 1.50, x, ~, false, 2026-01-02]}",
			sample{Values: map[string]any{"a": []any{1.0, 1.5, "x", nil, false, "2026-01-02"}}}},
		{"block text", "name: |\n  a <b>\n  \"c\"\n", sample{Name: "a <b>\n\"c\"\n"}},
		{"plus in float", "ratio: +1.5", sample{Ratio: 1.5}},
	}
	for _, c := range cases {
		var got sample
		if err := YAML("bundle.yaml", []byte(c.in), &got); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestYAMLRefuses(t *testing.T) {
	laughs := "values:\n  a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for i, last := 0, "a"; i < 6; i++ {
		next := string(rune('b' + i))
		laughs += "  " + next + ": &" + next + " [" + strings.Repeat("*"+last+", ", 10) + "]\n"
		last = next
	}
	cases := []struct{ name, in, want string }{
		{"empty", "", "f.yaml:1:1: the document is empty"},
		{"only a comment", "# nothing\n", "f.yaml:1:1: the document is empty"},
		{"two documents", "name: a\n---\nname: b\n", "f.yaml:2:1: more than one document"},
		{"junk after the end", "name: a\n...\n]\n", "more than one document"},
		{"syntax", "name: a\n\tb: c\n", "f.yaml:2:1: "},
		{"unknown with suggestion", "name: a\nupgrade:\n  form: x\n", `f.yaml:3:3: upgrade: unknown field "form" (did you mean "from"?)`},
		{"unknown without", "upgrade:\n  zzzzzzzz: x\n", `known here: from, maxMinorSkip, small`},
		{"case", "Name: a\n", `f.yaml:1:1: unknown field "Name": it differs in case from "name" (write "name")`},
		{"duplicate", "name: a\nname: b\n", "f.yaml:2:1: key \"name\" is here twice"},
		{"folded", "labels: {a: x, A: y}\n", "differ only in case"},
		{"bool for string", "name: true\n", `f.yaml:1:7: name: expected a string, got true (quote it: "true")`},
		{"string for integer", "sequence: soon\n", `f.yaml:1:11: sequence: expected an integer, got string "soon"`},
		{"quoted integer", "sequence: \"7\"\n", `expected an integer, got string "7"`},
		{"float for integer", "sequence: 7.0\n", "plain decimal integer"},
		{"hex", "sequence: 0x1F\n", "plain decimal integer"},
		{"octal", "sequence: 010\n", "plain decimal integer"},
		{"underscore", "sequence: 1_000\n", "plain decimal integer"},
		{"too large", "sequence: 18446744073709551616\n", "sequence: "},
		{"infinity", "ratio: .inf\n", "ratio: "},
		{"nothing for string", "name:\n", "f.yaml:1:6: name: expected a string, got nothing"},
		{"nothing for struct", "upgrade:\n", "expected a mapping, got nothing"},
		{"list for struct", "upgrade: [a]\n", "f.yaml:1:10: upgrade: expected a mapping, got a list"},
		{"struct for list", "sites: {a: b}\n", "expected a list, got a mapping"},
		{"merge key", "values: &v {a: b}\nupgrade:\n  <<: *v\n", "f.yaml:3:3: upgrade: a key must be a plain string"},
		{"own tag", "name: !secret a\n", "tag \"!secret\" is not allowed"},
		{"own tag on a mapping", "upgrade: !x {from: a}\n", "upgrade: "},
		{"binary", "values: !!binary aGk=\n", "not allowed"},
		{"list as key", "labels: {[a]: b}\n", "a key must be a plain string"},
		{"billion laughs", laughs, "more than 100000 nodes"},
		{"alias of its parent", "values: &v [*v]\n", "nested deeper"},
		{"too deep", "values: " + strings.Repeat("[", 70) + strings.Repeat("]", 70), "nested deeper"},
		{"not UTF-8", "name: \xff\n", "not UTF-8"},
		{"too large a file", strings.Repeat("#", maxYAML+1), "larger than"},
	}
	for _, c := range cases {
		got := sample{Name: "untouched"}
		err := YAML("f.yaml", []byte(c.in), &got)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		var fault *Error
		if !errors.As(err, &fault) || fault.Line < 1 || fault.Column < 1 {
			t.Errorf("%s: no place in %v", c.name, err)
		}
		if got.Name != "untouched" {
			t.Errorf("%s: the destination was changed", c.name)
		}
	}
}

func TestYAMLJoinsFaults(t *testing.T) {
	err := YAML("f", []byte("nam: a\nsequence: x\nsites: 7\n"), new(sample))
	for _, want := range []string{"f:1:1: ", "f:2:11: sequence", "f:3:8: sites"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing from %v", want, err)
		}
	}
	err = YAML("f", []byte("sites: ["+strings.Repeat("[],", 100)+"]"), new(sample))
	if err == nil || len(strings.Split(err.Error(), "\n")) != maxFaults {
		t.Errorf("want %d faults, got %v", maxFaults, err)
	}
}

func FuzzJSON(f *testing.F) {
	for _, seed := range []string{`{}`, `{"name":"a","sequence":7,"closure":[{"digest":"sha256:00","size":1,"kind":"blob","repos":null}]}`,
		`{"sequence":7,"SEQUENCE":9}`, `{"name":"\ud83d\ude00"}`, `{"values":[[[{"a":1e3}]]]}`, "{\"when\":\"2026-01-02T03:04:05Z\"}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var strictly, loosely sample
		if JSON(data, &strictly) != nil {
			return
		}
		if err := json.Unmarshal(data, &loosely); err != nil {
			t.Fatalf("accepted what encoding/json refuses: %v", err)
		}
		if !reflect.DeepEqual(strictly, loosely) {
			t.Fatalf("two readings: %+v and %+v", strictly, loosely)
		}
		again, err := json.Marshal(strictly)
		if err != nil {
			t.Fatal(err)
		}
		var back sample
		if err := JSON(again, &back); err != nil {
			t.Fatalf("refused its own encoding %s: %v", again, err)
		}
	})
}

func FuzzYAML(f *testing.F) {
	for _, seed := range []string{"name: a\nsequence: 7\n", "sites: &s [a]\nvariants: [*s]\n", "values: {a: [1, 2.5, ~]}", "name: |\n  x\n",
		"a: &a [*a]", "---\n{}\n---\n{}", "upgrade: {from: 1.10}\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, back sample
		if YAML("f", data, &got) != nil {
			return
		}
		again, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		if err := JSON(again, &back); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}
