//go:build e2e

package revision

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/wordcab/wcbundle/rollout"
)

// goesBack applies a version that must fail at a pool for a reason, and wants everything as it was.
func (s *site) goesBack(w want, pool, reason string) {
	s.t.Helper()
	out := s.must(rollout.RolledBack, s.apply("bad", w))
	if out.Pool != pool || !strings.Contains(out.Reason, reason) {
		s.t.Errorf("outcome %+v, want %s at %s", out, reason, pool)
	}
	for _, app := range []string{"alpha", "beta", "gamma"} {
		s.becomes(app, "1", 2)
	}
	s.clean()
}

// TestEdge21Edge22FailFast: what cannot come up is not waited for.
func TestEdge21Edge22FailFast(t *testing.T) {
	t.Parallel()
	for tag, reason := range map[string]string{"2-crash": "CrashLoopBackOff", "2-nopull": "ImagePullBackOff"} {
		t.Run(tag, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.must(rollout.Succeeded, s.apply("op1", s.v1()))
			least := 2
			w := want{"1.1.0", tags(tag, "1", "1"), s.pools()}
			e := s.engine(s.request(w))
			e.OnEvent = func(p rollout.Progress) {
				s.note(p)
				old := 0
				for _, image := range s.pods("alpha") {
					if strings.HasSuffix(image, ":1") {
						old++
					}
				}
				least = min(least, old)
			}
			out, err := rollout.Run(t.Context(), e, s.op("op2", w))
			if err != nil {
				t.Fatal(err)
			}
			s.must(rollout.RolledBack, out)
			if !strings.Contains(out.Reason, reason) || least < 1 {
				t.Errorf("reason %q, %d old pods at least", out.Reason, least)
			}
			s.images("alpha", "1", 2)
			s.clean()
		})
	}
}

// TestEdge23Quota: a quota that refuses the pods is a reason, not a wait for the timeout.
func TestEdge23Quota(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "full"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("7")}}}
	if _, err := s.c.Kube().CoreV1().ResourceQuotas(s.ns).Create(t.Context(), q, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	settled()
	s.goesBack(want{"1.1.0", tags("2", "1", "1"), s.pools()}, "alpha", "exceeded quota")
}

// TestEdge25Denied: an admission rule that denies the new pods, of a Deployment and of a StatefulSet.
func TestEdge25Denied(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	fail := admissionv1.Fail
	policy := &admissionv1.ValidatingAdmissionPolicy{ObjectMeta: metav1.ObjectMeta{Name: "deny-" + s.ns}, Spec: admissionv1.ValidatingAdmissionPolicySpec{
		FailurePolicy: &fail,
		MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{admissionv1.Create}, Rule: admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}}}},
		Validations: []admissionv1.Validation{{Expression: "!object.spec.containers.exists(c, c.image.endsWith(':2'))", Message: "version 2 is not allowed here"}}}}
	binding := &admissionv1.ValidatingAdmissionPolicyBinding{ObjectMeta: metav1.ObjectMeta{Name: "deny-" + s.ns}, Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
		PolicyName: policy.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
		MatchResources: &admissionv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.ns}}}}}
	api := s.c.Kube().AdmissionregistrationV1()
	if _, err := api.ValidatingAdmissionPolicies().Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.ValidatingAdmissionPolicyBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	settled()
	s.goesBack(want{"1.1.0", tags("2", "1", "1"), s.pools()}, "alpha", "version 2 is not allowed here")
	s.goesBack(want{"1.2.0", tags("1", "1", "2"), s.pools()}, "gamma", "version 2 is not allowed here")
}

// TestEdge29Edge30NodeDrained: a node that is drained while a pool has its turn takes pods away; those of pools on hold come back as they
// were. A PodDisruptionBudget binds the drain, not the rollout.
func TestEdge29Edge30NodeDrained(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	two := intstr.FromInt32(2)
	pdb := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: &two,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "alpha"}}}}
	if _, err := s.c.Kube().PolicyV1().PodDisruptionBudgets(s.ns).Create(t.Context(), pdb, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pools := s.pools()
	pools[0].MaxSurge, pools[0].MaxUnavailable = "0", "1" // one less than the budget wants
	next := want{"1.1.0", tags("2", "2", "2"), pools}
	alphaReplaces := func(p rollout.Progress) bool { return p.Pool == "alpha" && p.State == rollout.PoolReplacing }
	s.must(rollout.Succeeded, s.applyMeanwhile("op2", next, alphaReplaces, func() {
		list, err := s.c.Kube().CoreV1().Pods(s.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app in (beta,gamma)"})
		if err != nil {
			t.Error(err)
		}
		for _, p := range list.Items {
			ev := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: s.ns}}
			if err := s.c.Kube().PolicyV1().Evictions(s.ns).Evict(t.Context(), ev); err != nil {
				t.Error(err)
			}
		}
		s.becomes("beta", "1", 2)
		s.becomes("gamma", "1", 2)
	}))
	for _, app := range []string{"alpha", "beta", "gamma"} {
		s.images(app, "2", 2)
	}
	s.clean()
}

// TestEdge34Recreate: a Deployment that the chart replaces all at once is held and let go like any other.
func TestEdge34Recreate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	all := map[string]any{"recreate": true}
	s.must(rollout.Succeeded, s.apply("op1", s.v1With(all)))
	next := want{"1.1.0", tags("2", "2", "1", all), s.pools()}
	s.heldAfter("op2", "alpha", next)
	s.images("alpha", "2", 2)
	s.images("beta", "1", 2)
	s.must(rollout.Succeeded, s.resume(next))
	s.clean()
}

// TestEdge35TwoWorkloads: a pool is done when each of its workloads is, and goes back as a whole.
func TestEdge35TwoWorkloads(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	pools := s.pools()
	pools[0].Workloads = append(pools[0].Workloads, pools[1].Workloads...)
	s.goesBack(want{"1.1.0", tags("2", "2-nopull", "1"), []rollout.Pool{pools[0], pools[2]}}, "alpha", "ImagePullBackOff")
}

// TestEdge82StuckBefore: a StatefulSet that was stuck at a broken pod before the operation is not stuck after it.
func TestEdge82StuckBefore(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	s.patch("StatefulSet", "gamma", `{"spec":{"template":{"metadata":{"annotations":{"by":"hand"}},"spec":{"containers":[{"name":"main","image":"example.invalid/gamma:9-bad","volumeMounts":[{"name":"part","mountPath":"/part","subPath":"LEVEL"}]}]}}}}`)
	for range 50 {
		bad := false
		for _, image := range s.pods("gamma") {
			bad = bad || strings.HasSuffix(image, "9-bad")
		}
		if bad {
			break
		}
		settled()
	}
	s.must(rollout.Succeeded, s.apply("op2", want{"1.1.0", tags("1", "1", "2"), s.pools()}))
	s.images("gamma", "2", 2)
	s.clean()
}

// TestEdge50Recreated: a workload on hold that somebody deletes and makes anew is on hold again, and the operation waits.
func TestEdge50Recreated(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	next := want{"1.1.0", tags("2-bad", "2", "1"), s.pools()}
	out := s.must(rollout.Held, s.applyMeanwhile("op2", next, replacing, func() {
		api := s.c.Kube().AppsV1().Deployments(s.ns)
		d, err := api.Get(t.Context(), "beta", metav1.GetOptions{})
		if err != nil {
			t.Error(err)
			return
		}
		if err := api.Delete(t.Context(), "beta", metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
		again := d.DeepCopy()
		again.ObjectMeta = metav1.ObjectMeta{Name: "beta", Labels: d.Labels, Annotations: map[string]string{"meta.helm.sh/release-name": "story", "meta.helm.sh/release-namespace": s.ns}}
		again.Spec.Paused = false
		if _, err := api.Create(t.Context(), again, metav1.CreateOptions{}); err != nil {
			t.Error(err)
		}
	}))
	if out.HeldFor != rollout.HeldForDrift || !strings.Contains(out.Reason, "Deployment/beta") {
		t.Errorf("outcome %+v", out)
	}
	d, err := s.c.Kube().AppsV1().Deployments(s.ns).Get(t.Context(), "beta", metav1.GetOptions{})
	if err != nil || !d.Spec.Paused {
		t.Errorf("beta rolls: %v", err)
	}
}

// TestEdge36Canary: one replica goes first, of a Deployment and of a StatefulSet; promoted, the others follow; one that cannot be made is
// taken back.
func TestEdge36Canary(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	share := func(app string) int {
		n := 0
		for _, image := range s.pods(app) {
			if strings.HasSuffix(image, ":2") {
				n++
			}
		}
		return n
	}
	for pool, app := range map[string]string{"alpha": "alpha", "gamma": "gamma"} {
		w := want{"1.1.0", tags("2", "2", "2"), s.pools()}
		op := s.op("try-"+pool, w)
		if err := op.Try(pool, 1); err != nil {
			t.Fatal(err)
		}
		out, err := rollout.Run(t.Context(), s.engine(s.request(w)), op)
		if err != nil {
			t.Fatal(err)
		}
		s.must(rollout.Held, out)
		settled()
		if out.HeldFor != rollout.HeldForCanary || share(app) != 1 || len(s.pods(app)) > 3 || share("beta") != 0 {
			t.Errorf("%s: outcome %+v, %d of %d pods are new", pool, out, share(app), len(s.pods(app)))
		}
		s.must(rollout.RolledBack, s.abort("dropped"))
		s.becomes(app, "1", 2)
		s.clean()
	}

	w := want{"1.1.0", tags("2", "2", "2"), s.pools()}
	op := s.op("promoted", w)
	if err := op.Try("gamma", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := rollout.Run(t.Context(), s.engine(s.request(w)), op); err != nil {
		t.Fatal(err)
	}
	out, err := rollout.Resume(t.Context(), s.engine(s.request(w)), rollout.ResumeOptions{Promote: true})
	if err != nil {
		t.Fatal(err)
	}
	s.must(rollout.Succeeded, out)
	for _, app := range []string{"alpha", "beta", "gamma"} {
		s.images(app, "2", 2)
	}
	s.clean()

	q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "full"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("7")}}}
	if _, err := s.c.Kube().CoreV1().ResourceQuotas(s.ns).Create(t.Context(), q, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	settled()
	w = want{"1.2.0", tags("3", "2", "2"), s.pools()}
	op = s.op("refused", w)
	if err := op.Try("alpha", 1); err != nil {
		t.Fatal(err)
	}
	if out, err = rollout.Run(t.Context(), s.engine(s.request(w)), op); err != nil {
		t.Fatal(err)
	}
	s.must(rollout.RolledBack, out)
	if !strings.Contains(out.Reason, "exceeded quota") {
		t.Errorf("reason %q", out.Reason)
	}
	s.becomes("alpha", "2", 2)
	s.clean()
}
