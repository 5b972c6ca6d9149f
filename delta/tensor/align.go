package tensor

import (
	"bytes"
	"math/bits"
)

// A Span says that Len bytes at New in the target are a changed version of those at Old in the base.
type Span struct{ New, Old, Len int64 }

const (
	// alignWindow is the most consecutive signs that make a fingerprint, and the largest step of the index.
	alignWindow = 32
	// alignSmall is the count of base elements up to which a fingerprint has 24 signs and the step is 16: more of them
	// survive, and there are few enough to make false candidates rare.
	alignSmall = 1 << 24
	// alignChunk is the count of elements that are judged at once when a match grows.
	alignChunk = 64
	// alignCheck is the count of elements whose signs are compared before a candidate is believed.
	alignCheck = 256
	// alignSigns is how many of alignCheck signs must agree; chance gives 128, with a deviation of 8.
	alignSigns = 176
	// alignTries is how many candidates one place of the target may have.
	alignTries = 2
)

// Align finds which parts of target are changed versions of parts of base where no names help: renamed, reordered or
// resharded tensors, and raw files. t is a type of numbers of at most 4 bytes; others give nothing. The spans are sorted by
// New and disjoint; Old may repeat. They begin on whole elements, of which the phase is guessed for each side.
//
// Weights that were trained further keep most of their signs. Runs of 32 signs of the base are indexed at every 32nd element
// (24 and 16th for up to 2^24 elements) and looked up at every element of the target; a candidate is checked on 256 signs, then grows both ways while signs and
// magnitudes agree. Memory is about a sixteenth of both inputs and 4 to 8 bytes for each step of the index.
func Align(base, target []byte, t Type) []Span {
	w := t.Element()
	if w == 0 || w > 4 || t == Bytes {
		return nil
	}
	pb, pt := phaseOf(t, base), phaseOf(t, target)
	if len(base) < pb || len(target) < pt {
		return nil
	}
	a := newAligner(base[pb:], target[pt:], t)
	if a.nb < alignCheck || a.nt < alignCheck || uint64(a.nb) > 1<<36 {
		return nil
	}
	a.index()
	a.search()
	for i := range a.spans {
		s := &a.spans[i]
		s.New = s.New*int64(w) + int64(pt)
		s.Old = s.Old*int64(w) + int64(pb)
		s.Len *= int64(w)
	}
	return a.spans
}

// An aligner works in elements.
type aligner struct {
	base, target []byte
	w            int
	nb, nt       int
	window, step int
	exp          exponentRule
	sb, st       []uint64 // signs, one bit for each element, and two words of padding
	table        []uint32 // by hash of a window: its number in the base, plus 1
	shift        uint
	spans        []Span
}

// An exponentRule finds the part of an element's highest two bytes that tells its magnitude.
type exponentRule struct{ shift, near uint16 }

func newAligner(base, target []byte, t Type) *aligner {
	w := t.Element()
	a := &aligner{base: base, target: target, w: w, nb: len(base) / w, nt: len(target) / w}
	a.window, a.step = alignWindow, alignWindow
	if a.nb <= alignSmall {
		a.window, a.step = 24, 16
	}
	switch t {
	case F16:
		a.exp = exponentRule{10, 1}
	case BF16, F32:
		a.exp = exponentRule{7, 1}
	default:
		a.exp = exponentRule{15, 1}
	}
	a.sb, a.st = signs(base, w), signs(target, w)
	return a
}

// signs packs the highest bit of each element.
func signs(data []byte, w int) []uint64 {
	n := len(data) / w
	out := make([]uint64, n/64+3)
	for i := range out[:n/64] {
		v := uint64(0)
		p := data[i*64*w : (i+1)*64*w]
		for k := w - 1; k < len(p); k += w {
			v = v>>1 | uint64(p[k]&0x80)<<56
		}
		out[i] = v
	}
	for i := n / 64 * 64; i < n; i++ {
		out[i/64] |= uint64(data[i*w+w-1]>>7) << (i % 64)
	}
	return out
}

// bitsAt returns 64 signs from element i on.
func bitsAt(s []uint64, i int) uint64 {
	return s[i>>6]>>(i&63) | s[i>>6+1]<<1<<(63-i&63)
}

// telling reports whether a window has enough of both signs to be a fingerprint.
func (a *aligner) telling(v uint32) bool {
	n := bits.OnesCount32(v)
	return n >= a.window/5 && n <= a.window-a.window/5
}

// print returns the fingerprint of the signs from element i on.
func (a *aligner) print(s []uint64, i int) uint32 {
	return uint32(bitsAt(s, i)) & (1<<a.window - 1)
}

func (a *aligner) hash(v uint32) uint32 { return v * 2654435761 >> a.shift }

func (a *aligner) index() {
	n := (a.nb-a.window)/a.step + 1
	log := min(uint(bits.Len(uint(n))), 31)
	a.shift = 32 - log
	a.table = make([]uint32, 1<<log)
	for i := range n {
		v := a.print(a.sb, i*a.step)
		if !a.telling(v) {
			continue
		}
		h := a.hash(v)
		if a.table[h] != 0 {
			h ^= 1
		}
		if a.table[h] == 0 {
			a.table[h] = uint32(i + 1)
		}
	}
}

// search walks over the target.
func (a *aligner) search() {
	done := 0
	for i := 0; i+a.window <= a.nt; i++ {
		v := a.print(a.st, i)
		if !a.telling(v) {
			continue
		}
		h := a.hash(v)
		for try := range uint32(alignTries) {
			j := (int(a.table[h^try]) - 1) * a.step
			if j < 0 || a.print(a.sb, j) != v || !a.check(i, j) {
				continue
			}
			lo, hi := a.grow(i, j, done)
			if hi-lo >= 2*alignChunk {
				a.add(lo, lo+j-i, hi-lo)
				done, i = hi, hi-1
				break
			}
		}
	}
}

// add notes a span, as part of the one before if it goes on there after a gap of equal length on both sides.
func (a *aligner) add(at, old, n int) {
	if k := len(a.spans); k > 0 {
		s := &a.spans[k-1]
		gap := at - int(s.New+s.Len)
		if old-int(s.Old+s.Len) == gap && gap <= 4*alignChunk {
			s.Len = int64(at+n) - s.New
			return
		}
	}
	a.spans = append(a.spans, Span{int64(at), int64(old), int64(n)})
}

// check compares the signs around the candidate.
func (a *aligner) check(i, j int) bool {
	back := min(i, j, alignCheck/2)
	i, j = i-back, j-back
	n := min(a.nt-i, a.nb-j, alignCheck)
	same := 0
	for k := 0; k+64 <= n; k += 64 {
		same += 64 - bits.OnesCount64(bitsAt(a.st, i+k)^bitsAt(a.sb, j+k))
	}
	return n >= alignCheck/2 && same*alignCheck >= alignSigns*(n&^63)
}

// near reports whether element i of the target can be a changed version of element j of the base.
func (a *aligner) near(i, j int) bool {
	x, y := a.top(a.target, i), a.top(a.base, j)
	if (x^y)&0x8000 != 0 {
		return false
	}
	d := int(x>>a.exp.shift) - int(y>>a.exp.shift)
	return d >= -1 && d <= 1
}

// top returns the highest two bytes of an element.
func (a *aligner) top(data []byte, i int) uint16 {
	e := data[i*a.w : i*a.w+a.w]
	if a.w == 1 {
		return uint16(e[0]) << 8
	}
	return uint16(e[a.w-2]) | uint16(e[a.w-1])<<8
}

// grow extends the match of target element i with base element j both ways. lo is not less than low.
func (a *aligner) grow(i, j, low int) (lo, hi int) {
	hi = i
	for n := min(a.nt-i, a.nb-j); hi < i+n; {
		step := min(alignChunk, i+n-hi)
		good, all := a.prefix(hi, j+hi-i, step, 1)
		hi += good
		if !all {
			break
		}
	}
	lo = i
	for n := min(i-low, j); lo > i-n; {
		step := min(alignChunk, lo-(i-n))
		good, all := a.prefix(lo-1, j+lo-1-i, step, -1)
		lo -= good
		if !all {
			break
		}
	}
	return lo, hi
}

// prefix returns how many of n elements, in the direction dir, belong to the match, and whether all of them do.
func (a *aligner) prefix(i, j, n, dir int) (good int, all bool) {
	if dir > 0 && bytes.Equal(a.target[i*a.w:(i+n)*a.w], a.base[j*a.w:(j+n)*a.w]) {
		return n, true
	}
	score, best := 0, 0
	for k := range n {
		if a.near(i+k*dir, j+k*dir) {
			score++
		} else {
			score--
		}
		if score > best {
			good, best = k+1, score
		}
	}
	if score > 0 {
		return n, true
	}
	return good, false
}
