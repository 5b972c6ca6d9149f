package rollout

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

func TestJudgeAnswer(t *testing.T) {
	models := HTTPExpect{JSONPath: "$.data[*].id", Contains: []string{"asr"}}
	tests := []struct {
		e      HTTPExpect
		status int
		body   string
		want   Verdict
	}{
		{HTTPExpect{}, 200, "", Pass},
		{HTTPExpect{}, 503, "", Fail},
		{HTTPExpect{Status: 204}, 204, "", Pass},
		{models, 200, `{"data":[{"id":"tts"},{"id":"asr"}]}`, Pass},
		{models, 200, `{"data":[{"id":"tts"}]}`, Fail},
		{models, 200, `{"data":[]}`, Fail},
		{models, 200, `not json`, Fail},
		{HTTPExpect{JSONPath: "$.n[1]", Contains: []string{"2"}}, 200, `{"n":[1,2]}`, Pass},
		{HTTPExpect{JSONPath: "$.gone"}, 200, `{}`, Fail},
		{HTTPExpect{JSONPath: "$..id"}, 200, `{}`, Broken},
	}
	for _, tc := range tests {
		if got, why := judgeAnswer(tc.e, tc.status, []byte(tc.body)); got != tc.want {
			t.Errorf("%+v, %d %s: %s (%s), want %s", tc.e, tc.status, tc.body, got, why, tc.want)
		}
	}
}

// TestPodProxy: the pods' failure is a fail, the API server's own is an error.
func TestPodProxy(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/pods/http:good:8080/proxy/v1/models") && r.URL.RawQuery == "a=b":
			fmt.Fprint(w, `{"ok":true}`)
		case strings.Contains(r.URL.Path, "http:sick:"):
			http.Error(w, "loading", http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			if err := json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Message: "dial tcp: refused"}); err != nil {
				t.Error(err)
			}
		}
	}))
	defer srv.Close()
	p, err := newPodProxy(&rest.Config{Host: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	one := func(name string) corev1.Pod {
		c := corev1.Container{Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}}}
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "n"}, Spec: corev1.PodSpec{Containers: []corev1.Container{c}}}
	}
	gate := Gate{ID: "model", HTTP: &HTTPGate{Path: "/v1/models?a=b", Port: "http"}}
	for want, pods := range map[Verdict][]corev1.Pod{
		Pass: {one("good")}, Fail: {one("good"), one("gone"), one("sick")}, Broken: {one("good"), one("gone")}, Inconclusive: nil,
	} {
		if got := p.runGate(t.Context(), gate, pods); got.Verdict != want {
			t.Errorf("%+v, want %s", got, want)
		}
	}
	if got := p.runGate(t.Context(), Gate{ID: "empty"}, []corev1.Pod{one("good")}); got.Verdict != Broken {
		t.Errorf("a gate without a check: %+v", got)
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"$", "$.a.b[*].c", "$.a[0]", "$..", "$[", "$[*]x", "$.a[99999999999]"} {
		f.Add(s, `{"a":[{"b":1}]}`)
	}
	f.Fuzz(func(t *testing.T, path, doc string) {
		steps, err := parsePath(path)
		if err != nil {
			return
		}
		var v any
		if json.Unmarshal([]byte(doc), &v) == nil {
			selectPath(v, steps)
		}
	})
}
