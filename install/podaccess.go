package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/wordcab/wcbundle/install/siteregistry"
)

// PullSecret is the Secret in the release's namespace that pods show the registry of the cluster.
const PullSecret = "wcbundle-registry"

// accessDir is where a container that fetches from the registry by itself finds that Secret.
const accessDir = "/var/run/secrets/wcbundle-registry"

// PodAccess is what pods need to be let in by the site's registry. Kubelets pull images with an imagePullSecret. A container that fetches
// models is told by its environment: REGISTRY_AUTH_FILE, WCBUNDLE_REGISTRY_CA, WCBUNDLE_REGISTRY_PLAIN_HTTP, which wcbundle pull reads.
type PodAccess struct {
	Pull   string // host:port of the registry, from the nodes
	Secret string // of type kubernetes.io/dockerconfigjson; "" = the registry asks for no login
	CA     bool   // the Secret has the registry's CA too, as ca.crt
	HTTP   bool   // the registry speaks plain http
	All    bool   // service accounts show the Secret too, for pods that nothing rendered
}

// PodAccess is what this address asks of pods.
func (a Address) PodAccess() PodAccess {
	p := PodAccess{Pull: a.Pull, Secret: a.PullSecret, HTTP: a.PlainHTTP, All: a.RunTime.Way() == RunTimeMirrors}
	if a.InCluster != "" {
		p.Secret, p.CA = PullSecret, true
	}
	return p
}

// podSpecs leads from a kind to the pod spec in it.
var podSpecs = map[string][]string{
	"Pod": {"spec"}, "Deployment": {"spec", "template", "spec"}, "StatefulSet": {"spec", "template", "spec"}, "DaemonSet": {"spec", "template", "spec"},
	"ReplicaSet": {"spec", "template", "spec"}, "ReplicationController": {"spec", "template", "spec"}, "Job": {"spec", "template", "spec"},
	"CronJob": {"spec", "jobTemplate", "spec", "template", "spec"},
}

// Grant gives the pods in rendered manifests what they need. References must lead to the registry already. What a chart has set itself is
// left as it is.
func (p PodAccess) Grant(manifests []byte) ([]byte, error) {
	if p.Secret == "" && !p.HTTP {
		return manifests, nil
	}
	return eachDocument(manifests, func(doc *yaml.Node) {
		root := doc.Content[0]
		kind := textOf(child(root, "kind"))
		if kind == "List" {
			for _, n := range contentOf(child(root, "items")) {
				p.grantObject(n)
			}
			return
		}
		p.grantObject(root)
	})
}

func (p PodAccess) grantObject(o *yaml.Node) {
	if p.All && p.Secret != "" && textOf(child(o, "kind")) == "ServiceAccount" {
		addNamed(o, "imagePullSecrets", map[string]any{"name": p.Secret})
	}
	spec := o
	path, ok := podSpecs[textOf(child(o, "kind"))]
	if !ok {
		return
	}
	for _, key := range path {
		if spec = child(spec, key); spec == nil {
			return
		}
	}
	pulls, fetches := false, false
	for _, list := range []string{"initContainers", "containers"} {
		for _, c := range contentOf(child(spec, list)) {
			pulls = pulls || p.names(child(c, "image"))
			if p.fetches(c) {
				fetches = true
				p.tell(c)
			}
		}
	}
	for _, v := range contentOf(child(spec, "volumes")) { // models as image volumes
		pulls = pulls || p.names(child(child(v, "image"), "reference"))
	}
	if pulls && p.Secret != "" {
		addNamed(spec, "imagePullSecrets", map[string]any{"name": p.Secret})
	}
	if fetches && p.Secret != "" {
		addNamed(spec, "volumes", map[string]any{"name": p.Secret, "secret": map[string]any{"secretName": p.Secret}})
	}
}

// names tells whether text in a node leads to the registry.
func (p PodAccess) names(n *yaml.Node) bool {
	return n != nil && n.Kind == yaml.ScalarNode && strings.HasPrefix(n.Value, p.Pull+"/")
}

// fetches tells whether a container is given a reference to fetch by itself: in its command, arguments or environment, there inside longer
// text too.
func (p PodAccess) fetches(c *yaml.Node) bool {
	given := func(n *yaml.Node) bool { return strings.Contains(textOf(n), p.Pull+"/") }
	for _, list := range []string{"command", "args"} {
		for _, a := range contentOf(child(c, list)) {
			if given(a) {
				return true
			}
		}
	}
	for _, e := range contentOf(child(c, "env")) {
		if given(child(e, "value")) {
			return true
		}
	}
	return false
}

// tell gives a container that fetches the means.
func (p PodAccess) tell(c *yaml.Node) {
	env := func(name, value string) { addNamed(c, "env", map[string]any{"name": name, "value": value}) }
	if p.HTTP {
		env("WCBUNDLE_REGISTRY_PLAIN_HTTP", "true")
	}
	if p.Secret == "" {
		return
	}
	env("REGISTRY_AUTH_FILE", accessDir+"/"+corev1.DockerConfigJsonKey)
	if p.CA {
		env("WCBUNDLE_REGISTRY_CA", accessDir+"/ca.crt")
	}
	addNamed(c, "volumeMounts", map[string]any{"name": p.Secret, "mountPath": accessDir, "readOnly": true})
}

// addNamed adds an entry to a list whose entries have names, unless one of the name is there.
func addNamed(n *yaml.Node, list string, entry map[string]any) {
	at := child(n, list)
	for _, e := range contentOf(at) {
		if textOf(child(e, "name")) == entry["name"] {
			return
		}
	}
	var add yaml.Node
	if err := add.Encode(entry); err != nil { // maps of strings and booleans are always written
		return
	}
	if at == nil || at.Kind != yaml.SequenceNode {
		var key yaml.Node
		key.SetString(list)
		fresh := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if at != nil { // null
			*at = *fresh
		} else {
			n.Content = append(n.Content, &key, fresh)
		}
		at = child(n, list)
	}
	at.Content = append(at.Content, &add)
}

func child(n *yaml.Node, key string) *yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func contentOf(n *yaml.Node) []*yaml.Node {
	for n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n == nil || n.Kind != yaml.SequenceNode {
		return nil
	}
	return n.Content
}

func textOf(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// bring puts the Secret into the release's namespace, as the registry in the cluster has it now. One that the site named is the site's.
func (p PodAccess) bring(ctx context.Context, t Target) error {
	ns := t.Record.Registry.InCluster
	if ns == "" || p.Secret != PullSecret {
		return nil
	}
	found, err := siteregistry.Find(ctx, t.Access.Kube, ns)
	if err != nil {
		return fmt.Errorf("the login that pods show the registry: %w", err)
	}
	login := map[string]string{"username": found.Username, "password": found.Password}
	auths := map[string]any{p.Pull: login}
	if p.All {
		mirrors, _, err := siteregistry.Mirrors(ctx, t.Access.Kube, ns)
		if err != nil {
			return err
		}
		// A kubelet looks for a login by the host in the reference, and containerd shows what it is given to the mirror.
		for _, m := range mirrors {
			auths[m] = login
		}
	}
	config, err := json.Marshal(map[string]any{"auths": auths})
	if err != nil {
		return err
	}
	secret := applycore.Secret(PullSecret, t.Access.Namespace).WithType(corev1.SecretTypeDockerConfigJson).
		WithLabels(map[string]string{"app.kubernetes.io/managed-by": "wcbundle"}).
		WithData(map[string][]byte{corev1.DockerConfigJsonKey: config, "ca.crt": []byte(found.CA)})
	_, err = t.Access.Kube.CoreV1().Secrets(t.Access.Namespace).Apply(ctx, secret, metav1.ApplyOptions{FieldManager: "wcbundle", Force: true})
	if err != nil {
		return fmt.Errorf("pull secret %s, which lets pods into the registry: %w", PullSecret, err)
	}
	return nil
}

// eachDocument changes every document of a YAML stream. Empty ones are left out.
func eachDocument(manifests []byte, change func(*yaml.Node)) ([]byte, error) {
	dec := yaml.NewDecoder(bytes.NewReader(manifests))
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("rendered manifests are not YAML: %w", err)
		}
		if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
			continue
		}
		change(&doc)
		if err := enc.Encode(&doc); err != nil {
			return nil, fmt.Errorf("writing manifests: %w", err)
		}
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("writing manifests: %w", err)
	}
	return out.Bytes(), nil
}
