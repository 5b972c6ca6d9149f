package detach

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestJob: the pod is of the restricted profile, what it is told is in a Secret and nowhere else, and it is tried again when it is lost.
func TestJob(t *testing.T) {
	o := Options{Release: "shop", Namespace: "n", Op: "op1", Image: "reg/wcbundle@sha256:aa", PullSecret: "pull", Spec: []byte(`{"password":"hunter2"}`)}
	job := o.Job()
	pod := job.Spec.Template.Spec
	c := pod.Containers[0]
	if !*pod.SecurityContext.RunAsNonRoot || pod.SecurityContext.SeccompProfile.Type != "RuntimeDefault" || *c.SecurityContext.AllowPrivilegeEscalation ||
		!*c.SecurityContext.ReadOnlyRootFilesystem || c.SecurityContext.Capabilities.Drop[0] != "ALL" {
		t.Errorf("not restricted: %+v %+v", pod.SecurityContext, c.SecurityContext)
	}
	if *job.Spec.BackoffLimit < 5 || pod.RestartPolicy != "Never" || *job.Spec.TTLSecondsAfterFinished == 0 {
		t.Errorf("a lost pod is not made anew, or an ended one is kept for ever: %+v", job.Spec)
	}
	if strings.Contains(job.String(), "hunter2") || o.Secret().Data[File] == nil || pod.ImagePullSecrets[0].Name != "pull" {
		t.Error("what the pod is told is in the Job, or not in the Secret")
	}
	binding, clusterBinding := o.Bindings()
	if binding.RoleRef.Name != o.Role().Name || clusterBinding.RoleRef.Name != o.ClusterRole().Name || clusterBinding.Subjects[0].Namespace != "n" {
		t.Errorf("bindings %+v %+v", binding, clusterBinding)
	}
}

// TestRules: kinds of the chart, in the namespace or outside; the right to grant only where the chart grants; nothing with every resource.
func TestRules(t *testing.T) {
	kinds := []Kind{{GroupVersionResource: schema.GroupVersionResource{Group: "apps", Resource: "deployments"}},
		{GroupVersionResource: schema.GroupVersionResource{Resource: "persistentvolumes"}, Cluster: true}}
	ns, cluster := Rules("own", kinds, []string{"models.example.com"}, false)
	has := func(list []rbacv1.PolicyRule, group, name, verb string) bool {
		return slices.ContainsFunc(list, func(r rbacv1.PolicyRule) bool {
			return slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, name) && (slices.Contains(r.Verbs, verb) || slices.Contains(r.Verbs, "*"))
		})
	}
	if !has(ns, "apps", "deployments", "delete") || !has(cluster, "", "persistentvolumes", "delete") || !has(cluster, "models.example.com", "*", "list") {
		t.Errorf("rights are missing: %+v %+v", ns, cluster)
	}
	if has(cluster, "", "secrets", "get") || has(cluster, "admissionregistration.k8s.io", "mutatingadmissionpolicies", "create") || has(ns, rbacv1.GroupName, "roles", "escalate") {
		t.Error("more rights than asked for")
	}
	ns, _ = Rules("own", []Kind{{GroupVersionResource: schema.GroupVersionResource{Group: rbacv1.GroupName, Resource: "roles"}}}, nil, true)
	if !has(ns, rbacv1.GroupName, "roles", "escalate") {
		t.Error("a chart that grants rights cannot be applied")
	}
}
