package install

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/wordcab/wcbundle/rollout"
)

// TestEdge33Edge34HowPodsAreReplaced is what plan says: a gap in which nobody serves is announced.
func TestEdge33Edge34HowPodsAreReplaced(t *testing.T) {
	d := func(replicas int32, kind appsv1.DeploymentStrategyType, surge, unavailable string) *appsv1.Deployment {
		out := &appsv1.Deployment{}
		out.Status.Replicas, out.Spec.Strategy.Type = replicas, kind
		if surge != "" {
			a, b := intstr.Parse(surge), intstr.Parse(unavailable)
			out.Spec.Strategy.RollingUpdate = &appsv1.RollingUpdateDeployment{MaxSurge: &a, MaxUnavailable: &b}
		}
		return out
	}
	for name, tc := range map[string]struct {
		p         rollout.Pool
		d         *appsv1.Deployment
		how, note string
	}{
		"33: one replica, none more": {rollout.Pool{MaxSurge: "0", MaxUnavailable: "1"}, d(1, "RollingUpdate", "25%", "25%"), "one goes, one comes", "nobody serves"},
		"33: one replica, one more":  {rollout.Pool{MaxSurge: "1", MaxUnavailable: "0"}, d(1, "RollingUpdate", "25%", "25%"), "one comes, one goes", ""},
		"34: all at once":            {rollout.Pool{MaxSurge: "1", MaxUnavailable: "0"}, d(3, "Recreate", "", ""), "all go, all come", "nobody serves"},
		"the chart's":                {rollout.Pool{}, d(3, "RollingUpdate", "50%", "0"), "up to 50% more, up to 0 less", ""},
	} {
		how, note := deploymentTurn(tc.p, tc.d)
		if !strings.Contains(how, tc.how) || !strings.Contains(note, tc.note) || tc.note == "" && note != "" {
			t.Errorf("%s: %q %q", name, how, note)
		}
	}
}
