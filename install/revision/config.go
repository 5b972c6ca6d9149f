package revision

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
)

// AnnotationRestarted is on a pod template whose pods were replaced because they read changed configuration in a way that only a new pod
// sees. Its value is the operation's id: a hash of a Secret would say something about it.
const AnnotationRestarted = "bundle.wordcab.com/restarted-for"

// reader is who reads a ConfigMap or Secret, and how: env, envFrom, subPath, volume.
type reader struct {
	id  id     // of the workload; zero for a pod that no workload of the release owns
	pod string // then its name
	how []string
}

// live tells whether it sees a change without a new pod.
func (r reader) live() bool { return slices.Equal(r.how, []string{"volume"}) }

// isConfig tells a ConfigMap or Secret.
func isConfig(o *unstructured.Unstructured) bool {
	return o.GroupVersionKind().Group == "" && (o.GetKind() == "ConfigMap" || o.GetKind() == "Secret")
}

// configData is what a ConfigMap or Secret holds, as the API server would keep it.
func configData(o *unstructured.Unstructured) map[string]any {
	out := map[string]any{}
	if o == nil {
		return out
	}
	for _, field := range []string{"data", "binaryData"} {
		if m, ok := o.Object[field].(map[string]any); ok {
			for k, v := range m {
				out[field+"/"+k] = v
			}
		}
	}
	if m, ok := o.Object["stringData"].(map[string]any); ok {
		for k, v := range m {
			out["data/"+k] = base64.StdEncoding.EncodeToString([]byte(fmt.Sprint(v)))
		}
	}
	return out
}

// configChanged compares with what is live and with the revision that runs: a run that was cut off while it staged has changed the
// former already, and must come to the same again. What is new nobody reads yet.
func configChanged(target, prev, live *unstructured.Unstructured) bool {
	want := configData(target)
	return live != nil && !reflect.DeepEqual(want, configData(live)) || live != nil && prev != nil && !reflect.DeepEqual(want, configData(prev))
}

// readersOf finds who reads some ConfigMaps and Secrets: by the pods that run now, and by the templates that they came from.
func (c *Client) readersOf(ctx context.Context, configs []*unstructured.Unstructured, docs []doc) (map[id][]reader, error) {
	if len(configs) == 0 {
		return nil, nil
	}
	pods, err := c.dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing pods that read configuration: %w", err)
	}
	owned := map[string]bool{}
	out := map[id][]reader{}
	for _, d := range docs {
		if d.obj == nil || !hasTemplate(d.obj) {
			continue
		}
		live, err := c.live(ctx, d.obj)
		if err != nil {
			return nil, err
		}
		if live == nil {
			continue
		}
		specs := []map[string]any{template(live)}
		for i := range pods.Items {
			if selects(live, &pods.Items[i]) {
				owned[pods.Items[i].GetName()] = true
				specs = append(specs, pods.Items[i].Object)
			}
		}
		for _, config := range configs {
			if how := consumesAny(specs, config); len(how) > 0 {
				out[idOf(config)] = append(out[idOf(config)], reader{id: d.id(), how: how})
			}
		}
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if phase, _, _ := unstructured.NestedString(p.Object, "status", "phase"); owned[p.GetName()] || phase == "Succeeded" || phase == "Failed" {
			continue
		}
		for _, config := range configs {
			if how := consumesAny([]map[string]any{p.Object}, config); len(how) > 0 {
				out[idOf(config)] = append(out[idOf(config)], reader{pod: p.GetName(), how: how})
			}
		}
	}
	return out, nil
}

func selects(workload, pod *unstructured.Unstructured) bool {
	m, found, err := unstructured.NestedStringMap(workload.Object, "spec", "selector", "matchLabels")
	return err == nil && found && labels.SelectorFromSet(m).Matches(labels.Set(pod.GetLabels()))
}

func consumesAny(specs []map[string]any, config *unstructured.Unstructured) []string {
	how := map[string]bool{}
	for _, s := range specs {
		for _, h := range consumes(s, config.GetKind(), config.GetName()) {
			how[h] = true
		}
	}
	return slices.Sorted(maps.Keys(how))
}

// changedConfigs are those of a manifest that would change.
func (c *Client) changedConfigs(ctx context.Context, docs []doc, old map[id]*unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, d := range docs {
		if d.obj == nil || !isConfig(d.obj) {
			continue
		}
		live, err := c.live(ctx, d.obj)
		if err != nil {
			return nil, err
		}
		if configChanged(d.obj, old[d.id()], live) {
			out = append(out, d.obj)
		}
	}
	return out, nil
}

// restartForConfig marks the templates of workloads whose pods would not see a changed configuration, so that they are replaced.
func (c *Client) restartForConfig(ctx context.Context, manifest []byte, prev, op string) ([]byte, error) {
	docs, err := splitManifest(manifest)
	if err != nil {
		return nil, err
	}
	before, err := splitManifest([]byte(prev))
	if err != nil {
		return nil, fmt.Errorf("deployed revision: %w", err)
	}
	changed, err := c.changedConfigs(ctx, docs, byID(before))
	if err != nil {
		return nil, err
	}
	readers, err := c.readersOf(ctx, changed, docs)
	if err != nil {
		return nil, err
	}
	marks := map[id]bool{}
	for _, list := range readers {
		for _, r := range list {
			if r.pod == "" && !r.live() {
				marks[r.id] = true
			}
		}
	}
	if len(marks) == 0 {
		return manifest, nil
	}
	for i, d := range docs {
		if d.obj == nil || !marks[d.id()] {
			continue
		}
		if err := unstructured.SetNestedField(d.obj.Object, op, "spec", "template", "metadata", "annotations", AnnotationRestarted); err != nil {
			return nil, fmt.Errorf("marking %s %s: %w", d.obj.GetKind(), d.obj.GetName(), err)
		}
		if docs[i].text, err = yaml.Marshal(d.obj.Object); err != nil {
			return nil, fmt.Errorf("writing %s %s: %w", d.obj.GetKind(), d.obj.GetName(), err)
		}
	}
	return joinManifest(docs), nil
}

// configReads tells of each changed configuration who sees it and how, and makes a restart of what would not.
func (c *Client) configReads(ctx context.Context, changes []Change, docs []doc, old map[id]*unstructured.Unstructured) error {
	configs, err := c.changedConfigs(ctx, docs, old)
	if err != nil {
		return err
	}
	readers, err := c.readersOf(ctx, configs, docs)
	if err != nil {
		return err
	}
	at := map[string]int{}
	for i := range changes {
		at[changes[i].Kind+"/"+changes[i].Name] = i
	}
	for _, config := range configs {
		own, ok := at[config.GetKind()+"/"+config.GetName()]
		if !ok {
			continue
		}
		for _, r := range readers[idOf(config)] {
			how := strings.Join(r.how, ", ")
			if r.pod != "" {
				if !r.live() {
					changes[own].Why = append(changes[own].Why, fmt.Sprintf("pod %s, which is of no workload of the release, reads it by %s: it sees the old one until it is replaced", r.pod, how))
				}
				continue
			}
			who := r.id.kind + "/" + r.id.name
			if r.live() {
				changes[own].Why = append(changes[own].Why, "applies live in "+who+" (volume, within about 90 s)")
				continue
			}
			changes[own].Why = append(changes[own].Why, "needs a restart of "+who+" ("+how+")")
			if i, ok := at[who]; ok && changes[i].Class != ClassRecreate && changes[i].Class != ClassNew {
				changes[i].Class = ClassRestart
				changes[i].Why = append(changes[i].Why, fmt.Sprintf("%s %s is read by %s: takes effect only with a restart", config.GetKind(), config.GetName(), how))
			}
		}
	}
	return nil
}
