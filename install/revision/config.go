package revision

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/wordcab/wcbundle/rollout"
)

// AnnotationRestarted is on a pod template whose pods were replaced because they read changed configuration in a way that only a new pod
// sees. Its value is the operation's id: a hash of a Secret would say something about it.
const AnnotationRestarted = "bundle.wordcab.com/restarted-for"

// changedConfig is a ConfigMap or Secret that changes, and the keys that do.
type changedConfig struct {
	*unstructured.Unstructured
	keys changedKeys
}

// reader is who reads what changes of a ConfigMap or Secret, and how.
type reader struct {
	id  id     // of the workload; zero for a pod that no workload of the release owns
	pod string // then its name
	how []string
}

// live tells whether it sees a change without a new pod.
func (r reader) live() bool { return slices.Equal(r.how, []string{readVolume}) }

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

// configChanged are the keys that differ from what is live or from the revision that runs: a run that was cut off while it staged has
// changed the former already, and must come to the same again. What is new nobody reads yet.
func configChanged(target, prev, live *unstructured.Unstructured) changedKeys {
	out := changedKeys{}
	if live == nil {
		return out
	}
	want := configData(target)
	for _, other := range []*unstructured.Unstructured{live, prev} {
		if other == nil {
			continue
		}
		has := configData(other)
		for _, field := range keys(want, has) {
			if !reflect.DeepEqual(want[field], has[field]) {
				_, key, _ := strings.Cut(field, "/")
				out[key] = true
			}
		}
	}
	return out
}

// readersOf finds who reads some ConfigMaps and Secrets: by the pods that run now, and by the templates that they came from.
func (c *Client) readersOf(ctx context.Context, configs []changedConfig, docs []doc) (map[id][]reader, error) {
	if len(configs) == 0 {
		return nil, nil
	}
	pods, err := c.dyn.Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing pods that read configuration: %w", err)
	}
	owned := map[string]bool{}
	out := map[id][]reader{}
	note := func(specs []map[string]any, who reader) {
		for _, config := range configs {
			if who.how = config.readBy(specs); len(who.how) > 0 {
				out[idOf(config.Unstructured)] = append(out[idOf(config.Unstructured)], who)
			}
		}
	}
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
		specs := podTemplates(live)
		for i := range pods.Items {
			if selects(live, &pods.Items[i]) {
				owned[pods.Items[i].GetName()] = true
				specs = append(specs, pods.Items[i].Object)
			}
		}
		note(specs, reader{id: d.id()})
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if phase, _, _ := unstructured.NestedString(p.Object, "status", "phase"); !owned[p.GetName()] && phase != "Succeeded" && phase != "Failed" {
			note([]map[string]any{p.Object}, reader{pod: p.GetName()})
		}
	}
	return out, nil
}

// selects tells whether a pod is of a workload.
func selects(workload, pod *unstructured.Unstructured) bool {
	if isLeaderWorkerSet(workload) {
		return pod.GetLabels()["leaderworkerset.sigs.k8s.io/name"] == workload.GetName()
	}
	m, found, err := unstructured.NestedStringMap(workload.Object, "spec", "selector", "matchLabels")
	return err == nil && found && labels.SelectorFromSet(m).Matches(labels.Set(pod.GetLabels()))
}

// readBy lists how some pods or templates read what changes.
func (c changedConfig) readBy(specs []map[string]any) []string {
	how := map[string]bool{}
	for _, s := range specs {
		for _, h := range reads(s, c.GetKind(), c.GetName(), c.keys) {
			how[h] = true
		}
	}
	return slices.Sorted(maps.Keys(how))
}

// changedConfigs are those of a manifest that would change.
func (c *Client) changedConfigs(ctx context.Context, docs []doc, old map[id]*unstructured.Unstructured) ([]changedConfig, error) {
	var out []changedConfig
	for _, d := range docs {
		if d.obj == nil || !isConfig(d.obj) {
			continue
		}
		live, err := c.live(ctx, d.obj)
		if err != nil {
			return nil, err
		}
		if changed := configChanged(d.obj, old[d.id()], live); len(changed) > 0 {
			out = append(out, changedConfig{d.obj, changed})
		}
	}
	return out, nil
}

// needRestart are the workloads of a manifest whose pods would not see a configuration that changes.
func (c *Client) needRestart(ctx context.Context, docs []doc, prev string) (map[id]bool, error) {
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
	out := map[id]bool{}
	for _, list := range readers {
		for _, r := range list {
			if r.pod == "" && !r.live() {
				out[r.id] = true
			}
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
	need, err := c.needRestart(ctx, docs, prev)
	if err != nil || len(need) == 0 {
		return manifest, err
	}
	for i, d := range docs {
		if d.obj == nil || !need[d.id()] {
			continue
		}
		if err := mark(d.obj, op); err != nil {
			return nil, err
		}
		if docs[i].text, err = yaml.Marshal(d.obj.Object); err != nil {
			return nil, fmt.Errorf("writing %s %s: %w", d.obj.GetKind(), d.obj.GetName(), err)
		}
	}
	return joinManifest(docs), nil
}

// mark makes a workload's pod templates differ from what they were before an operation.
func mark(o *unstructured.Unstructured, op string) error {
	for _, at := range templatesAt(o) {
		if err := unstructured.SetNestedField(o.Object, op, slices.Concat(at, []string{"metadata", "annotations", AnnotationRestarted})...); err != nil {
			return fmt.Errorf("marking %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
}

// marksBack are the workloads to mark on the way back to a stored manifest, which is applied as it is: those whose pods would not see the
// configuration change, and whose template does not, or has been marked by a try that was cut off. A revision that changed the
// configuration itself has marked them; what differs then is its mark.
func (c *Client) marksBack(ctx context.Context, target, prev, op string) (map[rollout.Workload]bool, error) {
	docs, err := splitManifest([]byte(target))
	if err != nil {
		return nil, err
	}
	before, err := splitManifest([]byte(prev))
	if err != nil {
		return nil, err
	}
	need, err := c.needRestart(ctx, docs, prev)
	if err != nil {
		return nil, err
	}
	old, out := byID(before), map[rollout.Workload]bool{}
	for _, d := range docs {
		if d.obj == nil || !need[d.id()] {
			continue
		}
		live, err := c.live(ctx, d.obj)
		if err != nil {
			return nil, err
		}
		if live == nil {
			continue
		}
		after, err := c.dryRun(ctx, old[d.id()], d.obj, live)
		if apierrors.IsInvalid(err) {
			continue // it is refused when it is applied, with the whole reason
		}
		if err != nil {
			return nil, fmt.Errorf("trying %s %s: %w", d.obj.GetKind(), d.obj.GetName(), err)
		}
		if reflect.DeepEqual(template(after), template(live)) || markedBy(live, op) {
			out[rollout.WorkloadOf(d.obj)] = true
		}
	}
	return out, nil
}

func markedBy(live *unstructured.Unstructured, op string) bool {
	for _, at := range templatesAt(live) {
		if v, _, _ := unstructured.NestedString(live.Object, slices.Concat(at, []string{"metadata", "annotations", AnnotationRestarted})...); v == op {
			return true
		}
	}
	return false
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
		for _, r := range readers[idOf(config.Unstructured)] {
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
