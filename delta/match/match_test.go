package match

import (
	"math/rand/v2"
	"testing"
)

func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// check fails unless the copies are sorted, disjoint and inside; it returns how many bytes they get right.
func check(t *testing.T, old, target []byte, copies []Copy) int {
	t.Helper()
	end, right := int64(0), 0
	for _, c := range copies {
		if c.New < end || c.Len <= 0 || c.New+c.Len > int64(len(target)) || c.Old < 0 || c.Old+c.Len > int64(len(old)) {
			t.Fatalf("copy %+v after %d, target of %d, old of %d", c, end, len(target), len(old))
		}
		end = c.New + c.Len
		for i := range c.Len {
			if target[c.New+i] == old[c.Old+i] {
				right++
			}
		}
	}
	return right
}

func TestFindEdits(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 2))
		old := noise(seed, 1000+r.IntN(100000))
		target := append([]byte(nil), old...)
		changed := 0
		for range r.IntN(20) {
			at, n := r.IntN(len(target)), r.IntN(200)
			tail := append([]byte(nil), target[min(at+r.IntN(100), len(target)):]...)
			target = append(append(target[:at], noise(seed+99, n)...), tail...)
			changed += n + 2*block
		}
		for range r.IntN(100) {
			target[r.IntN(len(target))] ^= 0x55
			changed += 2 * block
		}
		for _, opt := range []Options{{}, {Short: true}, {Hint: 17}} {
			copies := NewIndex(old).Find(target, opt)
			if right := check(t, old, target, copies); right < len(target)-changed {
				t.Errorf("seed %d: %d of %d bytes right, changed %d", seed, right, len(target), changed)
			}
		}
	}
}

func TestFindSame(t *testing.T) {
	old := noise(1, 50000)
	got := NewIndex(old).Find(old, Options{})
	if len(got) != 1 || got[0] != (Copy{0, 0, 50000}) {
		t.Errorf("got %v, want one copy", got)
	}
	got = NewIndex(old).Find(old[20000:30000], Options{Hint: 20000})
	if len(got) != 1 || got[0] != (Copy{0, 20000, 10000}) {
		t.Errorf("got %v, want one copy", got)
	}
}

// Bytes that repeat themselves tempt a search into work that grows with the square.
func TestFindPeriodic(t *testing.T) {
	old := make([]byte, 1<<20)
	target := make([]byte, 1<<20)
	for i := range old {
		old[i] = byte(i % 17 * (i % 5))
		target[i] = byte(i % 17 * (i % 7))
	}
	check(t, old, target, NewIndex(old).Find(target, Options{Short: true}))
	for i := range target {
		target[i] = byte(i * 9 >> 13 & 1)
		old[i] = byte(i >> 13 & 1)
	}
	check(t, old, target, NewIndex(old).Find(target, Options{Short: true}))
}

func TestFindLittle(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 17, 31} {
		for _, k := range []int{0, 1, 15, 16, 17, 31} {
			for _, hint := range []int64{0, -5, 5, 1 << 40, -1 << 40} {
				old, target := noise(3, n), noise(3, k)
				check(t, old, target, NewIndex(old).Find(target, Options{Hint: hint, Short: true}))
			}
		}
	}
}

func TestIndexMemory(t *testing.T) {
	x := NewIndex(make([]byte, 1<<20))
	if got, want := 4*len(x.table)+8*len(x.seen), 1<<19; got > want {
		t.Errorf("the index takes %d bytes, want at most %d", got, want)
	}
}
