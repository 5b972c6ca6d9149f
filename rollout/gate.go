package rollout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
)

// errNoProxy means that the API server answered for itself: the pod was not reached.
var errNoProxy = errors.New("pod was not reached through the API server")

// podProxy asks a pod through the API server and returns status and body.
type podProxy struct {
	base   *url.URL
	client *http.Client
}

func newPodProxy(cfg *rest.Config) (*podProxy, error) {
	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("reaching the API server: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("reaching the API server: %w", err)
	}
	return &podProxy{base: base, client: client}, nil
}

func (p *podProxy) get(ctx context.Context, pod *corev1.Pod, port, path string) (int, []byte, error) {
	return p.ask(ctx, pod, port, http.MethodGet, path)
}

func (p *podProxy) ask(ctx context.Context, pod *corev1.Pod, port, method, path string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	path, query, _ := strings.Cut(path, "?")
	u := p.base.JoinPath("api/v1/namespaces", pod.Namespace, "pods", "http:"+pod.Name+":"+port, "proxy", path)
	u.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return 0, nil, err
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

// runGates asks every gate of every pod, once. A gate's verdict is the worst of its pods'.
func (p *podProxy) runGates(ctx context.Context, gates []Gate, pods []corev1.Pod) []GateResult {
	out := make([]GateResult, 0, len(gates))
	for _, g := range gates {
		out = append(out, p.runGate(ctx, g, pods))
	}
	return out
}

func (p *podProxy) runGate(ctx context.Context, g Gate, pods []corev1.Pod) GateResult {
	res := GateResult{ID: g.ID, Verdict: Pass}
	if g.HTTP == nil {
		return GateResult{ID: g.ID, Verdict: Broken, Message: "gate has no check"}
	}
	if len(pods) == 0 {
		return GateResult{ID: g.ID, Verdict: Inconclusive, Message: "pool has no pods"}
	}
	for i := range pods {
		v, msg := p.askPod(ctx, *g.HTTP, &pods[i])
		if v == Fail || (v != Pass && res.Verdict == Pass) {
			res.Verdict, res.Message = v, "pod "+pods[i].Name+": "+msg
		}
		if v == Fail {
			return res
		}
	}
	if res.Verdict == Pass {
		res.Message = fmt.Sprintf("%d pods, GET %s", len(pods), g.HTTP.Path)
	}
	return res
}

func (p *podProxy) askPod(ctx context.Context, g HTTPGate, pod *corev1.Pod) (Verdict, string) {
	port, err := podPort(pod, g.Port)
	if err != nil {
		return Broken, err.Error()
	}
	status, body, err := p.get(ctx, pod, port, g.Path)
	switch {
	case errors.Is(err, errNoProxy):
		return Broken, err.Error()
	case err != nil:
		return Fail, err.Error()
	}
	return judgeAnswer(g.Expect, status, body)
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
		return Pass, ""
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
	return Pass, ""
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
