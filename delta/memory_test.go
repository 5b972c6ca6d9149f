package delta

import (
	"bytes"
	"context"
	"runtime"
	"runtime/debug"
	"testing"
)

// heapWatch notes the largest heap while something is written to it.
type heapWatch struct{ peak uint64 }

func (w *heapWatch) Write(p []byte) (int, error) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.peak = max(w.peak, m.HeapInuse)
	return len(p), nil
}

// TestMemoryIsTrue applies deltas of all kinds and compares the heap with what the header promises, which is signed in a
// patch and shown to the operator.
func TestMemoryIsTrue(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	src, edit := sourceTar(t, 9<<20, false), sourceTar(t, 9<<20, true)
	bfA, bfB := weights(6<<20, true, false), weights(6<<20, true, true)
	for name, c := range map[string]struct {
		old, target []byte
		level       Level
	}{
		"tar":     {src, edit, LevelMax},
		"gzip":    {goGzip(t, src, 6, 32<<10), goGzip(t, edit, 6, 32<<10), LevelDefault},
		"weights": {bfA, bfB, LevelDefault},
		"alone":   {nil, edit, LevelDefault},
	} {
		d, h := roundTrip(t, c.target, c.level, c.old)
		for _, workers := range []int{1, 2} {
			var before runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			w := &heapWatch{}
			lim := limits(t)
			lim.Parallel = workers
			if _, err := Apply(context.Background(), w, bytes.NewReader(d), all(c.old), lim); err != nil {
				t.Fatal(err)
			}
			got, want := int64(w.peak-min(before.HeapInuse, w.peak)), h.memory(lim.workers(&h))
			t.Logf("%-8s %d workers: %3d MiB of %3d MiB, %s", name, workers, got>>20, want>>20, h.Codec)
			if got > want {
				t.Errorf("%s: %d MiB of heap, the header says %d", name, got>>20, want>>20)
			}
		}
	}
}
