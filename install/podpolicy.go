package install

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/wordcab/wcbundle/install/preflight"
)

// policyName is of the policy and its binding, which have no namespace: one site's do not meet another's.
func policyName(namespace string) string { return "wcbundle-references-" + namespace }

const (
	policyPlural  = preflight.PolicyPlural
	bindingPlural = "mutatingadmissionpolicybindings"
	fieldManager  = "wcbundle"

	tablePart       = 32 << 10  // bytes of the table in one expression; the API server's parser takes 100,000 characters
	maxTable        = 512 << 10 // bytes of the table; etcd takes 1.5 MiB
	policyPatience  = 30 * time.Second
	refusedPatience = 3 * time.Second
)

// podPolicy rewrites the images of pods at the moment they are made, in one namespace and for known references alone. The table is in the
// policy itself: Kubernetes 1.34 stops reading ConfigMaps for good when the last policy that takes one as its parameter is deleted, and
// a policy that is made later gets the table of before, or none (docs/adr/0008).
type podPolicy struct {
	Namespace string
	Pull      string            // host:port of the registry, from the nodes
	Secret    string            // pull secret to be added; "" = none
	Table     map[string]string // reference -> Pull/repository@digest
}

// referenceForm is the alphabet of references. Nothing else is written into an expression.
var referenceForm = regexp.MustCompile(`^[A-Za-z0-9._/:@\[\]-]+$`)

// tables are the expressions of the table, each a CEL map, and the reference by which prove finds out that the API server acts by them. That
// reference leads nowhere.
func (p podPolicy) tables() (parts []string, probe, probed string, err error) {
	sum := sha256.New()
	var lines []string
	for _, ref := range slices.Sorted(maps.Keys(p.Table)) {
		to := p.Table[ref]
		if !referenceForm.MatchString(ref) || !referenceForm.MatchString(to) {
			return nil, "", "", fmt.Errorf("%.300q or %.300q is no reference", ref, to)
		}
		lines = append(lines, fmt.Sprintf("%q: %q", ref, to))
	}
	fmt.Fprintf(sum, "%q %q %q", p.Pull, p.Secret, lines)
	mark := hex.EncodeToString(sum.Sum(nil))
	probe, probed = "probe.wcbundle.invalid/table:"+mark[:32], p.Pull+"/probe.wcbundle.invalid/table@sha256:"+mark
	part, size := fmt.Sprintf("%q: %q", probe, probed), 0
	for _, line := range lines {
		if size += len(line); size > maxTable {
			return nil, "", "", fmt.Errorf("the references of the releases that may run take more than the %d bytes that a policy has room for", maxTable)
		}
		if len(part)+len(line) > tablePart {
			parts = append(parts, "{"+part+"}")
			part = line
			continue
		}
		part += ",\n" + line
	}
	return append(parts, "{"+part+"}"), probe, probed, nil
}

// lookup are two expressions over the parts of the table: whether it has a reference, and where that leads.
type lookup int

func (parts lookup) has(ref string) string {
	var out []string
	for i := range int(parts) {
		out = append(out, fmt.Sprintf("%s in variables.table%d", ref, i))
	}
	return "(" + strings.Join(out, " || ") + ")"
}

func (parts lookup) of(ref string) string {
	out := ref
	for i := int(parts) - 1; i >= 0; i-- {
		out = fmt.Sprintf("variables.table%d[?%s].orValue(%s)", i, ref, out)
	}
	return out
}

// images is the expression that rewrites: containers by name, volumes by name, and nothing else of the pod.
func (parts lookup) images() string {
	containers := func(list string) string {
		return fmt.Sprintf("    %s: (has(object.spec.%s) ? object.spec.%s : []).filter(c, has(c.image) && %s)\n"+
			"      .map(c, Object.spec.%s{name: c.name, image: %s}),\n", list, list, list, parts.has("c.image"), list, parts.of("c.image"))
	}
	volumes := fmt.Sprintf("    volumes: (has(object.spec.volumes) ? object.spec.volumes : []).filter(v, has(v.image) && has(v.image.reference) && %s)\n"+
		"      .map(v, Object.spec.volumes{name: v.name, image: Object.spec.volumes.image{reference: %s}})\n", parts.has("v.image.reference"), parts.of("v.image.reference"))
	return "Object{\n  spec: Object.spec{\n" + containers("containers") + containers("initContainers") + volumes + "  }\n}"
}

// secret is the expression that adds the pull secret where an image leads to the site's registry. It is a JSON patch, because the API calls
// a reference to a Secret atomic, which an apply configuration may not touch. A list is made empty and then added to: Kubernetes 1.34 panics
// over a patch whose value is a list of structs, and makes no pod.
func (p podPolicy) secret(parts lookup) string {
	return fmt.Sprintf("!variables.named.exists(ref, ref.startsWith(%q) || %s) ? [] :\n", p.Pull+"/", parts.has("ref")) +
		fmt.Sprintf("has(object.spec.imagePullSecrets) && object.spec.imagePullSecrets.exists(s, has(s.name) && s.name == %q) ? [] :\n", p.Secret) +
		"(has(object.spec.imagePullSecrets) ? [] : [JSONPatch{op: \"add\", path: \"/spec/imagePullSecrets\", value: []}]) +\n" +
		fmt.Sprintf("[JSONPatch{op: \"add\", path: \"/spec/imagePullSecrets/-\", value: {\"name\": %q}}]", p.Secret)
}

// named are all references that a pod's images have.
const named = "object.spec.containers.filter(c, has(c.image)).map(c, c.image)" +
	" + (has(object.spec.initContainers) ? object.spec.initContainers : []).filter(c, has(c.image)).map(c, c.image)" +
	" + (has(object.spec.volumes) ? object.spec.volumes : []).filter(v, has(v.image) && has(v.image.reference)).map(v, v.image.reference)"

// policy is the MutatingAdmissionPolicy. It fails open: a pod that needs nothing of it, as all that a chart renders, must start at night
// whatever has become of the policy; one that needs it fails to pull, by name.
func (p podPolicy) policy(version string, tables []string) *unstructured.Unstructured {
	var variables []any
	variable := func(name, expression string) {
		variables = append(variables, map[string]any{"name": name, "expression": expression})
	}
	for i, t := range tables {
		variable(fmt.Sprintf("table%d", i), t)
	}
	parts := lookup(len(tables))
	mutations := []any{map[string]any{"patchType": "ApplyConfiguration", "applyConfiguration": map[string]any{"expression": parts.images()}}}
	if p.Secret != "" {
		variable("named", named)
		mutations = append(mutations, map[string]any{"patchType": "JSONPatch", "jsonPatch": map[string]any{"expression": p.secret(parts)}})
	}
	return admission(version, "MutatingAdmissionPolicy", p.Namespace, map[string]any{
		"failurePolicy": "Ignore", "reinvocationPolicy": "IfNeeded", "variables": variables, "mutations": mutations,
		"matchConstraints": map[string]any{
			"namespaceSelector": map[string]any{"matchLabels": map[string]any{corev1.LabelMetadataName: p.Namespace}},
			"resourceRules": []any{map[string]any{"apiGroups": []any{""}, "apiVersions": []any{"v1"}, "operations": []any{"CREATE"},
				"resources": []any{"pods"}}},
		},
	})
}

func (p podPolicy) binding(version string) *unstructured.Unstructured {
	return admission(version, "MutatingAdmissionPolicyBinding", p.Namespace, map[string]any{"policyName": policyName(p.Namespace)})
}

func admission(version, kind, namespace string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{"apiVersion": preflight.PolicyGroup + "/" + version, "kind": kind,
		"metadata": map[string]any{"name": policyName(namespace), "labels": map[string]any{"app.kubernetes.io/managed-by": "wcbundle"}}, "spec": spec}}
}

// ErrNoPolicy is returned for a site whose record says policy on a cluster that does not serve it.
var ErrNoPolicy = errors.New("the API server serves no MutatingAdmissionPolicy, by which this site's pods find their images")

// settle brings policy and binding, and waits until the API server acts by them.
func (p podPolicy) settle(ctx context.Context, a *Access) error {
	version, err := preflight.PolicyVersion(a.Kube)
	if err != nil {
		return err
	}
	if version == "" {
		return ErrNoPolicy
	}
	tables, probe, probed, err := p.tables()
	if err != nil {
		return err
	}
	for _, part := range []struct {
		plural string
		is     *unstructured.Unstructured
	}{{policyPlural, p.policy(version, tables)}, {bindingPlural, p.binding(version)}} {
		at := a.Dynamic.Resource(schema.GroupVersionResource{Group: preflight.PolicyGroup, Version: version, Resource: part.plural})
		if _, err := at.Apply(ctx, part.is.GetName(), part.is, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
			return fmt.Errorf("%s %s, by which pods find their images: %w", part.is.GetKind(), part.is.GetName(), err)
		}
	}
	return p.prove(ctx, a, probe, probed)
}

// prove asks for a pod that is never made, until its image is rewritten: the API server learns of a policy a moment after it has taken it,
// and one whose feature gate is off takes it and never acts. Where such a pod stays refused, by a quota or a webhook, nothing can be
// said, and nothing is. A policy that the API server stumbles over is taken away.
func (p podPolicy) prove(ctx context.Context, a *Access, probe, want string) error {
	begin := time.Now()
	for {
		got, err := a.Kube.CoreV1().Pods(p.Namespace).Create(ctx, probePod(probe), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		var refused apierrors.APIStatus
		switch {
		case errors.As(err, &refused) && refused.Status().Code < 500:
			if time.Since(begin) > refusedPatience {
				return nil
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			err = fmt.Errorf("looking whether pods are rewritten: %w", err)
			return errors.Join(err, removePolicy(ctx, a))
		case p.rewritten(got, want):
			return nil
		}
		if time.Since(begin) > policyPatience {
			return ErrPolicyIdle
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (p podPolicy) rewritten(pod *corev1.Pod, want string) bool {
	return pod.Spec.Containers[0].Image == want &&
		(p.Secret == "" || slices.Contains(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: p.Secret}))
}

// probePod keeps to the restricted pod security standard.
func probePod(image string) *corev1.Pod {
	no, yes := false, true
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "wcbundle-probe-"}, Spec: corev1.PodSpec{
		AutomountServiceAccountToken: &no, RestartPolicy: corev1.RestartPolicyNever,
		SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		Containers: []corev1.Container{{Name: "probe", Image: image,
			SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}}},
	}}
}

// removePolicy takes away what settle has brought. It looks first: who may only look needs no more where there is nothing.
func removePolicy(ctx context.Context, a *Access) error {
	version, err := preflight.PolicyVersion(a.Kube)
	if err != nil || version == "" {
		return err
	}
	for _, plural := range []string{bindingPlural, policyPlural} {
		at := a.Dynamic.Resource(schema.GroupVersionResource{Group: preflight.PolicyGroup, Version: version, Resource: plural})
		_, err := at.Get(ctx, policyName(a.Namespace), metav1.GetOptions{})
		if err == nil {
			err = at.Delete(ctx, policyName(a.Namespace), metav1.DeleteOptions{})
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("taking away %s %s: %w", plural, policyName(a.Namespace), err)
		}
	}
	return nil
}
