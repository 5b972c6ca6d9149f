//go:build e2e

package revision

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/rollout"
)

// TestHTTPGate asks the pods through the API server. The pods' addresses are this machine's, and their answers depend on
// the image of the pod that is asked.
func TestHTTPGate(t *testing.T) {
	needs(t, "WCBUNDLE_TEST_PODNET") // else the API server could not reach a pod
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

// TestEdge39Golden: a request with a known answer, to each pod. A pod that answers well, as another model, is a failure.
func TestEdge39Golden(t *testing.T) {
	needs(t, "WCBUNDLE_TEST_PODNET")
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	stop := s.servePods()
	defer stop()
	model := "hello by model 2"
	v2 := want{"1.1.0", tags("2", "1", "1"), s.pools()}
	v2.pools[0].Gates = rollout.Gates{Post: []rollout.Gate{{ID: "golden", Interval: rollout.Duration(200 * time.Millisecond),
		HTTP: &rollout.HTTPGate{Path: "/v1/transcribe", Port: "http", Body: []byte("hello"), BodySHA: "x", ContentType: "audio/wav",
			Expect: rollout.HTTPExpect{JSONPath: "$.text", Equals: &model}}}}}
	s.must(rollout.Succeeded, s.apply("op2", v2))
	out := s.must(rollout.RolledBack, s.apply("op3", want{"1.2.0", tags("3", "1", "1"), v2.pools}))
	if out.Gate != "golden" || !strings.Contains(out.Reason, "hello by model 3") {
		t.Errorf("outcome %+v", out)
	}
	s.images("alpha", "2", 2)
	s.clean()
}
