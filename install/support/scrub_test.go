package support

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
)

func none(string, int) {}

func set(words ...string) map[string]struct{} {
	out := map[string]struct{}{}
	for _, w := range words {
		out[w] = struct{}{}
	}
	return out
}

func TestMatcher(t *testing.T) {
	for _, c := range []struct {
		name  string
		words []string
		in    string
		want  string
	}{
		{"none", nil, "abcdef", "abcdef"},
		{"whole", []string{"abcdef"}, "abcdef", "***"},
		{"short words are left out", []string{"abc"}, "abc", "abc"},
		{"longest", []string{"abcdef", "abcdefgh"}, "xabcdefghx", "x***x"},
		{"overlap is one span", []string{"abcdefgh", "efghijkl"}, "abcdefghijkl!", "***!"},
		{"adjacent", []string{"abcdef"}, "abcdefabcdef", "******"},
		{"inside another", []string{"bcdefg", "abcdefghij"}, "abcdefghij", "***"},
		{"at the end", []string{"abcdef"}, "12abcdef", "12***"},
		{"cut at the end", []string{"abcdefg"}, "12abcdef", "12abcdef"},
		{"binary", []string{"\x00\x01\x02\x03\x04\x05"}, "a\x00\x01\x02\x03\x04\x05b", "a***b"},
	} {
		got, _ := newMatcher(set(c.words...)).replace([]byte(c.in), []byte(mask))
		if string(got) != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Masks may join with their surroundings into a new hit; the literal pass goes on until there is none.
func TestLiteralSettles(t *testing.T) {
	s := &scrubber{newMatcher(set("abcdef", "x***yz", "******"))}
	for _, in := range []string{"xabcdefyz", "abcdefabcdef", "***abcdef", strings.Repeat("*", 5000)} {
		if out := s.literal([]byte(in), none); s.m.found(out) {
			t.Errorf("%.20q leaves a literal: %q", in, out)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"name":"HF_TOKEN","token":"hf_abcdefghijklmnop"}`, `{"name":"HF_TOKEN","token":"***"}`},
		{`apiKey="sk-abcdefghijklmnop"`, `apiKey="***"`},
		{"Authorization: Bearer abc.def-123", "Authorization: *** ***"},
		{"password: hunter2", "password: ***"},
		{"AWS_SECRET_ACCESS_KEY=abc/def+x", "AWS_SECRET_ACCESS_KEY=***"},
		{`{\"password\":\"a b c\",\"n\":1}`, `{\"password\":\"***\",\"n\":1}`},
		{"tool --api-key k1k2 --port 80", "tool --api-key *** --port 80"},
		{"postgres://u:pw@db/x", "postgres://***@db/x"},
		{"id AKIAABCDEFGHIJKLMNOP.", "id ***."},
		{"jwt eyJhbGciOi.eyJzdWIiOi.c2ln", "jwt ***"},
		{"nvapi-abcdefghijklmnop ghp_abcdefghijklmnopqrst glpat-abcdefghijklmnop", "*** *** ***"},
		{"mail jane.doe@example.org now", "mail *** now"},
		{"prompt_tokens=512 max_tokens: 128", "prompt_tokens=512 max_tokens: 128"},
		{`"secretName": "db"`, `"secretName": "db"`},
		{"a\n-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\nb", "a\n***\nb"},
		{"tail\n-----END PRIVATE KEY-----\nb", "***\nb"},
		{"a\n-----BEGIN EC PRIVATE KEY-----\nAA", "a\n***"},
		{"nothing here 12:30:01 id=7", "nothing here 12:30:01 id=7"},
	} {
		if got := string(scrubPatterns([]byte(c.in), none)); got != c.want {
			t.Errorf("%q:\n got %q\nwant %q", c.in, got, c.want)
		}
	}
}

func TestWalk(t *testing.T) {
	in := `{"kind":"Secret","data":{"p":"aGVsbG8="},"metadata":{"managedFields":[1],"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"x","keep":"y"}},
	"spec":{"secretName":"db","imagePullSecrets":[{"name":"pull"}],"env":[{"name":"API_KEY","value":"v"},{"name":"MODE","value":"fast"}],
	"args":["--token","abc","--port","80"],"password":12345,"maxTokens":512,"valueFrom":{"secretKeyRef":{"name":"db","key":"pw"}}}}`
	doc, err := plainJSON([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	w := walker{scrub: &scrubber{newMatcher(nil)}, hit: none}
	raw, err := json.Marshal(w.value("", doc))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"data":{"key p":"8 bytes as written"},"kind":"Secret","metadata":{"annotations":{"keep":"y"}},` +
		`"spec":{"args":["--token","***","--port","80"],"env":[{"name":"API_KEY","value":"***"},{"name":"MODE","value":"fast"}],` +
		`"imagePullSecrets":[{"name":"pull"}],"maxTokens":512,"password":"***","secretName":"db","valueFrom":{"secretKeyRef":{"key":"pw","name":"db"}}}}`
	if string(raw) != want {
		t.Errorf("got  %s\nwant %s", raw, want)
	}
}

func TestBase64AtEveryAlignment(t *testing.T) {
	const secret = "opensesame!"
	l := newLiterals(nil)
	l.addSecret([]byte(secret))
	m, err := l.matcher()
	if err != nil {
		t.Fatal(err)
	}
	for before := range 4 {
		for after := range 4 {
			text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("u", before) + secret + strings.Repeat("v", after)))
			if !m.found([]byte(text)) {
				t.Errorf("not found with %d before and %d after: %s", before, after, text)
			}
		}
	}
}

func TestLongValueIsFoundInPieces(t *testing.T) {
	l := newLiterals(nil)
	value := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFG-"), 40)
	l.addSecret(value)
	m, err := l.matcher()
	if err != nil {
		t.Fatal(err)
	}
	if got, n := m.replace(append([]byte("a "), value...), []byte(mask)); string(got) != "a ***" || n != 1 {
		t.Errorf("whole value: %d spans, %.60q", n, got)
	}
	if !m.found(value[:200]) {
		t.Error("a value that was cut is not found")
	}
}

func TestDockerConfigLeaves(t *testing.T) {
	l := newLiterals(nil)
	l.addSecret([]byte(`{"auths":{"reg:5000":{"username":"robot","password":"pull-me-123","auth":"cm9ib3Q6cHVsbA=="}}}`))
	for _, want := range []string{"pull-me-123", "cm9ib3Q6cHVsbA=="} {
		if _, ok := l.set[want]; !ok {
			t.Errorf("%s is not a literal", want)
		}
	}
}

func TestPublicNamesAreNoSecrets(t *testing.T) {
	l := newLiterals([]string{"wordcab"})
	l.addSecret([]byte("wordcab"))
	if _, ok := l.set["wordcab"]; ok {
		t.Error("the namespace's name is a literal")
	}
}

// FuzzScrub: whatever the text and the secrets, no secret of six bytes or more survives, in any of its forms.
func FuzzScrub(f *testing.F) {
	f.Add([]byte("log abcdef password=abcdef"), "abcdef", "***password", uint8(0))
	f.Add([]byte(`{"a":"x\"y<z>12"}`), `x"y<z>12`, "******", uint8(1))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nabc\n"), "PRIVATE KEY", "-----BEGIN", uint8(2))
	f.Add([]byte("***=***: token"), "***=***", "token: ***", uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, a, b string, form uint8) {
		l := newLiterals(nil)
		l.addSecret([]byte(a))
		l.addSecret([]byte(b))
		m, err := l.matcher()
		if err != nil {
			t.Skip() // larger than is ever scrubbed
		}
		forms := []string{a, base64.StdEncoding.EncodeToString([]byte(a)), jsonEscape(a, true), base64.RawURLEncoding.EncodeToString([]byte(b))}
		in := append(append(append([]byte(nil), text...), forms[int(form)%len(forms)]...), text...)
		out := (&scrubber{m}).text(in, none)
		for _, s := range append(forms, b) {
			if len(s) >= minLiteral && len(a) >= minLiteral && len(b) >= minLiteral && bytes.Contains(out, []byte(s)) {
				t.Fatalf("%q survives in %q", s, out)
			}
		}
		if m.found(out) {
			t.Fatalf("a literal survives in %q", out)
		}
	})
}
