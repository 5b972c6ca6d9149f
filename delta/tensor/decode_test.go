package tensor

import (
	"bytes"
	"math/rand"
	"testing"
	"unsafe"
)

// columns returns n elements of a matrix whose columns changed by a factor each, as when a normalisation is folded in.
func columns(seed int64, n, wide int) weights {
	return grouped(seed, n, wide, func(i int) int { return i % wide })
}

// rows is the same with rows.
func rows(seed int64, n, wide int) weights {
	return grouped(seed, n, n/wide+1, func(i int) int { return i / wide })
}

func grouped(seed int64, n, groups int, group func(i int) int) weights {
	w := tune(seed, n, 0)
	r := rand.New(rand.NewSource(seed))
	factors, noise := make([]float32, groups), make([]float32, groups)
	for i := range factors {
		factors[i], noise[i] = float32(1+r.NormFloat64()*0.1), float32(r.Float64()*0.02)
	}
	for i, x := range w.base {
		w.target[i] = x * (factors[group(i)] + float32(r.NormFloat64())*noise[group(i)])
	}
	return w
}

func TestLanes(t *testing.T) {
	c := NewCoder()
	for _, x := range []struct {
		typ  Type
		most float64
	}{{F16, 0.48}, {BF16, 0.35}, {F32, 0.73}} {
		for _, w := range []weights{columns(4, 300_000, 96), rows(4, 300_000, 1000)} {
			base, target := pack(x.typ, w.base), pack(x.typ, w.target)
			enc := c.Encode(nil, x.typ, base, target)
			if form := enc[1]; form != blockLanes && x.typ != BF16 {
				t.Errorf("%s: the first block has form %d", x.typ, form)
			}
			if got := float64(through(t, c, x.typ, base, target)) / float64(len(target)); got > x.most {
				t.Errorf("%s: %.3f of the raw size, want at most %.3f", x.typ, got, x.most)
			}
		}
	}
}

// TestLanesChange has tensors of different widths in one run.
func TestLanesChange(t *testing.T) {
	c := NewCoder()
	var base, target []byte
	for i, wide := range []int{64, 320, 40, 1000} {
		w := columns(int64(i), 70_000+i*1111, wide)
		base, target = append(base, pack(F16, w.base)...), append(target, pack(F16, w.target)...)
	}
	if got := through(t, c, F16, base, target); got > len(target)*55/100 {
		t.Errorf("%d bytes took %d", len(target), got)
	}
}

// TestNoMemoryOfOthers encodes with a Coder that did something else before: the payload is the same.
func TestNoMemoryOfOthers(t *testing.T) {
	used := NewCoder()
	for _, w := range []weights{columns(1, 50_000, 96), rows(2, 50_000, 500), tune(3, 50_000, 1e-4)} {
		for _, typ := range allTypes {
			base, target := pack(typ, w.base), pack(typ, w.target)
			base, target = base[:min(len(base), len(target))], target[:min(len(base), len(target))]
			if !bytes.Equal(used.Encode(nil, typ, base, target), NewCoder().Encode(nil, typ, base, target)) {
				t.Errorf("%s: another payload from a used coder", typ)
			}
		}
	}
}

func TestCoderMemory(t *testing.T) {
	if n := unsafe.Sizeof(Coder{}); n > CoderMemory*2/3 {
		t.Errorf("a Coder has %d bytes", n)
	}
}

// TestDamage flips, cuts and lengthens payloads: errors and wrong bytes are fine, panics are not.
func TestDamage(t *testing.T) {
	c := NewCoder()
	r := rand.New(rand.NewSource(9))
	for _, typ := range allTypes {
		for _, w := range []weights{tune(1, 9000, 1e-4), columns(2, 9000, 24)} {
			base, target := pack(typ, w.base), pack(typ, w.target)
			base, target = base[:min(len(base), len(target))], target[:min(len(base), len(target))]
			enc := c.Encode(nil, typ, base, target)
			got := make([]byte, len(base))
			for i := range min(len(enc), 100) {
				bad := bytes.Clone(enc)
				bad[i] ^= byte(1 + r.Intn(255))
				_ = c.Decode(got, typ, base, bad)
				if err := c.Decode(got, typ, base, enc[:i]); err == nil && !bytes.Equal(got, target) {
					t.Fatalf("%s: cut at %d is another target without an error", typ, i)
				}
			}
			if c.Decode(got, typ, base, append(bytes.Clone(enc), 0)) == nil {
				t.Errorf("%s: a payload with one byte more is accepted", typ)
			}
		}
	}
	if c.Decode(make([]byte, 4), 200, make([]byte, 4), []byte{formEqual}) == nil {
		t.Error("an unknown type is accepted")
	}
	if c.Decode(make([]byte, 4), I8, make([]byte, 5), []byte{formEqual}) == nil {
		t.Error("a base of another length is accepted")
	}
}

func FuzzDecode(f *testing.F) {
	c := NewCoder()
	for _, typ := range allTypes {
		for _, w := range []weights{tune(1, 2200, 1e-4), columns(2, 6000, 16)} {
			base, target := pack(typ, w.base), pack(typ, w.target)
			n := min(len(base), len(target), 8192)
			f.Add(byte(typ), base[:n], c.Encode(nil, typ, base[:n], target[:n]))
		}
	}
	f.Fuzz(func(t *testing.T, typ byte, base, enc []byte) {
		got := make([]byte, len(base))
		if c.Decode(got, Type(typ), base, enc) != nil {
			return
		}
		again := make([]byte, len(base))
		if err := c.Decode(again, Type(typ), base, c.Encode(nil, Type(typ), base, got)); err != nil || !bytes.Equal(again, got) {
			t.Fatalf("a decoded target does not survive: %v", err)
		}
	})
}
