package rollout

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// HoldPartition is beyond any ordinal: with a partition of just the replicas, pods that an autoscaler adds while the
// pool is held would be of the new revision.
const HoldPartition = 1_000_000

// Hold is what is injected into one workload on its way to the API server.
type Hold struct {
	Op             string // id of the operation
	MaxUnavailable string // "" = as the chart says
	MaxSurge       string // "" = as the chart says; not for a StatefulSet
	Default        bool   // the two are only for a chart that says neither
	Replicas       *int64 // live replicas to keep, where an autoscaler owns them
	Born           bool   // the workload is not there yet: one that a partition cannot hold is born without replicas
	Rule           *HoldRule
}

// Holds are the workloads to hold.
type Holds map[Workload]Hold

// NewHolds holds every workload of the pools for an operation. The maxSurge of a pool must not be auto any more.
func NewHolds(op string, pools []Pool) Holds {
	h := Holds{}
	for _, p := range pools {
		for _, w := range p.Workloads {
			h[w] = Hold{Op: op, MaxUnavailable: p.MaxUnavailable, MaxSurge: p.MaxSurge, Default: p.oneByOne, Rule: p.Hold}
		}
	}
	return h
}

// Original is what a hold replaced and a release restores. A nil field was absent.
type Original struct {
	Paused         *bool          `json:"paused"`
	Partition      any            `json:"partition"`
	MaxUnavailable any            `json:"maxUnavailable"`
	MaxSurge       any            `json:"maxSurge"`
	MinReady       any            `json:"minReadySeconds,omitempty"` // of a Deployment: raised while its replicas are counted
	Born           bool           `json:"born,omitempty"`
	Replicas       any            `json:"replicas,omitempty"` // if born
	Fields         map[string]any `json:"fields,omitempty"`   // of a HoldRule, by path
}

// Inject puts a hold into a workload that is about to be created or patched. What the chart said is kept in an annotation, so that a
// release needs nothing but the live object. A kind that is not known needs a rule.
func Inject(obj *unstructured.Unstructured, h Hold) error {
	var o Original
	var err error
	kind := WorkloadOf(obj)
	switch {
	case h.Rule != nil:
		o, err = holdCustom(obj, h.Rule)
	case kind.APIVersion == "" && kind.Kind == "Deployment":
		o, err = holdDeployment(obj, h)
	case kind.APIVersion == "" && kind.Kind == "StatefulSet":
		o, err = holdStatefulSet(obj, h)
	case kind.APIVersion == "" && kind.Kind == "LeaderWorkerSet":
		o, err = holdLeaderWorkerSet(obj)
	default:
		return fmt.Errorf("holding %s %s: only a Deployment, StatefulSet or LeaderWorkerSet can be held without a rule for its pool", obj.GetKind(), obj.GetName())
	}
	if err == nil {
		err = KeepReplicas(obj, h.Replicas)
	}
	if err == nil && h.Born && h.Rule == nil && kind.Kind != "Deployment" {
		err = bear(obj, &o)
	}
	if err != nil {
		return fmt.Errorf("holding %s %s: %w", obj.GetKind(), obj.GetName(), err)
	}
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	ann := obj.GetAnnotations()
	if ann == nil {
		ann = map[string]string{}
	}
	ann[AnnotationHeldBy], ann[AnnotationOriginal] = h.Op, string(text)
	obj.SetAnnotations(ann)
	return nil
}

// bear lets a workload begin without replicas: a partition holds only pods that exist.
func bear(obj *unstructured.Unstructured, o *Original) error {
	n, _, err := unstructured.NestedFieldCopy(obj.Object, "spec", "replicas")
	if err != nil {
		return err
	}
	o.Born, o.Replicas = true, n
	return unstructured.SetNestedField(obj.Object, int64(0), "spec", "replicas")
}

// KeepReplicas sets spec.replicas to what runs, so that a chart's number does not undo an autoscaler. nil changes nothing.
func KeepReplicas(obj *unstructured.Unstructured, live *int64) error {
	if live == nil {
		return nil
	}
	return unstructured.SetNestedField(obj.Object, *live, "spec", "replicas")
}

func holdDeployment(obj *unstructured.Unstructured, h Hold) (Original, error) {
	var o Original
	if v, found, err := unstructured.NestedBool(obj.Object, "spec", "paused"); err != nil {
		return o, err
	} else if found {
		o.Paused = &v
	}
	if err := unstructured.SetNestedField(obj.Object, true, "spec", "paused"); err != nil {
		return o, err
	}
	var err error
	if o.MinReady, _, err = unstructured.NestedFieldCopy(obj.Object, "spec", "minReadySeconds"); err != nil {
		return o, err
	}
	kind, _, err := unstructured.NestedString(obj.Object, "spec", "strategy", "type")
	if err != nil || kind == "Recreate" {
		return o, err
	}
	at := []string{"spec", "strategy", "rollingUpdate"}
	if set, _, err := unstructured.NestedMap(obj.Object, at...); err != nil || h.Default && len(set) > 0 {
		h.MaxSurge, h.MaxUnavailable = "", ""
	}
	if o.MaxUnavailable, err = swap(obj, h.MaxUnavailable, append(at, "maxUnavailable")...); err != nil {
		return o, err
	}
	o.MaxSurge, err = swap(obj, h.MaxSurge, append(at, "maxSurge")...)
	return o, err
}

func holdStatefulSet(obj *unstructured.Unstructured, h Hold) (Original, error) {
	var o Original
	kind, _, err := unstructured.NestedString(obj.Object, "spec", "updateStrategy", "type")
	if err != nil {
		return o, err
	}
	if kind == "OnDelete" {
		return o, fmt.Errorf("updateStrategy OnDelete cannot be held: a recreated pod is of the new revision")
	}
	if err := unstructured.SetNestedField(obj.Object, "RollingUpdate", "spec", "updateStrategy", "type"); err != nil {
		return o, err
	}
	o.Partition, err = swap(obj, strconv.Itoa(HoldPartition), "spec", "updateStrategy", "rollingUpdate", "partition")
	return o, err
}

// holdLeaderWorkerSet sets maxSurge to 0 beside the partition: groups that a surge would make are there at once, held or not.
func holdLeaderWorkerSet(obj *unstructured.Unstructured) (Original, error) {
	var o Original
	if err := unstructured.SetNestedField(obj.Object, "RollingUpdate", "spec", "rolloutStrategy", "type"); err != nil {
		return o, err
	}
	var err error
	if o.Partition, err = swap(obj, strconv.Itoa(HoldPartition), lwsUpdate("partition")...); err != nil {
		return o, err
	}
	if o.MaxSurge, err = swap(obj, "0", lwsUpdate("maxSurge")...); err != nil {
		return o, err
	}
	o.MaxUnavailable, err = swap(obj, "1", lwsUpdate("maxUnavailable")...) // its webhook refuses both to be 0
	return o, err
}

func lwsUpdate(field string) []string {
	return []string{"spec", "rolloutStrategy", "rollingUpdateConfiguration", field}
}

func holdCustom(obj *unstructured.Unstructured, r *HoldRule) (Original, error) {
	o := Original{Fields: map[string]any{}}
	for _, f := range r.Set {
		path, err := fieldPath(f.Path)
		if err != nil {
			return o, err
		}
		if o.Fields[f.Path], _, err = unstructured.NestedFieldCopy(obj.Object, path...); err != nil {
			return o, err
		}
		if err := unstructured.SetNestedField(obj.Object, wholeNumber(f.Held), path...); err != nil {
			return o, err
		}
	}
	return o, nil
}

// fieldPath splits .a.b.c.
func fieldPath(path string) ([]string, error) {
	names := strings.Split(strings.TrimPrefix(path, "."), ".")
	if !strings.HasPrefix(path, ".") || len(path) > maxPath || slices.Contains(names, "") {
		return nil, fmt.Errorf("path %.64q: want .NAME.NAME", path)
	}
	return names, nil
}

// wholeNumber: what came through JSON as a float is an integer where it can be, as unstructured objects want it.
func wholeNumber(v any) any {
	if f, ok := v.(float64); ok && f == float64(int64(f)) {
		return int64(f)
	}
	if n, ok := v.(int); ok {
		return int64(n)
	}
	return v
}

// swap sets an int-or-percent and returns what was there. An empty value changes nothing.
func swap(obj *unstructured.Unstructured, value string, path ...string) (any, error) {
	old, _, err := unstructured.NestedFieldCopy(obj.Object, path...)
	if err != nil || value == "" {
		return old, err
	}
	return old, unstructured.SetNestedField(obj.Object, number(value), path...)
}

// number is an integer, or a percentage as text.
func number(value string) any {
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		return n
	}
	return value
}

// HeldBy is the id of the operation that holds a live workload, "" if none does.
func HeldBy(live *unstructured.Unstructured) string { return live.GetAnnotations()[AnnotationHeldBy] }

// OnHold tells whether a live workload really is on hold, whatever its annotation says.
func OnHold(live *unstructured.Unstructured, rule *HoldRule) bool {
	switch {
	case rule != nil:
		for _, f := range rule.Set {
			path, err := fieldPath(f.Path)
			if err != nil {
				return false
			}
			if got, _, err := unstructured.NestedFieldNoCopy(live.Object, path...); err != nil || !reflect.DeepEqual(wholeNumber(got), wholeNumber(f.Held)) {
				return false
			}
		}
		return true
	case live.GetKind() == "Deployment":
		paused, _, _ := unstructured.NestedBool(live.Object, "spec", "paused")
		return paused
	}
	n, _, _ := unstructured.NestedInt64(live.Object, partitionPath(live)...)
	return n >= HoldPartition
}

func partitionPath(live *unstructured.Unstructured) []string {
	if live.GetKind() == "LeaderWorkerSet" {
		return lwsUpdate("partition")
	}
	return []string{"spec", "updateStrategy", "rollingUpdate", "partition"}
}

// ReleasePatch is the merge patch that lets a held workload roll. With upto > 0 only so many replicas may become new, and the hold
// stays; a Deployment, which cannot count, must be stopped again when it has them. It is nil when there is nothing to do.
func ReleasePatch(live *unstructured.Unstructured, p Pool, upto int) ([]byte, error) {
	if HeldBy(live) == "" {
		return nil, nil
	}
	o, err := original(live)
	if err != nil {
		return nil, err
	}
	var spec map[string]any
	switch {
	case p.Hold != nil:
		spec = map[string]any{}
	case live.GetKind() == "Deployment":
		spec = map[string]any{"paused": o.Paused, "minReadySeconds": o.MinReady}
		if upto > 0 {
			spec["minReadySeconds"] = slowReady(live)
		}
	case live.GetKind() == "LeaderWorkerSet":
		spec = releaseLWS(o, p)
	default:
		spec = map[string]any{"updateStrategy": map[string]any{"rollingUpdate": map[string]any{"partition": o.Partition}}}
	}
	if o.Born {
		spec["replicas"] = o.Replicas
	}
	patch := map[string]any{"spec": spec}
	for path, v := range o.Fields {
		if err := setPath(patch, path, v); err != nil {
			return nil, err
		}
	}
	if upto > 0 && p.Hold == nil && !o.Born {
		return releaseSome(live, patch, o, upto)
	}
	patch["metadata"] = map[string]any{"annotations": map[string]any{AnnotationHeldBy: nil}}
	return json.Marshal(patch)
}

// slowReady are the seconds for which a new pod is not yet counted as available, so that a controller makes no further one before the
// Deployment is on hold again, however fast pods come up. It must be less than progressDeadlineSeconds.
func slowReady(live *unstructured.Unstructured) int64 {
	n, found, _ := unstructured.NestedInt64(live.Object, "spec", "progressDeadlineSeconds")
	if !found {
		n = 600
	}
	return max(min(n, 600)-1, 0)
}

// releaseSome lowers a partition by so many replicas.
func releaseSome(live *unstructured.Unstructured, patch map[string]any, o Original, upto int) ([]byte, error) {
	if live.GetKind() == "Deployment" {
		if !OnHold(live, nil) {
			return nil, nil
		}
		return json.Marshal(patch)
	}
	n, found, err := unstructured.NestedInt64(live.Object, "spec", "replicas")
	if err != nil {
		return nil, err
	}
	if !found {
		n = 1
	}
	least, _ := wholeNumber(o.Partition).(int64)
	part := max(n-int64(upto), least, 0)
	if now, _, _ := unstructured.NestedInt64(live.Object, partitionPath(live)...); now == part {
		return nil, nil
	}
	if err := setPath(patch, "."+strings.Join(partitionPath(live), "."), part); err != nil {
		return nil, err
	}
	return json.Marshal(patch)
}

func releaseLWS(o Original, p Pool) map[string]any {
	surge, unavailable := o.MaxSurge, o.MaxUnavailable
	if p.MaxSurge != "" && p.MaxSurge != surgeAuto {
		surge = number(p.MaxSurge)
	}
	if p.MaxUnavailable != "" {
		unavailable = number(p.MaxUnavailable)
	}
	return map[string]any{"rolloutStrategy": map[string]any{"rollingUpdateConfiguration": map[string]any{
		"partition": o.Partition, "maxSurge": surge, "maxUnavailable": unavailable}}}
}

// setPath puts a value into nested maps, which it makes.
func setPath(into map[string]any, path string, v any) error {
	names, err := fieldPath(path)
	if err != nil {
		return err
	}
	for _, n := range names[:len(names)-1] {
		next, ok := into[n].(map[string]any)
		if !ok {
			next = map[string]any{}
			into[n] = next
		}
		into = next
	}
	into[names[len(names)-1]] = v
	return nil
}

// ReholdPatch stops a workload that is rolling. It is nil when the workload is held already.
func ReholdPatch(live *unstructured.Unstructured, rule *HoldRule, op string) ([]byte, error) {
	if HeldBy(live) == op && OnHold(live, rule) {
		return nil, nil
	}
	patch := map[string]any{}
	switch {
	case rule != nil:
		for _, f := range rule.Set {
			if err := setPath(patch, f.Path, f.Held); err != nil {
				return nil, err
			}
		}
	case live.GetKind() == "Deployment":
		o, err := original(live)
		if err != nil {
			return nil, err
		}
		patch["spec"] = map[string]any{"paused": true, "minReadySeconds": o.MinReady}
	default:
		if err := setPath(patch, "."+strings.Join(partitionPath(live), "."), HoldPartition); err != nil {
			return nil, err
		}
	}
	patch["metadata"] = map[string]any{"annotations": map[string]any{AnnotationHeldBy: op}}
	return json.Marshal(patch)
}

// SettlePatch gives a workload the chart's maxUnavailable and maxSurge back and takes our last annotation away. It is nil
// when there is nothing of ours on it, or while it is held.
func SettlePatch(live *unstructured.Unstructured) ([]byte, error) {
	if _, ours := live.GetAnnotations()[AnnotationOriginal]; !ours || HeldBy(live) != "" {
		return nil, nil
	}
	o, err := original(live)
	if err != nil {
		return nil, err
	}
	patch := map[string]any{"metadata": map[string]any{"annotations": map[string]any{AnnotationOriginal: nil}}}
	kind, _, _ := unstructured.NestedString(live.Object, "spec", "strategy", "type")
	switch {
	case o.Fields != nil:
	case live.GetKind() == "Deployment" && kind != "Recreate":
		patch["spec"] = map[string]any{"strategy": map[string]any{"rollingUpdate": map[string]any{
			"maxUnavailable": o.MaxUnavailable, "maxSurge": o.MaxSurge}}}
	case live.GetKind() == "LeaderWorkerSet":
		patch["spec"] = map[string]any{"rolloutStrategy": map[string]any{"rollingUpdateConfiguration": map[string]any{
			"maxUnavailable": o.MaxUnavailable, "maxSurge": o.MaxSurge}}}
	}
	return json.Marshal(patch)
}

func original(live *unstructured.Unstructured) (Original, error) {
	var o Original
	text := live.GetAnnotations()[AnnotationOriginal]
	if text == "" {
		return o, nil
	}
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return o, fmt.Errorf("reading what %s %s was before its hold: %w", live.GetKind(), live.GetName(), err)
	}
	return o, nil
}
