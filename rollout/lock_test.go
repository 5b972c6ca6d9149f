package rollout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

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

// TestEdge45StolenLock: a holder that slept longer than the lock lives does not act again before it knows that the lock is still its own.
func TestEdge45StolenLock(t *testing.T) {
	kube := fake.NewSimpleClientset()
	now := t0
	a := &lock{kube: kube, namespace: "n", name: "wcbundle-shop", holder: "a", ttl: time.Minute, now: func() time.Time { return now }}
	if err := a.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.assured(t.Context()); err != nil {
		t.Fatalf("fresh: %v", err)
	}
	now = now.Add(61 * time.Second)
	b := &lock{kube: kube, namespace: "n", name: "wcbundle-shop", holder: "b", ttl: time.Minute, now: func() time.Time { return now }}
	if err := b.acquire(t.Context()); err != nil {
		t.Fatalf("taking an expired lock: %v", err)
	}
	if err := a.acquire(t.Context()); !errors.Is(err, ErrLocked) || a.mine(t.Context()) {
		t.Errorf("the old holder is not refused: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := a.assured(short); err == nil {
		t.Error("the old holder may act")
	}
}

// TestEdge46APIAway: an API server that was away for longer than the lock lives takes it from nobody.
func TestEdge46APIAway(t *testing.T) {
	kube := fake.NewSimpleClientset()
	now := t0
	a := &lock{kube: kube, namespace: "n", name: "wcbundle-shop", holder: "a", ttl: time.Minute, now: func() time.Time { return now }}
	if err := a.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	now = now.Add(5 * time.Minute)
	if err := a.acquire(t.Context()); err != nil {
		t.Fatalf("renewing after five minutes: %v", err)
	}
	if err := a.assured(t.Context()); err != nil {
		t.Errorf("renewed, and not assured: %v", err)
	}
}

// TestAsk: a request reaches the holder with its next renewal, once; one that an earlier holder was asked is dropped.
func TestAsk(t *testing.T) {
	kube := fake.NewSimpleClientset()
	ask := func() error {
		return Ask(t.Context(), kube, "n", "shop", Request{Op: "op1", What: "pause", By: "ops", Reason: "later"})
	}
	if err := ask(); !errors.Is(err, ErrNoOperation) {
		t.Fatalf("asked nobody: %v", err)
	}
	a := &lock{kube: kube, namespace: "n", name: "wcbundle-shop", holder: "a", ttl: time.Minute, now: time.Now}
	for range 2 {
		if err := a.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if q := a.asked.Load(); q != nil {
			break
		}
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if q := a.asked.Swap(nil); q == nil || q.What != "pause" || q.Reason != "later" {
		t.Fatalf("heard %+v", q)
	}
	if err := a.acquire(t.Context()); err != nil || a.asked.Load() != nil {
		t.Errorf("heard twice, or %v", err)
	}
	if err := errors.Join(ask(), a.drop(t.Context())); err != nil {
		t.Fatal(err)
	}
	b := &lock{kube: kube, namespace: "n", name: "wcbundle-shop", holder: "b", ttl: time.Minute, now: time.Now}
	if err := b.acquire(t.Context()); err != nil || b.asked.Load() != nil {
		t.Errorf("another's request was heard, or %v", err)
	}
}

// TestEdge48ClockSkew: times are by the API server's clock, so that two machines agree, however wrong their own clocks are.
func TestEdge48ClockSkew(t *testing.T) {
	const layout = "Mon, 02 Jan 2006 15:04:05 GMT"
	for name, tc := range map[string]struct {
		server time.Time
		want   time.Duration
	}{
		"ten minutes behind": {t0.Add(10 * time.Minute), 10*time.Minute + time.Second/2},
		"ten minutes ahead":  {t0.Add(-10 * time.Minute), -10*time.Minute + time.Second/2},
		"the same":           {t0.Add(time.Second), 0},
	} {
		if got := ahead(tc.server.Format(layout), t0, t0); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	if got := ahead("yesterday", t0, t0); got != 0 {
		t.Errorf("a date that is none: %s", got)
	}
	// A lock that was renewed just now, seen by a machine whose own clock is ten minutes ahead, is not free.
	kube := fake.NewSimpleClientset()
	a := &lock{kube: kube, namespace: "n", name: "wcbundle-shop", holder: "a", ttl: time.Minute, now: func() time.Time { return t0 }}
	wrong := t0.Add(10 * time.Minute)
	corrected := wrong.Add(ahead(t0.Format(layout), wrong, wrong))
	b := &lock{kube: kube, namespace: "n", name: "wcbundle-shop", holder: "b", ttl: time.Minute, now: func() time.Time { return corrected }}
	if err := a.acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.acquire(t.Context()); !errors.Is(err, ErrLocked) {
		t.Errorf("a live lock was taken: %v", err)
	}
}

// TestRecordSize: a hundred pools with four gates that have said all that they may say fit into a record.
func TestRecordSize(t *testing.T) {
	var pools []Pool
	for i := range 100 {
		p := Pool{Name: fmt.Sprintf("pool-with-a-long-name-%d", i), Workloads: []Workload{{Kind: "Deployment", Name: "workload"}}}
		for g := range 4 {
			p.Gates.Post = append(p.Gates.Post, Gate{ID: fmt.Sprintf("gate-%d", g), Prometheus: &PrometheusGate{Query: strings.Repeat("q", 300), Service: "monitoring/prometheus:9090"}})
		}
		pools = append(pools, p)
	}
	s := NewOperation("op", TypeApply, pools, 1, 1)
	for i := range s.Pools {
		p := &s.Pools[i]
		for _, g := range p.Gates.Post {
			p.Results = append(p.Results, GateResult{ID: g.ID, Verdict: Pass, Message: strings.Repeat("m", maxMessage)})
		}
		if i < 99 {
			s.done(p, t0)
		}
	}
	text, err := encodeState(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d KiB", len(text)>>10)
}
