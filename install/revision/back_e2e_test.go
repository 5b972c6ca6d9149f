//go:build e2e

package revision

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"

	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/wordcab/wcbundle/rollout"
)

var modelPools = schema.GroupVersionResource{Group: "story.wordcab.com", Version: "v1", Resource: "modelpools"}

// leave writes a record as a client that died leaves it.
func (s *site) leave(status release.Status) {
	s.t.Helper()
	cfg, err := s.c.helm(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	last, err := cfg.Releases.Last("story")
	if err != nil {
		s.t.Fatal(err)
	}
	dead := *last
	info := *last.Info
	dead.Info, dead.Version, dead.Labels = &info, last.Version+1, nil
	dead.SetStatus(status, "Preparing")
	if err := cfg.Releases.Create(&dead); err != nil {
		s.t.Fatal(err)
	}
}

// TestEdge58Edge84DeadRecord: over what a client left pending one goes back, after that the record is a failed one, and never a target.
func TestEdge58Edge84DeadRecord(t *testing.T) {
	t.Parallel()
	for _, status := range []release.Status{release.StatusPendingRollback, release.StatusPendingUpgrade} {
		t.Run(status.String(), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.must(rollout.Succeeded, s.apply("op1", s.v1()))
			s.must(rollout.Succeeded, s.apply("op2", want{"1.1.0", tags("2", "1", "1"), s.pools()}))
			s.leave(status)
			s.must(rollout.Succeeded, s.rollback("op3", 1))
			s.revisions("1 superseded succeeded", "2 superseded succeeded", "3 failed failed", "4 deployed succeeded")
			s.images("alpha", "1", 2)
			h, err := s.c.History(t.Context(), "story")
			if err != nil {
				t.Fatal(err)
			}
			if prev, err := Previous(h); err != nil || prev.Number != 2 {
				t.Errorf("previous is %d, %v", prev.Number, err)
			}
			s.clean()
		})
	}
}

// TestEdge59HookFails: a hook before the way back that fails leaves nothing pending, and a person is told.
func TestEdge59HookFails(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1With(map[string]any{"badHook": true})))
	s.must(rollout.Succeeded, s.apply("op2", want{"1.1.0", tags("2", "1", "1", map[string]any{"badHook": true}), s.pools()}))
	out := s.must(rollout.RollbackFailed, s.rollback("op3", 1))
	if !strings.Contains(out.Reason, "pre-rollback") && !strings.Contains(out.Reason, "before-rollback") {
		t.Errorf("reason %q", out.Reason)
	}
	h, err := s.c.History(t.Context(), "story")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range h {
		if r.Pending() {
			t.Errorf("revision %d is left as %s", r.Number, r.Status)
		}
	}
	s.images("alpha", "2", 2)
}

// TestEdge60ConfigEdited: going back sets back what a person changed in a ConfigMap; the pods that read it by environment are replaced for
// that though their template stays, and what reads another key is not.
func TestEdge60ConfigEdited(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	s.must(rollout.Succeeded, s.apply("op2", want{"1.0.0", tags("2", "1", "1"), s.pools()}))
	edit := func(patch string) {
		t.Helper()
		if _, err := s.c.Kube().CoreV1().ConfigMaps(s.ns).Patch(t.Context(), "settings", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	edit(`{"data":{"LEVEL":"trace"}}`)
	beta, gamma := s.pods("beta"), s.pods("gamma")
	s.must(rollout.Succeeded, s.rollback("op3", 1))
	if sameAny(beta, s.pods("beta")) {
		t.Error("pods run that may have read what was edited")
	}
	if !maps.Equal(gamma, s.pods("gamma")) {
		t.Error("gamma reads another ConfigMap, and was restarted")
	}
	s.clean()
	if again := s.classes(s.v1()); len(again) != 0 {
		t.Errorf("gone back, and still: %v", again)
	}
	after := s.all()
	s.must(rollout.Succeeded, s.apply("op4", want{"1.0.1", tags("1", "1", "1"), s.pools()}))
	settled()
	if !maps.Equal(after, s.all()) {
		t.Error("the next revision restarted pods for it again")
	}
}

// TestEdge60Edited: what a person changed in a custom object is shown before it is set back, and going back sets it back.
func TestEdge60Edited(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	s.must(rollout.Succeeded, s.apply("op2", want{"1.1.0", tags("2", "1", "1", map[string]any{"limit": 20}), s.pools()}))
	if _, err := s.c.dyn.Resource(modelPools).Namespace(s.ns).Patch(t.Context(), "one", types.MergePatchType, []byte(`{"spec":{"limit":99}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	h, err := s.c.History(t.Context(), "story")
	if err != nil {
		t.Fatal(err)
	}
	changes, err := s.c.ClassifyStored(t.Context(), h[0].Manifest, h[1].Manifest, s.pools())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		shown := strings.Join(c.Edited, "; ")
		if c.Kind == "ModelPool" && !strings.Contains(shown, "spec.limit 20 -> 99") {
			t.Errorf("edited is not shown: %q", shown)
		}
		if c.Kind != "ModelPool" && shown != "" {
			t.Errorf("%s/%s was not edited: %q", c.Kind, c.Name, shown)
		}
	}
	s.must(rollout.Succeeded, s.rollback("op3", 1))
	o, err := s.c.dyn.Resource(modelPools).Namespace(s.ns).Get(t.Context(), "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n, _, _ := unstructured.NestedInt64(o.Object, "spec", "limit"); n != 10 {
		t.Errorf("limit is %d", n)
	}
}

// TestEdge63Edge64Edge68: what Helm must keep is kept, what a failed revision added is gone, and a Service goes from LoadBalancer back to
// ClusterIP with no port of the nodes left over.
func TestEdge63Edge64Edge68(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1With(map[string]any{"kept": "value"})))
	bad := want{"1.1.0", tags("2", "2-nopull", "1", map[string]any{"extra": "left-over", "serviceType": "LoadBalancer"}), s.pools()}
	s.must(rollout.RolledBack, s.apply("op2", bad))
	d, err := s.c.Kube().AppsV1().Deployments(s.ns).Get(t.Context(), "alpha", metav1.GetOptions{})
	if err != nil || len(d.Spec.Template.Spec.Containers[0].Env) != 0 {
		t.Errorf("64: the environment of the failed revision is left: %v", err)
	}
	svc, err := s.c.Kube().CoreV1().Services(s.ns).Get(t.Context(), "front", metav1.GetOptions{})
	if err != nil || svc.Spec.Type != corev1.ServiceTypeClusterIP || svc.Spec.Ports[0].NodePort != 0 {
		t.Errorf("68: %+v, %v", svc.Spec, err)
	}
	if _, err := s.c.Kube().CoreV1().ConfigMaps(s.ns).Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
		t.Errorf("63: %v", err)
	}
	s.must(rollout.Succeeded, s.apply("op3", s.v1())) // without it
	if _, err := s.c.Kube().CoreV1().ConfigMaps(s.ns).Get(t.Context(), "kept", metav1.GetOptions{}); apierrors.IsNotFound(err) {
		t.Error("63: what Helm must keep is gone")
	}
	s.clean()
}

// TestEdge57Unserved: a kind that the cluster does not serve any more is named.
func TestEdge57Unserved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	got, err := s.c.Unserved("apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\n---\napiVersion: gone.example.com/v1\nkind: Pool\nmetadata: {name: c}\n")
	if err != nil || !slices.Equal(got, []string{"policy/v1beta1 PodDisruptionBudget", "gone.example.com/v1 Pool"}) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := s.c.History(t.Context(), "story"); !errors.Is(err, ErrNoRelease) {
		t.Error(err)
	}
}

// TestEdge67Claims: the claims of a StatefulSet and the volumes behind them are the same after an upgrade that fails, one that succeeds and
// a way back: nothing that holds data is made anew. What is on a disk is no business of this control plane.
func TestEdge67Claims(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for i := range 2 {
		pv := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", s.ns, i)}, Spec: corev1.PersistentVolumeSpec{
			Capacity: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: s.ns, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}}}}
		if _, err := s.c.Kube().CoreV1().PersistentVolumes().Create(t.Context(), pv, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	claims := map[string]any{"claims": s.ns}
	s.must(rollout.Succeeded, s.apply("op1", s.v1With(claims)))
	before := s.claims()
	if len(before) != 2 {
		t.Fatalf("claims %v", before)
	}
	s.must(rollout.RolledBack, s.apply("op2", want{"1.1.0", tags("1", "1", "2-nopull", claims), s.pools()}))
	s.must(rollout.Succeeded, s.apply("op3", want{"1.2.0", tags("2", "2", "2", claims), s.pools()}))
	s.must(rollout.Succeeded, s.rollback("op4", 1))
	if after := s.claims(); !maps.Equal(before, after) {
		t.Errorf("claims were %v and are %v", before, after)
	}
}

// claims are the volume of each bound claim, by its uid.
func (s *site) claims() map[string]string {
	s.t.Helper()
	list, err := s.c.Kube().CoreV1().PersistentVolumeClaims(s.ns).List(s.t.Context(), metav1.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[string]string{}
	for _, c := range list.Items {
		if c.Status.Phase == corev1.ClaimBound && c.DeletionTimestamp == nil {
			out[string(c.UID)] = c.Spec.VolumeName
		}
	}
	return out
}
