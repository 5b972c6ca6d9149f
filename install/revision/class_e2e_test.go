//go:build e2e

package revision

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/rollout"
)

// v1With is the first version with other values.
func (s *site) v1With(more map[string]any) want {
	return want{"1.0.0", tags("1", "1", "1", more), s.pools()}
}

// classes of what changes, by KIND/NAME.
func (s *site) classes(w want) map[string]Change {
	out := map[string]Change{}
	for _, c := range s.classify(w) {
		if c.Class != ClassNone {
			out[c.Kind+"/"+c.Name] = c
		}
	}
	return out
}

func (s *site) all() map[string]string {
	out := map[string]string{}
	for _, app := range []string{"alpha", "beta", "gamma"} {
		maps.Copy(out, s.pods(app))
	}
	return out
}

// settled waits until controllers would have restarted something.
func settled() { time.Sleep(2 * time.Second) }

// TestEdge10Edge14CosmeticsRestartNothing: a checksum, a chart's label and defaulted fields are no reason to replace a pod.
func TestEdge10Edge14CosmeticsRestartNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1With(map[string]any{"checksum": "one"})))
	next := want{"1.0.1", tags("1", "1", "1", map[string]any{"checksum": "two"}), s.pools()}
	for name, c := range s.classes(next) {
		t.Errorf("%s is %s: %q", name, c.Class, c.Why)
	}
	before := s.all()
	s.must(rollout.Succeeded, s.apply("op2", next))
	settled()
	if !maps.Equal(before, s.all()) {
		t.Error("cosmetics restarted a pod")
	}
	changed := s.classes(want{"1.0.2", tags("2", "1", "1", map[string]any{"checksum": "two"}), s.pools()})["Deployment/alpha"]
	if changed.Class != ClassRestart || !slices.Contains(changed.Why, "image 1 -> 2") {
		t.Errorf("alpha is %s: %q", changed.Class, changed.Why)
	}
}

// TestEdge65ConfigOnly: what pods see in a volume is applied at once, and neither it nor going back from it replaces a pod.
func TestEdge65ConfigOnly(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	next := s.v1With(map[string]any{"mounted": "debug"})
	got := s.classes(next)
	if c := got["ConfigMap/mounted"]; len(got) != 1 || c.Class != ClassConfigOnly || !strings.Contains(strings.Join(c.Why, ";"), "applies live in Deployment/alpha") {
		t.Fatalf("classes %v", got)
	}
	before := s.all()
	s.must(rollout.Succeeded, s.apply("op2", next))
	settled()
	s.must(rollout.Succeeded, s.rollback("op3", 1))
	settled()
	if !maps.Equal(before, s.all()) {
		t.Error("a change of configuration restarted a pod")
	}
	cm, err := s.c.Kube().CoreV1().ConfigMaps(s.ns).Get(t.Context(), "mounted", metav1.GetOptions{})
	if err != nil || cm.Data["LEVEL"] != "info" {
		t.Errorf("the configuration is not back: %v", err)
	}
	s.clean()
}

// TestEdge11Edge12Edge15ConfigNeedsRestart: what pods read by environment or subPath is a restart, behind gates; once, not again with the
// next revision; and going back is one too.
func TestEdge11Edge12Edge15ConfigNeedsRestart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	stray := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "made-by-hand"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.invalid/x:1",
		EnvFrom: []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}}}}}}}
	if _, err := s.c.Kube().CoreV1().Pods(s.ns).Create(t.Context(), stray, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	next := s.v1With(map[string]any{"level": "debug", "part": "debug"})
	got := s.classes(next)
	for name, by := range map[string]string{"Deployment/beta": "envFrom", "StatefulSet/gamma": "subPath"} {
		if c := got[name]; c.Class != ClassRestart || !strings.Contains(strings.Join(c.Why, ";"), "is read by "+by+": takes effect only with a restart") {
			t.Errorf("%s is %s: %q", name, c.Class, c.Why)
		}
	}
	if why := strings.Join(got["ConfigMap/settings"].Why, ";"); !strings.Contains(why, "needs a restart of Deployment/beta (envFrom)") || !strings.Contains(why, "pod made-by-hand") {
		t.Errorf("why %q", why)
	}
	alpha, beta, gamma := s.pods("alpha"), s.pods("beta"), s.pods("gamma")
	s.must(rollout.Succeeded, s.apply("op2", next))
	if !maps.Equal(alpha, s.pods("alpha")) {
		t.Error("alpha reads none of it and was restarted")
	}
	if sameAny(beta, s.pods("beta")) || sameAny(gamma, s.pods("gamma")) {
		t.Error("pods run with the configuration of before")
	}
	s.clean()
	if again := s.classes(next); len(again) != 0 {
		t.Errorf("applied, and still: %v", again)
	}
	after := s.all()
	s.must(rollout.Succeeded, s.apply("op3", want{"1.0.1", next.values, s.pools()}))
	settled()
	if !maps.Equal(after, s.all()) {
		t.Error("the next revision restarted pods for it again")
	}
	s.must(rollout.Succeeded, s.rollback("op4", 1))
	if sameAny(after, s.pods("beta")) || !maps.Equal(alpha, s.pods("alpha")) {
		t.Error("going back left pods with the configuration of after, or restarted what reads none of it")
	}
	s.clean()
}

func sameAny(a, b map[string]string) bool {
	for uid := range b {
		if _, ok := a[uid]; ok {
			return true
		}
	}
	return false
}

// TestEdge13Edge16Edge17: what cannot be changed in place is said before anything is; a ConfigMap that is named by its hash is a restart.
func TestEdge13Edge16Edge17(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	got := s.classes(s.v1With(map[string]any{"fixed": "debug", "selector": "x", "hashed": "debug"}))
	if c := got["ConfigMap/fixed"]; c.Class != ClassRecreate || !strings.Contains(strings.Join(c.Why, ";"), "immutable") {
		t.Errorf("13: %s %q", c.Class, c.Why)
	}
	if c := got["Deployment/alpha"]; c.Class != ClassRecreate || !strings.Contains(strings.Join(c.Why, ";"), "spec.selector") {
		t.Errorf("16: %s %q", c.Class, c.Why)
	}
	if c := got["Deployment/beta"]; c.Class != ClassRestart {
		t.Errorf("17: %s %q", c.Class, c.Why)
	}
}
