//go:build e2e

package revision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wordcab/wcbundle/rollout"
	"helm.sh/helm/v3/pkg/chart/loader"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// These tests want a control plane with controllers, a scheduler and nodes (kwok's will do) where a pod whose image tag
// contains -nopull cannot pull and every other pod becomes ready: WCBUNDLE_TEST_KUBECONFIG. The http gate's test wants
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

// needs is what e2e/run.sh plane sets; a test that finds it missing fails where CI is true, and is skipped elsewhere.
func needs(t *testing.T, variable string) string {
	t.Helper()
	v := os.Getenv(variable)
	switch {
	case v == "" && os.Getenv("CI") == "true":
		t.Fatal(variable + " is not set")
	case v == "":
		t.Skip(variable + " is not set: e2e/run.sh plane sets it")
	}
	return v
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
	return packed(s.t, ch)
}

func (s *site) pools() []rollout.Pool {
	limit := rollout.Duration(40 * time.Second)
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

// applyMeanwhile applies, and does something once, in the middle.
func (s *site) applyMeanwhile(id string, w want, when func(rollout.Progress) bool, do func()) rollout.Outcome {
	s.t.Helper()
	e, done := s.engine(s.request(w)), false
	e.OnEvent = func(p rollout.Progress) {
		s.note(p)
		if !done && when(p) {
			done = true
			do()
		}
	}
	out, err := rollout.Run(s.t.Context(), e, s.op(id, w))
	if err != nil {
		s.t.Fatalf("%s: %v", id, err)
	}
	if !done {
		s.t.Errorf("%s: it came to nothing in the middle", id)
	}
	return out
}

// replacing tells that a pool of two is about to be replaced.
func replacing(p rollout.Progress) bool { return p.State == rollout.PoolReplacing && p.Total == 2 }

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
		if strings.Contains(r.Manifest, "paused: true") || strings.Contains(r.Manifest, fmt.Sprint(rollout.HoldPartition)) {
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

// rollback goes back to a revision as the command does.
func (s *site) rollback(id string, to int) rollout.Outcome {
	s.t.Helper()
	out, err := rollout.Run(s.t.Context(), s.engine(Request{Release: "story"}), s.backOp(id, to))
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) backOp(id string, to int) rollout.State {
	s.t.Helper()
	h, err := s.c.History(s.t.Context(), "story")
	if err != nil {
		s.t.Fatal(err)
	}
	cur, _ := Current(h)
	changes, err := s.c.ClassifyStored(s.t.Context(), h[to-h[0].Number].Manifest, cur.Manifest, s.pools())
	if err != nil {
		s.t.Fatal(err)
	}
	return rollout.NewRollback(id, PoolsToRoll(changes, s.pools()), h[len(h)-1].Number, cur.Number, to)
}
