package rollout

import (
	"encoding/json"
	"reflect"
	"testing"

	jsonpatch "github.com/evanphx/json-patch"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		"defaults only where the chart says nothing": {"{kind: Deployment, apiVersion: apps/v1, metadata: {name: a}, spec: {strategy: {rollingUpdate: {maxSurge: 25%}}}}",
			Hold{Op: "op", MaxSurge: "0", MaxUnavailable: "1", Default: true},
			"{paused: true, strategy: {rollingUpdate: {maxSurge: 25%}}}", "{strategy: {rollingUpdate: {maxSurge: 25%}}}", "{strategy: {rollingUpdate: {maxSurge: 25%}}}"},
		"a set that is new": {"{kind: StatefulSet, apiVersion: apps/v1, metadata: {name: a}, spec: {replicas: 3}}", Hold{Op: "op", Born: true},
			"{replicas: 0, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1000000}}}",
			"{replicas: 3, updateStrategy: {type: RollingUpdate, rollingUpdate: {}}}", "{replicas: 3, updateStrategy: {type: RollingUpdate, rollingUpdate: {}}}"},
		"groups": {"{kind: LeaderWorkerSet, apiVersion: leaderworkerset.x-k8s.io/v1, metadata: {name: a}, spec: {replicas: 2, rolloutStrategy: {type: RollingUpdate, rollingUpdateConfiguration: {maxSurge: 1, maxUnavailable: 0}}}}",
			Hold{Op: "op"}, "{replicas: 2, rolloutStrategy: {type: RollingUpdate, rollingUpdateConfiguration: {partition: 1000000, maxSurge: 0, maxUnavailable: 1}}}",
			"{replicas: 2, rolloutStrategy: {type: RollingUpdate, rollingUpdateConfiguration: {maxSurge: 1, maxUnavailable: 0}}}",
			"{replicas: 2, rolloutStrategy: {type: RollingUpdate, rollingUpdateConfiguration: {maxSurge: 1, maxUnavailable: 0}}}"},
		"a custom object": {"{kind: ModelPool, apiVersion: example.com/v1, metadata: {name: a}, spec: {model: m}}",
			Hold{Op: "op", Rule: &HoldRule{Set: []HoldField{{".spec.rollout.paused", true}, {".spec.rollout.keep", float64(9)}}}},
			"{model: m, rollout: {paused: true, keep: 9}}", "{model: m, rollout: {}}", "{model: m, rollout: {}}"},
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
			}{{"released", func(u *unstructured.Unstructured) ([]byte, error) {
				return ReleasePatch(u, Pool{Hold: tc.hold.Rule}, 0)
			}, tc.after}, {"settled", SettlePatch, tc.done}} {
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

// TestSteps: so many replicas of a set are let go, and no more; a set that was stopped in between is held again.
func TestSteps(t *testing.T) {
	for _, text := range []string{
		"{kind: StatefulSet, apiVersion: apps/v1, metadata: {name: a}, spec: {replicas: 4, updateStrategy: {rollingUpdate: {partition: 1}}}}",
		"{kind: LeaderWorkerSet, apiVersion: leaderworkerset.x-k8s.io/v1, metadata: {name: a}, spec: {replicas: 4, rolloutStrategy: {rollingUpdateConfiguration: {partition: 1}}}}",
	} {
		u := object(t, text)
		if err := Inject(u, Hold{Op: "op"}); err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct{ upto, partition int }{{1, 3}, {2, 2}, {3, 1}, {4, 1}} {
			patch, err := ReleasePatch(u, Pool{}, step.upto)
			if err != nil {
				t.Fatal(err)
			}
			if patch != nil {
				u = merge(t, u, patch)
			}
			got, _, err := unstructured.NestedFieldNoCopy(u.Object, partitionPath(u)...)
			if err != nil || wholeNumber(got) != int64(step.partition) {
				t.Errorf("%s: upto %d: partition %v, %v", u.GetKind(), step.upto, got, err)
			}
			if HeldBy(u) != "op" || OnHold(u, nil) {
				t.Errorf("%s: upto %d: held by %q, on hold %t", u.GetKind(), step.upto, HeldBy(u), OnHold(u, nil))
			}
		}
		patch, err := ReholdPatch(u, nil, "op")
		if err != nil || patch == nil {
			t.Fatalf("%s: held again: %s, %v", u.GetKind(), patch, err)
		}
		if u = merge(t, u, patch); !OnHold(u, nil) {
			t.Errorf("%s is not held again", u.GetKind())
		}
	}
}

// TestEdge18Edge19Edge20Slots: a pod fits where one node has all of its GPUs free, and a pod that is going still has its own.
func TestEdge18Edge19Edge20Slots(t *testing.T) {
	gpu := func(n string) corev1.ResourceList { return corev1.ResourceList{gpuName: resource.MustParse(n)} }
	node := func(name, n string) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Allocatable: gpu(n),
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	}
	spec := func(n string) *corev1.PodSpec {
		return &corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: gpu(n)}}}}
	}
	on := func(node, n string, going bool) corev1.Pod {
		p := corev1.Pod{Spec: *spec(n), Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		p.Spec.NodeName = node
		if going {
			p.DeletionTimestamp = &metav1.Time{Time: t0}
		}
		return p
	}
	three := []corev1.Node{node("a", "4"), node("b", "4"), node("c", "4")}
	for name, tc := range map[string]struct {
		pods []corev1.Pod
		need string
		want int64
	}{
		"18: none is free":                      {[]corev1.Pod{on("a", "4", false), on("b", "4", false), on("c", "4", false)}, "4", 0},
		"19: six are free, no four on one node": {[]corev1.Pod{on("a", "2", false), on("b", "2", false), on("c", "2", false)}, "4", 0},
		"20: a pod that is going has its GPUs":  {[]corev1.Pod{on("a", "4", true), on("b", "4", false), on("c", "4", false)}, "4", 0},
		"two nodes are free":                    {[]corev1.Pod{on("a", "4", false)}, "4", 2},
	} {
		if got := freeSlots(three, tc.pods, spec(tc.need)); got != tc.want {
			t.Errorf("%s: %d slots, want %d", name, got, tc.want)
		}
	}
	if freeSlots(three, nil, &corev1.PodSpec{Containers: []corev1.Container{{}}}) == 0 {
		t.Error("no room for a pod that asks for nothing")
	}
}

// TestEdge18SlotsForThisPod: GPUs that are free are no slot where the pod may not run, or lacks something else there.
func TestEdge18SlotsForThisPod(t *testing.T) {
	list := func(gpu, cpu string) corev1.ResourceList {
		return corev1.ResourceList{gpuName: resource.MustParse(gpu), corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourcePods: resource.MustParse("2")}
	}
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{"gpu": "l40"}}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "gpu", Effect: corev1.TaintEffectNoSchedule}}},
		Status: corev1.NodeStatus{Allocatable: list("4", "8"), Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}}
	good := corev1.PodSpec{Tolerations: []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpExists}}, NodeSelector: map[string]string{"gpu": "l40"},
		Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{gpuName: resource.MustParse("1")}, Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3")}}}}}
	busy := corev1.Pod{Spec: good, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	busy.Spec.NodeName = "a"
	for name, tc := range map[string]struct {
		change func(*corev1.PodSpec)
		pods   []corev1.Pod
		want   int64
	}{
		"two, by their CPUs":  {func(*corev1.PodSpec) {}, nil, 2},
		"one is there":        {func(*corev1.PodSpec) {}, []corev1.Pod{busy}, 1},
		"the node is full":    {func(*corev1.PodSpec) {}, []corev1.Pod{busy, busy}, 0},
		"a taint":             {func(s *corev1.PodSpec) { s.Tolerations = nil }, nil, 0},
		"another kind of GPU": {func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"gpu": "a100"} }, nil, 0},
		"its affinity": {func(s *corev1.PodSpec) {
			s.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "gpu", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"l40"}}}}}}}}
		}, nil, 0},
		"a part of a GPU": {func(s *corev1.PodSpec) {
			s.Containers = []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"nvidia.com/mig-1g.5gb": resource.MustParse("1")}}}}
		}, nil, 0},
	} {
		spec := good.DeepCopy()
		tc.change(spec)
		if got := freeSlots([]corev1.Node{node}, tc.pods, spec); got != tc.want {
			t.Errorf("%s: %d slots, want %d", name, got, tc.want)
		}
	}
}

const gpuName = corev1.ResourceName("nvidia.com/gpu")
