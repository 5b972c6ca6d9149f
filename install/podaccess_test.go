package install

import (
	"strings"
	"testing"
)

const podAccessIn = `apiVersion: apps/v1
kind: Deployment
metadata: {name: asr}
spec:
  template:
    spec:
      initContainers:
      - name: model
        image: 10.96.0.7:5000/registry.example.com/wcbundle@sha256:aa
        args: [pull, --model, "10.96.0.7:5000/registry.example.com/models/asr@sha256:bb"]
      containers:
      - {name: server, image: "10.96.0.7:5000/registry.example.com/server@sha256:cc"}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {jobTemplate: {spec: {template: {spec: {imagePullSecrets: [{name: other}], containers: [{name: c, image: "10.96.0.7:5000/x@sha256:dd", env: null}]}}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: foreign}
spec: {containers: [{name: c, image: "10.96.0.7:50001/x@sha256:ee"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: volume}
spec: {containers: [{name: c, image: "foreign:1"}], volumes: [{name: m, image: {reference: "10.96.0.7:5000/m@sha256:ff"}}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {spec: "10.96.0.7:5000/x"}
`

func TestPodAccess(t *testing.T) {
	p := PodAccess{Pull: "10.96.0.7:5000", Secret: "s", CA: true}
	out, err := p.Grant([]byte(podAccessIn))
	if err != nil {
		t.Fatal(err)
	}
	docs := strings.Split(string(out), "---\n")
	if len(docs) != 5 {
		t.Fatalf("%d documents:\n%s", len(docs), out)
	}
	for i, want := range [][]string{
		{"imagePullSecrets:\n        - name: s\n", "name: REGISTRY_AUTH_FILE\n", "value: " + accessDir + "/.dockerconfigjson", "WCBUNDLE_REGISTRY_CA", "secretName: s"},
		{"{name: other}, ", "name: s"}, nil, {"imagePullSecrets", "name: s"}, nil,
	} {
		for _, w := range want {
			if !strings.Contains(docs[i], w) {
				t.Errorf("document %d has no %q:\n%s", i, w, docs[i])
			}
		}
		if want == nil && strings.Contains(docs[i], "imagePullSecrets") {
			t.Errorf("document %d was changed:\n%s", i, docs[i])
		}
	}
	if strings.Count(docs[0], "mountPath") != 1 || strings.Contains(docs[1], "mountPath") || strings.Contains(docs[3], "mountPath") {
		t.Errorf("the Secret is for containers that fetch, and no others:\n%s", out)
	}
	again, err := p.Grant(out)
	if err != nil || string(again) != string(out) {
		t.Errorf("granting twice is not granting once: %v\n%s", err, again)
	}
	none, err := PodAccess{Pull: "10.96.0.7:5000"}.Grant([]byte(podAccessIn))
	if err != nil || string(none) != podAccessIn {
		t.Errorf("a registry without a login changes manifests: %v", err)
	}
	plain, err := PodAccess{Pull: "10.96.0.7:5000", HTTP: true}.Grant([]byte(podAccessIn))
	if err != nil || strings.Count(string(plain), "WCBUNDLE_REGISTRY_PLAIN_HTTP") != 1 || strings.Contains(string(plain), "REGISTRY_AUTH_FILE") {
		t.Errorf("plain http: %v\n%s", err, plain)
	}
}

// TestRegistryByAnotherNode: the registry in the cluster is the same one when it is reached by another node; what was loaded is still in it.
func TestRegistryByAnotherNode(t *testing.T) {
	at := Address{Push: "10.0.0.1:31000", Pull: "10.96.0.7:5000", InCluster: "wcbundle-registry"}
	for name, c := range map[string]struct {
		change func(*Address)
		moved  bool
	}{
		"another node":             {func(a *Address) { a.Push = "10.0.0.2:31000" }, false},
		"another one, by its name": {func(a *Address) { a.Push, a.InCluster = "10.0.0.2:31000", "other" }, true},
		"made anew":                {func(a *Address) { a.Push, a.Pull = "10.0.0.2:31001", "10.96.0.8:5000" }, true},
		"not the cluster's":        {func(a *Address) { a.Push, a.InCluster = "registry:5000", "" }, true},
	} {
		r := &Record{Registry: at}
		to := at
		c.change(&to)
		if len(r.UseRegistry(to, "uid 0", testNow)) == 0 || r.Registry.Since.IsZero() == c.moved {
			t.Errorf("%s: since %v", name, r.Registry.Since)
		}
	}
}
