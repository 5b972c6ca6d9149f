//go:build e2e

package revision

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/wordcab/wcbundle/rollout"
)

// What the pool alpha answers, as its operator would ask Prometheus.
const (
	errorRate = `sum(rate(errors_total{pool="$pool"}[5s])) / sum(rate(requests_total{pool="$pool"}[5s]))`
	traffic   = `sum(rate(requests_total{pool="$pool"}[5s]))`
)

// TestEdge37PrometheusItself: a gate asks Prometheus itself, through the API server. It compares with what was before the pool was touched;
// more errors than then go back, no traffic and no Prometheus hold.
func TestEdge37PrometheusItself(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	calls := s.serveCalls()
	stop := s.runPrometheus(calls)
	gated := func(version, tag string) want {
		w := want{version, tags(tag, "1", "1"), s.pools()}
		least := 1.0
		w.pools[0].Gates = rollout.Gates{Soak: rollout.Duration(8 * time.Second), Post: []rollout.Gate{{ID: "err-rate", Interval: rollout.Duration(500 * time.Millisecond),
			Prometheus: &rollout.PrometheusGate{Query: errorRate, Service: s.ns + "/prometheus:9090", Traffic: traffic, MinTraffic: least, Baseline: &rollout.BaselineRule{MaxRatio: 1.5}}}}}
		return w
	}
	calls.are(50, 0.1)
	s.must(rollout.Succeeded, s.apply("op2", gated("1.1.0", "2")))
	st, err := rollout.NewStore(s.c.Kube(), s.ns, "story").Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b := st.Pools[0].Baselines["err-rate"]; b.Value == nil || *b.Value < 0.09 || *b.Value > 0.11 {
		t.Errorf("baseline %+v", b)
	}

	out := s.must(rollout.RolledBack, s.applyMeanwhile("op3", gated("1.2.0", "3"), replacing, func() { calls.set(50, 0.4) }))
	if out.Gate != "err-rate" || !strings.Contains(out.Reason, "at most 1.5 times 0.") {
		t.Errorf("outcome %+v", out)
	}
	s.images("alpha", "2", 2)

	calls.are(0, 0)
	quiet := gated("1.3.0", "4")
	s.held("op4", quiet, "traffic is 0, below 1 it says nothing")
	e := s.engine(s.request(quiet))
	e.Pools, e.By = quiet.pools, "ops"
	if out, err = rollout.Resume(t.Context(), e, rollout.ResumeOptions{Accept: []string{"err-rate"}, Reason: "no calls at night"}); err != nil {
		t.Fatal(err)
	}
	s.must(rollout.Succeeded, out)
	s.accepted("err-rate", "ops", "no calls at night")

	calls.are(50, 0.1)
	stop()
	s.held("op5", gated("1.4.0", "5"), "err-rate")
	s.must(rollout.RolledBack, s.abort("Prometheus is away"))
	s.images("alpha", "4", 2)
	s.clean()
}

// accepted wants a person's decision in the record.
func (s *site) accepted(gate, by, reason string) {
	s.t.Helper()
	st, err := rollout.NewStore(s.c.Kube(), s.ns, "story").Load(s.t.Context())
	if err != nil || !slices.ContainsFunc(st.Decisions, func(d rollout.Decision) bool {
		return d.What == "accept" && d.Gate == gate && d.By == by && d.Reason == reason
	}) {
		s.t.Errorf("the decision is not in the record: %+v, %v", st.Decisions, err)
	}
}

// held wants an operation to wait for its gate, and to say why.
func (s *site) held(id string, w want, why string) {
	s.t.Helper()
	out := s.must(rollout.Held, s.apply(id, w))
	if out.HeldFor != rollout.HeldForGate || out.Gate != "err-rate" || !strings.Contains(out.Gate+out.Reason, why) {
		s.t.Errorf("outcome %+v", out)
	}
}

// calls is a program whose requests and errors are counted, as Prometheus reads counters.
type calls struct {
	s    *site
	port int
	web  string // Prometheus

	mu               sync.Mutex
	rate, share      float64
	requests, errors float64
	last             time.Time
}

// set lets so many requests a second come from now on, of which a share are errors.
func (c *calls) set(rate, share float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count()
	c.rate, c.share = rate, share
}

func (c *calls) count() {
	now := time.Now()
	n := c.rate * now.Sub(c.last).Seconds()
	c.requests, c.errors, c.last = c.requests+n, c.errors+n*c.share, now
}

func (c *calls) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	fmt.Fprintf(w, "# TYPE requests_total counter\nrequests_total{pool=\"alpha\"} %g\n# TYPE errors_total counter\nerrors_total{pool=\"alpha\"} %g\n", c.requests, c.errors)
}

// are waits until Prometheus says so, too.
func (c *calls) are(rate, share float64) {
	c.s.t.Helper()
	c.set(rate, share)
	if rate == 0 {
		share = math.NaN()
	}
	got := ""
	for range 100 {
		got = c.ask(strings.ReplaceAll(errorRate, "$pool", "alpha"))
		if v, err := strconv.ParseFloat(got, 64); err == nil && (math.Abs(v-share) < 0.005 || math.IsNaN(v) && math.IsNaN(share)) {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	c.s.t.Fatalf("Prometheus says %q, want %g", got, share)
}

// ask is Prometheus' answer, "" for none.
func (c *calls) ask(query string) string {
	resp, err := http.Get(c.web + "/api/v1/query?" + url.Values{"query": {query}}.Encode())
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var a struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || len(a.Data.Result) != 1 {
		return ""
	}
	return fmt.Sprint(a.Data.Result[0].Value[1])
}

func (s *site) serveCalls() *calls {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	c := &calls{s: s, port: l.Addr().(*net.TCPAddr).Port, last: time.Now()}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: c}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	s.t.Cleanup(func() {
		srv.Close()
		<-done
	})
	return c
}

// runPrometheus starts it behind a Service of the site's namespace. stop ends it.
func (s *site) runPrometheus(c *calls) (stop func()) {
	s.t.Helper()
	program := needs(s.t, "WCBUNDLE_TEST_PROMETHEUS")
	dir, port := s.t.TempDir(), freePort(s.t)
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global: {scrape_interval: 500ms, scrape_timeout: 400ms}\nscrape_configs: [{job_name: pools, static_configs: [{targets: ['127.0.0.1:%d']}]}]\n", c.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", fmt.Sprintf("0.0.0.0:%d", port))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		})
	}
	s.t.Cleanup(func() {
		stop()
		if s.t.Failed() {
			lines := strings.Split(said.String(), "\n")
			s.t.Logf("Prometheus said:\n%s", strings.Join(slices.Clone(lines[max(0, len(lines)-30):]), "\n"))
		}
	})
	c.web = fmt.Sprintf("http://127.0.0.1:%d", port)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "prometheus"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "beta"}, // whose addresses are this machine's
		Ports: []corev1.ServicePort{{Name: "web", Port: 9090, TargetPort: intstr.FromInt32(int32(port))}}}}
	if _, err := s.c.Kube().CoreV1().Services(s.ns).Create(s.t.Context(), svc, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	return stop
}
