package rollout

import (
	"encoding/json"
	"reflect"
	"testing"

	jsonpatch "github.com/evanphx/json-patch"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return u
}

func merge(t *testing.T, u *unstructured.Unstructured, patch []byte) *unstructured.Unstructured {
	t.Helper()
	b, err := u.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if b, err = jsonpatch.MergePatch(b, patch); err != nil {
		t.Fatal(err)
	}
	out := &unstructured.Unstructured{}
	if err := out.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestHoldAndRelease: a hold beats what the chart says, a release and a settling give exactly that back.
func TestHoldAndRelease(t *testing.T) {
	live := int64(5)
	tests := map[string]struct {
		chart string
		hold  Hold
		held  string // spec while held
		after string // spec after release
		done  string // spec after settling
	}{
		"plain": {"{kind: Deployment, apiVersion: apps/v1, metadata: {name: a}, spec: {replicas: 2}}", Hold{Op: "op"},
			"{replicas: 2, paused: true}", "{replicas: 2}", "{replicas: 2, strategy: {rollingUpdate: {}}}"},
		"chart says not paused": {"{kind: Deployment, apiVersion: apps/v1, metadata: {name: a}, spec: {paused: false}}", Hold{Op: "op"},
			"{paused: true}", "{paused: false}", "{paused: false, strategy: {rollingUpdate: {}}}"},
		"surge": {"{kind: Deployment, apiVersion: apps/v1, metadata: {name: a}, spec: {strategy: {rollingUpdate: {maxSurge: 25%}}}}",
			Hold{Op: "op", MaxSurge: "0", MaxUnavailable: "1", Replicas: &live},
			"{paused: true, replicas: 5, strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}}",
			"{replicas: 5, strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}}",
			"{replicas: 5, strategy: {rollingUpdate: {maxSurge: 25%}}}"},
		"recreate": {"{kind: Deployment, apiVersion: apps/v1, metadata: {name: a}, spec: {strategy: {type: Recreate}}}",
			Hold{Op: "op", MaxSurge: "1"}, "{paused: true, strategy: {type: Recreate}}", "{strategy: {type: Recreate}}", "{strategy: {type: Recreate}}"},
		"set with partition 0": {"{kind: StatefulSet, apiVersion: apps/v1, metadata: {name: a}, spec: {updateStrategy: {rollingUpdate: {partition: 0}}}}",
			Hold{Op: "op"}, "{updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1000000}}}",
			"{updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}}",
			"{updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}}"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			u := object(t, tc.chart)
			if err := Inject(u, tc.hold); err != nil {
				t.Fatal(err)
			}
			wantSpec(t, "held", u, tc.held)
			if HeldBy(u) != "op" {
				t.Errorf("held by %q", HeldBy(u))
			}
			for _, step := range []struct {
				name string
				make func(*unstructured.Unstructured) ([]byte, error)
				want string
			}{{"released", func(u *unstructured.Unstructured) ([]byte, error) { return ReleasePatch(u, Pool{}, 0) }, tc.after}, {"settled", SettlePatch, tc.done}} {
				patch, err := step.make(u)
				if err != nil || patch == nil {
					t.Fatalf("%s: %s, %v", step.name, patch, err)
				}
				u = merge(t, u, patch)
				wantSpec(t, step.name, u, step.want)
				if again, err := step.make(u); err != nil || again != nil {
					t.Errorf("%s twice: %s, %v", step.name, again, err)
				}
			}
			if len(u.GetAnnotations()) != 0 {
				t.Errorf("annotations left: %v", u.GetAnnotations())
			}
		})
	}
}

func wantSpec(t *testing.T, when string, u *unstructured.Unstructured, want string) {
	t.Helper()
	var w any
	if err := yaml.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(u.Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, w) {
		t.Errorf("%s: spec %s, want %s", when, b, want)
	}
}

func TestInjectRefuses(t *testing.T) {
	for _, text := range []string{
		"{kind: DaemonSet, apiVersion: apps/v1, metadata: {name: a}, spec: {}}",
		"{kind: StatefulSet, apiVersion: apps/v1, metadata: {name: a}, spec: {updateStrategy: {type: OnDelete}}}",
	} {
		if err := Inject(object(t, text), Hold{Op: "op"}); err == nil {
			t.Errorf("%s was held", text)
		}
	}
}
