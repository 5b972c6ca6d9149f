package tensor

const (
	// guessMost is the most bytes that Guess looks at.
	guessMost = 1 << 18
	// guessLeast is the fewest elements that a guess can rest on.
	guessLeast = 512
)

// Guess tells whether a sample of a raw file is an array of bf16, fp16 or fp32 numbers, and at which byte the first whole
// element begins. It looks at the sample's first 256 KiB; samples under 2 KiB give no answer. A type is named when its
// exponents are those of weights: within a few powers of two, few zeros, few infinities, while the byte below them looks
// random. Only integers decide.
func Guess(sample []byte) (t Type, phase int, ok bool) {
	sample = sample[:min(len(sample), guessMost)]
	best := uint64(0)
	for _, typ := range []Type{F32, BF16, F16} {
		for p := range typ.Element() {
			if score, fits := guessAs(typ, sample[min(p, len(sample)):]); fits && (!ok || score < best) {
				t, phase, ok, best = typ, p, true, score
			}
		}
		if ok {
			return t, phase, true
		}
	}
	return Bytes, 0, false
}

// phaseOf returns at which byte the elements of a known type most likely begin.
func phaseOf(t Type, data []byte) int {
	best, phase := ^uint64(0), 0
	for p := 0; p < t.Element() && t.Element() > 1; p++ {
		// The middle of a file is less likely to be a header than its start.
		lo := max(0, len(data)/2-guessMost/2) / 8 * 8
		lo = min(lo+p, len(data))
		score, _ := guessAs(t, data[lo:min(lo+guessMost, len(data))])
		if score < best {
			best, phase = score, p
		}
	}
	return phase
}

// guessAs returns the entropy of the exponents in units of 1/4096 bit for each element, and whether they fit weights.
func guessAs(t Type, data []byte) (score uint64, fits bool) {
	w := t.Element()
	n := len(data) / w
	if n < guessLeast {
		return ^uint64(0), false
	}
	var exps, below, low [256]uint32
	for i := range n {
		e := data[i*w : i*w+w]
		exps[exponentOf(t, e)]++
		below[e[w-2]]++
		low[e[w/2-1]]++
	}
	score = cost(&exps) / uint64(n)
	// Values are plausible from 2^-40 to 2^12 for the wide exponents; fp16 has not the range to be picky.
	lo, hi, most := 87, 139, uint64(4<<12+1<<11)
	if t == F16 {
		lo, hi, most = 1, 29, 4<<12
	}
	inside := uint32(0)
	for e := lo; e <= hi; e++ {
		inside += exps[e]
	}
	plausible := uint64(inside)*10 >= uint64(n)*9 && exps[exponentOf(t, []byte{0, 0, 0xff, 0xff}[4-w:])] <= uint32(n)/256
	random := cost(&below)/uint64(n) >= 7<<12
	// The lower half of an fp32 is random, or zero where it was a bf16, but never another float's exponent.
	random = random && (cost(&low)/uint64(n) >= 7<<12 || t == F32 && low[0] > uint32(n)/100*99)
	return score, plausible && random && score <= most && score > 1<<11
}

// exponentOf returns the exponent of a float or, for other types, the highest byte.
func exponentOf(t Type, e []byte) byte {
	hi := e[len(e)-1]
	switch t {
	case BF16, F32:
		return hi<<1 | e[len(e)-2]>>7
	case F16:
		return hi >> 2 & 31
	}
	return hi
}
