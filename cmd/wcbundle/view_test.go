package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/wordcab/wcbundle/rollout"
)

// TestOperationText: what is drawn fits into the terminal, with what happens now, whatever the number of pools.
func TestOperationText(t *testing.T) {
	op := &rollout.State{ID: "op", Type: rollout.TypeApply, Phase: rollout.Rolling, Bundle: rollout.BundleRef{Version: "2.9.0"}}
	for i := range 100 {
		p := rollout.PoolState{Pool: rollout.Pool{Name: fmt.Sprintf("pool-%02d", i)}, State: rollout.PoolWaiting}
		switch {
		case i < 30:
			p.State = rollout.PoolDone
		case i == 30:
			p.State, p.Waiting = rollout.PoolReplacing, "pool-30 has 1 of 4 new replicas"
		}
		op.Pools = append(op.Pools, p)
	}
	for _, room := range []int{0, -1, 200} {
		if got := strings.Count(operationText(op, room), "\n"); got != 101 {
			t.Errorf("room %d: %d lines", room, got)
		}
	}
	text := operationText(op, 23)
	for _, want := range []string{"op apply to 2.9.0: Rolling\n", "pool-30          Replacing", "1 of 4 new replicas", "30 pools         Done", "69 pools         Waiting"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for i := range op.Pools {
		op.Pools[i].State = rollout.PoolReplacing
	}
	op.Phase, op.Why, op.HeldFor = rollout.Held, "users complain", rollout.HeldForPause
	if text := operationText(op, 23); strings.Count(text, "\n") > 23 || !strings.Contains(text, "users complain") {
		t.Errorf("%d lines:\n%s", strings.Count(text, "\n"), text)
	}
}
