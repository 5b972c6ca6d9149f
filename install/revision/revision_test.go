package revision

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/wordcab/wcbundle/rollout"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func storyChart(t *testing.T) []byte {
	t.Helper()
	ch, err := loader.LoadDir("testdata/story")
	if err != nil {
		t.Fatal(err)
	}
	return packed(t, ch)
}

// packed is a chart as an archive.
func packed(t *testing.T, ch *chart.Chart) []byte {
	t.Helper()
	file, err := chartutil.Save(ch, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRenderOffline(t *testing.T) {
	values := map[string]any{"tag": map[string]any{"alpha": "7"}}
	req := RenderRequest{Chart: storyChart(t), Values: values, Release: "story", Namespace: "n"}
	req.Post = func(b []byte) ([]byte, error) {
		return []byte(strings.ReplaceAll(string(b), "example.invalid", "site.invalid")), nil
	}
	got, err := RenderOffline(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got.Manifest, "image: site.invalid/alpha:7") || len(got.CRDs) != 1 || len(got.Hooks) != 0 {
		t.Errorf("rendered %+v", got)
	}
	if len(values) != 1 || len(values["tag"].(map[string]any)) != 1 {
		t.Errorf("values were changed: %v", values)
	}
	for name, bad := range map[string]RenderRequest{
		"no archive": {Release: "story"}, "not an archive": {Chart: []byte("x"), Release: "story"},
		"kube version": {Chart: req.Chart, Release: "story", KubeVersion: "x"},
	} {
		if _, err := RenderOffline(t.Context(), bad); err == nil {
			t.Errorf("%s was rendered", name)
		}
	}
}

func TestEdge54Previous(t *testing.T) {
	rev := func(n int, status, outcome, manifest string) Revision {
		return Revision{Number: n, Status: status, Outcome: outcome, ManifestDigest: manifest}
	}
	tests := map[string]struct {
		history []Revision
		want    int
	}{
		"one":                     {[]Revision{rev(1, "deployed", OutcomeSucceeded, "a")}, 0},
		"two":                     {[]Revision{rev(1, "superseded", OutcomeSucceeded, "a"), rev(2, "deployed", OutcomeSucceeded, "b")}, 1},
		"foreign":                 {[]Revision{rev(1, "superseded", OutcomeForeign, "a"), rev(2, "deployed", OutcomeSucceeded, "b")}, 1},
		"never a failed one":      {[]Revision{rev(1, "superseded", OutcomeSucceeded, "a"), rev(2, "failed", OutcomeForeign, "b"), rev(3, "deployed", OutcomeSucceeded, "c")}, 1},
		"never a rolled back one": {[]Revision{rev(1, "superseded", OutcomeSucceeded, "a"), rev(2, "superseded", OutcomeSucceeded, "b"), rev(3, "superseded", OutcomeRolledBack, "c"), rev(4, "deployed", OutcomeSucceeded, "b")}, 1},
		"no ping-pong":            {[]Revision{rev(1, "superseded", OutcomeSucceeded, "a"), rev(2, "superseded", OutcomeRolledBack, "b"), rev(3, "deployed", OutcomeSucceeded, "a")}, 0},
		"died rolling":            {[]Revision{rev(1, "superseded", OutcomeSucceeded, "a"), rev(2, "superseded", OutcomeRolling, "b"), rev(3, "deployed", OutcomeSucceeded, "c")}, 1},
		"dead pending":            {[]Revision{rev(1, "superseded", OutcomeSucceeded, "a"), rev(2, "deployed", OutcomeSucceeded, "b"), rev(3, "pending-upgrade", OutcomeRolling, "c")}, 1},
	}
	for name, tc := range tests {
		got, err := Previous(tc.history)
		if got.Number != tc.want || (err == nil) != (tc.want != 0) {
			t.Errorf("%s: %d, %v, want %d", name, got.Number, err, tc.want)
		}
	}
}

func one(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	docs, err := splitManifest([]byte(text))
	if err != nil || len(docs) != 1 {
		t.Fatalf("%d documents, %v", len(docs), err)
	}
	return docs[0].obj
}

func TestCompare(t *testing.T) {
	const live = "{kind: Deployment, apiVersion: apps/v1, metadata: {name: a, generation: 3}, status: {x: 1}, spec: {replicas: 2, minReadySeconds: 1, template: {spec: {containers: [{name: main, image: 'r/a:2.8.0'}]}}}}"
	tests := []struct{ from, to, after, why string }{
		{"", "", "none", ""},
		{"generation: 3", "generation: 4", "none", ""},
		{"replicas: 2", "replicas: 5", "scale-only", "spec.replicas 2 -> 5"},
		{"minReadySeconds: 1", "minReadySeconds: 9", "in-place", "spec.minReadySeconds 1 -> 9"},
		{"2.8.0", "2.9.0", "restart", "image 2.8.0 -> 2.9.0"},
		{"r/a:2.8.0", "q/a:2.8.0", "restart", "spec.containers[main].image r/a:2.8.0 -> q/a:2.8.0"},
	}
	for _, tc := range tests {
		class, why := compare(one(t, live), one(t, strings.ReplaceAll(live, tc.from, tc.to)))
		if string(class) != tc.after || strings.Join(why, "; ") != tc.why {
			t.Errorf("%s -> %s: %s %q", tc.from, tc.to, class, why)
		}
	}
	const secret = "{kind: Secret, apiVersion: v1, metadata: {name: s}, data: {KEY: aHVudGVyMg==}}"
	class, why := compare(one(t, secret), one(t, strings.ReplaceAll(secret, "aHVudGVyMg==", "b3RoZXI=")))
	if class != ClassConfigOnly || strings.Join(why, "") != "data.KEY changed" {
		t.Errorf("secret: %s %q", class, why)
	}
}

// TestEdge11Edge12HowConfigIsRead: a volume follows a change, everything else does not.
func TestEdge11Edge12HowConfigIsRead(t *testing.T) {
	config := changedConfig{one(t, "{kind: ConfigMap, apiVersion: v1, metadata: {name: c}}"), changedKeys{"k": true}}
	for spec, want := range map[string]string{
		"containers: [{name: m, envFrom: [{configMapRef: {name: c}}]}]":                                                                                                                                "envFrom",
		"initContainers: [{name: m, env: [{name: X, valueFrom: {configMapKeyRef: {name: c, key: k}}}]}]":                                                                                               "env",
		"volumes: [{name: v, configMap: {name: c}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c}]}]":                                                                                "volume",
		"volumes: [{name: v, projected: {sources: [{configMap: {name: c}}]}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c}]}]":                                                      "volume",
		"volumes: [{name: v, configMap: {name: c}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c, subPath: k}]}]":                                                                    "subPath",
		"volumes: [{name: v, configMap: {name: c}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c, subPath: k}, {name: v, mountPath: /d}]}]":                                          "subPath, volume",
		"containers: [{name: m, env: [{name: X, valueFrom: {configMapKeyRef: {name: c, key: other}}}]}]":                                                                                               "",
		"volumes: [{name: v, configMap: {name: c, items: [{key: other, path: k}]}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c}]}]":                                                "",
		"volumes: [{name: v, configMap: {name: c, items: [{key: k, path: d/f}]}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c, subPath: d}]}]":                                      "subPath",
		"volumes: [{name: v, configMap: {name: c}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c, subPath: other}]}]":                                                                "",
		"volumes: [{name: v, configMap: {name: c}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c, subPathExpr: $(POD_NAME)}]}]":                                                      "subPath",
		"volumes: [{name: v, configMap: {name: c}}], initContainers: [{name: m, volumeMounts: [{name: v, mountPath: /c}]}]":                                                                            "init container",
		"volumes: [{name: v, configMap: {name: c}}], initContainers: [{name: m, restartPolicy: Always, volumeMounts: [{name: v, mountPath: /c}]}]":                                                     "volume",
		"volumes: [{name: v, projected: {sources: [{configMap: {name: c, items: [{key: other, path: o}]}}, {secret: {name: c}}]}}], containers: [{name: m, volumeMounts: [{name: v, mountPath: /c}]}]": "",
		"containers: [{name: m, envFrom: [{secretRef: {name: c}}, {configMapRef: {name: other}}]}]":                                                                                                    "",
	} {
		pod := one(t, "{kind: Pod, apiVersion: v1, metadata: {name: a}, spec: {"+spec+"}}")
		how := config.readBy([]map[string]any{pod.Object})
		if got := strings.Join(how, ", "); got != want {
			t.Errorf("%s: %q, want %q", spec, got, want)
		}
		if r := (reader{how: how}); r.live() != (want == "volume") {
			t.Errorf("%s: seen live: %t", spec, r.live())
		}
	}
}

// TestConfigChanged: a Secret is compared as the API server keeps it, and with the revision that runs, so that a second try to stage
// comes to the same as the first.
func TestConfigChanged(t *testing.T) {
	secret := func(v string) *unstructured.Unstructured {
		return one(t, "{kind: Secret, apiVersion: v1, metadata: {name: s}, stringData: {K: "+v+"}}")
	}
	kept := one(t, "{kind: Secret, apiVersion: v1, metadata: {name: s}, data: {K: YQ==}}")
	for name, tc := range map[string]struct {
		target, prev, live *unstructured.Unstructured
		want               bool
	}{
		"the same":            {secret("a"), secret("a"), kept, false},
		"changed":             {secret("b"), secret("a"), kept, true},
		"tried a second time": {secret("a"), secret("b"), kept, true},
		"new":                 {secret("a"), nil, nil, false},
		"edited by hand":      {secret("b"), secret("b"), kept, true},
	} {
		if got := configChanged(tc.target, tc.prev, tc.live); got["K"] != tc.want || len(got) > 1 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCopyCosmetics(t *testing.T) {
	tpl := func(meta string) *unstructured.Unstructured {
		return one(t, "{kind: Deployment, apiVersion: apps/v1, metadata: {name: a}, spec: {template: {metadata: "+meta+"}}}")
	}
	target := tpl("{labels: {app: new, helm.sh/chart: a-2}, annotations: {checksum/config: two, mine: x}}")
	live := tpl("{labels: {app: old, helm.sh/chart: a-1}, annotations: {other: y}}")
	if !copyCosmetics(target, live) {
		t.Error("nothing changed")
	}
	want := tpl("{labels: {app: new, helm.sh/chart: a-1}, annotations: {mine: x}}")
	if !reflect.DeepEqual(target.Object, want.Object) {
		t.Errorf("got %v", target.Object)
	}
	if copyCosmetics(target, live) {
		t.Error("changed twice")
	}
}

func TestNarrowed(t *testing.T) {
	crd := func(versions string) *unstructured.Unstructured {
		return one(t, "{kind: CustomResourceDefinition, apiVersion: apiextensions.k8s.io/v1, metadata: {name: x}, spec: {versions: ["+versions+"]}}")
	}
	v := func(name, props string) string {
		return "{name: " + name + ", schema: {openAPIV3Schema: {properties: {" + props + "}}}}"
	}
	old := crd(v("v1", "a: {type: string}, b: {type: array, items: {properties: {c: {type: integer}}}}"))
	tests := map[string]*unstructured.Unstructured{
		"":                               crd(v("v1", "a: {type: string}, b: {type: array, items: {properties: {c: {type: integer}, d: {type: string}}}}") + "," + v("v2", "")),
		"version v1":                     crd(v("v2", "")),
		"field v1.a":                     crd(v("v1", "b: {type: array, items: {properties: {c: {type: integer}}}}")),
		"type string -> integer of v1.a": crd(v("v1", "a: {type: integer}, b: {type: array, items: {properties: {c: {type: integer}}}}")),
		"field v1.b[].c":                 crd(v("v1", "a: {type: string}, b: {type: array, items: {properties: {}}}")),
		"items of v1.b":                  crd(v("v1", "a: {type: string}, b: {type: array}")),
	}
	for want, target := range tests {
		if got := strings.Join(narrowed(old, target), "; "); got != want {
			t.Errorf("lost %q, want %q", got, want)
		}
	}
}

func TestPoolsToRoll(t *testing.T) {
	pools := []rollout.Pool{{Name: "asr", Order: 5}, {Name: "llm", Order: 10}, {Name: "tts", Order: 20}}
	changes := []Change{
		{Kind: "Deployment", Name: "api", Pool: rollout.BasePool, Class: ClassRestart}, {Kind: "Deployment", Name: "ui", Pool: rollout.BasePool, Class: ClassNone},
		{Kind: "Deployment", Name: "asr", Pool: "asr", Class: ClassScaleOnly}, {Kind: "StatefulSet", Name: "llm", Pool: "llm", Class: ClassRestart},
		{Kind: "ConfigMap", Name: "c", Class: ClassConfigOnly}, {Kind: "Deployment", Name: "tts", Pool: "tts", Class: ClassNew},
	}
	got := PoolsToRoll(changes, pools)
	if len(got) != 3 || got[0].Name != rollout.BasePool || got[0].Order >= 5 || len(got[0].Workloads) != 1 || got[1].Name != "llm" || got[2].Name != "tts" {
		t.Errorf("pools %+v", got)
	}
}

// TestManifestRoundTrip: what is not changed is written as it was read.
func TestManifestRoundTrip(t *testing.T) {
	const text = "---\n# Source: a.yaml\nkind: A\n---\n# Source: b.yaml\nkind: B\n"
	docs, err := splitManifest([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(joinManifest(docs)); got != text {
		t.Errorf("got %q", got)
	}
}

func FuzzSplitManifest(f *testing.F) {
	f.Add([]byte("---\nkind: A\n---\n# nothing\n---\n- list\n"))
	f.Add([]byte("kind: [\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if docs, err := splitManifest(b); err == nil {
			joinManifest(docs)
		}
	})
}

// TestEdge55Outdated: twenty revisions are kept, and what previous means however old it is: not even a row of failures removes it.
func TestEdge55Outdated(t *testing.T) {
	var h []Revision
	add := func(status, outcome, digest string) {
		h = append(h, Revision{Number: len(h) + 1, Status: status, Outcome: outcome, ManifestDigest: digest})
	}
	add("superseded", OutcomeSucceeded, "a")
	add("superseded", OutcomeSucceeded, "b")
	for range 25 {
		add("superseded", OutcomeRolledBack, "x")
		add("superseded", OutcomeSucceeded, "c")
	}
	h[len(h)-1].Status = "deployed"
	got := outdated(h)
	if slices.Contains(got, 2) || !slices.Contains(got, 1) || len(h)-len(got) != maxHistory+1 {
		t.Errorf("of %d revisions %v go", len(h), got)
	}
	if got := outdated(h[:maxHistory]); got != nil {
		t.Errorf("of %d revisions %v go", maxHistory, got)
	}
}
