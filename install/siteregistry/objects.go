package siteregistry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Names of what Install makes.
const (
	name           = "wcbundle-registry"
	nodesName      = name + "-nodes"
	tlsName        = name + "-tls"
	CredentialName = name + "-credentials" // Secret with the user and password that the registry wants
	User           = "wcbundle"
	port           = 5000
	uid            = 65532
	labelParts     = "bundle.wordcab.com/registry-program"
)

func labels(of string) map[string]string { return map[string]string{"app.kubernetes.io/name": of} }

func meta(ns, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: ns, Name: name, Labels: map[string]string{"app.kubernetes.io/managed-by": "wcbundle", "app.kubernetes.io/name": name}}
}

// partSize is how many bytes of the program one ConfigMap holds: the API server takes a mebibyte, names and all.
const partSize = 1<<20 - 8<<10

// program is the registry's program, as it lies in the cluster: its parts are ConfigMaps prefix-000, prefix-001, ...; prefix-seed starts it.
type program struct {
	prefix string
	parts  int
}

func programOf(digest []byte, size int64) (program, error) {
	p := program{prefix: name + "-" + hex.EncodeToString(digest[:6]), parts: int((size + partSize - 1) / partSize)}
	if p.parts >= maxParts {
		return p, fmt.Errorf("the registry's program has %d bytes: more than fit into %d parts", size, maxParts)
	}
	return p, nil
}

func (p program) part(ns string, n int, b []byte) *corev1.ConfigMap {
	yes := true
	cm := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: meta(ns, fmt.Sprintf("%s-%03d", p.prefix, n)),
		Immutable: &yes, BinaryData: map[string][]byte{"part": b}}
	cm.Labels[labelParts] = p.prefix
	return cm
}

func (p program) seed(ns string, b []byte) *corev1.ConfigMap {
	cm := p.part(ns, 0, nil)
	cm.Name, cm.BinaryData = p.prefix+"-seed", map[string][]byte{"seed": b}
	return cm
}

// volumes are what a container needs to become the program.
func (p program) volumes() []corev1.Volume {
	mode := int32(0o555)
	var sources []corev1.VolumeProjection
	for n := range p.parts {
		sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: fmt.Sprintf("%s-%03d", p.prefix, n)},
			Items:                []corev1.KeyToPath{{Key: "part", Path: fmt.Sprintf("%03d", n)}}}})
	}
	limit := resource.MustParse("1Gi")
	return []corev1.Volume{
		{Name: "start", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: p.prefix + "-seed"}, DefaultMode: &mode}}},
		{Name: "parts", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}}},
		{Name: "seed", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &limit}}},
	}
}

func (p program) mounts() []corev1.VolumeMount {
	return []corev1.VolumeMount{{Name: "start", MountPath: "/start", ReadOnly: true}, {Name: "parts", MountPath: partsDir, ReadOnly: true}, {Name: "seed", MountPath: seedDir}}
}

func secretVolume(name, secret string, items ...string) corev1.Volume {
	v := corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret}}}
	for _, i := range items {
		v.Secret.Items = append(v.Secret.Items, corev1.KeyToPath{Key: i, Path: i})
	}
	return v
}

// setting is what the pods are made from.
type setting struct {
	ns       string
	image    string // that the nodes have; nothing of it is used
	nodes    []string
	arch     string
	program  program
	stamp    string // of the certificate and password: a change restarts the registry
	nodePort int32
	certsDir string
	pull     string // host:port for the nodes
	mirrors  []string
	storage  string // class; "" = the cluster's default
	size     resource.Quantity
}

func restricted() *corev1.SecurityContext {
	no, yes, user := false, true, int64(uid)
	return &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}}
}

// on lets a pod run on nodes of the program's architecture, and with hosts on these alone.
func (s setting) on(hosts []string) *corev1.Affinity {
	want := []corev1.NodeSelectorRequirement{{Key: "kubernetes.io/arch", Operator: corev1.NodeSelectorOpIn, Values: []string{s.arch}}}
	if hosts != nil {
		want = append(want, corev1.NodeSelectorRequirement{Key: "kubernetes.io/hostname", Operator: corev1.NodeSelectorOpIn, Values: hosts})
	}
	return &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: want}}}}}
}

func (s setting) deployment() *appsv1.Deployment {
	one, grace, group, no, soon := int32(1), int64(30), int64(uid), false, int64(30)
	pod := corev1.PodSpec{
		AutomountServiceAccountToken: &no, TerminationGracePeriodSeconds: &grace, PriorityClassName: "system-cluster-critical",
		SecurityContext: &corev1.PodSecurityContext{FSGroup: &group},
		Affinity:        s.on(s.nodes), // where the image is
		Tolerations: []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &soon},
			{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &soon}},
		Containers: []corev1.Container{{
			Name: "registry", Image: s.image, ImagePullPolicy: corev1.PullNever, SecurityContext: restricted(),
			Command: []string{"/start/seed", "registry", "serve", "--addr", fmt.Sprintf(":%d", port), "--dir", "/data",
				"--tls-cert", "/tls/tls.crt", "--tls-key", "/tls/tls.key", "--htpasswd", "/auth/htpasswd"},
			Ports:     []corev1.ContainerPort{{Name: "https", ContainerPort: port}},
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("128Mi")}, Limits: corev1.ResourceList{"memory": resource.MustParse("512Mi")}},
			ReadinessProbe: &corev1.Probe{PeriodSeconds: 2, ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/healthz", Port: intstr.FromInt32(port), Scheme: corev1.URISchemeHTTPS}}},
			LivenessProbe: &corev1.Probe{PeriodSeconds: 10, FailureThreshold: 6, InitialDelaySeconds: 10, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}}},
			VolumeMounts: append(s.program.mounts(), corev1.VolumeMount{Name: "data", MountPath: "/data"},
				corev1.VolumeMount{Name: "tls", MountPath: "/tls", ReadOnly: true}, corev1.VolumeMount{Name: "auth", MountPath: "/auth", ReadOnly: true}),
		}},
		Volumes: append(s.program.volumes(),
			corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}},
			secretVolume("tls", tlsName, "tls.crt", "tls.key"), secretVolume("auth", CredentialName, "htpasswd")),
	}
	return &appsv1.Deployment{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}, ObjectMeta: meta(s.ns, name),
		Spec: appsv1.DeploymentSpec{Replicas: &one, Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Selector: &metav1.LabelSelector{MatchLabels: labels(name)}, Template: s.template(name, pod)}}
}

func (s setting) template(of string, pod corev1.PodSpec) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels(of), Annotations: map[string]string{"bundle.wordcab.com/secrets": s.stamp}}, Spec: pod}
}

// daemonSet is on every real node, tainted or not: each pulls images.
func (s setting) daemonSet() *appsv1.DaemonSet {
	no, root, yes, all := false, int64(0), true, intstr.FromString("100%") // a node that is lost must not hold the others up
	kind := corev1.HostPathDirectoryOrCreate
	command := []string{"/start/seed", "registry", "hosts", "--dir", s.certsDir, "--host", s.pull, "--ca", "/tls/ca.crt", "--keep"}
	for _, m := range s.mirrors {
		command = append(command, "--mirror", m)
	}
	context := restricted()
	context.RunAsNonRoot, context.RunAsUser, context.RunAsGroup, context.ReadOnlyRootFilesystem = &no, &root, &root, &yes
	pod := corev1.PodSpec{
		AutomountServiceAccountToken: &no, PriorityClassName: "system-node-critical", Affinity: s.on(nil),
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Containers: []corev1.Container{{
			Name: "hosts", Image: s.image, ImagePullPolicy: corev1.PullNever, Command: command, SecurityContext: context,
			Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("5m"), "memory": resource.MustParse("32Mi")}, Limits: corev1.ResourceList{"memory": resource.MustParse("128Mi")}},
			VolumeMounts: append(s.program.mounts(), corev1.VolumeMount{Name: "certs", MountPath: s.certsDir}, corev1.VolumeMount{Name: "tls", MountPath: "/tls", ReadOnly: true}),
		}},
		Volumes: append(s.program.volumes(),
			corev1.Volume{Name: "certs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: s.certsDir, Type: &kind}}},
			secretVolume("tls", tlsName, "ca.crt")),
	}
	return &appsv1.DaemonSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"}, ObjectMeta: meta(s.ns, nodesName),
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels(nodesName)}, Template: s.template(nodesName, pod),
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &all}}}}
}

func (s setting) service() *corev1.Service {
	return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: meta(s.ns, name),
		Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, Selector: labels(name),
			Ports: []corev1.ServicePort{{Name: "https", Port: port, TargetPort: intstr.FromInt32(port), NodePort: s.nodePort}}}}
}

func (s setting) claim() *corev1.PersistentVolumeClaim {
	c := &corev1.PersistentVolumeClaim{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: meta(s.ns, name),
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": s.size}}}}
	if s.storage != "" {
		c.Spec.StorageClassName = &s.storage
	}
	return c
}

// dockerConfig is the credentials as kubelets read them.
func dockerConfig(hosts []string, password string) ([]byte, error) {
	auths := map[string]map[string]string{}
	for _, h := range hosts {
		auths[h] = map[string]string{"username": User, "password": password}
	}
	return json.Marshal(map[string]any{"auths": auths})
}

// stampOf changes when any of the values does.
func stampOf(values ...[]byte) string {
	h := sha256.New()
	for _, v := range values {
		fmt.Fprintf(h, "%d:", len(v))
		h.Write(v)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// seedImage picks the image that most of the nodes have, and the nodes. What it is does not matter: nothing of it runs. One with a digest is
// taken before a tag.
func seedImage(nodes []corev1.Node, arch string) (string, []string) {
	has := map[string][]string{}
	for _, n := range nodes {
		if n.Status.NodeInfo.Architecture != "" && n.Status.NodeInfo.Architecture != arch || n.Labels["kubernetes.io/arch"] != arch || !runs(n) {
			continue
		}
		for _, i := range n.Status.Images {
			for _, ref := range i.Names {
				has[ref] = append(has[ref], n.Labels["kubernetes.io/hostname"])
			}
		}
	}
	best := ""
	for ref, on := range has {
		switch {
		case best == "" || len(on) > len(has[best]):
			best = ref
		case len(on) == len(has[best]) && better(ref, best):
			best = ref
		}
	}
	return best, has[best]
}

// better prefers what the kubelet never removes, the image of every pod's sandbox, and a digest to a tag that may be moved.
func better(a, b string) bool {
	if x, y := strings.Contains(a, "/pause"), strings.Contains(b, "/pause"); x != y {
		return x
	}
	if x, y := strings.Contains(a, "@sha256:"), strings.Contains(b, "@sha256:"); x != y {
		return x
	}
	return a < b
}

// runs tells a node that has a kubelet which starts containers from one that only seems to be there.
func runs(n corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
