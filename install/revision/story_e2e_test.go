//go:build e2e

package revision

import (
	"maps"
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/wordcab/wcbundle/rollout"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestStory(t *testing.T) {
	t.Parallel()
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
	out = s.must(rollout.RolledBack, s.apply("op3", want{"1.2.0", tags("3", "3-nopull", "3", map[string]any{"extra": "left-over"}), s.pools()}))
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
	changes, err := s.c.ClassifyStored(t.Context(), prev.Manifest, cur.Manifest, s.pools())
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

// TestEdge52StatefulSetStuck: a set that waits for a pod of a bad revision is freed on the way back.
func TestEdge52StatefulSetStuck(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	out := s.must(rollout.RolledBack, s.apply("op2", want{"1.1.0", tags("1", "1", "2-nopull"), s.pools()}))
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

// TestEdge81Autoscaled: what an autoscaler did survives an upgrade and a rollback, though the chart renders replicas.
func TestEdge81Autoscaled(t *testing.T) {
	t.Parallel()
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
	s.must(rollout.RolledBack, s.apply("op2", want{"1.1.0", tags("2", "2-nopull", "1"), s.pools()}))
	s.images("alpha", "1", 3)
	s.must(rollout.Succeeded, s.apply("op3", want{"1.2.0", tags("3", "1", "1"), s.pools()}))
	s.images("alpha", "3", 3)
	s.clean()
}

// TestEdge83ScaledWhileHeld: an autoscaler that grows a pool just when it is held again after a failure grows the bad version, too; the way
// back, which follows at once, takes all of it away and keeps the size.
func TestEdge83ScaledWhileHeld(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "alpha"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 5,
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "alpha"}}}
	if _, err := s.c.Kube().AutoscalingV2().HorizontalPodAutoscalers(s.ns).Create(t.Context(), hpa, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w := want{"1.1.0", tags("2-nopull", "1", "1"), s.pools()}
	s.must(rollout.RolledBack, s.applyMeanwhile("op2", w, func(p rollout.Progress) bool { return p.Phase == rollout.Rehold }, func() {
		s.patch("Deployment", "alpha", `{"spec":{"replicas":5}}`)
	}))
	s.becomes("alpha", "1", 5)
	s.clean()
}
