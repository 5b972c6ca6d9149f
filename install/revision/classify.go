package revision

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/wordcab/wcbundle/rollout"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Class of a change; see the package comment.
type Class string

// The classes.
const (
	ClassNone       Class = "none"
	ClassConfigOnly Class = "config-only"
	ClassScaleOnly  Class = "scale-only"
	ClassInPlace    Class = "in-place"
	ClassRestart    Class = "restart"
	ClassRecreate   Class = "recreate"
	ClassNew        Class = "new"
	ClassRemoved    Class = "removed"
	ClassKept       Class = "kept" // the release has it no more; it holds data, and is not deleted
)

// Change is what would become of one object. Why names fields, never the value of a Secret or ConfigMap.
type Change struct {
	Kind  string   `json:"kind"`
	Name  string   `json:"name"`
	Pool  string   `json:"pool,omitempty"` // of a Deployment or StatefulSet; rollout.BasePool if no pool names it
	Class Class    `json:"class"`
	Why   []string `json:"why,omitempty"`
	// Edited are fields that somebody changed in the cluster against the revision that runs, which applying sets back.
	Edited []string `json:"edited,omitempty"`
}

// Classify says what applying manifest over prev (the stored manifest of what runs, "" for none) would change. Nothing is
// changed. The order is the manifest's, removed ones last.
func (c *Client) Classify(ctx context.Context, manifest, prev string, pools []rollout.Pool) ([]Change, error) {
	return c.classify(ctx, manifest, prev, pools, false)
}

// ClassifyStored is Classify for the stored manifest of an earlier revision, which is applied as it is, with all that is cosmetic.
func (c *Client) ClassifyStored(ctx context.Context, manifest, prev string, pools []rollout.Pool) ([]Change, error) {
	return c.classify(ctx, manifest, prev, pools, true)
}

func (c *Client) classify(ctx context.Context, manifest, prev string, pools []rollout.Pool, stored bool) ([]Change, error) {
	docs, err := splitManifest([]byte(manifest))
	if err != nil {
		return nil, err
	}
	before, err := splitManifest([]byte(prev))
	if err != nil {
		return nil, fmt.Errorf("deployed revision: %w", err)
	}
	scaled, err := c.scaled(ctx)
	if err != nil {
		return nil, err
	}
	old, stays := byID(before), byID(docs)
	var out []Change
	for _, d := range docs {
		if d.obj == nil {
			continue
		}
		target := d.obj.DeepCopy()
		if n, ok := scaled[rollout.Workload{Kind: target.GetKind(), Name: target.GetName()}]; ok {
			if err := rollout.KeepReplicas(target, &n); err != nil {
				return nil, err
			}
		}
		ch, err := c.classifyOne(ctx, target, old[d.id()], stored)
		if err != nil {
			return nil, err
		}
		if ch.Edited, err = c.editedOf(ctx, d, old, scaled); err != nil {
			return nil, err
		}
		ch.Pool = poolOf(d.obj, pools)
		if ch.Class == ClassConfigOnly && ch.Pool != "" {
			ch.Class = otherWorkload(ch.Why)
		}
		out = append(out, ch)
	}
	if err := c.configReads(ctx, out, docs, old); err != nil {
		return nil, err
	}
	for _, d := range before {
		if d.obj == nil || stays[d.id()] != nil {
			continue
		}
		live, err := c.live(ctx, d.obj)
		if err != nil {
			return nil, err
		}
		if live != nil {
			out = append(out, absent(d.obj, pools))
		}
	}
	return out, nil
}

// absent is the change of what the release has no more.
func absent(o *unstructured.Unstructured, pools []rollout.Pool) Change {
	ch := Change{Kind: o.GetKind(), Name: o.GetName(), Pool: poolOf(o, pools), Class: ClassRemoved}
	if holdsData(o.GroupVersionKind()) {
		ch.Class, ch.Why = ClassKept, []string{"the release has it no more; it holds data: delete it by hand when nobody wants that any more"}
	}
	return ch
}

func (c *Client) editedOf(ctx context.Context, d doc, old map[id]*unstructured.Unstructured, scaled map[rollout.Workload]int64) ([]string, error) {
	live, err := c.live(ctx, d.obj)
	if err != nil || isCRD(d.obj) { // a rollback leaves those wider
		return nil, err
	}
	return c.edited(ctx, old[d.id()], live, scaled)
}

// otherWorkload classes the changes of a workload whose pod template is not known as such: what is in its spec may replace pods.
func otherWorkload(why []string) Class {
	class := ClassInPlace
	for _, w := range why {
		switch {
		case strings.HasPrefix(w, "spec.replicas "):
			class = ClassScaleOnly
		case !strings.HasPrefix(w, "metadata."):
			return ClassRestart
		}
	}
	return class
}

func poolOf(o *unstructured.Unstructured, pools []rollout.Pool) string {
	w := rollout.WorkloadOf(o)
	for _, p := range pools {
		if slices.Contains(p.Workloads, w) {
			return p.Name
		}
	}
	if w.APIVersion == "" && (w.Kind == "Deployment" || w.Kind == "StatefulSet") {
		return rollout.BasePool
	}
	return ""
}

func (c *Client) classifyOne(ctx context.Context, target, prev *unstructured.Unstructured, stored bool) (Change, error) {
	ch := Change{Kind: target.GetKind(), Name: target.GetName(), Class: ClassNone}
	live, err := c.live(ctx, target)
	if err != nil {
		return ch, err
	}
	if live == nil {
		ch.Class = ClassNew
		return ch, nil
	}
	if hasTemplate(target) && !stored {
		copyCosmetics(target, live)
	}
	if isCRD(target) {
		if err := keepCRD(live, target); err != nil {
			return ch, fmt.Errorf("CRD %s: %w", ch.Name, err)
		}
	}
	after, err := c.dryRun(ctx, prev, target, live)
	if apierrors.IsInvalid(err) {
		ch.Class, ch.Why = ClassRecreate, causes(err)
		if fixed, _, _ := unstructured.NestedBool(live.Object, "immutable"); fixed && isConfig(target) {
			ch.Why = []string{"it is immutable: the release must give the changed one another name"}
		}
		return ch, nil
	}
	if err != nil {
		return ch, fmt.Errorf("trying %s %s: %w", ch.Kind, ch.Name, err)
	}
	ch.Class, ch.Why = compare(live, after)
	return ch, nil
}

// causes are the fields that the API server refuses to change.
func causes(err error) []string {
	var st apierrors.APIStatus
	if !errors.As(err, &st) || st.Status().Details == nil {
		return []string{err.Error()}
	}
	var out []string
	for _, c := range st.Status().Details.Causes {
		out = append(out, c.Field+": "+cut(c.Message, 120))
	}
	return out
}

// compare classes the difference between what is live and what it would become. It is pure.
func compare(live, after *unstructured.Unstructured) (Class, []string) {
	a, b := significant(live), significant(after)
	if reflect.DeepEqual(a, b) {
		return ClassNone, nil
	}
	hide := live.GetKind() == "Secret" || live.GetKind() == "ConfigMap"
	if !hasTemplate(live) {
		return ClassConfigOnly, diff(a, b, hide)
	}
	if lt, at := template(live), template(after); !reflect.DeepEqual(lt, at) {
		return ClassRestart, diff(lt, at, false)
	}
	why := diff(a, b, false)
	for _, o := range []map[string]any{a, b} {
		if spec, ok := o["spec"].(map[string]any); ok {
			delete(spec, "replicas")
		}
	}
	if reflect.DeepEqual(a, b) {
		return ClassScaleOnly, why
	}
	return ClassInPlace, why
}

// significant is an object without what the API server and Helm write into every one.
func significant(o *unstructured.Unstructured) map[string]any {
	m := o.DeepCopy().Object
	delete(m, "status")
	if md, ok := m["metadata"].(map[string]any); ok {
		for _, k := range []string{"managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"} {
			delete(md, k)
		}
		if labels, ok := md["labels"].(map[string]any); ok {
			for k := range labels {
				if cosmeticLabel(k) {
					delete(labels, k)
				}
			}
		}
	}
	return m
}

// PoolsToRoll are the pools that have a workload which restarts or is new, ready for rollout.NewOperation. What no pool
// names is the pool rollout.BasePool, and rolls first.
func PoolsToRoll(changes []Change, pools []rollout.Pool) []rollout.Pool {
	rolls := map[string]bool{}
	base := rollout.Pool{Name: rollout.BasePool}
	for _, p := range pools {
		base.Order = min(base.Order, p.Order-1)
	}
	for _, c := range changes {
		if c.Pool == "" || (c.Class != ClassRestart && c.Class != ClassNew) {
			continue
		}
		rolls[c.Pool] = true
		if c.Pool == rollout.BasePool {
			base.Workloads = append(base.Workloads, rollout.Workload{Kind: c.Kind, Name: c.Name})
		}
	}
	var out []rollout.Pool
	if len(base.Workloads) != 0 {
		out = append(out, base)
	}
	for _, p := range pools {
		if rolls[p.Name] && p.Name != rollout.BasePool {
			out = append(out, p)
		}
	}
	return out
}
