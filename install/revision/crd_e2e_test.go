//go:build e2e

package revision

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/wordcab/wcbundle/rollout"
)

// chartWith is the chart with a file more, in its folder templates or crds.
func (s *site) chartWith(version, name, text string) []byte {
	s.t.Helper()
	ch, err := loader.LoadDir("testdata/story")
	if err != nil {
		s.t.Fatal(err)
	}
	ch.Metadata.Version = version
	f := &chart.File{Name: name, Data: []byte(text)}
	if strings.HasPrefix(name, "templates/") {
		ch.Templates = append(ch.Templates, f)
	} else {
		ch.Files = append(ch.Files, f)
	}
	return packed(s.t, ch)
}

func (s *site) extra(versions ...string) string {
	return fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: extras.%[1]s.example.com}
spec:
  group: %[1]s.example.com
  names: {kind: Extra, plural: extras, singular: extra, listKind: ExtraList}
  scope: Namespaced
  versions:
  - %[2]s
`, s.ns, strings.Join(versions, "\n  - "))
}

func crdVersion(name string, storage bool, fields ...string) string {
	var props []string
	for _, f := range fields {
		props = append(props, f+": {type: string}")
	}
	return fmt.Sprintf("{name: %s, served: true, storage: %t, schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {%s}}}}}}", name, storage, strings.Join(props, ", "))
}

// extras are the name of the CRD and where its objects are; what a test leaves of it is removed.
func (s *site) extras() (string, dynamic.ResourceInterface) {
	name := "extras." + s.ns + ".example.com"
	s.t.Cleanup(func() {
		if err := s.c.dyn.Resource(crdAt).Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil {
			s.t.Error(err)
		}
	})
	return name, s.c.dyn.Resource(schema.GroupVersionResource{Group: s.ns + ".example.com", Version: "v1", Resource: "extras"}).Namespace(s.ns)
}

func (s *site) makeExtra(at dynamic.ResourceInterface) {
	s.t.Helper()
	obj := &unstructured.Unstructured{Object: map[string]any{"apiVersion": s.ns + ".example.com/v1", "kind": "Extra", "metadata": map[string]any{"name": "x"},
		"spec": map[string]any{"a": "kept", "b": "loved"}}}
	if _, err := at.Create(s.t.Context(), obj, metav1.CreateOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

// applyWith applies the chart with a file more.
func (s *site) applyWith(id, version, file, text string) rollout.Outcome {
	s.t.Helper()
	w := want{version, tags("1", "1", "1"), s.pools()}
	req := s.request(w)
	req.Chart = s.chartWith(version, file, text)
	out, err := rollout.Run(s.t.Context(), s.engine(req), s.op(id, w))
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// TestEdge61Edge67TemplatedCRDs: a CRD among the templates, which Helm applies, is never narrowed either; what holds data is deleted by no
// revision.
func TestEdge61Edge67TemplatedCRDs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	name, at := s.extras()
	const claim = "\n---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: cache}\nspec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}}\n"
	apply := func(id, version, text string) rollout.Outcome {
		return s.applyWith(id, version, "templates/extra.yaml", text)
	}
	unchanged := func(when string) {
		t.Helper()
		if got, err := at.Get(t.Context(), "x", metav1.GetOptions{}); err != nil || fmt.Sprint(got.Object["spec"]) != "map[a:kept b:loved]" {
			t.Errorf("%s: the object is %v, %v", when, got, err)
		}
		if _, err := s.c.kube.CoreV1().PersistentVolumeClaims(s.ns).Get(t.Context(), "cache", metav1.GetOptions{}); err != nil {
			t.Errorf("%s: the claim: %v", when, err)
		}
	}
	wide := s.extra(crdVersion("v1", false, "a", "b", "c"), crdVersion("v2", true, "a", "b", "c"))
	s.must(rollout.Succeeded, apply("op1", "1.0.0", s.extra(crdVersion("v1", true, "a", "b"))))
	s.makeExtra(at)
	out := apply("op2", "1.1.0", s.extra(crdVersion("v1", true, "a")))
	s.must(rollout.Aborted, out)
	if !strings.Contains(out.Reason, "field v1.spec.b") {
		t.Errorf("reason %q", out.Reason)
	}
	s.must(rollout.Succeeded, apply("op3", "1.2.0", wide+claim))
	if kept, err := s.c.Snapshot(t.Context(), "story", 2); err != nil || len(kept) != 2 || kept[1].GetName() != "x" {
		t.Errorf("snapshot: %d objects, %v", len(kept), err)
	}
	stores := func(when string) {
		t.Helper()
		live, err := s.c.dyn.Resource(crdAt).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil || storageVersion(live) != "v1" || len(crdVersions(live)) != 2 {
			t.Errorf("%s: stores %s of %d versions, %v", when, storageVersion(live), len(crdVersions(live)), err)
		}
	}
	stores("widened")
	s.must(rollout.Succeeded, s.rollback("op4", 1))
	stores("rolled back")
	unchanged("rolled back") // the claim came with what was gone back from
	if more, err := s.c.Wider(t.Context(), "story", 1); err != nil || len(more) != 1 {
		t.Errorf("what stays is not said: %v, %v", more, err)
	}
	s.must(rollout.Succeeded, apply("op5", "1.3.0", wide+claim))
	w := want{"1.4.0", tags("1", "1", "1"), s.pools()}
	for _, c := range []string{"CustomResourceDefinition/" + name, "PersistentVolumeClaim/cache"} {
		if got := s.classes(w)[c].Class; got != ClassKept {
			t.Errorf("%s is said to become %q", c, got)
		}
	}
	s.must(rollout.Succeeded, apply("op6", "1.4.0", "# nothing"))
	stores("not in the chart")
	unchanged("not in the chart")
	s.must(rollout.Succeeded, s.rollback("op7", 4))
	unchanged("in the chart again")
}

// TestEdge61Edge62CRDs: a CRD grows before the revision, what was there is kept, the stored version stays until finalize; what would be
// lost is never taken away.
func TestEdge61Edge62CRDs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	name, at := s.extras()
	apply := func(id, version, crd string) rollout.Outcome { return s.applyWith(id, version, "crds/extra.yaml", crd) }
	s.must(rollout.Succeeded, apply("op1", "1.0.0", s.extra(crdVersion("v1", true, "a", "b"))))
	s.makeExtra(at)

	out := apply("op2", "1.1.0", s.extra(crdVersion("v1", true, "a"))) // b is gone
	s.must(rollout.Aborted, out)
	if !strings.Contains(out.Reason, "field v1.spec.b") {
		t.Errorf("reason %q", out.Reason)
	}

	s.must(rollout.Succeeded, apply("op3", "1.2.0", s.extra(crdVersion("v1", false, "a", "b", "c"), crdVersion("v2", true, "a", "b", "c"))))
	live, err := s.c.dyn.Resource(crdAt).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if stored, _, _ := unstructured.NestedStringSlice(live.Object, "status", "storedVersions"); storageVersion(live) != "v1" || fmt.Sprint(stored) != "[v1]" {
		t.Errorf("62: stores %s, has stored %v", storageVersion(live), stored)
	}
	kept, err := s.c.Snapshot(t.Context(), "story", 2)
	if err != nil || len(kept) != 2 || kept[0].GetName() != name || kept[1].GetName() != "x" {
		t.Fatalf("snapshot: %d objects, %v", len(kept), err)
	}

	s.must(rollout.Succeeded, s.rollback("op4", 1))
	if wide, err := s.c.Wider(t.Context(), "story", 1); err != nil || len(wide) != 1 || !strings.Contains(wide[0], "version v2") {
		t.Errorf("61: the schema that stays is not said: %v, %v", wide, err)
	}
	if got, err := at.Get(t.Context(), "x", metav1.GetOptions{}); err != nil || fmt.Sprint(got.Object["spec"]) != "map[a:kept b:loved]" {
		t.Errorf("the object is %v, %v", got.Object["spec"], err)
	}

	s.must(rollout.Succeeded, apply("op5", "1.3.0", s.extra(crdVersion("v1", false, "a", "b", "c"), crdVersion("v2", true, "a", "b", "c"))))
	all, err := s.c.Contractions(t.Context(), "story")
	if err != nil || len(all) != 1 || all[0].Storage != "v2" || all[0].Objects != 1 {
		t.Fatalf("contractions %+v, %v", all, err)
	}
	if err := s.c.Contract(t.Context(), "story", all); err != nil {
		t.Fatal(err)
	}
	live, err = s.c.dyn.Resource(crdAt).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if stored, _, _ := unstructured.NestedStringSlice(live.Object, "status", "storedVersions"); storageVersion(live) != "v2" || fmt.Sprint(stored) != "[v2]" {
		t.Errorf("finalized: stores %s, has stored %v", storageVersion(live), stored)
	}
	if again, err := s.c.Contractions(t.Context(), "story"); err != nil || len(again) != 0 {
		t.Errorf("finalized twice: %+v, %v", again, err)
	}

	// Somebody widens the CRD by hand: what objects use of it is not taken away, what none uses is.
	for _, v := range live.Object["spec"].(map[string]any)["versions"].([]any) {
		spec := v.(map[string]any)["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)["properties"].(map[string]any)["spec"].(map[string]any)["properties"].(map[string]any)
		spec["d"] = map[string]any{"type": "string"}
	}
	if _, err := s.c.dyn.Resource(crdAt).Update(t.Context(), live, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	settled()
	got, err := at.Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got.Object["spec"] = map[string]any{"a": "kept", "d": "used"}
	if _, err := at.Update(t.Context(), got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	all, err = s.c.Contractions(t.Context(), "story")
	if err != nil || len(all) != 1 || len(all[0].Losses) != 1 || !strings.Contains(all[0].Losses[0], "x would lose spec.d") || !all[0].Nothing() {
		t.Fatalf("losses %+v, %v", all, err)
	}
	got, err = at.Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got.Object["spec"] = map[string]any{"a": "kept"}
	if _, err := at.Update(t.Context(), got, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	all, err = s.c.Contractions(t.Context(), "story")
	if err != nil || len(all) != 1 || len(all[0].Losses) != 0 || len(all[0].Drop) == 0 {
		t.Fatalf("drops %+v, %v", all, err)
	}
	if err := s.c.Contract(t.Context(), "story", all); err != nil {
		t.Fatal(err)
	}
	if again, err := s.c.Contractions(t.Context(), "story"); err != nil || len(again) != 0 {
		t.Errorf("contracted, and still: %+v, %v", again, err)
	}
}
