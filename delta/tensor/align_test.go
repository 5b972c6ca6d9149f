package tensor

import (
	"bytes"
	"math/rand"
	"testing"
)

// covered returns how many bytes of target the spans pair with the bytes they came from, and checks what Align promises.
// from gives the place in the base for a place in the target, or -1.
func covered(t *testing.T, spans []Span, base, target []byte, from func(at int64) int64) int64 {
	t.Helper()
	at, right := int64(0), int64(0)
	for _, s := range spans {
		if s.New < at || s.Len <= 0 || s.Old < 0 || s.Old+s.Len > int64(len(base)) || s.New+s.Len > int64(len(target)) {
			t.Fatalf("bad span %v after %d", s, at)
		}
		at = s.New + s.Len
		for i := int64(0); i < s.Len; i += 64 {
			if from(s.New+i) == s.Old+i {
				right += min(64, s.Len-i)
			}
		}
	}
	return right
}

func TestAlignReordered(t *testing.T) {
	for _, typ := range []Type{BF16, F16, F32, I8} {
		w := tune(11, 1<<17, 1e-3)
		base, tuned := pack(typ, w.base), pack(typ, w.target)
		n := int64(len(base))
		// Four parts in another order, with strange weights between the second and the third, and a head of odd length.
		head, gap := []byte("header!"), pack(typ, tune(12, 5000, 0).base)
		cuts := []int64{0, n / 8, n / 2, n * 3 / 4, n}
		var target []byte
		target = append(target, head...)
		var olds []int64
		note := func(p []byte, old int64) {
			for i := range p {
				at := old
				if old >= 0 {
					at += int64(i)
				}
				olds = append(olds, at)
			}
			target = append(target, p...)
		}
		for range head {
			olds = append(olds, -1)
		}
		note(tuned[cuts[2]:cuts[3]], cuts[2])
		note(tuned[cuts[0]:cuts[1]], cuts[0])
		note(gap, -1)
		note(tuned[cuts[3]:cuts[4]], cuts[3])
		note(tuned[cuts[1]:cuts[2]], cuts[1])
		spans := Align(base, target, typ)
		got := covered(t, spans, base, target, func(at int64) int64 { return olds[at] })
		if got < n*98/100 {
			t.Errorf("%s: %d of %d bytes aligned with %d spans", typ, got, n, len(spans))
		}
		if len(spans) > 12 {
			t.Errorf("%s: %d spans for 4 parts", typ, len(spans))
		}
	}
}

func TestAlignStrangers(t *testing.T) {
	a, b := pack(F16, tune(1, 1<<16, 0).base), pack(F16, tune(2, 1<<16, 0).base)
	if spans := Align(a, b, F16); len(spans) != 0 {
		t.Errorf("strangers align: %v", spans)
	}
	for _, p := range [][]byte{nil, {1}, make([]byte, 100), make([]byte, 1<<16)} {
		for _, typ := range allTypes {
			covered(t, Align(p, b, typ), p, b, func(int64) int64 { return -1 })
			covered(t, Align(b, p, typ), b, p, func(int64) int64 { return -1 })
			covered(t, Align(p, p, typ), p, p, func(int64) int64 { return -1 })
		}
	}
}

func TestGuess(t *testing.T) {
	w := tune(5, 1<<15, 0).base
	for _, typ := range []Type{BF16, F16, F32} {
		for skip := range typ.Element() {
			sample := pack(typ, w)[skip:]
			got, phase, ok := Guess(sample)
			if want := (typ.Element() - skip) % typ.Element(); !ok || got != typ || phase != want {
				t.Errorf("%s from byte %d: got %s, phase %d, %v; want phase %d", typ, skip, got, phase, ok, want)
			}
		}
	}
	random, sound := make([]byte, 1<<16), make([]byte, 0, 1<<16)
	r := rand.New(rand.NewSource(1))
	r.Read(random)
	for range 1 << 15 {
		v := int16(r.NormFloat64() * 900)
		sound = append(sound, byte(v), byte(v>>8))
	}
	for name, sample := range map[string][]byte{
		"nothing": nil, "short": random[:100], "random": random, "zeros": make([]byte, 1<<16), "sound": sound,
		"text":     bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog. "), 1000),
		"quants":   pack(Q4_0, w),
		"int8":     pack(I8, w),
		"integers": pack(I32, w),
	} {
		if got, _, ok := Guess(sample); ok {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

func BenchmarkAlign(b *testing.B) {
	w := tune(3, 1<<20, 1e-4)
	base, target := pack(BF16, w.base), pack(BF16, w.target)
	target = append(target[1<<20:], target[:1<<20]...)
	b.SetBytes(int64(len(target)))
	for b.Loop() {
		Align(base, target, BF16)
	}
}

// TestAlignNoisy has parts of many lengths in another order, trained so far that one sign in seven changed; with the
// fingerprints of small and of large bases.
func TestAlignNoisy(t *testing.T) {
	w := tune(11, 1<<18, 0.01)
	base, tuned := pack(F16, w.base), pack(F16, w.target)
	r := rand.New(rand.NewSource(5))
	var parts [][2]int
	for at := 0; at < 1<<18; {
		n := min(64<<r.Intn(10)+r.Intn(64), 1<<18-at)
		parts = append(parts, [2]int{at, at + n})
		at += n
	}
	r.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	var target []byte
	var olds []int64
	for _, p := range parts {
		target = append(target, tuned[2*p[0]:2*p[1]]...)
		for i := 2 * p[0]; i < 2*p[1]; i++ {
			olds = append(olds, int64(i))
		}
	}
	for _, x := range []struct{ window, step, least int }{{24, 16, 90}, {32, 32, 50}} {
		a := newAligner(base, target, F16)
		a.window, a.step = x.window, x.step
		a.index()
		a.search()
		spans := a.spans
		for i, s := range spans {
			spans[i] = Span{2 * s.New, 2 * s.Old, 2 * s.Len}
		}
		got := covered(t, spans, base, target, func(at int64) int64 { return olds[at] })
		if got*100 < int64(len(target)*x.least) {
			t.Errorf("%d signs every %d: %d of %d bytes aligned", x.window, x.step, got, len(target))
		}
		t.Logf("%d signs every %d: %d of %d bytes, %d parts, %d spans", x.window, x.step, got, len(target), len(parts), len(spans))
	}
}
