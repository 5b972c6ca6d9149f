//go:build e2e

package story

import (
	"context"
	"os"
	"testing"
	"time"
)

// TestStory runs the whole story; e2e/run.sh sets the environment up. It is never skipped: without a cluster it fails.
func TestStory(t *testing.T) {
	env := FromEnvironment(os.Getenv, os.Stdout)
	if env.Kubeconfig == "" {
		t.Fatal("no cluster: run make e2e as root")
	}
	if env.Cosign == "" {
		t.Fatal("no upstream cosign: run make e2e")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 35*time.Minute)
	defer cancel()
	s, err := New(env)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	steps, left := s.Steps()
	if len(left) > 0 || len(steps) != 20 {
		t.Fatalf("%d steps, left out: %v", len(steps), left)
	}
	for _, step := range steps {
		if !t.Run(step.Title, func(t *testing.T) {
			if err := step.Run(ctx); err != nil {
				t.Fatal(err)
			}
		}) {
			return // later steps build on this one
		}
	}
}
