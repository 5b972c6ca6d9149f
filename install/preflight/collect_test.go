package preflight

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	helmtime "helm.sh/helm/v3/pkg/time"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	k8stesting "k8s.io/client-go/testing"
)

func gpuPod(name string, phase corev1.PodPhase, deleted bool) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "wordcab", Labels: map[string]string{"app": "asr"}},
		Spec: corev1.PodSpec{NodeName: "gpu-1", Containers: []corev1.Container{{Name: "main",
			Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{gpu: resource.MustParse("2")}}}}},
		Status: corev1.PodStatus{Phase: phase}}
	if deleted {
		p.DeletionTimestamp, p.Finalizers = &metav1.Time{Time: now}, []string{"x/y"}
	}
	return p
}

func cluster(t *testing.T, tlsCrt []byte) *fake.Clientset {
	t.Helper()
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Namespace: "wordcab"} }
	sel := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "asr"}}
	holder, secs, renewed := "alice@jump01", int32(60), metav1.NewMicroTime(now.Add(-10*time.Second))
	kube := fake.NewClientset(
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-1"}, Spec: corev1.NodeSpec{Unschedulable: true},
			Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{gpu: resource.MustParse("8"), "cpu": resource.MustParse("4")},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}, {Type: corev1.NodeDiskPressure, Status: corev1.ConditionTrue}}}},
		gpuPod("asr-1", corev1.PodRunning, false), gpuPod("asr-2", corev1.PodRunning, true), gpuPod("done", corev1.PodSucceeded, false),
		&appsv1.Deployment{ObjectMeta: meta("asr"), Spec: appsv1.DeploymentSpec{Selector: sel}},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast", Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": "true"}}, Provisioner: "csi.a", Parameters: map[string]string{"type": "nvme"}},
		&corev1.Secret{ObjectMeta: meta("ingress"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": tlsCrt, "tls.key": []byte("KEY-BYTES")}},
		&corev1.Secret{ObjectMeta: meta("broken"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{"tls.crt": []byte("junk")}},
		&corev1.ConfigMap{ObjectMeta: meta("wcbundle-op-wordcab"), Data: map[string]string{"operation.json": `{"id":"01J","state":"Rolling"}`}},
		&coordinationv1.Lease{ObjectMeta: meta("wcbundle-wordcab"), Spec: coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &secs, RenewTime: &renewed}},
		&corev1.ResourceQuota{ObjectMeta: meta("q"), Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse("5")}}},
	)
	for n, status := range map[int]release.Status{1: release.StatusDeployed, 2: release.StatusPendingUpgrade} {
		rel := &release.Release{Name: "wordcab", Namespace: "wordcab", Version: n, Info: &release.Info{Status: status, LastDeployed: helmtime.Time{Time: now}},
			Chart: &chart.Chart{Metadata: &chart.Metadata{Name: "wordcab", Version: "2.8.1"}}, Manifest: strings.Repeat("# a line\n", 100)}
		if err := driver.NewSecrets(kube.CoreV1().Secrets("wordcab")).Create("sh.helm.release.v1.wordcab.v"+string(rune('0'+n)), rel); err != nil {
			t.Fatal(err)
		}
	}
	return kube
}

func TestCollect(t *testing.T) {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	conf := &rest.Config{Host: srv.URL, TLSClientConfig: rest.TLSClientConfig{CAData: crt}}
	s, errs := Collect(context.Background(), Clients{Kube: cluster(t, crt), Config: conf, Namespace: "wordcab", Release: "wordcab", Now: now})
	if len(errs) != 0 {
		t.Fatalf("errors: %v", errs)
	}
	n := s.Nodes.Value[0]
	if n.Requested[gpu] != 4 || n.Terminating[gpu] != 2 || n.Allocatable["cpu"] != 4000 || !n.Ready || !n.Unschedulable || len(n.Pressure) != 1 {
		t.Errorf("node %+v", n)
	}
	if w := s.Workloads.Value[0]; w.On["gpu-1"] != 1 || w.Requests[gpu] != 2 || w.Replicas != 1 {
		t.Errorf("workload %+v", w)
	}
	if sc := s.StorageClasses.Value[0]; !sc.Default || sc.Provisioner != "csi.a" || sc.Parameters == "" {
		t.Errorf("class %+v", sc)
	}
	if tl := s.TLSSecrets.Value; len(tl) != 2 || tl[0].Problem == "" || !tl[1].Certs[0].NotAfter.Equal(srv.Certificate().NotAfter) {
		t.Errorf("tls %+v", tl)
	}
	if sc := s.ServerCerts.Value; len(sc) == 0 || !sc[0].NotAfter.Equal(srv.Certificate().NotAfter) {
		t.Errorf("server certificates %+v", sc)
	}
	if r := s.Revisions.Value; len(r) != 2 || r[0].Number != 1 || r[1].Status != "pending-upgrade" || r[1].Version != "2.8.1" || r[0].Stored == 0 || r[0].Problem != "" {
		t.Errorf("revisions %+v", r)
	}
	if op := s.Operation.Value; !op.Open || op.ID != "01J" || op.Holder != "alice@jump01" {
		t.Errorf("operation %+v", op)
	}
	raw, err := json.Marshal(s)
	if err != nil || strings.Contains(string(raw), "KEY-BYTES") {
		t.Errorf("the snapshot holds a key, or does not encode: %v", err)
	}
	if b, ok := BaselineOf(s, 14); !ok || b.GPUs["gpu-1"][gpu] != 8 {
		t.Errorf("baseline %+v %v", b, ok)
	}
}

// A chain that does not verify is read all the same: an expired certificate is what the check is for.
func TestServerCertificateThatIsRefused(t *testing.T) {
	srv := httptest.NewTLSServer(nil)
	defer srv.Close()
	got, err := Clients{Config: &rest.Config{Host: srv.URL}}.serverCerts(context.Background())
	if err != nil || len(got) == 0 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := (Clients{Config: &rest.Config{Host: "http://127.0.0.1:1"}}).serverCerts(context.Background()); err == nil {
		t.Error("an address without TLS has a certificate")
	}
}

func TestCollectDenied(t *testing.T) {
	kube := cluster(t, nil)
	kube.PrependReactor("list", "*", func(a k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", errors.New("no"))
	})
	s, errs := Collect(context.Background(), Clients{Kube: kube, Namespace: "wordcab", Release: "wordcab", Now: now, Holder: "alice@jump01"})
	var names []string
	for _, e := range errs {
		names = append(names, e.Section)
	}
	want := "server certificate,pods,nodes,workloads,storage classes,quotas,TLS secrets,helm revisions"
	if strings.Join(names, ",") != want {
		t.Errorf("errors in %v", names)
	}
	if s.Operation.Value.Holder != "" {
		t.Error("our own lease is held against us")
	}
	r := Check(s, Want{Target: "2.9.0"}, now)
	if v, text := worst(r, "NODE-STATE"); v != Unknown || !strings.Contains(text, "forbidden") {
		t.Errorf("NODE-STATE: %s %s", v, text)
	}
	if !r.Blocked() {
		t.Error("a denied cluster does not block")
	}
	if _, ok := BaselineOf(s, 1); ok {
		t.Error("an unread snapshot became a baseline")
	}
}

func TestOperationRecordThatCannotBeRead(t *testing.T) {
	for _, text := range []string{"", "{", `{"id":"x"}`, strings.Repeat(" ", maxRecord+1)} {
		if op, err := operationOf(text); err == nil {
			t.Errorf("%.20q is %+v", text, op)
		}
	}
	if op, err := operationOf(`{"id":"x","state":"Succeeded"}`); err != nil || op.Open {
		t.Errorf("%+v %v", op, err)
	}
	if op, err := operationOf(`{"id":"x","state":"Held"}`); err != nil || !op.Open {
		t.Errorf("%+v %v", op, err)
	}
}
