//go:build e2e

package revision

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"

	"github.com/wordcab/wcbundle/rollout"
)

// TestEdge79Scale: the API server is asked a bounded number of times a second and the program stays small, however many pools and replicas
// there are. WCBUNDLE_TEST_SCALE=100x50 is the whole size: all pools are staged and held, and the first ten rolled, which takes six minutes on
// two cores. Here it is 10 pools of 10.
func TestEdge79Scale(t *testing.T) {
	pools, replicas := 10, 10
	if v := os.Getenv("WCBUNDLE_TEST_SCALE"); v != "" {
		a, b, _ := strings.Cut(v, "x")
		var err1, err2 error
		pools, err1 = strconv.Atoi(a)
		replicas, err2 = strconv.Atoi(b)
		if err1 != nil || err2 != nil {
			t.Fatal(v)
		}
	}
	s := newSite(t)
	forgetPeak(t) // of the tests before
	var asked atomic.Int64
	s.c.get.cfg.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			return next.RoundTrip(r)
		})
	}
	declared := make([]rollout.Pool, pools)
	for i := range declared {
		name := fmt.Sprintf("pool-%03d", i)
		declared[i] = rollout.Pool{Name: name, Order: i, Workloads: []rollout.Workload{{Kind: "Deployment", Name: name}}, MaxSurge: "100%", MaxUnavailable: "0",
			ReadyTimeout: rollout.Duration(5 * time.Minute)}
	}
	run := func(id string, kind rollout.Type, tag string, rolled []rollout.Pool, before int) (rollout.Outcome, float64) {
		req := Request{Chart: bigChart(t), Values: map[string]any{"pools": pools, "replicas": replicas, "tag": tag}, Release: "story", Bundle: "1.0.0"}
		e := s.engine(req)
		e.Interval = 0 // as it is for an operator
		var began time.Time
		var from int64
		e.OnEvent = func(p rollout.Progress) {
			if p.Phase == rollout.Rolling && began.IsZero() {
				began, from = time.Now(), asked.Load()
			}
		}
		op := rollout.NewOperation(id, kind, rolled, before, before)
		if len(rolled) > 10 {
			op.Limits.Until = rolled[9].Name
		}
		out, err := rollout.Run(t.Context(), e, op)
		if err != nil {
			t.Fatal(err)
		}
		return out, float64(asked.Load()-from) / time.Since(began).Seconds()
	}
	out, _ := run("op1", rollout.TypeInstall, "1", nil, 0) // all at once, as plain helm does
	s.must(rollout.Succeeded, out)
	s.readyPods(pools * replicas)
	out, rate := run("op2", rollout.TypeApply, "2", declared, 1)
	if pools <= 10 {
		s.must(rollout.Succeeded, out)
	} else if s.must(rollout.Held, out); out.HeldFor != rollout.HeldForLimit {
		t.Errorf("outcome %+v", out)
	}
	mib := peakMiB(t)
	t.Logf("%d pools of %d replicas: %.1f requests a second while they roll, %d MiB at most", pools, replicas, rate, mib)
	if rate > 15 {
		t.Errorf("%.1f requests a second", rate)
	}
	if mib > 300 {
		t.Errorf("%d MiB", mib)
	}
}

// readyPods waits for so many.
func (s *site) readyPods(n int) {
	s.t.Helper()
	for range 600 {
		ready, want := 0, 0
		list, err := s.c.Kube().AppsV1().Deployments(s.ns).List(s.t.Context(), metav1.ListOptions{})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, d := range list.Items {
			ready, want = ready+int(d.Status.ReadyReplicas), want+int(d.Status.Replicas)
		}
		if ready == n && want == n {
			return
		}
		time.Sleep(time.Second)
	}
	s.t.Fatalf("there are not %d ready pods", n)
}

// bigChart renders as many Deployments as its values say.
func bigChart(t *testing.T) []byte {
	t.Helper()
	const text = `{{- range $i := until (int .Values.pools) }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ printf "pool-%03d" $i }}}
spec:
  replicas: {{ $.Values.replicas }}
  selector: {matchLabels: {app: {{ printf "pool-%03d" $i }}}}
  template:
    metadata: {labels: {app: {{ printf "pool-%03d" $i }}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: main, image: "example.invalid/pool:{{ $.Values.tag }}"}]
{{- end }}
`
	ch := &chart.Chart{Metadata: &chart.Metadata{APIVersion: "v2", Name: "big", Version: "1.0.0"}, Templates: []*chart.File{{Name: "templates/all.yaml", Data: []byte(text)}}}
	b := packed(t, ch)
	if _, err := loader.LoadArchive(bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
	return b
}

// forgetPeak lets peakMiB count from now on (proc(5), clear_refs).
func forgetPeak(t *testing.T) {
	t.Helper()
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200); err != nil {
		t.Fatal(err)
	}
}

// peakMiB is the most memory that this process has had since.
func peakMiB(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}
