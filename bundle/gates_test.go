package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func gated(g Gate) Pool {
	return Pool{Name: "asr", Workloads: []Workload{{Kind: "Deployment", Name: "asr"}}, Gates: Gates{Post: []Gate{g}}}
}

// TestGateForms: what a gate may not say is refused, with the reason.
func TestGateForms(t *testing.T) {
	one := 1.0
	for want, g := range map[string]Gate{
		"":                           {ID: "a", HTTP: &HTTPGate{Path: "/v1/models"}},
		"two things":                 {ID: "a", HTTP: &HTTPGate{Path: "/"}, Prometheus: &PrometheusGate{Query: "up", Max: &one}},
		"checks nothing":             {ID: "a"},
		"small letters":              {ID: "A b", HTTP: &HTTPGate{Path: "/"}},
		"start with /":               {ID: "a", HTTP: &HTTPGate{Path: "v1"}},
		"neither GET nor POST":       {ID: "a", HTTP: &HTTPGate{Path: "/", Method: "DELETE"}},
		"take one":                   {ID: "a", HTTP: &HTTPGate{Path: "/", Body: "x", BodyFile: "y"}},
		"a GET has no body":          {ID: "a", HTTP: &HTTPGate{Path: "/", Method: "GET", Body: "x"}},
		"carries no login":           {ID: "a", HTTP: &HTTPGate{Path: "/", Headers: map[string]string{"authorization": "x"}}},
		"needs a jsonpath":           {ID: "a", HTTP: &HTTPGate{Path: "/", Expect: HTTPExpect{Contains: []string{"x"}}}},
		"needs a reference":          {ID: "a", HTTP: &HTTPGate{Path: "/", Expect: HTTPExpect{WER: &WER{}}}},
		"query is missing":           {ID: "a", Prometheus: &PrometheusGate{Max: &one}},
		"to compare with":            {ID: "a", Prometheus: &PrometheusGate{Query: "up"}},
		"like monitoring/prom":       {ID: "a", Prometheus: &PrometheusGate{Query: "up", Max: &one, Service: "prometheus"}},
		"maxRatio is more than 0":    {ID: "a", Prometheus: &PrometheusGate{Query: "up", Baseline: &Baseline{}}},
		"needs the query traffic":    {ID: "a", Prometheus: &PrometheusGate{Query: "up", Max: &one, MinTraffic: 2}},
		"interval \"soon\" is not a": {ID: "a", Interval: "soon", HTTP: &HTTPGate{Path: "/"}},
	} {
		err := checkPools([]Pool{gated(g)})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", g, err, want)
		}
	}
}

// TestPoolForms: what a pool may not say about canaries, drains and holds.
func TestPoolForms(t *testing.T) {
	set := []Workload{{Kind: "StatefulSet", Name: "asr"}}
	custom := []Workload{{APIVersion: "example.com/v1", Kind: "ModelPool", Name: "asr"}}
	hold := &Hold{Set: []HoldField{{".spec.paused", true}}, Ready: []string{"Ready"}}
	for want, p := range map[string]Pool{
		"":                            {Workloads: set, Canary: &Canary{Replicas: 1, Soak: "5m"}, Drain: &Drain{Path: "/drain", Until: "/inflight", Timeout: "1m"}, MaxSurge: "auto"},
		"give the pool a hold":        {Workloads: custom},
		"give apiVersion and kind":    {Workloads: set, Hold: hold},
		"between 1 and 1000":          {Workloads: set, Canary: &Canary{}},
		"cannot be counted":           {Workloads: custom, Hold: hold, Canary: &Canary{Replicas: 1}},
		"preStop hook":                {Workloads: []Workload{{Kind: "Deployment", Name: "a"}}, Drain: &Drain{Path: "/drain"}},
		"not like .spec.paused":       {Workloads: custom, Hold: &Hold{Set: []HoldField{{"spec", true}}, Ready: []string{"Ready"}}},
		"both are needed":             {Workloads: custom, Hold: &Hold{Set: hold.Set}},
		"true, false, a number":       {Workloads: custom, Hold: &Hold{Set: []HoldField{{".spec.a", []any{}}}, Ready: []string{"Ready"}}},
		"no replica could be":         {Workloads: set, MaxSurge: "0", MaxUnavailable: "0%"},
		"neither a number nor a perc": {Workloads: set, MaxUnavailable: "few"},
		"is not a duration":           {Workloads: set, ReadyTimeout: "-1m"},
	} {
		p.Name = "asr"
		err := checkPools([]Pool{p})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%+v: %v, want %q", p, err, want)
		}
	}
}

// TestEmbedBodies: a body file's bytes go into the release, and nothing of the definition is changed.
func TestEmbedBodies(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello.wav"), []byte("RIFF\x00"), 0o644); err != nil {
		t.Fatal(err)
	}
	def := []Pool{gated(Gate{ID: "golden", HTTP: &HTTPGate{Path: "/", BodyFile: "hello.wav"}})}
	got, err := embedBodies(def, dir)
	if err != nil {
		t.Fatal(err)
	}
	if h := got[0].Gates.Post[0].HTTP; string(h.BodyBytes) != "RIFF\x00" || h.BodyFile != "" {
		t.Errorf("%+v", h)
	}
	if def[0].Gates.Post[0].HTTP.BodyFile == "" {
		t.Error("the definition was changed")
	}
	if err := os.WriteFile(filepath.Join(dir, "hello.wav"), make([]byte, maxGateBody+1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := embedBodies(def, dir); err == nil {
		t.Error("a body of any size")
	}
}
