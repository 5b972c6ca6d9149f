package detach

import (
	"maps"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// Label is on everything that a run has in the cluster; its value is the release.
	Label = "bundle.wordcab.com/run"
	// LabelOp is on the Job and its pods: the operation's id.
	LabelOp = "bundle.wordcab.com/op"
	// Dir is where the pod finds its Secret.
	Dir = "/run/wcbundle"
	// File is the key of the Secret that says what to do.
	File = "run.json"

	scratchDir = "/scratch"
	user       = 65532
	keep       = 3600 // seconds that an ended Job is kept
	tries      = 20   // pods that may be lost
)

// Options are what a run needs.
type Options struct {
	Release    string
	Namespace  string
	Op         string
	Image      string // pinned in the site's registry
	PullSecret string // "" = the registry asks for no login
	Spec       []byte // of the run, for the Secret
	Scratch    string // size, default 10Gi
	Rules      []rbacv1.PolicyRule
	Cluster    []rbacv1.PolicyRule
}

// Name of the objects in the namespace.
func (o Options) Name() string { return "wcbundle-run-" + o.Release }

// ClusterName of the objects that belong to no namespace.
func (o Options) ClusterName() string { return o.Name() + "-" + o.Namespace }

func (o Options) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: o.Namespace, Labels: map[string]string{Label: o.Release, LabelOp: o.Op}}
}

// Secret says what to do. It has the registry's login and the site's values in it.
func (o Options) Secret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: o.meta(o.Name()), Data: map[string][]byte{File: o.Spec}}
}

// ServiceAccount of the pod.
func (o Options) ServiceAccount() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: o.meta(o.Name())}
}

// Role is what it may do in the namespace, ClusterRole outside of it.
func (o Options) Role() *rbacv1.Role {
	return &rbacv1.Role{ObjectMeta: o.meta(o.Name()), Rules: o.Rules}
}

// ClusterRole is what the run may do outside of the namespace.
func (o Options) ClusterRole() *rbacv1.ClusterRole {
	m := o.meta(o.ClusterName())
	m.Namespace = ""
	return &rbacv1.ClusterRole{ObjectMeta: m, Rules: o.Cluster}
}

// Bindings give both to the ServiceAccount.
func (o Options) Bindings() (*rbacv1.RoleBinding, *rbacv1.ClusterRoleBinding) {
	who := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: o.Name(), Namespace: o.Namespace}}
	m := o.meta(o.ClusterName())
	m.Namespace = ""
	return &rbacv1.RoleBinding{ObjectMeta: o.meta(o.Name()), Subjects: who, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: o.Name()}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: m, Subjects: who, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: o.ClusterName()}}
}

// Job runs the operation until it has ended or is on hold.
func (o Options) Job() *batchv1.Job {
	no, yes, uid := false, true, int64(user)
	retries, ttl, mode := int32(tries), int32(keep), int32(0o440)
	scratch := o.Scratch
	if scratch == "" {
		scratch = "10Gi"
	}
	size := resource.MustParse(scratch)
	pod := corev1.PodSpec{
		ServiceAccountName: o.Name(), RestartPolicy: corev1.RestartPolicyNever,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, RunAsUser: &uid, RunAsGroup: &uid, FSGroup: &uid,
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{
			Name: "wcbundle", Image: o.Image, Args: []string{"run-operation", "--namespace", o.Namespace},
			Env: []corev1.EnvVar{{Name: "HOME", Value: scratchDir}, {Name: "TMPDIR", Value: scratchDir}},
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes, RunAsNonRoot: &yes,
				Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("256Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}},
			VolumeMounts:             []corev1.VolumeMount{{Name: "run", MountPath: Dir, ReadOnly: true}, {Name: "scratch", MountPath: scratchDir}},
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		}},
		Volumes: []corev1.Volume{
			{Name: "run", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: o.Name(), DefaultMode: &mode}}},
			{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &size}}},
		},
	}
	if o.PullSecret != "" {
		pod.ImagePullSecrets = []corev1.LocalObjectReference{{Name: o.PullSecret}}
	}
	job := &batchv1.Job{ObjectMeta: o.meta(o.Name()), Spec: batchv1.JobSpec{BackoffLimit: &retries, TTLSecondsAfterFinished: &ttl}}
	job.Spec.Template = corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: maps.Clone(job.Labels)}, Spec: pod}
	return job
}
