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

// TestEdge38PodProxy: the pods' failure is a fail, the API server's own is an error.
func TestEdge38PodProxy(t *testing.T) {
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
	ask := func(g Gate, pods ...corev1.Pod) GateResult {
		return asking{podProxy: p}.runGates(t.Context(), PoolState{Pool: Pool{Gates: Gates{Post: []Gate{g}}}}, pods)[0]
	}
	for want, pods := range map[Verdict][]corev1.Pod{
		Pass: {one("good")}, Fail: {one("good"), one("gone"), one("sick")}, Broken: {one("good"), one("gone")}, Inconclusive: nil,
	} {
		if got := ask(gate, pods...); got.Verdict != want {
			t.Errorf("%+v, want %s", got, want)
		}
	}
	if got := ask(gate, one("gone")); !strings.Contains(got.Message, "kubectl get --raw '/api/v1/namespaces/n/pods/http:gone:8080/proxy/v1/models?a=b'") {
		t.Errorf("38: the message does not say how to ask again: %s", got.Message)
	}
	if got := ask(Gate{ID: "empty"}, one("good")); got.Verdict != Broken {
		t.Errorf("a gate without a check: %+v", got)
	}
}

// TestEdge39WrongModel: 200 with another model's id is a failure of the release, not of the question.
func TestEdge39WrongModel(t *testing.T) {
	e := HTTPExpect{JSONPath: "$.data[*].id", Contains: []string{"asr-large-v4"}}
	if v, why := judgeAnswer(e, 200, []byte(`{"data":[{"id":"asr-large-v3"}]}`)); v != Fail || !strings.Contains(why, "asr-large-v3") {
		t.Errorf("%s %s", v, why)
	}
}

// TestGolden: a request whose answer is known.
func TestGolden(t *testing.T) {
	hello := "Hello, world!"
	for name, tc := range map[string]struct {
		e    HTTPExpect
		body string
		want Verdict
	}{
		"as it should be":  {HTTPExpect{JSONPath: "$.text", Equals: &hello}, `{"text":"Hello, world!"}`, Pass},
		"other text":       {HTTPExpect{JSONPath: "$.text", Equals: &hello}, `{"text":"Hello world"}`, Fail},
		"the whole answer": {HTTPExpect{Equals: &hello}, "Hello, world!\n", Pass},
		"near enough":      {HTTPExpect{JSONPath: "$.text", WER: &WER{Reference: "hello big world", Max: 0.34}}, `{"text":"Hello, world!"}`, Pass},
		"too far":          {HTTPExpect{JSONPath: "$.text", WER: &WER{Reference: "hello big world", Max: 0.3}}, `{"text":"Hello, world!"}`, Fail},
		"no reference":     {HTTPExpect{JSONPath: "$.text", WER: &WER{Reference: "...", Max: 0.3}}, `{"text":"Hello"}`, Broken},
		"two texts":        {HTTPExpect{JSONPath: "$.a[*]", Equals: &hello}, `{"a":["x","y"]}`, Fail},
		"silence":          {HTTPExpect{JSONPath: "$.text", WER: &WER{Reference: "hello", Max: 0.3}}, `{"text":""}`, Fail},
	} {
		if v, why := judgeAnswer(tc.e, 200, []byte(tc.body)); v != tc.want {
			t.Errorf("%s: %s %s, want %s", name, v, why, tc.want)
		}
	}
}

// TestBodies: the record has no bodies; a resumed operation gets those of the release back, by their digest, or cannot say.
func TestBodies(t *testing.T) {
	gate := func(sha string, body []byte) []Pool {
		return []Pool{{Name: "asr", Gates: Gates{Post: []Gate{{ID: "golden", HTTP: &HTTPGate{Path: "/", BodySHA: sha, Body: body}}}}}}
	}
	s := NewOperation("op", TypeApply, gate("aa", []byte("wav")), 1, 1)
	text := stateJSON(s)
	if strings.Contains(text, "wav") || strings.Contains(text, "d2F2") {
		t.Fatalf("a body is in the record: %s", text)
	}
	var back State
	if err := json.Unmarshal([]byte(text), &back); err != nil {
		t.Fatal(err)
	}
	back.FillBodies(gate("bb", []byte("another")))
	if got := back.Pools[0].Gates.Post[0].HTTP.Body; got != nil {
		t.Errorf("the body of another release: %s", got)
	}
	if v, _ := (&podProxy{}).askPod(t.Context(), *back.Pools[0].Gates.Post[0].HTTP, &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Ports: []corev1.ContainerPort{{ContainerPort: 1}}}}}}); v != Broken {
		t.Errorf("without its body: %s", v)
	}
	back.FillBodies(gate("aa", []byte("wav")))
	if got := back.Pools[0].Gates.Post[0].HTTP.Body; string(got) != "wav" {
		t.Errorf("body %q", got)
	}
}

func TestWordErrorRate(t *testing.T) {
	for _, tc := range []struct {
		ref, text string
		want      float64
	}{
		{"the cat sat", "the cat sat", 0}, {"the cat sat", "The cat, sat.", 0}, {"the cat sat", "the cat", 1.0 / 3}, {"the cat sat", "a the cat sat", 1.0 / 3},
		{"the cat sat", "", 1}, {"it's", "it\u2019s", 0}, {"a", "b c d", 3}, {"über 30 Jahre", "uber 30 jahre", 1.0 / 3},
	} {
		if got, err := wordErrorRate(tc.ref, tc.text); err != nil || got != tc.want {
			t.Errorf("%q %q: %g, want %g, %v", tc.ref, tc.text, got, tc.want, err)
		}
	}
	if _, err := wordErrorRate("a", strings.Repeat("a ", maxWords+1)); err == nil {
		t.Error("no bound on words")
	}
}

func FuzzWordErrorRate(f *testing.F) {
	f.Add("hello world", "hello")
	f.Add("it's", "\xff'")
	f.Fuzz(func(t *testing.T, a, b string) {
		rate, err := wordErrorRate(a, b)
		if err == nil && rate < 0 {
			t.Errorf("%g", rate)
		}
	})
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

// TestT53PodThatRedirects: a pod that sends elsewhere is not followed, and nobody there sees the operator's token.
func TestT53PodThatRedirects(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was asked, with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("the API server was asked with %q", r.Header.Get("Authorization"))
		}
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	}))
	defer api.Close()
	p, err := newPodProxy(&rest.Config{Host: api.URL, BearerToken: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	status, _, err := p.ask(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "n"}}, "80", http.MethodGet, "/v1/models")
	if err != nil || status != http.StatusFound {
		t.Errorf("status %d, %v", status, err)
	}
}
