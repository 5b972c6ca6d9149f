package prefetch

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/rollout"
)

// node is ready and has gpus; change makes it less than that.
func node(name string, gpus string, change ...func(*corev1.Node)) corev1.Node {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pool": "gpu"}}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	n.Status.NodeInfo = corev1.NodeSystemInfo{ContainerRuntimeVersion: "containerd://2.1.4", Architecture: "amd64", OperatingSystem: "linux"}
	n.Status.Allocatable = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse(gpus)}
	for _, c := range change {
		c(&n)
	}
	return n
}

func TestPlaces(t *testing.T) {
	spec := &corev1.PodSpec{NodeSelector: map[string]string{"pool": "gpu"},
		Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("4")}}}}}
	taint := corev1.Taint{Key: "dedicated", Value: "x", Effect: corev1.TaintEffectNoSchedule}
	nodes := []corev1.Node{
		node("a", "8"), node("b", "8"), node("z-runs", "4"), node("few-gpus", "2"),
		node("not-ready", "8", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }),
		node("cordoned", "8", func(n *corev1.Node) { n.Spec.Unschedulable = true }),
		node("elsewhere", "8", func(n *corev1.Node) { n.Labels["pool"] = "cpu" }),
		node("tainted", "8", func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{taint} }),
		node("simulated", "8", func(n *corev1.Node) { n.Status.NodeInfo.ContainerRuntimeVersion = "kwok://v0.8.0" }),
		node("annotated", "8", func(n *corev1.Node) { n.Annotations = map[string]string{"kwok.x-k8s.io/node": "fake"} }),
		node("windows", "8", func(n *corev1.Node) { n.Status.NodeInfo.OperatingSystem = "windows" }),
		node("no-runtime", "8", func(n *corev1.Node) { n.Status.NodeInfo.ContainerRuntimeVersion = "" }),
	}
	names := func(p []place) (out []string) {
		for _, x := range p {
			out = append(out, fmt.Sprintf("%s/%t", x.node, x.runs))
		}
		return out
	}
	runs := map[string]bool{"z-runs": true, "not-ready": true, "simulated": true}
	if got, want := names(places(spec, 1, nodes, runs)), []string{"z-runs/true", "a/false", "b/false"}; !slices.Equal(got, want) {
		t.Errorf("places are %v, want %v", got, want)
	}
	spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
	if got := names(places(spec, 2, nodes, nil)); !slices.Equal(got, []string{"a/false", "b/false", "tainted/false", "z-runs/false"}) {
		t.Errorf("with a toleration and two replicas: %v", got)
	}
	spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{"b"}}}}}}}}
	if got := names(places(spec, 2, nodes, nil)); !slices.Equal(got, []string{"b/false"}) {
		t.Errorf("with affinity: %v", got)
	}
	var many []corev1.Node
	for i := range 100 {
		many = append(many, node(fmt.Sprintf("n%03d", i), "8"))
	}
	spec.Affinity = nil
	if got := places(spec, 3, many, map[string]bool{"n050": true, "n060": true}); len(got) != 2+3+spareNodes || got[0].node != "n050" {
		t.Errorf("of 100 nodes these are taken: %v", got)
	}
}

func modelPod() *corev1.PodSpec {
	user := int64(1000)
	always := corev1.ContainerRestartPolicyAlways
	return &corev1.PodSpec{
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}, ServiceAccountName: "sa",
		SecurityContext: &corev1.PodSecurityContext{RunAsUser: &user},
		InitContainers: []corev1.Container{
			{Name: "model", Image: "r/wcbundle@sha256:1", Args: []string{"pull", "--model", "r/m@sha256:2", "--to", "/models"},
				Env: []corev1.EnvVar{{Name: cacheEnv, Value: "/cache/models"}, {Name: onlyEnv, Value: "false"}},
				Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1"),
					"memory": resource.MustParse("1Gi")}},
				VolumeMounts: []corev1.VolumeMount{{Name: "models", MountPath: "/models"}, {Name: "node", MountPath: "/cache"}, {Name: "claim", MountPath: "/c"}, {Name: "login", MountPath: "/l"}}},
			{Name: "side", Image: "r/side@sha256:3", RestartPolicy: &always},
			{Name: "plain", Image: "r/wcbundle@sha256:1", Args: []string{"pull", "--model", "r/m@sha256:9", "--to", "/models"}},
			{Name: "not-a-node-folder", Image: "r/wcbundle@sha256:1", Args: []string{"pull", "--cache", "/models/x"},
				VolumeMounts: []corev1.VolumeMount{{Name: "models", MountPath: "/models"}}},
		},
		Containers: []corev1.Container{{Name: "server", Image: "r/server@sha256:4", Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("4")}}}},
		Volumes: []corev1.Volume{
			{Name: "models", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
			{Name: "node", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/cache/models"}}},
			{Name: "claim", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "c"}}},
			{Name: "login", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}},
			{Name: "weights", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "r/w@sha256:5"}}},
		},
	}
}

func TestPod(t *testing.T) {
	spec := modelPod()
	before := spec.DeepCopy()
	o := order{namespace: "ns", release: "shop", op: "op1", workload: "Deployment/a", spec: spec, place: place{node: "n1", arch: "arm64", runs: true}}
	p := o.pod()
	if !reflect.DeepEqual(spec, before) {
		t.Error("the workload's own spec was changed")
	}
	var images, models []string
	for _, c := range p.Spec.Containers {
		for name := range c.Resources.Limits {
			if strings.Contains(string(name), "/") {
				t.Errorf("container %s asks for %s", c.Name, name)
			}
		}
		if strings.HasPrefix(c.Name, modelPrefix) {
			models = append(models, strings.Join(c.Args, " ")+" "+c.Env[len(c.Env)-1].Name+"="+c.Env[len(c.Env)-1].Value)
			continue
		}
		images = append(images, c.Image+" "+c.Command[0])
		if s := c.SecurityContext; !*s.RunAsNonRoot || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("container %s may more than nothing", c.Name)
		}
	}
	if want := []string{"r/wcbundle@sha256:1 /wcbundle-fetch/arm64", "r/side@sha256:3 /wcbundle-fetch/arm64", "r/server@sha256:4 /wcbundle-fetch/arm64"}; !slices.Equal(images, want) {
		t.Errorf("images %v", images)
	}
	if want := []string{"pull --model r/m@sha256:2 --to /models WCBUNDLE_CACHE_ONLY=true"}; !slices.Equal(models, want) {
		t.Errorf("models %v", models)
	}
	volumes := map[string]string{}
	for _, v := range p.Spec.Volumes {
		switch {
		case v.HostPath != nil:
			volumes[v.Name] = v.HostPath.Path
		case v.EmptyDir != nil:
			volumes[v.Name] = "empty"
		case v.Image != nil:
			volumes[v.Name] = v.Image.Reference
		case v.Secret != nil:
			volumes[v.Name] = "secret"
		case v.ConfigMap != nil:
			volumes[v.Name] = v.ConfigMap.Name
		}
	}
	if want := map[string]string{"node": "/var/cache/models", "models": "empty", "claim": "empty", "login": "secret", "weights": "r/w@sha256:5", programs: "wcbundle-fetch-shop"}; !reflect.DeepEqual(volumes, want) {
		t.Errorf("volumes %v", volumes)
	}
	s := p.Spec
	if s.NodeName != "n1" || s.ImagePullSecrets[0].Name != "pull" || s.ServiceAccountName != "sa" || *s.AutomountServiceAccountToken || *s.SecurityContext.RunAsUser != 1000 ||
		s.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || p.Labels[labelFor] != "shop" {
		t.Errorf("pod %+v", s)
	}
	again := o
	again.spec = spec.DeepCopy()
	if again.name() != o.name() {
		t.Error("the same order has two names: a killed run would not find its pods")
	}
	for _, change := range []func(*order){func(o *order) { o.op = "op2" }, func(o *order) { o.place.node = "n2" }, func(o *order) { o.workload = "Deployment/b" },
		func(o *order) { o.spec = spec.DeepCopy(); o.spec.Containers[0].Image = "r/server@sha256:6" }} {
		other := o
		if change(&other); other.name() == o.name() {
			t.Error("different orders have one name")
		}
	}
}

func waiting(name, reason string) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "says why"}}}
}

func ended(name string, code int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}}
}

func TestLook(t *testing.T) {
	crashed := waiting("model-1", "CrashLoopBackOff")
	crashed.RestartCount = 2
	crashed.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 28, Message: "no room"}
	running := corev1.ContainerStatus{Name: "model-1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	for _, c := range []struct {
		name  string
		phase corev1.PodPhase
		have  []corev1.ContainerStatus
		want  finding
	}{
		{"nothing said yet", corev1.PodPending, nil, finding{}},
		{"all ended well", corev1.PodSucceeded, nil, finding{done: true}},
		{"no room on the node", corev1.PodFailed, nil, finding{lack: "OutOfpods: too many"}},
		{"pulling", corev1.PodPending, []corev1.ContainerStatus{waiting("image-0", "ContainerCreating"), ended("model-1", 0)}, finding{}},
		{"the image is there and cannot run", corev1.PodPending, []corev1.ContainerStatus{waiting("image-0", "RunContainerError"), ended("model-1", 0)}, finding{done: true}},
		{"the image ran", corev1.PodRunning, []corev1.ContainerStatus{ended("image-0", 1), ended("model-1", 0)}, finding{done: true}},
		{"the model is on its way", corev1.PodRunning, []corev1.ContainerStatus{ended("image-0", 0), running}, finding{}},
		{"the model failed once", corev1.PodRunning, []corev1.ContainerStatus{ended("image-0", 0), ended("model-1", 1)}, finding{}},
		{"no model", corev1.PodRunning, []corev1.ContainerStatus{ended("image-0", 0), crashed}, finding{lack: "the model could not be fetched, exit code 28: no room"}},
		{"no image", corev1.PodPending, []corev1.ContainerStatus{waiting("image-0", "ImagePullBackOff"), crashed}, finding{lack: "ImagePullBackOff: r/i: says why", image: true}},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "image-0", Image: "r/i"}, {Name: "model-1"}}}}
		p.Status = corev1.PodStatus{Phase: c.phase, ContainerStatuses: c.have}
		if c.phase == corev1.PodFailed {
			p.Status.Reason, p.Status.Message = "OutOfpods", "too many"
		}
		if got := look(p); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestSum(t *testing.T) {
	got := sum(map[string][]finding{
		"a": {{done: true}, {done: true}}, "b": {{done: true}, {}}, "c": {{done: true}, {lack: "x", image: true}}, "d": {{lack: "y", image: true}}, "e": {{}, {lack: "z"}},
	}, map[string]bool{"c": true, "e": true})
	want := rollout.Fetched{Have: 1, Total: 5, At: []string{"b"}, Lacks: []rollout.Lack{{Node: "c", Reason: "x", Fatal: true}, {Node: "d", Reason: "y"}, {Node: "e", Reason: "z"}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
