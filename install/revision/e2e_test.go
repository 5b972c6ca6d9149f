//go:build e2e

package revision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/wordcab/wcbundle/rollout"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// These tests want a control plane with controllers, a scheduler and nodes (kwok's will do) where a pod whose image tag
// contains "bad" cannot pull and every other pod becomes ready: WCBUNDLE_TEST_KUBECONFIG. The http gate's test wants
// pod addresses that reach this process, too: WCBUNDLE_TEST_PODNET=1.

const podPort = 18080

// site is a namespace with an operator's tools.
type site struct {
	t   *testing.T
	c   *Client
	ns  string
	mu  sync.Mutex
	log []string
}

func newSite(t *testing.T) *site {
	t.Helper()
	file := os.Getenv("WCBUNDLE_TEST_KUBECONFIG")
	if file == "" {
		t.Fatal("WCBUNDLE_TEST_KUBECONFIG is not set")
	}
	ns := os.Getenv("WCBUNDLE_TEST_NAMESPACE") // a child of a crash test
	if ns == "" {
		ns = fmt.Sprintf("t%d", time.Now().UnixNano())
	}
	c, err := New(Config{Kubeconfig: file, Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, c: c, ns: ns}
	if os.Getenv("WCBUNDLE_TEST_NAMESPACE") == "" {
		if _, err := c.Kube().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { // pods of an old test would make the next one slow
			ctx := context.WithoutCancel(t.Context())
			if err := c.Kube().CoreV1().Namespaces().Delete(ctx, ns, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	return s
}

func (s *site) chart(version string) []byte {
	s.t.Helper()
	ch, err := loader.LoadDir("testdata/story")
	if err != nil {
		s.t.Fatal(err)
	}
	ch.Metadata.Version = version
	file, err := chartutil.Save(ch, s.t.TempDir())
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *site) pools() []rollout.Pool {
	limit := rollout.Duration(20 * time.Second)
	return []rollout.Pool{
		{Name: "alpha", Order: 10, Workloads: []rollout.Workload{{Kind: "Deployment", Name: "alpha"}}, MaxSurge: "1", MaxUnavailable: "0", ReadyTimeout: limit},
		{Name: "beta", Order: 20, Workloads: []rollout.Workload{{Kind: "Deployment", Name: "beta"}}, ReadyTimeout: limit},
		{Name: "gamma", Order: 30, Workloads: []rollout.Workload{{Kind: "StatefulSet", Name: "gamma"}}, ReadyTimeout: limit},
	}
}

// want is a new version of the story: chart version, values, pools.
type want struct {
	version string
	values  map[string]any
	pools   []rollout.Pool
}

func tags(alpha, beta, gamma string, more ...map[string]any) map[string]any {
	v := map[string]any{"tag": map[string]any{"alpha": alpha, "beta": beta, "gamma": gamma}}
	for _, m := range more {
		maps.Copy(v, m)
	}
	return v
}

func (s *site) engine(req Request) rollout.Engine {
	return rollout.Engine{Config: s.c.RESTConfig(), Releaser: s.c.Operation(req), Namespace: s.ns, Release: "story",
		Holder: fmt.Sprintf("test-%d", os.Getpid()), Interval: 200 * time.Millisecond, LockTTL: 6 * time.Second, OnEvent: s.note}
}

func (s *site) note(p rollout.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := fmt.Sprintf("%s %s %s %d/%d %s", p.Phase, p.Pool, p.State, p.Ready, p.Total, p.Reason)
	s.log = append(s.log, line)
	s.t.Log(line)
}

// request and op are what apply makes of a version: plan, then an operation for the pools that roll.
func (s *site) request(w want) Request {
	return Request{Chart: s.chart(w.version), Values: w.values, Release: "story", Bundle: w.version}
}

func (s *site) op(id string, w want) rollout.State {
	s.t.Helper()
	ctx := s.t.Context()
	h, err := s.c.History(ctx, "story")
	if errors.Is(err, ErrNoRelease) {
		base := rollout.Pool{Name: rollout.BasePool, Workloads: []rollout.Workload{{Kind: "Deployment", Name: "old"}}}
		return rollout.NewOperation(id, rollout.TypeInstall, append([]rollout.Pool{base}, w.pools...), 0, 0)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	cur, _ := Current(h)
	return rollout.NewOperation(id, rollout.TypeApply, PoolsToRoll(s.classify(w), w.pools), h[len(h)-1].Number, cur.Number)
}

func (s *site) classify(w want) []Change {
	s.t.Helper()
	r, err := s.c.Render(s.t.Context(), RenderRequest{Chart: s.chart(w.version), Values: w.values, Release: "story"})
	if err != nil {
		s.t.Fatal(err)
	}
	prev, err := s.c.deployedManifest("story")
	if err != nil {
		s.t.Fatal(err)
	}
	changes, err := s.c.Classify(s.t.Context(), r.Manifest, prev, w.pools)
	if err != nil {
		s.t.Fatal(err)
	}
	return changes
}

func (s *site) apply(id string, w want) rollout.Outcome {
	s.t.Helper()
	out, err := rollout.Run(s.t.Context(), s.engine(s.request(w)), s.op(id, w))
	if err != nil {
		s.t.Fatalf("%s: %v", id, err)
	}
	return out
}

func (s *site) must(phase rollout.Phase, out rollout.Outcome) rollout.Outcome {
	s.t.Helper()
	if out.Phase != phase {
		s.t.Fatalf("outcome %+v, want %s", out, phase)
	}
	return out
}

// pods maps the uid of each pod of an app to its image.
func (s *site) pods(app string) map[string]string {
	s.t.Helper()
	list, err := s.c.Kube().CoreV1().Pods(s.ns).List(s.t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			out[string(p.UID)] = p.Spec.Containers[0].Image
		}
	}
	return out
}

func (s *site) images(app, tag string, n int) {
	s.t.Helper()
	pods := s.pods(app)
	for _, image := range pods {
		if !strings.HasSuffix(image, ":"+tag) {
			s.t.Errorf("%s runs %s, want tag %s", app, image, tag)
		}
	}
	if len(pods) != n {
		s.t.Errorf("%s has %d pods, want %d", app, len(pods), n)
	}
}

// clean checks that the newest manifests hold nothing of ours, and that nothing live is still held.
func (s *site) clean() {
	s.t.Helper()
	h, err := s.c.History(s.t.Context(), "story")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, r := range h {
		if strings.Contains(r.Manifest, "paused") || strings.Contains(r.Manifest, fmt.Sprint(rollout.HoldPartition)) {
			s.t.Errorf("revision %d stores a hold", r.Number)
		}
	}
	ds, err := s.c.Kube().AppsV1().Deployments(s.ns).List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range ds.Items {
		if d.Spec.Paused || d.Annotations[rollout.AnnotationHeldBy] != "" || d.Annotations[rollout.AnnotationOriginal] != "" {
			s.t.Errorf("%s is still held: %v", d.Name, d.Annotations)
		}
	}
	g, err := s.c.Kube().AppsV1().StatefulSets(s.ns).Get(s.t.Context(), "gamma", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	if *g.Spec.UpdateStrategy.RollingUpdate.Partition != 0 || g.Annotations[rollout.AnnotationHeldBy] != "" {
		s.t.Errorf("gamma is still held")
	}
}

func (s *site) revisions(wanted ...string) {
	s.t.Helper()
	h, err := s.c.History(s.t.Context(), "story")
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, r := range h {
		got = append(got, fmt.Sprintf("%d %s %s", r.Number, r.Status, r.Outcome))
	}
	if strings.Join(got, "; ") != strings.Join(wanted, "; ") {
		s.t.Errorf("revisions %q, want %q", got, wanted)
	}
}

func (s *site) v1() want { return want{"1.0.0", tags("1", "1", "1"), s.pools()} }

func TestStory(t *testing.T) {
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	s.revisions("1 deployed succeeded")
	s.clean()
	for _, app := range []string{"alpha", "beta", "gamma"} {
		s.images(app, "1", 2)
	}

	t.Log("--- upgrade: one pool at a time, what is not released keeps its pods")
	v2 := want{"1.1.0", tags("2", "2", "2", map[string]any{"old": false}), s.pools()}
	beta, gamma := s.pods("beta"), s.pods("gamma")
	e := s.engine(s.request(v2))
	sawAlpha := false
	e.OnEvent = func(p rollout.Progress) {
		s.note(p)
		if p.Phase == rollout.Rolling && p.Pool == "alpha" {
			sawAlpha = true
			if !maps.Equal(beta, s.pods("beta")) || !maps.Equal(gamma, s.pods("gamma")) {
				t.Error("a held pool lost pods during alpha's turn")
			}
		}
		if p.Phase == rollout.Rolling && len(s.pods("old")) == 0 {
			t.Error("what the revision drops was deleted before the gates")
		}
	}
	out, err := rollout.Run(t.Context(), e, s.op("op2", v2))
	if err != nil {
		t.Fatal(err)
	}
	s.must(rollout.Succeeded, out)
	if !sawAlpha {
		t.Error("alpha had no turn")
	}
	for _, app := range []string{"alpha", "beta", "gamma"} {
		s.images(app, "2", 2)
	}
	s.images("old", "", 0)
	s.revisions("1 superseded succeeded", "2 deployed succeeded")
	s.clean()

	t.Log("--- a bad image in the second pool: rolled back, the third pool never restarts")
	gamma = s.pods("gamma")
	out = s.must(rollout.RolledBack, s.apply("op3", want{"1.2.0", tags("3", "3bad", "3", map[string]any{"extra": "left-over"}), s.pools()}))
	if out.Pool != "beta" || !strings.Contains(out.Reason, "ImagePullBackOff") {
		t.Errorf("outcome %+v", out)
	}
	for _, app := range []string{"alpha", "beta", "gamma"} {
		s.images(app, "2", 2)
	}
	if !maps.Equal(gamma, s.pods("gamma")) {
		t.Error("gamma was restarted though it was never released")
	}
	s.revisions("1 superseded succeeded", "2 superseded succeeded", "3 superseded rolled-back", "4 deployed succeeded")
	s.clean()
	d, err := s.c.Kube().AppsV1().Deployments(s.ns).Get(t.Context(), "alpha", metav1.GetOptions{})
	if err != nil || len(d.Spec.Template.Spec.Containers[0].Env) != 0 {
		t.Errorf("the failed revision left its environment behind: %v", err)
	}

	t.Log("--- rollback to previous: not the failed one, not the one that runs")
	h, err := s.c.History(t.Context(), "story")
	if err != nil {
		t.Fatal(err)
	}
	prev, err := Previous(h)
	if err != nil || prev.Number != 1 {
		t.Fatalf("previous is %d, %v", prev.Number, err)
	}
	cur, _ := Current(h)
	changes, err := s.c.Classify(t.Context(), prev.Manifest, cur.Manifest, s.pools())
	if err != nil {
		t.Fatal(err)
	}
	op := rollout.NewRollback("op4", PoolsToRoll(changes, s.pools()), h[len(h)-1].Number, cur.Number, prev.Number)
	out, err = rollout.Run(t.Context(), s.engine(Request{Release: "story"}), op)
	if err != nil {
		t.Fatal(err)
	}
	s.must(rollout.Succeeded, out)
	for _, app := range []string{"alpha", "beta", "gamma"} {
		s.images(app, "1", 2)
	}
	s.images("old", "1", 1)
	s.clean()
}

// TestStatefulSetStuck: a set that waits for a pod of a bad revision is freed on the way back.
func TestStatefulSetStuck(t *testing.T) {
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	out := s.must(rollout.RolledBack, s.apply("op2", want{"1.1.0", tags("1", "1", "2bad"), s.pools()}))
	if out.Pool != "gamma" {
		t.Errorf("outcome %+v", out)
	}
	s.images("gamma", "1", 2)
	s.clean()
	st, err := rollout.NewStore(s.c.Kube(), s.ns, "story").Load(t.Context())
	if err != nil || st.Failure == nil || len(st.Failure.Evidence) == 0 {
		t.Errorf("no evidence was kept: %v", err)
	}
}

// TestClasses: what restarts nothing must restart nothing.
func TestClasses(t *testing.T) {
	s := newSite(t)
	v1 := s.v1()
	v1.values["checksum"] = "one"
	s.must(rollout.Succeeded, s.apply("op1", v1))
	v2 := want{"1.0.1", tags("1", "1", "1", map[string]any{"checksum": "two", "level": "debug"}), s.pools()}
	for _, c := range s.classify(v2) {
		class := ClassNone
		if c.Kind == "ConfigMap" {
			class = ClassConfigOnly
			if !strings.Contains(strings.Join(c.Why, "; "), "needs restart of Deployment/beta (envFrom)") {
				t.Errorf("why %q", c.Why)
			}
		}
		if c.Class != class {
			t.Errorf("%s/%s is %s, want %s: %q", c.Kind, c.Name, c.Class, class, c.Why)
		}
	}
	before := []map[string]string{s.pods("alpha"), s.pods("beta"), s.pods("gamma")}
	s.must(rollout.Succeeded, s.apply("op2", v2))
	time.Sleep(2 * time.Second) // controllers would have had the time to restart something
	for i, app := range []string{"alpha", "beta", "gamma"} {
		if !maps.Equal(before[i], s.pods(app)) {
			t.Errorf("%s was restarted", app)
		}
	}
	for _, c := range s.classify(want{"1.0.1", tags("2", "1", "1", map[string]any{"checksum": "two", "level": "debug"}), s.pools()}) {
		if c.Name == "alpha" && (c.Class != ClassRestart || c.Why[0] != "image 1 -> 2" && !strings.Contains(strings.Join(c.Why, ";"), "image 1 -> 2")) {
			t.Errorf("alpha is %s: %q", c.Class, c.Why)
		}
	}
}

// TestKill: a run that dies at any boundary is finished by the next one, in one revision.
func TestKill(t *testing.T) {
	for _, at := range []string{"CRDs", "Staging", "record", "patch", "Releasing", "Replacing", "Finalizing"} {
		t.Run(at, func(t *testing.T) {
			s := newSite(t)
			s.must(rollout.Succeeded, s.apply("op1", s.v1()))
			s.kill(at)
			e := s.engine(s.request(s.v2()))
			if _, err := rollout.Resume(t.Context(), e, rollout.ResumeOptions{}); !errors.Is(err, rollout.ErrLocked) {
				t.Errorf("resume while the dead run has the lock: %v", err)
			}
			s.must(rollout.Succeeded, s.unlocked(func() (rollout.Outcome, error) { return rollout.Resume(t.Context(), e, rollout.ResumeOptions{}) }))
			s.revisions("1 superseded succeeded", "2 deployed succeeded")
			for _, app := range []string{"alpha", "beta", "gamma"} {
				s.images(app, "2", 2)
			}
			s.clean()
		})
	}
}

// TestKillAbort: an operation that died while it staged is taken back whole, and restarts nothing.
func TestKillAbort(t *testing.T) {
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	before := []map[string]string{s.pods("alpha"), s.pods("beta"), s.pods("gamma")}
	s.kill("patch")
	e := s.engine(Request{Release: "story"})
	s.must(rollout.RolledBack, s.unlocked(func() (rollout.Outcome, error) { return rollout.Abort(t.Context(), e, "the window is over") }))
	s.revisions("1 superseded succeeded", "2 failed failed", "3 deployed succeeded")
	for i, app := range []string{"alpha", "beta", "gamma"} {
		if !maps.Equal(before[i], s.pods(app)) {
			t.Errorf("%s was restarted", app)
		}
	}
	d, err := s.c.Kube().AppsV1().Deployments(s.ns).Get(t.Context(), "alpha", metav1.GetOptions{})
	if err != nil || !strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":1") {
		t.Errorf("alpha keeps the template of the aborted revision: %v", err)
	}
	s.clean()
}

// kill runs the upgrade to v2 in another process, which kills itself at a boundary.
func (s *site) kill(at string) {
	s.t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.v")
	child.Env = append(os.Environ(), "WCBUNDLE_TEST_NAMESPACE="+s.ns, "WCBUNDLE_TEST_KILL="+at)
	text, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.t.Fatalf("child was not killed: %v\n%s", err, text)
	}
}

// unlocked repeats f until the dead process's lock has expired.
func (s *site) unlocked(f func() (rollout.Outcome, error)) rollout.Outcome {
	s.t.Helper()
	for {
		out, err := f()
		if err == nil {
			return out
		}
		if !errors.Is(err, rollout.ErrLocked) {
			s.t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// TestAutoscaled: what an autoscaler did survives an upgrade and a rollback, though the chart renders replicas.
func TestAutoscaled(t *testing.T) {
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "alpha"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 5,
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "alpha"}}}
	if _, err := s.c.Kube().AutoscalingV2().HorizontalPodAutoscalers(s.ns).Create(t.Context(), hpa, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.c.Kube().AppsV1().Deployments(s.ns).Patch(t.Context(), "alpha", types.MergePatchType, []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	s.must(rollout.RolledBack, s.apply("op2", want{"1.1.0", tags("2", "2bad", "1"), s.pools()}))
	s.images("alpha", "1", 3)
	s.must(rollout.Succeeded, s.apply("op3", want{"1.2.0", tags("3", "1", "1"), s.pools()}))
	s.images("alpha", "3", 3)
	s.clean()
}

func (s *site) v2() want { return want{"1.1.0", tags("2", "2", "2"), s.pools()} }

// TestKillChild is TestKill's other process.
func TestKillChild(t *testing.T) {
	at := os.Getenv("WCBUNDLE_TEST_KILL")
	if at == "" {
		t.Skip("runs only as a child of TestKill")
	}
	s := newSite(t)
	op := s.op("op2", s.v2())
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	s.c.get.cfg.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			patch := r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == ""
			if at == "record" && patch && strings.Contains(r.URL.Path, "/deployments/alpha") ||
				at == "patch" && patch && strings.Contains(r.URL.Path, "/statefulsets/gamma") {
				die()
			}
			return next.RoundTrip(r)
		})
	}
	e := s.engine(s.request(s.v2()))
	e.OnEvent = func(p rollout.Progress) {
		s.note(p)
		if string(p.Phase) == at || string(p.State) == at && p.Pool == "beta" {
			die()
		}
	}
	out, err := rollout.Run(t.Context(), e, op)
	t.Fatalf("survived: %+v, %v", out, err)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

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
