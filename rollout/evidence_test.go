package rollout

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// TestEvidenceIsCleanOrNotKept holds invariant 10: a record never has a secret that a pod logged.
func TestEvidenceIsCleanOrNotKept(t *testing.T) {
	lines := func() []string { return []string{"pod a: Running", "log a/server: password=hunter2"} }
	for name, c := range map[string]struct {
		scrub func(context.Context) (func(string) string, error)
		keeps bool
	}{
		"no scrubber": {nil, false},
		"broken":      {func(context.Context) (func(string) string, error) { return nil, errors.New("forbidden") }, false},
		"scrubbed": {func(context.Context) (func(string) string, error) {
			return func(s string) string { return strings.ReplaceAll(s, "hunter2", "***") }, nil
		}, true},
	} {
		r := &run{Engine: Engine{Scrub: c.scrub}}
		got := strings.Join(r.clean(context.Background(), lines()), "\n")
		if strings.Contains(got, "hunter2") || strings.Contains(got, "pod a: Running") != c.keeps {
			t.Errorf("%s: %q", name, got)
		}
	}
}
