//go:build e2e

package install

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/install/preflight"
)

// These tests want an API server that acts by MutatingAdmissionPolicy, as that of e2e/cluster/up.sh does: WCBUNDLE_TEST_KUBECONFIG. No pod
// is made: the API server is only asked what it would make.

func policySite(t *testing.T) *Access {
	t.Helper()
	file := os.Getenv("WCBUNDLE_TEST_KUBECONFIG")
	if file == "" {
		t.Fatal("WCBUNDLE_TEST_KUBECONFIG is not set")
	}
	a, err := Connect(file, "", fmt.Sprintf("policy%d", time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: a.Namespace}}
	if _, err := a.Kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if err := removePolicy(ctx, a); err != nil {
			t.Error(err)
		}
		if err := a.Kube.CoreV1().Namespaces().Delete(ctx, a.Namespace, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return a
}

// would is the pod that the API server would make.
func would(t *testing.T, a *Access, namespace string, spec corev1.PodSpec) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "p-"}, Spec: spec}
	got, err := a.Kube.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestPolicyRewritesKnownReferencesAlone(t *testing.T) {
	a := policySite(t)
	to := "10.96.0.50:5000/r.example/a@" + someDigest
	p := podPolicy{Namespace: a.Namespace, Pull: "10.96.0.50:5000", Secret: PullSecret, Table: map[string]string{"r.example/a:1.0": to, "r.example:8443/a@" + someDigest: to}}
	if err := p.settle(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	for image, want := range map[string]string{
		"r.example/a:1.0":                  to,
		"r.example:8443/a@" + someDigest:   to,
		"r.example/a:1.0.0":                "r.example/a:1.0.0", // a known one is its prefix
		"r.example/a":                      "r.example/a",
		"x.r.example/a:1.0":                "x.r.example/a:1.0",
		"r.example/a@" + someDigest:        "r.example/a@" + someDigest,
		"r.example/a:1.0@" + someDigest:    "r.example/a:1.0@" + someDigest,
		"10.96.0.50:5000/r.example/b:2":    "10.96.0.50:5000/r.example/b:2",
		"10.96.0.50:50000/r.example/other": "10.96.0.50:50000/r.example/other",
	} {
		got := would(t, a, a.Namespace, corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}, InitContainers: []corev1.Container{{Name: "i", Image: image}}})
		if got.Spec.Containers[0].Image != want || got.Spec.InitContainers[0].Image != want {
			t.Errorf("%s became %s and %s, want %s", image, got.Spec.Containers[0].Image, got.Spec.InitContainers[0].Image, want)
		}
		secret := want == to || image == "10.96.0.50:5000/r.example/b:2"
		if shown := slices.Contains(got.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: PullSecret}); shown != secret {
			t.Errorf("%s: pull secret %v, want %v", image, shown, secret)
		}
	}
	both := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "r.example/a:1.0", Command: []string{"r.example/a:1.0"}}, {Name: "d", Image: "elsewhere/x:1"}},
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "mine"}, {Name: PullSecret}}}
	got := would(t, a, a.Namespace, both)
	if fmt.Sprint(got.Spec.ImagePullSecrets) != fmt.Sprint(both.ImagePullSecrets) || got.Spec.Containers[0].Command[0] != "r.example/a:1.0" || got.Spec.Containers[1].Image != "elsewhere/x:1" {
		t.Errorf("more was changed than was to be: %+v", got.Spec)
	}
	other := would(t, a, "default", corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "r.example/a:1.0"}}})
	if other.Spec.Containers[0].Image != "r.example/a:1.0" {
		t.Errorf("another namespace's pod was rewritten to %s", other.Spec.Containers[0].Image)
	}
}

// 300 references are a large product; 2000 are what the table has room for. Each pod names many.
func TestPolicyWithManyReferences(t *testing.T) {
	a := policySite(t)
	for _, n := range []int{300, 2000} {
		p := podPolicy{Namespace: a.Namespace, Pull: "10.96.0.50:5000", Secret: PullSecret, Table: manyReferences(n)}
		begin := time.Now()
		if err := p.settle(t.Context(), a); err != nil {
			t.Fatalf("%d references: %v", n, err)
		}
		settled := time.Since(begin)
		var spec corev1.PodSpec
		var want []string
		for ref, to := range p.Table {
			spec.Containers = append(spec.Containers, corev1.Container{Name: fmt.Sprintf("c%d", len(want)), Image: ref})
			if want = append(want, to); len(want) == 40 {
				break
			}
		}
		begin = time.Now()
		got := would(t, a, a.Namespace, spec)
		t.Logf("%d references: settled in %v, a pod of 40 containers took %v", n, settled, time.Since(begin))
		for i, c := range got.Spec.Containers {
			if c.Image != want[i] {
				t.Fatalf("%d references: %s became %s", n, spec.Containers[i].Image, c.Image)
			}
		}
	}
}

// What was taken away and brought again acts again, and a changed table replaces the old one.
func TestPolicyComesAndGoes(t *testing.T) {
	a := policySite(t)
	for i := range 3 {
		to := fmt.Sprintf("h/r.example/a@sha256:%064d", i)
		p := podPolicy{Namespace: a.Namespace, Pull: "h", Table: map[string]string{"r.example/a:1": to}}
		if err := p.settle(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		got := would(t, a, a.Namespace, corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "r.example/a:1"}}})
		if got.Spec.Containers[0].Image != to {
			t.Errorf("became %s, want %s", got.Spec.Containers[0].Image, to)
		}
		if i == 1 {
			if err := removePolicy(t.Context(), a); err != nil {
				t.Fatal(err)
			}
		}
	}
	if v, err := preflight.PolicyVersion(a.Kube); err != nil || v == "" {
		t.Errorf("version %q, %v", v, err)
	}
}
