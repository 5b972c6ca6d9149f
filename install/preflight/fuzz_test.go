package preflight

import (
	"strings"
	"testing"
)

func FuzzParseManifest(f *testing.F) {
	f.Add("---\nkind: Deployment\nmetadata: {name: a}\nspec: {replicas: 2, template: {spec: {containers: [{name: c, image: i}]}}}\n")
	f.Add("kind: List\nitems:\n- {kind: List, items: [{kind: Pod, metadata: {name: p}}]}\n---\nkind: StatefulSet\nspec: {replicas: -1}\n")
	f.Add("kind: Deployment\nspec: {replicas: 99999999999999999999}\n")
	f.Add("a: &a [*a]\n--- #\n{}")
	f.Fuzz(func(t *testing.T, text string) {
		r := parseManifest(text)
		if r.problem != "" && !strings.HasPrefix(r.problem, "document ") {
			t.Fatalf("the problem does not say where: %s", r.problem)
		}
	})
}

func FuzzOperationOf(f *testing.F) {
	f.Add(`{"id":"op-1","state":"Rolling"}`)
	f.Add(`{"id":"op-1","state":""}`)
	f.Add(`{"state":["Succeeded"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if op, err := operationOf(text); err == nil && op.State == "" {
			t.Fatal("an operation without a state")
		}
	})
}
