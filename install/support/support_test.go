package support

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	helmtime "helm.sh/helm/v3/pkg/time"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

const (
	dbPassword = `s3"cr3t<&>p\w` // needs escaping everywhere
	apiKey     = "Qk9-plainlooking-key"
	oldKey     = "rotated-away-last-month"
	keyFile    = "first line of a key file\nsecond line of a key file\n"
)

var now = time.Date(2026, 11, 23, 2, 30, 0, 0, time.UTC)

// seeds are the forms in which no secret may be found in a finished bundle.
func seeds() []string {
	var out []string
	for _, v := range []string{dbPassword, apiKey, oldKey, "second line of a key file"} {
		quoted, _ := json.Marshal(v)
		twice, _ := json.Marshal(string(quoted))
		basic := base64.StdEncoding.EncodeToString([]byte("u:" + v))
		out = append(out, v, base64.StdEncoding.EncodeToString([]byte(v)), base64.RawURLEncoding.EncodeToString([]byte(v)),
			url.QueryEscape(v), strings.Trim(string(quoted), `"`), strings.Trim(string(twice), `"`), basic[4:len(basic)-6])
	}
	return append(out, "hf_abcdefghijklmnopqrst", "sk-abcdefghijklmnop1234", "PRIVATE KEY-----\nMIIE", "hunter2x")
}

type logMap map[string]string

func (l logMap) Logs(_ context.Context, ns, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	key := ns + "/" + pod + "/" + o.Container
	if o.Previous {
		key += "-previous"
	}
	text, ok := l[key]
	if !ok {
		return nil, errors.New("container is waiting to start")
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func seededLog() string {
	quoted, _ := json.Marshal(map[string]string{"msg": "dial with " + dbPassword})
	lines := []string{
		"plain " + dbPassword, "b64 " + base64.StdEncoding.EncodeToString([]byte(dbPassword)),
		"basic " + base64.StdEncoding.EncodeToString([]byte("u:"+apiKey)), "url " + url.QueryEscape(dbPassword),
		"json " + string(quoted), "old " + oldKey, "first line of a key file", "second line of a key file",
		"using hf_abcdefghijklmnopqrst and sk-abcdefghijklmnop1234", "password: hunter2x", "prompt_tokens=512 kept",
		"-----BEGIN RSA PRIVATE KEY-----", "MIIEabcdef", "-----END RSA PRIVATE KEY-----", "last line",
	}
	var b strings.Builder
	for i, l := range lines {
		fmt.Fprintf(&b, "2026-11-23T01:%02d:00.000000000Z %s\n", i, l)
	}
	return b.String()
}

func seededPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "asr-0", Namespace: "wordcab", Annotations: map[string]string{
			lastApplied: `{"data":"` + apiKey + `"}`, "note": "key " + apiKey}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "asr:2.9.0",
			Args: []string{"--api-key", apiKey, "--db=postgres://u:" + url.QueryEscape(dbPassword) + "@db/x", "--model", "asr-large-v4"},
			Env:  []corev1.EnvVar{{Name: "DB_PASSWORD", Value: dbPassword}, {Name: "GREETING", Value: "hello " + dbPassword}, {Name: "OTHER_TOKEN", Value: "hunter2x"}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, StartTime: &metav1.Time{Time: now.Add(-30 * time.Hour)},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "main", Ready: true, RestartCount: 1}}},
	}
}

func seededCluster(t *testing.T) *fake.Clientset {
	t.Helper()
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "conf", Namespace: "wordcab"}, Data: map[string]string{
		"app.json": `{"nested":"` + strings.ReplaceAll(strings.ReplaceAll(dbPassword, `\`, `\\`), `"`, `\"`) + `","apiKey":"hunter2x"}`,
		"api_key":  "hunter2x", "plain": apiKey, "b64": base64.RawURLEncoding.EncodeToString([]byte(dbPassword)), "mode": "fast"}}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db", Namespace: "wordcab"}, Data: map[string][]byte{
		"password": []byte(dbPassword), "key": []byte(apiKey), "file": []byte(keyFile), "user": []byte("wordcab"), "pin": []byte("1234")}}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "e1", Namespace: "wordcab"}, Message: "Failed: " + apiKey}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-1", Labels: map[string]string{"nvidia.com/gpu.product": "L40S"}}}
	kube := fake.NewClientset(seededPod(), cm, secret, event, node,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "wordcab"}})
	for i, key := range []string{oldKey, apiKey} {
		rel := &release.Release{Name: "wordcab", Namespace: "wordcab", Version: i + 1,
			Info:   &release.Info{Status: release.StatusSuperseded, LastDeployed: helmtime.Time{Time: now}},
			Chart:  &chart.Chart{Metadata: &chart.Metadata{Name: "wordcab", Version: "2.9.0"}},
			Config: map[string]any{"auth": map[string]any{"apiKey": key}, "replicas": 2},
			Manifest: "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: db\nstringData:\n  key: " + key +
				"\n---\napiVersion: models.wordcab.ai/v1\nkind: ModelPool\nmetadata:\n  name: asr\n"}
		if err := driver.NewSecrets(kube.CoreV1().Secrets("wordcab")).Create(fmt.Sprintf("sh.helm.release.v1.wordcab.v%d", i+1), rel); err != nil {
			t.Fatal(err)
		}
	}
	return kube
}

func customKinds() *dynamicfake.FakeDynamicClient {
	crd := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "modelpools.models.wordcab.ai"},
		"spec": map[string]any{"group": "models.wordcab.ai", "scope": "Namespaced",
			"names":    map[string]any{"plural": "modelpools", "kind": "ModelPool"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true}}}}}
	cr := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "models.wordcab.ai/v1", "kind": "ModelPool",
		"metadata": map[string]any{"name": "asr", "namespace": "wordcab"}, "spec": map[string]any{"header": apiKey, "limit": int64(10)}}}
	return dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		crdKind: "CustomResourceDefinitionList",
		{Group: "models.wordcab.ai", Version: "v1", Resource: "modelpools"}: "ModelPoolList"}, crd, cr)
}

func seededRequest(t *testing.T) Request {
	return Request{Kube: seededCluster(t), Dynamic: customKinds(), Namespaces: []string{"wordcab"}, Release: "wordcab", Now: now, Scratch: t.TempDir(),
		Logs:  logMap{"wordcab/asr-0/main": seededLog(), "wordcab/asr-0/main-previous": "2026-11-23T01:00:00Z crash " + apiKey + "\n"},
		Extra: map[string][]byte{"rollout/op.json": []byte(`{"note":"` + apiKey + `"}`), "../../etc/passwd": []byte("root")}}
}

func unpack(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		files[h.Name] = string(body)
	}
}

func collect(t *testing.T, r Request) (Manifest, []byte, map[string]string) {
	t.Helper()
	var out bytes.Buffer
	m, err := Collect(context.Background(), r, &out)
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(r.Scratch)
	if err != nil || len(left) != 0 {
		t.Errorf("scratch folder still holds %d entries (%v)", len(left), err)
	}
	return m, out.Bytes(), unpack(t, out.Bytes())
}

func TestNoSeededSecretSurvives(t *testing.T) {
	m, raw, files := collect(t, seededRequest(t))
	for name, body := range files {
		for _, s := range seeds() {
			if strings.Contains(body, s) || strings.Contains(name, s) {
				t.Errorf("%s holds %q", name, s)
			}
		}
	}
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(raw)); got != m.Archive.Digest.String() || m.Archive.Size != int64(len(raw)) {
		t.Errorf("archive is %s, manifest says %s", got, m.Archive.Digest)
	}
	var found Manifest
	if err := json.Unmarshal([]byte(files[m.Name+"/manifest.json"]), &found); err != nil {
		t.Fatal(err)
	}
	if len(found.Files) != len(files)-1 {
		t.Errorf("manifest.json lists %d files, the archive has %d besides it", len(found.Files), len(files)-1)
	}
	for _, f := range found.Files {
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(files[m.Name+"/"+f.Path]))); got != f.SHA256 {
			t.Errorf("%s: digest %s, listed %s", f.Path, got, f.SHA256)
		}
	}
}

func TestWhatIsNoSecretStays(t *testing.T) {
	m, _, files := collect(t, seededRequest(t))
	for path, want := range map[string]string{
		"cluster-resources/pods/wordcab.json":                                          "asr-large-v4",
		"cluster-resources/configmaps/wordcab.json":                                    `"mode": "fast"`,
		"cluster-resources/pods/logs/wordcab/asr-0/main.log":                           "prompt_tokens=512 kept",
		"cluster-resources/pods/logs/wordcab/asr-0/main-previous.log":                  "crash ***",
		"cluster-resources/secrets/wordcab.txt":                                        "password 13 bytes",
		"cluster-resources/custom-resources/modelpools.models.wordcab.ai/wordcab.json": `"limit": 10`,
		"cluster-resources/nodes.json":                                                 "gpu-1",
		"nodes/gpu-1/gpu-labels.json":                                                  "L40S",
		"helm/wordcab/wordcab/history.json":                                            `"chart": "wordcab-2.9.0"`,
		"helm/wordcab/wordcab/values-2.redacted.yaml":                                  "replicas: 2",
		"helm/wordcab/wordcab/rev-1.manifest.yaml":                                     "kind: ModelPool",
		"extra/rollout/op.json":                                                        "note",
		"extra/_/_/etc/passwd":                                                         "root",
	} {
		if body, ok := files[m.Name+"/"+path]; !ok || !strings.Contains(body, want) {
			t.Errorf("%s: want %q in %q", path, want, body)
		}
	}
	if len(m.Errors) != 0 {
		t.Errorf("unexpected errors: %v", m.Errors)
	}
	if m.Redactions["cluster-resources/pods/logs/wordcab/asr-0/main.log"]["secret-value"] < 6 {
		t.Errorf("redactions of the log: %v", m.Redactions)
	}
}

func TestSameInputSameBytes(t *testing.T) {
	_, a, _ := collect(t, seededRequest(t))
	_, b, _ := collect(t, seededRequest(t))
	if !bytes.Equal(a, b) {
		t.Error("two runs over the same cluster differ")
	}
}

// A Secret that appears while collecting was not scrubbed for; the archive must not leave.
func TestResidualAborts(t *testing.T) {
	r := seededRequest(t)
	kube, calls := r.Kube.(*fake.Clientset), 0
	kube.PrependReactor("list", "secrets", func(a k8stesting.Action) (bool, runtime.Object, error) {
		if a.(k8stesting.ListAction).GetListRestrictions().Labels.String() != "" {
			return false, nil, nil
		}
		if calls++; calls < 2 {
			return false, nil, nil
		}
		return true, &corev1.SecretList{Items: []corev1.Secret{{Data: map[string][]byte{"k": []byte("asr-large-v4")}}}}, nil
	})
	var out bytes.Buffer
	_, err := Collect(context.Background(), r, &out)
	var res *ResidualError
	if !errors.As(err, &res) || !strings.HasSuffix(res.File, "pods/wordcab.json") {
		t.Fatalf("err = %v", err)
	}
	if out.Len() != 0 {
		t.Errorf("%d bytes were written", out.Len())
	}
	if strings.Contains(err.Error(), "asr-large-v4") {
		t.Error("the error tells the secret")
	}
}

func TestResidualFindsHardPatternsAndNames(t *testing.T) {
	for _, c := range []struct{ name, body, rule string }{
		{"a", "x -----BEGIN PRIVATE KEY----- y", "private-key"},
		{"a", "AKIAABCDEFGHIJKLMNOP", "aws-key"},
		{"planted-secret", "", "secret-value"},
		{"a", "xxplanted-secretxx", "secret-value"},
		{"a", "clean", ""},
	} {
		s := newSpool(t.TempDir(), 1<<20, &scrubber{newMatcher(nil)})
		if err := s.keep(File{Path: c.name}, []byte(c.body)); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		err := s.seal(&out, &Manifest{Name: "b", Created: now}, newMatcher(map[string]struct{}{"planted-secret": {}}))
		var res *ResidualError
		if (c.rule != "") != errors.As(err, &res) || c.rule != "" && (res.Rule != c.rule || out.Len() != 0) {
			t.Errorf("%q %q: err %v, %d bytes written", c.name, c.body, err, out.Len())
		}
	}
}

func TestDeniedSecretsWithholdText(t *testing.T) {
	r := seededRequest(t)
	r.Kube.(*fake.Clientset).PrependReactor("list", "secrets", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("secrets"), "", errors.New("no"))
	})
	r.CRDs = []string{"modelpools.models.wordcab.ai"}
	m, _, files := collect(t, r)
	for name, body := range files {
		for _, s := range []string{dbPassword, apiKey, oldKey} {
			if strings.Contains(body, s) {
				t.Errorf("%s holds %q", name, s)
			}
		}
		if strings.Contains(name, "/logs/") {
			t.Errorf("log %s is there", name)
		}
	}
	if len(m.Errors) != 5 {
		t.Errorf("want errors of secrets, logs, custom resources and two extra files: %v", m.Errors)
	}
}

func TestForbiddenKindIsNotedAndTheRestSealed(t *testing.T) {
	r := seededRequest(t)
	r.Kube.(*fake.Clientset).PrependReactor("list", "nodes", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(corev1.Resource("nodes"), "", errors.New("no"))
	})
	r.Dynamic, r.Logs = nil, logMap{}
	m, _, files := collect(t, r)
	noted := files[m.Name+"/collection-errors.json"]
	for _, want := range []string{`"nodes"`, `"custom-resource-definitions"`, "wordcab/asr-0/main", "waiting to start"} {
		if !strings.Contains(noted, want) {
			t.Errorf("%s is not in %s", want, noted)
		}
	}
	if files[m.Name+"/cluster-resources/pods/wordcab.json"] == "" {
		t.Error("pods are missing")
	}
}

func TestCaps(t *testing.T) {
	var long strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&long, "2026-11-23T02:%02d:%02dZ line %04d\n", i/60, i%60, i)
	}
	r := seededRequest(t)
	r.PerContainer = 500
	r.Logs = logMap{"wordcab/asr-0/main": long.String(), "wordcab/asr-0/main-previous": strings.Repeat("x", 5000)}
	m, _, files := collect(t, r)
	log := files[m.Name+"/cluster-resources/pods/logs/wordcab/asr-0/main.log"]
	if len(log) > 500 || !strings.HasSuffix(log, "line 0999\n") || !strings.HasPrefix(log, "2026-") {
		t.Errorf("tail of %d bytes: %q", len(log), log)
	}
	if prev := files[m.Name+"/cluster-resources/pods/logs/wordcab/asr-0/main-previous.log"]; prev != "" {
		t.Errorf("a line without a beginning was kept: %q", prev)
	}
	for _, f := range m.Files {
		if strings.HasSuffix(f.Path, "main.log") && (!f.Truncated || !strings.Contains(f.Note, "cut to the size limit")) {
			t.Errorf("file entry %+v", f)
		}
	}
	r.MaxBytes = 2000
	m, _, files = collect(t, r)
	var total int
	for name, body := range files {
		if strings.Contains(name, "cluster-") || strings.Contains(name, "helm/") || strings.Contains(name, "nodes/") {
			total += len(body)
		}
	}
	if total > 2000 || !strings.Contains(fmt.Sprint(m.Errors), "left out") {
		t.Errorf("%d bytes kept, errors %v", total, m.Errors)
	}
}

func TestHostileNames(t *testing.T) {
	s := newSpool(t.TempDir(), 1<<20, &scrubber{newMatcher(map[string]struct{}{"secretive": {}})})
	seen := map[string]bool{}
	for _, in := range []string{"../../etc/shadow", "/abs", "a//b", "..", ".", "", "a\x00b", "A/x", "a/X", "über\n", strings.Repeat("n", 300),
		"my-secretive-pod", "C:\\x", "a/./b", "sk-learn-server-number-0"} {
		p := s.path("d", in)
		if seen[strings.ToLower(p)] || !strings.HasPrefix(p, "d/") || strings.Contains(p, "secretive") || len(p) > 400 || hardHit([]byte(p)) != "" {
			t.Errorf("%q became %q", in, p)
		}
		seen[strings.ToLower(p)] = true
		for seg := range strings.SplitSeq(p, "/") {
			if seg == "" || seg == "." || seg == ".." || strings.ContainsAny(seg, "\\\x00\n:") {
				t.Errorf("%q became %q", in, p)
			}
		}
	}
}

func TestRequestWithoutClusterIsRefused(t *testing.T) {
	if _, err := Collect(context.Background(), Request{}, io.Discard); err == nil {
		t.Error("the zero request was taken")
	}
}
