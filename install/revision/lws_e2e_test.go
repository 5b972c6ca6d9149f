//go:build e2e

package revision

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/wordcab/wcbundle/rollout"
)

var groups = schema.GroupVersionResource{Group: "leaderworkerset.x-k8s.io", Version: "v1", Resource: "leaderworkersets"}

// TestEdge9LeaderWorkerSet runs the LeaderWorkerSet controller itself, with its webhooks, on a set that its chart lets surge: on hold it
// makes no surge group, a lost group comes back as it was, and the chart's numbers are there again afterwards.
func TestEdge9LeaderWorkerSet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.runLWS()
	pools := []rollout.Pool{
		{Name: "front", Order: 1, Workloads: []rollout.Workload{{Kind: "Deployment", Name: "front"}}, ReadyTimeout: rollout.Duration(time.Minute)},
		{Name: "llm", Order: 2, Workloads: []rollout.Workload{{Kind: "LeaderWorkerSet", Name: "llm"}}, ReadyTimeout: rollout.Duration(time.Minute)},
	}
	run := func(id, tag string, before int, limits rollout.Limits) rollout.Outcome {
		t.Helper()
		kind := rollout.TypeApply
		if before == 0 {
			kind = rollout.TypeInstall
		}
		op := rollout.NewOperation(id, kind, pools, before, before)
		if err := op.Limit(limits); err != nil {
			t.Fatal(err)
		}
		out, err := rollout.Run(t.Context(), s.engine(s.groupsRequest(tag)), op)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	s.must(rollout.Succeeded, run("op1", "1", 0, rollout.Limits{}))
	s.becomes("llm", "1", 4) // two groups of a leader and a worker

	s.must(rollout.Held, run("op2", "2", 1, rollout.Limits{Until: "front"}))
	settled()
	s.becomes("llm", "1", 4)
	leader, err := s.c.Kube().CoreV1().Pods(s.ns).Get(t.Context(), "llm-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.killPod(string(leader.UID))
	settled()
	s.becomes("llm", "1", 4)

	out, err := rollout.Resume(t.Context(), s.engine(s.groupsRequest("2")), rollout.ResumeOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.must(rollout.Succeeded, out)
	s.becomes("llm", "2", 4)
	s.groupsAsCharted()

	out = s.must(rollout.RolledBack, run("op3", "3-nopull", 2, rollout.Limits{}))
	if out.Pool != "front" {
		t.Errorf("outcome %+v", out)
	}
	s.becomes("llm", "2", 4)
	s.groupsAsCharted()
	s.scaleGroups(3)
	s.must(rollout.Succeeded, run("op4", "4", 4, rollout.Limits{}))
	s.becomes("llm", "4", 6) // an autoscaler's size, not the chart's
}

// scaleGroups lets an autoscaler own the set's size, and does what it would.
func (s *site) scaleGroups(n int32) {
	s.t.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "llm"}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{MaxReplicas: 5,
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: groups.GroupVersion().String(), Kind: "LeaderWorkerSet", Name: "llm"}}}
	if _, err := s.c.Kube().AutoscalingV2().HorizontalPodAutoscalers(s.ns).Create(s.t.Context(), h, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, n)
	if _, err := s.c.dyn.Resource(groups).Namespace(s.ns).Patch(s.t.Context(), "llm", types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		s.t.Fatal(err)
	}
	s.becomes("llm", "2", 2*int(n))
}

// groupsAsCharted wants the chart's partition and surge, and nothing of ours.
func (s *site) groupsAsCharted() {
	s.t.Helper()
	live, err := s.c.dyn.Resource(groups).Namespace(s.ns).Get(s.t.Context(), "llm", metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	got, _, _ := unstructured.NestedMap(live.Object, "spec", "rolloutStrategy", "rollingUpdateConfiguration")
	if got["maxSurge"] != int64(1) || got["partition"] != nil && got["partition"] != int64(0) || rollout.HeldBy(live) != "" || live.GetAnnotations()[rollout.AnnotationOriginal] != "" {
		s.t.Errorf("after the operation: %v, %v", got, live.GetAnnotations())
	}
}

func (s *site) groupsRequest(tag string) Request {
	s.t.Helper()
	const text = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: front}
spec:
  replicas: 1
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: "example.invalid/front:{{ .Values.tag }}"}]}
---
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {name: llm}
spec:
  replicas: 2
  rolloutStrategy: {type: RollingUpdate, rollingUpdateConfiguration: {maxUnavailable: 1, maxSurge: 1}}
  leaderWorkerTemplate:
    size: 2
    workerTemplate:
      metadata: {labels: {app: llm}}
      spec: {terminationGracePeriodSeconds: 0, containers: [{name: main, image: "example.invalid/llm:{{ .Values.tag }}"}]}
`
	ch := &chart.Chart{Metadata: &chart.Metadata{APIVersion: "v2", Name: "groups", Version: "1.0.0"}, Templates: []*chart.File{{Name: "templates/all.yaml", Data: []byte(text)}}}
	return Request{Chart: packed(s.t, ch), Values: map[string]any{"tag": tag}, Release: "story", Bundle: "1.0.0"}
}

// runLWS starts the controller for this namespace, and stops it with the test.
func (s *site) runLWS() {
	s.t.Helper()
	program := needs(s.t, "WCBUNDLE_TEST_LWS")
	s.applyCRD(needs(s.t, "WCBUNDLE_TEST_LWS_CRD"))
	dir := s.t.TempDir()
	ca, port := writeCert(s.t, dir), freePort(s.t)
	s.webhooks(ca, port)
	config := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf("apiVersion: config.lws.x-k8s.io/v1alpha1\nkind: Configuration\ninternalCertManagement: {enable: false}\nleaderElection: {leaderElect: false}\nmetrics: {bindAddress: \"0\"}\nhealth: {healthProbeBindAddress: \"127.0.0.1:%d\"}\nwebhook: {port: %d, host: 127.0.0.1, certDir: %s}\n", freePort(s.t), port, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(program, "--config", config)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+os.Getenv("WCBUNDLE_TEST_KUBECONFIG"))
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if s.t.Failed() {
			text := said.String()
			s.t.Logf("the controller said:\n%s", text[max(0, len(text)-4000):])
		}
	})
	for range 100 {
		if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			c.Close()
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
	s.t.Fatal("the controller's webhooks do not answer")
}

func (s *site) applyCRD(file string) {
	s.t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	crd := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(raw, &crd.Object); err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.c.dyn.Resource(crdAt).Apply(s.t.Context(), crd.GetName(), crd, metav1.ApplyOptions{FieldManager: "test", Force: true}); err != nil {
		s.t.Fatal(err)
	}
	if err := s.c.established(s.t.Context(), crd.GetName()); err != nil {
		s.t.Fatal(err)
	}
}

// webhooks lets the API server ask the controller about this namespace only.
func (s *site) webhooks(ca []byte, port int) {
	s.t.Helper()
	none, fail := admissionv1.SideEffectClassNone, admissionv1.Fail
	only := &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": s.ns}}
	client := func(path string) admissionv1.WebhookClientConfig {
		url := fmt.Sprintf("https://127.0.0.1:%d/%s", port, path)
		return admissionv1.WebhookClientConfig{URL: &url, CABundle: ca}
	}
	rule := func(group, name string, ops ...admissionv1.OperationType) []admissionv1.RuleWithOperations {
		return []admissionv1.RuleWithOperations{{Operations: ops, Rule: admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: []string{name}}}}
	}
	mutating := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "lws-" + s.ns}}
	for name, w := range map[string]admissionv1.MutatingWebhook{
		"mleaderworkerset.kb.io": {ClientConfig: client("mutate-leaderworkerset-x-k8s-io-v1-leaderworkerset"), Rules: rule("leaderworkerset.x-k8s.io", "leaderworkersets", admissionv1.Create, admissionv1.Update)},
		"mpod.kb.io":             {ClientConfig: client("mutate--v1-pod"), Rules: rule("", "pods", admissionv1.Create)},
	} {
		w.Name, w.SideEffects, w.FailurePolicy, w.NamespaceSelector, w.AdmissionReviewVersions = name, &none, &fail, only, []string{"v1"}
		mutating.Webhooks = append(mutating.Webhooks, w)
	}
	validating := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "lws-" + s.ns}}
	w := admissionv1.ValidatingWebhook{Name: "vleaderworkerset.kb.io", ClientConfig: client("validate-leaderworkerset-x-k8s-io-v1-leaderworkerset"),
		Rules: rule("leaderworkerset.x-k8s.io", "leaderworkersets", admissionv1.Create, admissionv1.Update), SideEffects: &none, FailurePolicy: &fail, NamespaceSelector: only, AdmissionReviewVersions: []string{"v1"}}
	validating.Webhooks = append(validating.Webhooks, w)
	api := s.c.Kube().AdmissionregistrationV1()
	if _, err := api.MutatingWebhookConfigurations().Create(s.t.Context(), mutating, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
	if _, err := api.ValidatingWebhookConfigurations().Create(s.t.Context(), validating, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// writeCert writes tls.crt and tls.key for the loopback address and returns the certificate.
func writeCert(t *testing.T, dir string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, b := range map[string][]byte{"tls.crt": cert, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert
}
