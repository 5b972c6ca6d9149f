package install

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/wordcab/wcbundle/bundle"
)

const someDigest = "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func manyReferences(n int) map[string]string {
	out := map[string]string{}
	for i := range n {
		ref := fmt.Sprintf("registry.example.com/a-team-with-a-long-name/product_%d/server-of-models:%d.12.34-rc.5", i, i)
		out[ref] = "10.96.0.50:5000/" + strings.TrimSuffix(ref, fmt.Sprintf(":%d.12.34-rc.5", i)) + "@" + someDigest
	}
	return out
}

// The API server's parser takes 100,000 characters in one expression.
func TestTablesStayBelowTheParsersLimit(t *testing.T) {
	for _, n := range []int{0, 1, 300, 2000} {
		p := podPolicy{Namespace: "shop", Pull: "10.96.0.50:5000", Secret: "s", Table: manyReferences(n)}
		tables, probe, probed, err := p.tables()
		if err != nil {
			t.Fatal(err)
		}
		whole := strings.Join(tables, "\n")
		for ref, to := range p.Table {
			if !strings.Contains(whole, fmt.Sprintf("%q: %q", ref, to)) {
				t.Fatalf("%d references: %s is not in the tables", n, ref)
			}
		}
		if !strings.Contains(whole, fmt.Sprintf("%q: %q", probe, probed)) {
			t.Errorf("%d references: the probe is not in the tables", n)
		}
		expressions := append(tables, lookup(len(tables)).images(), p.secret(lookup(len(tables))), named)
		for i, e := range expressions {
			if len(e) > 90_000 {
				t.Errorf("%d references: expression %d has %d characters", n, i, len(e))
			}
		}
	}
	p := podPolicy{Pull: "10.96.0.50:5000", Table: manyReferences(5000)}
	if _, _, _, err := p.tables(); err == nil || !strings.Contains(err.Error(), "has room for") {
		t.Errorf("a table that no policy has room for: %v", err)
	}
}

// Nothing but references gets into an expression that the API server evaluates.
func TestTablesRefuseWhatIsNoReference(t *testing.T) {
	for _, ref := range []string{"", `a"b`, "a\nb", "a b", `a\b`, "a{b}", "ä/b"} {
		for _, table := range []map[string]string{{ref: "h/r@" + someDigest}, {"a/b:1": ref}} {
			if _, _, _, err := (podPolicy{Pull: "h", Table: table}).tables(); err == nil {
				t.Errorf("%q was taken", table)
			}
		}
	}
}

// The probe must be another one whenever the policy would do something else, or the old policy would prove the new one.
func TestProbeTellsPoliciesApart(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range []podPolicy{
		{Pull: "h", Secret: "s", Table: map[string]string{"a": "h/a@" + someDigest}},
		{Pull: "i", Secret: "s", Table: map[string]string{"a": "h/a@" + someDigest}},
		{Pull: "h", Secret: "", Table: map[string]string{"a": "h/a@" + someDigest}},
		{Pull: "h", Secret: "s", Table: map[string]string{"a": "h/b@" + someDigest}},
		{Pull: "h", Secret: "s"},
	} {
		_, probe, _, err := p.tables()
		if err != nil || seen[probe] {
			t.Errorf("%+v: probe %s is another policy's too, or %v", p, probe, err)
		}
		seen[probe] = true
	}
}

// Only the release's namespace, only new pods, and open when it fails.
func TestPolicyReach(t *testing.T) {
	u := podPolicy{Namespace: "shop", Pull: "h", Secret: "s"}.policy("v1", []string{"{}"})
	spec := u.Object["spec"].(map[string]any)
	if u.GetName() != "wcbundle-references-shop" || spec["failurePolicy"] != "Ignore" {
		t.Errorf("%v", u.Object)
	}
	want := `map[namespaceSelector:map[matchLabels:map[kubernetes.io/metadata.name:shop]] resourceRules:[map[apiGroups:[] apiVersions:[v1] operations:[CREATE] resources:[pods]]]]`
	if got := fmt.Sprint(spec["matchConstraints"]); got != want {
		t.Errorf("reach is\n%s, want\n%s", got, want)
	}
	if n := len(spec["mutations"].([]any)); n != 2 {
		t.Errorf("%d mutations with a pull secret", n)
	}
	open := podPolicy{Namespace: "shop", Pull: "h"}.policy("v1", []string{"{}"})
	if n := len(open.Object["spec"].(map[string]any)["mutations"].([]any)); n != 1 {
		t.Errorf("%d mutations without a pull secret", n)
	}
}

// A tag that two releases give to different content belongs to the one that is named first: the one that is to run.
func TestRunTimeTable(t *testing.T) {
	release := func(digest byte, refs ...string) *bundle.Release {
		r := &bundle.Release{}
		for _, ref := range refs {
			i := bundle.Image{Ref: ref}
			i.Manifest.Digest = bundleDigest(digest)
			r.Images = append(r.Images, i)
		}
		return r
	}
	table, err := runTimeTable("h:5000", release('2', "r.example/a:1", "r.example/b:2"), release('1', "r.example/a:1", "r.example/b:1"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"r.example/a:1": "h:5000/r.example/a@" + string(bundleDigest('2')),
		"r.example/b:1": "h:5000/r.example/b@" + string(bundleDigest('1')),
		"r.example/b:2": "h:5000/r.example/b@" + string(bundleDigest('2')),
	}
	if fmt.Sprint(table) != fmt.Sprint(want) {
		t.Errorf("table %v, want %v", table, want)
	}
}

func TestRunTimeIsStrict(t *testing.T) {
	for _, s := range []string{"", "auto", "Policy", "policy "} {
		if _, err := ParseRunTime(s); err == nil {
			t.Errorf("%q was taken", s)
		}
	}
	raw := `{"apiVersion":"` + RecordVersion + `","generation":1,"site":"s","product":"p","trust":null,"registry":{"push":"h","pull":"h","runTime":"%s"}}`
	if _, err := decodeRecord([]byte(fmt.Sprintf(raw, "often"))); err == nil || !strings.Contains(err.Error(), "none of policy, mirrors, none") {
		t.Errorf("a record with an unknown way: %v", err)
	}
	r, err := decodeRecord([]byte(fmt.Sprintf(raw, "mirrors")))
	if err != nil || r.Registry.RunTime != RunTimeMirrors {
		t.Errorf("%v", err)
	}
	if (Address{}).RunTime.Way() != RunTimeNone {
		t.Error("a record from before has another way than none")
	}
}

func TestHooksOf(t *testing.T) {
	hook := func(event, image string) string {
		return "kind: Job\nmetadata: {name: j, annotations: {helm.sh/hook: \"" + event + "\"}}\nspec: {template: {spec: {containers: [{image: \"" + image + "\"}]}}}"
	}
	got, err := hooksOf([]string{hook("pre-upgrade, test", "r.example/a:1"), hook("test", "r.example/b:1"), hook("pre-delete", "r.example/c:1"), "kind: ConfigMap\nmetadata: {name: c, annotations: {helm.sh/hook: pre-install}}"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "[{Job/j [r.example/a:1]}]"; fmt.Sprint(got) != want {
		t.Errorf("hooks %v, want %s", got, want)
	}
}

func bundleDigest(c byte) digest.Digest {
	return digest.Digest("sha256:" + strings.Repeat(string(c), 64))
}
