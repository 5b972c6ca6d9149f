package rollout

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// TestEdge37Prometheus asks a server with the answers that the documentation of Prometheus' HTTP API shows, through the path of the API
// server's service proxy. Only a value that was measured can fail.
func TestEdge37Prometheus(t *testing.T) {
	vector := func(values ...string) string {
		var list []string
		for _, v := range values {
			list = append(list, fmt.Sprintf(`{"metric":{},"value":[1435781451.781,%q]}`, v))
		}
		return `{"status":"success","data":{"resultType":"vector","result":[` + strings.Join(list, ",") + `]}}`
	}
	answers := map[string]string{
		"low": vector("0.001"), "high": vector("0.2"), "empty": vector(), "two": vector("1", "2"), "nan": vector("NaN"), "inf": vector("+Inf"),
		"scalar":    `{"status":"success","data":{"resultType":"scalar","result":[1435781451.781,"3"]}}`,
		"wrong":     `{"status":"error","errorType":"bad_data","error":"parse error"}`,
		"html":      `<html>`,
		"traffic 9": vector("9"), "traffic 500": vector("500"),
		`up{pool="asr",namespace="n"}`: vector("1"),
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/namespaces/monitoring/services/prometheus:9090/proxy/api/v1/query" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","message":"no endpoints available for service"}`)
			return
		}
		a := answers[r.URL.Query().Get("query")]
		if strings.Contains(a, `"error"`) {
			w.WriteHeader(http.StatusBadRequest)
		}
		fmt.Fprint(w, a)
	}))
	defer srv.Close()
	p, err := newPodProxy(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	one, tenth := 1.0, 0.1
	base := Baseline{Value: &tenth}
	at := "monitoring/prometheus:9090"
	ratio := &BaselineRule{MaxRatio: 1.5, MinAbs: 0.002}
	for name, tc := range map[string]struct {
		gate PrometheusGate
		base Baseline
		site string
		want Verdict
	}{
		"below":                     {PrometheusGate{Query: "low", Service: at, Max: &tenth}, Baseline{}, "", Pass},
		"above":                     {PrometheusGate{Query: "high", Service: at, Max: &tenth}, Baseline{}, "", Fail},
		"too low":                   {PrometheusGate{Query: "low", Service: at, Min: &one}, Baseline{}, "", Fail},
		"a scalar":                  {PrometheusGate{Query: "scalar", Service: at, Max: &one}, Baseline{}, "", Fail},
		"37: empty":                 {PrometheusGate{Query: "empty", Service: at, Max: &one}, Baseline{}, "", Inconclusive},
		"37: NaN":                   {PrometheusGate{Query: "nan", Service: at, Max: &one}, Baseline{}, "", Inconclusive},
		"37: Inf":                   {PrometheusGate{Query: "inf", Service: at, Max: &one}, Baseline{}, "", Inconclusive},
		"37: several series":        {PrometheusGate{Query: "two", Service: at, Max: &one}, Baseline{}, "", Inconclusive},
		"37: no traffic":            {PrometheusGate{Query: "high", Service: at, Max: &tenth, Traffic: "traffic 9", MinTraffic: 200}, Baseline{}, "", Inconclusive},
		"37: nothing about traffic": {PrometheusGate{Query: "high", Service: at, Max: &tenth, Traffic: "empty", MinTraffic: 200}, Baseline{}, "", Inconclusive},
		"traffic":                   {PrometheusGate{Query: "high", Service: at, Max: &tenth, Traffic: "traffic 500", MinTraffic: 200}, Baseline{}, "", Fail},
		"37: Prometheus is down":    {PrometheusGate{Query: "low", Service: "monitoring/gone:9090", Max: &one}, Baseline{}, "", Broken},
		"a query that is none":      {PrometheusGate{Query: "wrong", Service: at, Max: &one}, Baseline{}, "", Broken},
		"another server":            {PrometheusGate{Query: "html", Service: at, Max: &one}, Baseline{}, "", Broken},
		"nobody knows where":        {PrometheusGate{Query: "low", Max: &one}, Baseline{}, "", Broken},
		"the site knows":            {PrometheusGate{Query: "low", Service: "other/gone:1", Max: &one}, Baseline{}, at, Pass},
		"as before":                 {PrometheusGate{Query: "low", Service: at, Baseline: ratio}, base, "", Pass},
		"worse than before":         {PrometheusGate{Query: "high", Service: at, Baseline: ratio}, base, "", Fail},
		"no baseline":               {PrometheusGate{Query: "high", Service: at, Baseline: ratio}, Baseline{Note: "no data"}, "", Inconclusive},
		"names are put in":          {PrometheusGate{Query: `up{pool="$pool",namespace="$namespace"}`, Service: at, Min: &one}, Baseline{}, "", Pass},
	} {
		a := asking{p, "n", tc.site}
		got := a.askPrometheus(t.Context(), tc.gate, "asr", tc.base)
		if got.Verdict != tc.want {
			t.Errorf("%s: %+v, want %s", name, got, tc.want)
		}
	}
	got := asking{p, "n", ""}.baselines(t.Context(), Pool{Name: "asr", Gates: Gates{Post: []Gate{
		{ID: "a", Prometheus: &PrometheusGate{Query: "high", Service: at, Baseline: ratio}},
		{ID: "b", Prometheus: &PrometheusGate{Query: "empty", Service: at, Baseline: ratio}},
		{ID: "c", Prometheus: &PrometheusGate{Query: "high", Service: at, Max: &one}},
	}}}, t0)
	if len(got) != 2 || got["a"].Value == nil || *got["a"].Value != 0.2 || got["b"].Value != nil || got["b"].Note == "" {
		t.Errorf("baselines %+v", got)
	}
}

// TestEdge40BaselineZero: nothing before is no bar; what is little in any case passes.
func TestEdge40BaselineZero(t *testing.T) {
	zero := 0.0
	g := PrometheusGate{Baseline: &BaselineRule{MaxRatio: 1.5, MinAbs: 0.002}}
	for value, want := range map[float64]Verdict{0: Pass, 0.002: Pass, 0.003: Fail} {
		if v, why := judgeValue(g, value, Baseline{Value: &zero}); v != want {
			t.Errorf("%g: %s %s", value, v, why)
		}
	}
}

func FuzzOneValue(f *testing.F) {
	f.Add(200, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"2"]}]}}`)
	f.Add(200, `{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}`)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if v, err := oneValue(status, []byte(body)); err == nil && v != v {
			t.Error("NaN is no value")
		}
	})
}
