//go:build e2e

package revision

import (
	"io"
	"slices"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wordcab/wcbundle/rollout"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestHTTPGate asks the pods through the API server. The pods' addresses are this machine's, and their answers depend on
// the image of the pod that is asked.
func TestHTTPGate(t *testing.T) {
	if os.Getenv("WCBUNDLE_TEST_PODNET") == "" {
		t.Skip("WCBUNDLE_TEST_PODNET is not set: the API server could not reach a pod")
	}
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	stop := s.servePods()
	defer stop()
	v2 := want{"1.1.0", tags("2", "1", "1"), s.pools()}
	gate := &rollout.HTTPGate{Path: "/v1/models", Port: "http", Expect: rollout.HTTPExpect{JSONPath: "$.data[*].id", Contains: []string{"model-2"}}}
	v2.pools[0].Gates = rollout.Gates{Post: []rollout.Gate{{ID: "model", HTTP: gate}}, Soak: rollout.Duration(time.Second)}
	s.must(rollout.Succeeded, s.apply("op2", v2))

	v3 := want{"1.2.0", tags("3", "1", "1"), v2.pools} // answers model-3
	out := s.must(rollout.RolledBack, s.apply("op3", v3))
	if out.Gate != "model" || !strings.Contains(out.Reason, "model-3") {
		t.Errorf("outcome %+v", out)
	}
	s.images("alpha", "2", 2)

	stop()
	v4 := want{"1.3.0", tags("4", "1", "1"), v2.pools} // nobody answers: not the pods' fault
	out = s.must(rollout.Held, s.apply("op4", v4))
	if out.Gate != "model" {
		t.Errorf("outcome %+v", out)
	}
	if _, err := rollout.Run(t.Context(), s.engine(s.request(v4)), s.op("op5", v4)); !errors.Is(err, rollout.ErrOpen) {
		t.Errorf("a second operation over a held one: %v", err)
	}
	out, err := rollout.Resume(t.Context(), s.engine(s.request(v4)), rollout.ResumeOptions{Accept: []string{"model"}})
	if err != nil {
		t.Fatal(err)
	}
	s.must(rollout.Succeeded, out)
	s.images("alpha", "4", 2)
	s.clean()
}

// servePods answers for every pod.
func (s *site) servePods() (stop func()) {
	s.t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", podPort))
	if err != nil {
		s.t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
		host, _, err := net.SplitHostPort(addr.String())
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		pods, err := s.c.Kube().CoreV1().Pods(s.ns).List(r.Context(), metav1.ListOptions{FieldSelector: "status.podIP=" + host})
		if err != nil || len(pods.Items) != 1 {
			http.Error(w, fmt.Sprintf("pod %s: %v", host, err), http.StatusInternalServerError)
			return
		}
		_, tag := splitImage(pods.Items[0].Spec.Containers[0].Image)
		if r.Method == http.MethodPost { // a golden request
			body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
			if err != nil {
				s.t.Error(err)
			}
			fmt.Fprintf(w, `{"text":"%s by model %s"}`, body, tag)
			return
		}
		fmt.Fprintf(w, `{"data":[{"id":"model-%s"}]}`, tag)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	var once sync.Once
	return func() {
		once.Do(func() {
			srv.Close()
			if err := <-done; !errors.Is(err, http.ErrServerClosed) {
				s.t.Error(err)
			}
		})
	}
}

// TestEdge37Edge39GoldenAndPrometheus: a request with a known answer to each pod, and a Service that answers as Prometheus does, both
// through the real API server. No data holds; a person says why it goes on, and the record keeps it.
func TestEdge37Edge39GoldenAndPrometheus(t *testing.T) {
	if os.Getenv("WCBUNDLE_TEST_PODNET") == "" {
		t.Skip("WCBUNDLE_TEST_PODNET is not set: the API server could not reach a pod")
	}
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	stop := s.servePods()
	defer stop()
	rate := s.servePrometheus()
	model := "hello by model 2"
	zero := rollout.Duration(200 * time.Millisecond)
	v2 := want{"1.1.0", tags("2", "1", "1"), s.pools()}
	v2.pools[0].Gates = rollout.Gates{Post: []rollout.Gate{
		{ID: "golden", Interval: zero, HTTP: &rollout.HTTPGate{Path: "/v1/transcribe", Port: "http", Body: []byte("hello"), BodySHA: "x", ContentType: "audio/wav",
			Expect: rollout.HTTPExpect{JSONPath: "$.text", Equals: &model}}},
		{ID: "err-rate", Interval: zero, Prometheus: &rollout.PrometheusGate{Query: "rate", Service: s.ns + "/prometheus:9090", Baseline: &rollout.BaselineRule{MaxRatio: 1.5}}},
	}}
	rate.Store(`"0.1"`)
	s.must(rollout.Succeeded, s.apply("op2", v2))
	st, err := rollout.NewStore(s.c.Kube(), s.ns, "story").Load(t.Context())
	if err != nil || st.Pools[0].Baselines["err-rate"].Value == nil || *st.Pools[0].Baselines["err-rate"].Value != 0.1 {
		t.Errorf("baseline %+v, %v", st.Pools[0].Baselines, err)
	}

	worse := want{"1.2.0", tags("3", "1", "1"), v2.pools} // 39: it answers, as another model
	out := s.must(rollout.RolledBack, s.apply("op3", worse))
	if out.Gate != "golden" || !strings.Contains(out.Reason, "hello by model 3") {
		t.Errorf("outcome %+v", out)
	}

	third := "hello by model 4"
	v4 := want{"1.3.0", tags("4", "1", "1"), s.pools()}
	v4.pools[0].Gates = rollout.Gates{Post: slices.Clone(v2.pools[0].Gates.Post)}
	golden := *v4.pools[0].Gates.Post[0].HTTP
	golden.Expect.Equals = &third
	v4.pools[0].Gates.Post[0].HTTP = &golden
	rate.Store(`"NaN"`)
	out = s.must(rollout.Held, s.apply("op4", v4))
	if out.HeldFor != rollout.HeldForGate || out.Gate != "err-rate" {
		t.Errorf("outcome %+v", out)
	}
	e := s.engine(s.request(v4))
	e.Pools, e.By = v4.pools, "ops"
	out, err = rollout.Resume(t.Context(), e, rollout.ResumeOptions{Accept: []string{"err-rate"}, Reason: "no calls at night"})
	if err != nil {
		t.Fatal(err)
	}
	s.must(rollout.Succeeded, out)
	st, err = rollout.NewStore(s.c.Kube(), s.ns, "story").Load(t.Context())
	if err != nil || !slices.ContainsFunc(st.Decisions, func(d rollout.Decision) bool {
		return d.What == "accept" && d.Gate == "err-rate" && d.By == "ops" && d.Reason == "no calls at night"
	}) {
		t.Errorf("the decision is not in the record: %+v, %v", st.Decisions, err)
	}
	s.clean()
}

// servePrometheus answers every query with the value that is stored, behind a Service of the site's namespace.
func (s *site) servePrometheus() *atomic.Value {
	s.t.Helper()
	value := new(atomic.Value)
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		s.t.Fatal(err)
	}
	srv := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,%s]}]}}`, value.Load())
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	s.t.Cleanup(func() {
		srv.Close()
		<-done
	})
	port := int32(l.Addr().(*net.TCPAddr).Port)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "prometheus"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "beta"}, // whose addresses are this machine's
		Ports: []corev1.ServicePort{{Name: "web", Port: 9090, TargetPort: intstr.FromInt32(port)}}}}
	if _, err := s.c.Kube().CoreV1().Services(s.ns).Create(s.t.Context(), svc, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	settled()
	return value
}
