package detach

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind is a kind of object that an operation makes or changes.
type Kind struct {
	schema.GroupVersionResource
	Cluster bool // it belongs to no namespace
}

func rule(group string, verbs []string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: names, Verbs: verbs}
}

// Rules are the rights of a run: what every operation does, and all verbs on the kinds of the two revisions. A chart that grants rights
// needs the right to grant. Its own rights outside of the namespace it may take away: clusterName names them.
func Rules(clusterName string, kinds []Kind, crdGroups []string, policies bool) (namespaced, cluster []rbacv1.PolicyRule) {
	look, act, all := []string{"get", "list", "watch"}, []string{"get", "list", "watch", "patch", "update"}, []string{"*"}
	namespaced = []rbacv1.PolicyRule{
		rule("", all, "secrets", "configmaps"),                                   // Helm's records, ours, snapshots
		rule("coordination.k8s.io", all, "leases"),                               // the lock
		rule("", append([]string{"delete", "create", "patch"}, look...), "pods"), // drained, stuck and fetching ones
		rule("", []string{"get"}, "pods/log"),
		rule("", []string{"get", "create"}, "pods/proxy", "services/proxy"), // gates
		rule("", look, "events", "services"),
		rule("", act, "serviceaccounts"),
		rule("apps", act, "deployments", "statefulsets"),
		rule("apps", look, "replicasets", "daemonsets"),
		rule("autoscaling", look, "horizontalpodautoscalers"),
		rule("leaderworkerset.x-k8s.io", act, "leaderworkersets"),
	}
	cluster = []rbacv1.PolicyRule{
		rule("", look, "nodes", "pods", "namespaces"), // free GPUs, outages
		rule("", []string{"get", "create"}, "services/proxy"),
		{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"clusterroles", "clusterrolebindings"}, ResourceNames: []string{clusterName}, Verbs: []string{"delete"}},
	}
	for _, k := range kinds {
		r := rule(k.Group, all, k.Resource)
		if k.Group == rbacv1.GroupName {
			r.Verbs = []string{"*", "bind", "escalate"}
		}
		if k.Cluster {
			cluster = append(cluster, r)
		} else {
			namespaced = append(namespaced, r)
		}
	}
	if len(crdGroups) > 0 {
		cluster = append(cluster, rule("apiextensions.k8s.io", append([]string{"create"}, act...), "customresourcedefinitions"))
		for _, g := range crdGroups {
			cluster = append(cluster, rule(g, []string{"get", "list"}, "*")) // for the snapshot
		}
	}
	if policies {
		cluster = append(cluster, rule("admissionregistration.k8s.io", all, "mutatingadmissionpolicies", "mutatingadmissionpolicybindings"))
	}
	return namespaced, cluster
}
