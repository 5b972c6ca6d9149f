package sign

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestTrustRoundTrip(t *testing.T) {
	s := newSite(t)
	s.form.Revoked = TrustRevoked{Keys: []string{strings.Repeat("b", 64), strings.Repeat("a", 64)}, Heads: []string{hexOf("a")}}
	trust, err := NewTrust(s.form)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(s.form.Keys)
	slices.Reverse(s.form.Roles.Release.Keys)
	slices.Reverse(s.form.Revoked.Keys)
	other, err := NewTrust(s.form)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(trust.Encode(), other.Encode()) {
		t.Errorf("equal policies, unequal bytes:\n%s\n%s", trust.Encode(), other.Encode())
	}
	back, err := ParseTrust(trust.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.Form(), trust.Form()) || !bytes.Equal(back.Encode(), trust.Encode()) {
		t.Errorf("it came back as\n%s", back.Encode())
	}
	if back.Product() != "wordcab" || back.Version() != 1 {
		t.Errorf("product %q, version %d", back.Product(), back.Version())
	}
	if key, ok := back.Key(s.release.KeyID()); !ok || key.KeyID() != s.release.KeyID() {
		t.Error("a key is missing")
	}
}

func TestTrustCannotBeChanged(t *testing.T) {
	s := newSite(t)
	trust, err := NewTrust(s.form)
	if err != nil {
		t.Fatal(err)
	}
	before := trust.Encode()
	s.form.Roles.Release.Keys[0], s.form.Roles.Security.Threshold, s.form.Keys[0].ID = "x", 0, "x"
	s.form.Roles.Security.Allow.Images[0], s.form.Roles.Security.Allow.Charts = "*", true
	form := trust.Form()
	form.Roles.Release.Keys[0], form.Roles.Security.Threshold, form.Keys[0].ID = "x", 0, "x"
	form.Roles.Security.Allow.Images[0], form.Roles.Security.Allow.Charts = "*", true
	if !bytes.Equal(trust.Encode(), before) {
		t.Error("the policy changed with its form")
	}
}

func TestTrustRefuses(t *testing.T) {
	cases := []struct {
		name   string
		change func(s *site)
		want   string
	}{
		{"zero", func(s *site) { s.form = TrustForm{} }, "schema"},
		{"later schema", func(s *site) { s.form.Schema = 2 }, "schema"},
		{"no version", func(s *site) { s.form.Version = 0 }, "version"},
		{"no product", func(s *site) { s.form.Product = "" }, "product"},
		{"T40 product", func(s *site) { s.form.Product = "../x" }, "product"},
		{"no keys", func(s *site) { s.form.Keys = nil }, "keys"},
		{"too many keys", func(s *site) { s.form.Keys = make([]TrustKey, maxKeys+1) }, "keys"},
		{"key twice", func(s *site) { s.form.Keys = append(s.form.Keys, s.form.Keys[0]) }, "twice"},
		{"T34 alias of a key", func(s *site) {
			k := s.form.Keys[0]
			k.ID = strings.Repeat("0", 64)
			s.form.Keys = append(s.form.Keys, k)
		}, "id"},
		{"unknown algorithm", func(s *site) { s.form.Keys[0].Algorithm = "rsa" }, "algorithm"},
		{"algorithm of another key", func(s *site) { s.form.Keys[0].Algorithm = Ed25519 }, "algorithm"},
		{"text around the key", func(s *site) { s.form.Keys[0].PEM = "mine:\n" + s.form.Keys[0].PEM }, "pem"},
		{"no PEM", func(s *site) { s.form.Keys[0].PEM = "" }, "PEM"},
		{"T35 threshold 0", func(s *site) { s.form.Roles.Release.Threshold = 0 }, "release.threshold"},
		{"T35 threshold -1", func(s *site) { s.form.Roles.Security.Threshold = -1 }, "security.threshold"},
		{"T35 threshold above keys", func(s *site) { s.form.Roles.Release.Threshold = 3 }, "release.threshold"},
		{"no release role", func(s *site) { s.form.Roles.Release = TrustRole{} }, "release.threshold"},
		{"role key unknown", func(s *site) { s.form.Roles.Release.Keys[0] = s.stranger.KeyID() }, "not among"},
		{"role key twice", func(s *site) { s.form.Roles.Release.Keys[1] = s.form.Roles.Release.Keys[0] }, "already"},
		{"T03 key in two roles", func(s *site) { s.form.Roles.Security.Keys[0] = s.release.KeyID() }, "already"},
		{"T37 security without limits", func(s *site) { s.form.Roles.Security.Allow = nil }, "security.allow.images"},
		{"T37 security without images", func(s *site) { s.form.Roles.Security.Allow.Images = nil }, "security.allow.images"},
		{"T37 no bound of size", func(s *site) { s.form.Roles.Security.Allow.MaxBytes = 0 }, "security.allow.maxBytes"},
		{"T37 no bound of time", func(s *site) { s.form.Roles.Security.Allow.MaxDays = 0 }, "security.allow.maxDays"},
		{"T37 a year", func(s *site) { s.form.Roles.Security.Allow.MaxDays = 365 }, "security.allow.maxDays"},
		{"T37 no pattern", func(s *site) { s.form.Roles.Security.Allow.Images = []string{"["} }, "security.allow.images"},
		{"T37 limits of another role", func(s *site) { s.form.Roles.Release.Allow = allowAll() }, "release.allow"},
		{"T13 expires is no time", func(s *site) { s.form.Expires = "2027" }, "expires"},
		{"revoked is no key id", func(s *site) { s.form.Revoked.Keys = []string{"x"} }, "revoked.keys"},
		{"T07 revoked is no digest", func(s *site) { s.form.Revoked.Heads = []string{strings.Repeat("a", 64)} }, "revoked.heads"},
	}
	for _, c := range cases {
		s := newSite(t)
		c.change(s)
		trust, err := NewTrust(s.form)
		if err == nil || trust != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
	s := newSite(t)
	trust, err := NewTrust(s.form)
	if err != nil {
		t.Fatal(err)
	}
	good := string(trust.Encode())
	for name, text := range map[string]string{
		"empty":             "",
		"unknown field":     strings.Replace(good, `"schema"`, `"mode": "permissive", "schema"`, 1),
		"T05 folded":        strings.Replace(good, `"threshold": 1`, `"threshold": 1, "Threshold": 1`, 1),
		"duplicate":         strings.Replace(good, `"version": 1`, `"version": 1, "version": 2`, 1),
		"T06 threshold 1.0": strings.Replace(good, `"threshold": 1`, `"threshold": 1.0`, 1),
		"null threshold":    strings.Replace(good, `"threshold": 1`, `"threshold": null`, 1),
		"unknown role":      strings.Replace(good, `"security"`, `"director"`, 1),
		"trailing":          good + "{}",
		"too large":         good + strings.Repeat(" ", MaxTrust),
	} {
		if text == good {
			t.Fatalf("%s: nothing was replaced", name)
		}
		if _, err := ParseTrust([]byte(text)); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}

func TestDelegationMatches(t *testing.T) {
	d := Delegation{Images: []string{"registry.example.com/wordcab/*", "docker.io/library/nginx"}, Models: []string{"asr-*"}}
	for ref, want := range map[string]bool{
		"registry.example.com/wordcab/asr:2.9.0":               true,
		"registry.example.com/wordcab/asr@" + hexOf("a"):       true,
		"registry.example.com/wordcab/asr:2.9.0@" + hexOf("a"): true,
		"registry.example.com/wordcab/deep/asr:1":              false,
		"registry.example.com:5000/wordcab/asr:1":              false,
		"docker.io/library/nginx:1.27":                         true,
		"docker.io/library/nginx-extra:1.27":                   false,
		"registry.example.com/wordcab/../../other/asr:1":       false,
		"": false,
	} {
		if d.Image(ref) != want {
			t.Errorf("image %q: %v", ref, !want)
		}
	}
	if !d.Model("asr-large-v4") || d.Model("tts") || (Delegation{}).Image("a") || (Delegation{}).Model("a") {
		t.Error("models, or a zero delegation that allows something")
	}
}

func FuzzParseTrust(f *testing.F) {
	s := fixedSite(f)
	trust, err := NewTrust(s.form)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(trust.Encode())
	s.form.Roles.Security, s.form.Revoked.Heads = nil, []string{hexOf("a")}
	if trust, err = NewTrust(s.form); err != nil {
		f.Fatal(err)
	}
	f.Add(trust.Encode())
	f.Add([]byte(`{"schema":1,"version":1,"product":"a","epoch":0,"keys":[],"roles":{"release":{"keys":[],"threshold":0}}}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		trust, err := ParseTrust(data)
		if err != nil {
			return
		}
		if r := trust.role("release"); r.Threshold < 1 || len(r.Keys) < r.Threshold {
			t.Fatalf("role release is %s", r.describe())
		}
		back, err := ParseTrust(trust.Encode())
		if err != nil || !bytes.Equal(back.Encode(), trust.Encode()) {
			t.Fatalf("its encoding is another policy: %v\n%s", err, trust.Encode())
		}
	})
}
