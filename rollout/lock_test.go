package rollout

import (
	"errors"
	"testing"

	"k8s.io/client-go/kubernetes/fake"
)

// TestLock: while one has the lock another is refused and told by whom; given back, it is free.
func TestLock(t *testing.T) {
	kube := fake.NewSimpleClientset()
	ctx, unlock, err := Lock(t.Context(), kube, "n", "shop", "a/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Lock(t.Context(), kube, "n", "shop", "b/2"); !errors.Is(err, ErrLocked) {
		t.Fatalf("taken twice: %v", err)
	}
	if ctx.Err() != nil {
		t.Fatal("lost at once")
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() == nil {
		t.Error("the context outlives the lock")
	}
	_, unlock, err = Lock(t.Context(), kube, "n", "shop", "b/2")
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}
