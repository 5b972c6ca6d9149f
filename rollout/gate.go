package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

const (
	gateTimeout = 10 * time.Second
	gateBody    = 1 << 20 // bytes of an answer that are read
	maxMessage  = 500     // bytes of a verdict's message
)

// errNoProxy means that the API server answered for itself: the pod was not reached.
var errNoProxy = errors.New("pod was not reached through the API server")

// podProxy asks a pod through the API server and returns status and body.
type podProxy struct {
	base   *url.URL
	client *http.Client
}

// newPodProxy asks with the operator's rights. No redirect is followed: it could lead anywhere, and the client would show its token there.
func newPodProxy(cfg *rest.Config) (*podProxy, error) {
	shared, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("reaching the API server: %w", err)
	}
	client := new(http.Client)
	*client = *shared // it may be http.DefaultClient
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("reaching the API server: %w", err)
	}
	return &podProxy{base: base, client: client}, nil
}

// request is what is asked through the API server. At is pods/[https:]NAME:PORT or services/[https:]NAME:PORT of a namespace.
type request struct {
	namespace, at string
	method, path  string
	header        map[string]string
	body          []byte
	timeout       time.Duration
}

// ask is a request without a body to a pod.
func (p *podProxy) ask(ctx context.Context, pod *corev1.Pod, port, method, path string) (int, []byte, error) {
	return p.send(ctx, request{namespace: pod.Namespace, at: "pods/http:" + pod.Name + ":" + port, method: method, path: path})
}

// send returns status and body. errNoProxy: nobody but the API server has answered.
func (p *podProxy) send(ctx context.Context, q request) (int, []byte, error) {
	if q.timeout <= 0 {
		q.timeout = gateTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, q.method, p.url(q), bytes.NewReader(q.body))
	if err != nil {
		return 0, nil, err
	}
	for k, v := range q.header {
		req.Header.Set(k, v)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errNoProxy, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, gateBody+1))
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errNoProxy, err)
	}
	if len(body) > gateBody {
		return resp.StatusCode, nil, fmt.Errorf("answer is longer than %d bytes", gateBody)
	}
	if why := apiStatus(resp, body); why != "" {
		return 0, nil, fmt.Errorf("%w: %s", errNoProxy, why)
	}
	return resp.StatusCode, body, nil
}

func (p *podProxy) url(q request) string {
	path, query, _ := strings.Cut(q.path, "?")
	u := p.base.JoinPath("api/v1/namespaces", q.namespace, q.at, "proxy", path)
	u.RawQuery = query
	return u.String()
}

// again is the command by which a person asks the same.
func (p *podProxy) again(q request) string {
	path, query, _ := strings.Cut(q.path, "?")
	u := (&url.URL{Path: "/"}).JoinPath("api/v1/namespaces", q.namespace, q.at, "proxy", path)
	u.RawQuery = query
	if q.method != http.MethodGet {
		return fmt.Sprintf("%s to %s", q.method, u)
	}
	return fmt.Sprintf("kubectl get --raw '%s'", u)
}

// apiStatus recognizes an answer of the API server itself, by its form: a pod that speaks for itself does not send a
// Kubernetes Status.
func apiStatus(resp *http.Response, body []byte) string {
	if resp.StatusCode < 400 {
		return ""
	}
	var st metav1.Status
	if json.Unmarshal(body, &st) == nil && st.Kind == "Status" && st.APIVersion == "v1" {
		return st.Message
	}
	// The proxy's own dial errors are plain text with no header of a pod's server.
	if resp.StatusCode == http.StatusBadGateway || (resp.StatusCode == http.StatusServiceUnavailable && bytes.HasPrefix(body, []byte("Error trying to reach service"))) {
		return strings.TrimSpace(string(body))
	}
	return ""
}

// asking is one round of gates.
type asking struct {
	*podProxy
	namespace  string
	prometheus string // the site's, "" = where the gates say
}

// runGates asks every gate, once. The verdict of an http gate is the worst of its pods'.
func (a asking) runGates(ctx context.Context, p PoolState, pods []corev1.Pod) []GateResult {
	out := make([]GateResult, 0, len(p.Gates.Post))
	for _, g := range p.Gates.Post {
		var r GateResult
		switch {
		case g.HTTP != nil:
			r = a.askPods(ctx, *g.HTTP, pods)
		case g.Prometheus != nil:
			r = a.askPrometheus(ctx, *g.Prometheus, p.Name, p.Baselines[g.ID])
		default:
			r = GateResult{Verdict: Broken, Message: "gate has no check"}
		}
		r.ID, r.Message = g.ID, cut(r.Message, maxMessage)
		out = append(out, r)
	}
	return out
}

func (p *podProxy) askPods(ctx context.Context, g HTTPGate, pods []corev1.Pod) GateResult {
	res := GateResult{Verdict: Pass}
	if len(pods) == 0 {
		return GateResult{Verdict: Inconclusive, Message: "pool has no pods"}
	}
	said := ""
	for i := range pods {
		v, msg := p.askPod(ctx, g, &pods[i])
		if v == Fail || (v != Pass && res.Verdict == Pass) {
			res.Verdict, res.Message = v, "pod "+pods[i].Name+": "+msg
		}
		if v == Fail {
			return res
		}
		said = msg
	}
	if res.Verdict == Pass {
		res.Message = strings.TrimSuffix(fmt.Sprintf("%d pods, %s %s: %s", len(pods), g.method(), g.Path, said), ": ")
	}
	return res
}

func (g HTTPGate) method() string {
	switch {
	case g.Method != "":
		return g.Method
	case g.BodySHA != "":
		return http.MethodPost
	}
	return http.MethodGet
}

func (p *podProxy) askPod(ctx context.Context, g HTTPGate, pod *corev1.Pod) (Verdict, string) {
	port, err := podPort(pod, g.Port)
	if err != nil {
		return Broken, err.Error()
	}
	if g.BodySHA != "" && g.Body == nil {
		return Broken, "the request's body is not at hand: the release that has it must be loaded"
	}
	scheme := g.Scheme
	if scheme == "" {
		scheme = "http"
	}
	q := request{namespace: pod.Namespace, at: "pods/" + scheme + ":" + pod.Name + ":" + port, method: g.method(), path: g.Path,
		header: maps.Clone(g.Headers), body: g.Body, timeout: time.Duration(g.Timeout)}
	if g.ContentType != "" {
		if q.header == nil {
			q.header = map[string]string{}
		}
		q.header["Content-Type"] = g.ContentType
	}
	status, body, err := p.send(ctx, q)
	switch {
	case errors.Is(err, errNoProxy):
		return Broken, err.Error() + "; " + p.again(q)
	case err != nil:
		return Fail, err.Error()
	}
	v, why := judgeAnswer(g.Expect, status, body)
	if v != Pass {
		why += "; " + p.again(q)
	}
	return v, why
}

// judgeAnswer compares an answer with what is expected. It is pure.
func judgeAnswer(e HTTPExpect, status int, body []byte) (Verdict, string) {
	want := e.Status
	if want == 0 {
		want = http.StatusOK
	}
	if status != want {
		return Fail, fmt.Sprintf("status %d, want %d", status, want)
	}
	if e.JSONPath == "" {
		return judgeText(e, []string{strings.TrimSpace(string(body))})
	}
	steps, err := parsePath(e.JSONPath)
	if err != nil {
		return Broken, err.Error()
	}
	var doc any
	if err := json.Unmarshal(body, &doc); err != nil {
		return Fail, "answer is not JSON"
	}
	var got []string
	for _, v := range selectPath(doc, steps) {
		if s, ok := v.(string); ok {
			got = append(got, s)
			continue
		}
		text, err := json.Marshal(v)
		if err == nil {
			got = append(got, string(text))
		}
	}
	for _, w := range e.Contains {
		if !slices.Contains(got, w) {
			return Fail, fmt.Sprintf("%s has %.200q, want %q", e.JSONPath, got, w)
		}
	}
	if len(got) == 0 {
		return Fail, e.JSONPath + " selects nothing"
	}
	return judgeText(e, got)
}

// judgeText compares the selected text with the one that is expected.
func judgeText(e HTTPExpect, got []string) (Verdict, string) {
	if e.Equals == nil && e.WER == nil {
		return Pass, ""
	}
	if len(got) != 1 {
		return Fail, fmt.Sprintf("%s selects %d values, one is compared", e.JSONPath, len(got))
	}
	if e.Equals != nil && got[0] != *e.Equals {
		return Fail, fmt.Sprintf("%.200q, want %.200q", got[0], *e.Equals)
	}
	if e.WER == nil {
		return Pass, ""
	}
	rate, err := wordErrorRate(e.WER.Reference, got[0])
	switch {
	case err != nil:
		return Broken, err.Error()
	case rate > e.WER.Max:
		return Fail, fmt.Sprintf("word error rate %.3f, at most %.3f: %.200q", rate, e.WER.Max, got[0])
	}
	return Pass, fmt.Sprintf("word error rate %.3f, at most %.3f", rate, e.WER.Max)
}

// podPort finds a port by number or name; "" is the first port that a container declares.
func podPort(pod *corev1.Pod, port string) (string, error) {
	if _, err := strconv.ParseUint(port, 10, 16); err == nil {
		return port, nil
	}
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if port == "" || p.Name == port {
				return strconv.Itoa(int(p.ContainerPort)), nil
			}
		}
	}
	return "", fmt.Errorf("pod %s declares no port %q", pod.Name, port)
}
