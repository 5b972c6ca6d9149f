package rollout

import (
	"encoding/json"
	"fmt"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// HoldPartition is beyond any ordinal: with a partition of just the replicas, pods that an autoscaler adds while the
// pool is held would be of the new revision.
const HoldPartition = 1_000_000

// Hold is what is injected into one workload on its way to the API server.
type Hold struct {
	Op             string // id of the operation
	MaxUnavailable string // "" = as the chart says
	MaxSurge       string // "" = as the chart says; only for a Deployment
	Replicas       *int64 // live replicas to keep, where an autoscaler owns them
}

// Holds are the workloads to hold.
type Holds map[Workload]Hold

// NewHolds holds every workload of the pools for an operation. The maxSurge of a pool must not be auto any more.
func NewHolds(op string, pools []Pool) Holds {
	h := Holds{}
	for _, p := range pools {
		for _, w := range p.Workloads {
			h[w] = Hold{Op: op, MaxUnavailable: p.MaxUnavailable, MaxSurge: p.MaxSurge}
		}
	}
	return h
}

// Original is what a hold replaced and a release restores. A nil field was absent.
type Original struct {
	Paused         *bool `json:"paused"`
	Partition      any   `json:"partition"`
	MaxUnavailable any   `json:"maxUnavailable"`
	MaxSurge       any   `json:"maxSurge"`
}

// Inject puts a hold into a Deployment or StatefulSet that is about to be created or patched. What the chart said is
// kept in an annotation, so that a release needs nothing but the live object. Any other kind is an error.
func Inject(obj *unstructured.Unstructured, h Hold) error {
	var o Original
	var err error
	switch obj.GetKind() {
	case "Deployment":
		o, err = holdDeployment(obj, h)
	case "StatefulSet":
		o, err = holdStatefulSet(obj, h)
	default:
		return fmt.Errorf("holding %s %s: only a Deployment or a StatefulSet can be held", obj.GetKind(), obj.GetName())
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
	return KeepReplicas(obj, h.Replicas)
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
	kind, _, err := unstructured.NestedString(obj.Object, "spec", "strategy", "type")
	if err != nil || kind == "Recreate" {
		return o, err
	}
	at := []string{"spec", "strategy", "rollingUpdate"}
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

// swap sets an int-or-percent and returns what was there. An empty value changes nothing.
func swap(obj *unstructured.Unstructured, value string, path ...string) (any, error) {
	old, _, err := unstructured.NestedFieldCopy(obj.Object, path...)
	if err != nil || value == "" {
		return old, err
	}
	var v any = value
	if n, err := strconv.ParseInt(value, 10, 64); err == nil {
		v = n
	}
	return old, unstructured.SetNestedField(obj.Object, v, path...)
}

// HeldBy is the id of the operation that holds a live workload, "" if none does.
func HeldBy(live *unstructured.Unstructured) string { return live.GetAnnotations()[AnnotationHeldBy] }

// ReleasePatch is the merge patch that lets a held workload roll. It is nil when the workload is not held.
func ReleasePatch(live *unstructured.Unstructured) ([]byte, error) {
	if HeldBy(live) == "" {
		return nil, nil
	}
	o, err := original(live)
	if err != nil {
		return nil, err
	}
	spec := map[string]any{}
	switch live.GetKind() {
	case "Deployment":
		spec["paused"] = o.Paused
	case "StatefulSet":
		spec["updateStrategy"] = map[string]any{"rollingUpdate": map[string]any{"partition": o.Partition}}
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{AnnotationHeldBy: nil}},
		"spec":     spec,
	})
}

// ReholdPatch stops a workload that is rolling. It is nil when the workload is held already.
func ReholdPatch(live *unstructured.Unstructured, op string) ([]byte, error) {
	if HeldBy(live) == op {
		return nil, nil
	}
	spec := map[string]any{"paused": true}
	if live.GetKind() == "StatefulSet" {
		spec = map[string]any{"updateStrategy": map[string]any{"rollingUpdate": map[string]any{"partition": HoldPartition}}}
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{AnnotationHeldBy: op}},
		"spec":     spec,
	})
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
	if live.GetKind() == "Deployment" && kind != "Recreate" {
		patch["spec"] = map[string]any{"strategy": map[string]any{"rollingUpdate": map[string]any{
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
