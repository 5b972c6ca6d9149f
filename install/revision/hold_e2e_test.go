//go:build e2e

package revision

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wordcab/wcbundle/rollout"
	"helm.sh/helm/v3/pkg/action"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

// heldAfter applies a version and stops on hold when the pool is done.
func (s *site) heldAfter(id, pool string, w want) rollout.Outcome {
	s.t.Helper()
	op := s.op(id, w)
	if err := op.Limit(rollout.Limits{Until: pool}); err != nil {
		s.t.Fatal(err)
	}
	out, err := rollout.Run(s.t.Context(), s.engine(s.request(w)), op)
	if err != nil {
		s.t.Fatal(err)
	}
	if out.HeldFor != rollout.HeldForLimit {
		s.t.Fatalf("outcome %+v", out)
	}
	return s.must(rollout.Held, out)
}

func (s *site) resume(w want) rollout.Outcome {
	s.t.Helper()
	out, err := rollout.Resume(s.t.Context(), s.engine(s.request(w)), rollout.ResumeOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) abort(why string) rollout.Outcome {
	s.t.Helper()
	out, err := rollout.Abort(s.t.Context(), s.engine(Request{Release: "story"}), why)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) patch(kind, name, patch string) {
	s.t.Helper()
	var err error
	if kind == "Deployment" {
		_, err = s.c.Kube().AppsV1().Deployments(s.ns).Patch(s.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "somebody"})
	} else {
		_, err = s.c.Kube().AppsV1().StatefulSets(s.ns).Patch(s.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "somebody"})
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// becomes waits until an app has n pods of a tag, and no other.
func (s *site) becomes(app, tag string, n int) {
	s.t.Helper()
	var pods map[string]string
	for range 100 {
		good := 0
		pods = s.pods(app)
		for _, image := range pods {
			if strings.HasSuffix(image, ":"+tag) {
				good++
			}
		}
		if good == n && len(pods) == n {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	s.t.Errorf("%s has %v, want %d pods of tag %s", app, pods, n, tag)
}

// TestEdge1Edge2Edge6Edge7Edge51: what is on hold stays what it was, whatever the chart says, whoever kills its pods or scales it; and going
// back in the middle restarts nothing that was never released.
func TestEdge1Edge2Edge6Edge7Edge51Held(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1With(map[string]any{"sayPaused": true})))
	next := want{"1.1.0", tags("2", "2", "2", map[string]any{"sayPaused": true}), s.pools()}
	s.heldAfter("op2", "alpha", next)
	s.becomes("alpha", "2", 2)
	beta, gamma := s.pods("beta"), s.pods("gamma")
	for _, app := range []string{"beta", "gamma"} { // 1: the chart renders partition 0; 2: and that alpha is not paused
		s.images(app, "1", 2)
	}

	for uid := range beta { // 6
		s.killPod(uid)
		break
	}
	for uid := range gamma {
		s.killPod(uid)
		break
	}
	s.becomes("beta", "1", 2)
	s.becomes("gamma", "1", 2)

	s.patch("Deployment", "beta", `{"spec":{"replicas":5}}`) // 7
	s.patch("StatefulSet", "gamma", `{"spec":{"replicas":4}}`)
	s.becomes("beta", "1", 5)
	s.becomes("gamma", "1", 4)
	s.patch("Deployment", "beta", `{"spec":{"replicas":2}}`)
	s.patch("StatefulSet", "gamma", `{"spec":{"replicas":2}}`)
	s.becomes("beta", "1", 2)
	s.becomes("gamma", "1", 2)

	beta, gamma = s.pods("beta"), s.pods("gamma")
	s.must(rollout.RolledBack, s.abort("enough")) // 51
	settled()
	if !maps.Equal(beta, s.pods("beta")) || !maps.Equal(gamma, s.pods("gamma")) {
		t.Error("51: what was never released was restarted")
	}
	s.images("alpha", "1", 2)
	s.clean()
}

func (s *site) killPod(uid string) {
	s.t.Helper()
	list, err := s.c.Kube().CoreV1().Pods(s.ns).List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range list.Items {
		if string(p.UID) == uid {
			if err := s.c.Kube().CoreV1().Pods(s.ns).Delete(s.t.Context(), p.Name, metav1.DeleteOptions{}); err != nil {
				s.t.Fatal(err)
			}
		}
	}
}

// TestEdge4Edge5NewAndRemovedPools: a pool that is new has no pod before its turn; what is gone from the chart lives until the end, and
// going back before that restarts it not.
func TestEdge4Edge5NewAndRemovedPools(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	old := s.pods("old")
	pools := append(s.pools(), rollout.Pool{Name: "new", Order: 40, ReadyTimeout: s.pools()[0].ReadyTimeout,
		Workloads: []rollout.Workload{{Kind: "Deployment", Name: "delta"}, {Kind: "StatefulSet", Name: "epsilon"}}})
	next := want{"1.1.0", tags("2", "1", "1", map[string]any{"newPool": "1", "old": false}), pools}
	s.heldAfter("op2", "alpha", next)
	settled()
	s.images("delta", "", 0)
	s.images("epsilon", "", 0)
	if !maps.Equal(old, s.pods("old")) {
		t.Error("5: what the chart dropped was touched before the end")
	}
	s.must(rollout.RolledBack, s.abort("not yet"))
	settled()
	if !maps.Equal(old, s.pods("old")) {
		t.Error("5: going back restarted what the chart had dropped")
	}
	s.images("delta", "", 0)
	s.must(rollout.Succeeded, s.apply("op3", next))
	s.images("delta", "1", 2)
	s.images("epsilon", "1", 2)
	s.becomes("old", "", 0)
	s.clean()
}

// TestEdge8ScaledToZero: a set on hold that is scaled to zero would come back new (Kubernetes issue 121534): the operation stops and says so.
func TestEdge8ScaledToZero(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	next := want{"1.1.0", tags("2-bad", "1", "2"), s.pools()} // alpha never becomes ready
	out := s.must(rollout.Held, s.applyMeanwhile("op2", next, replacing, func() { s.patch("StatefulSet", "gamma", `{"spec":{"replicas":0}}`) }))
	if out.HeldFor != rollout.HeldForDrift || !strings.Contains(out.Reason, "scaled to 0") {
		t.Errorf("outcome %+v", out)
	}
}

// TestEdge80LetGo: a hold that somebody takes away is back within one look, and the operation waits.
func TestEdge80LetGo(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	next := want{"1.1.0", tags("2-bad", "2", "1"), s.pools()}
	out := s.must(rollout.Held, s.applyMeanwhile("op2", next, replacing, func() {
		s.patch("Deployment", "beta", `{"spec":{"paused":false,"template":{"metadata":{"annotations":{"by":"somebody"}}}},"metadata":{"annotations":{"bundle.wordcab.com/held-by":null}}}`)
	}))
	if out.HeldFor != rollout.HeldForDrift || !strings.Contains(out.Reason, "Deployment/beta") || !strings.Contains(out.Reason, "somebody") {
		t.Errorf("outcome %+v", out)
	}
	d, err := s.c.Kube().AppsV1().Deployments(s.ns).Get(t.Context(), "beta", metav1.GetOptions{})
	if err != nil || !d.Spec.Paused {
		t.Errorf("beta rolls: %v", err)
	}
	s.must(rollout.RolledBack, s.abort("mended"))
	s.becomes("beta", "1", 2)
	s.clean()
}

// TestEdge80LetGoCustom: the same for an object that is held by a rule for its kind.
func TestEdge80LetGoCustom(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	one := rollout.Workload{APIVersion: "story.wordcab.com/v1", Kind: "ModelPool", Name: "one"}
	rule := &rollout.HoldRule{Set: []rollout.HoldField{{Path: ".spec.limit", Held: int64(1)}}}
	next := want{"1.1.0", tags("2-bad", "1", "1", map[string]any{"limit": 20}), append(s.pools()[:1], rollout.Pool{Name: "models", Order: 40, Workloads: []rollout.Workload{one}, Hold: rule})}
	out := s.must(rollout.Held, s.applyMeanwhile("op2", next, replacing, func() {
		if _, err := s.c.dyn.Resource(modelPools).Namespace(s.ns).Patch(t.Context(), "one", types.MergePatchType, []byte(`{"spec":{"limit":7}}`), metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
	}))
	if out.HeldFor != rollout.HeldForDrift || !strings.Contains(out.Reason, "ModelPool/one was on hold and is not any more") {
		t.Errorf("outcome %+v", out)
	}
	limit := func(want int64) {
		t.Helper()
		live, err := s.c.dyn.Resource(modelPools).Namespace(s.ns).Get(t.Context(), "one", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := unstructured.NestedInt64(live.Object, "spec", "limit"); got != want {
			t.Errorf("the limit is %d, want %d", got, want)
		}
	}
	limit(1)
	s.must(rollout.RolledBack, s.abort("mended"))
	limit(10)
	s.clean()
}

// TestEdge3PlainHelm: what is stored is the chart's, so that plain helm goes on from it, after an operation and in the middle of one.
func TestEdge3PlainHelm(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	next := want{"1.1.0", tags("2", "2", "2"), s.pools()}
	s.heldAfter("op2", "alpha", next)
	cfg, err := s.c.helm(nil)
	if err != nil {
		t.Fatal(err)
	}
	back := action.NewRollback(cfg)
	back.Version = 1
	if err := back.Run("story"); err != nil { // templates of before: no pod is replaced, held or not
		t.Fatal(err)
	}
	settled()
	s.images("beta", "1", 2)
	s.images("gamma", "1", 2)
	out, err := rollout.Resume(t.Context(), s.engine(s.request(next)), rollout.ResumeOptions{})
	t.Logf("resume over a foreign revision: %+v, %v", out, err)
	if err == nil && out.Phase == rollout.Succeeded {
		t.Error("an operation whose revision is not the newest any more ended as if it were")
	}
	s.must(rollout.RolledBack, s.abort("helm went back already"))
	s.revisions("1 superseded succeeded", "2 superseded rolled-back", "3 deployed succeeded")
	s.clean()

	ch, err := loadChart(s.chart("1.2.0"))
	if err != nil {
		t.Fatal(err)
	}
	up := action.NewUpgrade(cfg)
	up.Namespace = s.ns
	if _, err := up.RunWithContext(t.Context(), "story", ch, tags("4", "4", "4")); err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"alpha", "beta", "gamma"} {
		s.becomes(app, "4", 2)
	}
	s.must(rollout.Succeeded, s.apply("op3", want{"1.3.0", tags("5", "4", "4"), s.pools()}))
	s.images("alpha", "5", 2)
	s.revisions("1 superseded succeeded", "2 superseded rolled-back", "3 superseded succeeded", "4 superseded foreign", "5 deployed succeeded")
	s.clean()
}

// TestEdge47RecordDeleted: an operation whose record somebody deleted is taken up by what is left of it, in both directions.
func TestEdge47RecordDeleted(t *testing.T) {
	t.Parallel()
	for _, abort := range []bool{false, true} {
		t.Run(fmt.Sprintf("abort=%t", abort), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.must(rollout.Succeeded, s.apply("op1", s.v1()))
			next := want{"1.1.0", tags("2", "2", "2"), s.pools()}
			s.heldAfter("op2", "beta", next)
			gamma := s.pods("gamma")
			if err := s.c.Kube().CoreV1().ConfigMaps(s.ns).Delete(t.Context(), "wcbundle-op-story", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			e := s.engine(s.request(next))
			if _, err := rollout.Resume(t.Context(), e, rollout.ResumeOptions{}); !errors.Is(err, rollout.ErrNoOperation) {
				t.Errorf("without a way to find it: %v", err)
			}
			e.Lost = func(ctx context.Context) (rollout.Found, error) {
				return s.c.Lost(ctx, "story", func(string) ([]rollout.Pool, error) { return s.pools(), nil })
			}
			if abort {
				out, err := rollout.Abort(t.Context(), e, "lost")
				if err != nil {
					t.Fatal(err)
				}
				s.must(rollout.RolledBack, out)
				s.revisions("1 superseded succeeded", "2 superseded rolled-back", "3 deployed succeeded")
				if !maps.Equal(gamma, s.pods("gamma")) {
					t.Error("gamma was restarted")
				}
			} else {
				out, err := rollout.Resume(t.Context(), e, rollout.ResumeOptions{})
				if err != nil {
					t.Fatal(err)
				}
				s.must(rollout.Succeeded, out)
				s.revisions("1 superseded succeeded", "2 deployed succeeded")
				s.images("gamma", "2", 2)
			}
			s.clean()
		})
	}
}

// TestEdge44TwoAppliers: the second is told who is at it.
func TestEdge44TwoAppliers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	next := want{"1.1.0", tags("2", "2", "2"), s.pools()}
	s.must(rollout.Succeeded, s.applyMeanwhile("op2", next, func(p rollout.Progress) bool { return p.Pool == "alpha" }, func() {
		other := s.engine(s.request(next))
		other.Holder = "other-1"
		if _, err := rollout.Run(t.Context(), other, s.op("op3", next)); !errors.Is(err, rollout.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("test-%d", os.Getpid())) {
			t.Errorf("the second applier: %v", err)
		}
	}))
}
