package tensor

import "encoding/binary"

const (
	// runLength is the count of elements that share a class.
	runLength = 256
	maxRuns   = maxAtoms / runLength
	// runClasses is how many classes an encoder uses.
	runClasses = 8
	// maybeRuns16, maybeRuns32 and sureRuns are 64 times the least variance of the runs' means that is tried, or taken for
	// better untried, for the variance of an element in its run. 1 is worth about an 88th of a bit for each element.
	maybeRuns16 = 2
	maybeRuns32 = 8
	sureRuns    = 32
)

// runs holds the classes of the runs of a block.
type runs struct {
	on      bool // the block has classes
	classOf [maxRuns]byte
}

// weigh16 and weigh32 are the distances of the symbols.
var weigh16, weigh32 = weigh(&symbols16), weigh(&symbols32)

func weigh(t *[256]floatSymbol) (w [256]uint32) {
	for i := range w {
		w[i] = uint32(distance(int32(t[i].base & (1<<30 - 1))))
	}
	return w
}

// runsDiffer says whether the runs of n symbols differ by so much more than chance that classes may make the block smaller,
// and whether they surely will. It looks at a quarter of the elements, for each run in two halves: what these differ by is
// chance.
func (c *Coder) runsDiffer(t Type, n int) (maybe, surely bool) {
	w, least := &weigh16, int64(maybeRuns16)
	if t == F32 {
		w, least = &weigh32, maybeRuns32
	}
	if n < 4096 {
		return false, false
	}
	const part = runLength / 4
	count := int64(n / runLength)
	sum, square, chance := int64(0), int64(0), int64(0)
	for lo := 0; lo+runLength <= n; lo += runLength {
		a, b := int64(0), int64(0)
		for at := lo; at < lo+runLength; at += part {
			a += weight8(w, c.syms[at:at+8])
			b += weight8(w, c.syms[at+part/2:at+part/2+8])
		}
		sum += a + b
		square += (a + b) * (a + b)
		chance += (a - b) * (a - b)
	}
	// With classes of no use, the variance of the sums of all runs is that of the differences.
	more := square - sum/count*sum - chance
	return more > chance*least, more > chance*sureRuns
}

// weight8 returns the sum of the distances of eight symbols.
func weight8(w *[256]uint32, syms []byte) int64 {
	v := binary.LittleEndian.Uint64(syms)
	a := w[byte(v)] + w[byte(v>>8)] + w[byte(v>>16)] + w[byte(v>>24)]
	return int64(a + w[byte(v>>32)] + w[byte(v>>40)] + w[byte(v>>48)] + w[byte(v>>56)])
}

// classifyRuns sets the classes of n symbols.
func (c *Coder) classifyRuns(t Type, n int) {
	w := &weigh16
	if t == F32 {
		w = &weigh32
	}
	var mean [maxRuns]uint32
	least, most := ^uint32(0), uint32(0)
	count := (n + runLength - 1) / runLength
	for r := range count {
		part := c.syms[r*runLength : min(n, (r+1)*runLength)]
		sum, k := int64(0), 0
		for ; k+8 <= len(part); k += 8 {
			sum += weight8(w, part[k:k+8])
		}
		for _, s := range part[k:] {
			sum += int64(w[s])
		}
		mean[r] = uint32(sum / int64(len(part)))
		least, most = min(least, mean[r]), max(most, mean[r])
	}
	for r, m := range mean[:count] {
		c.classOf[r] = byte(uint64(m-least) * runClasses / uint64(most-least+1))
	}
}

// runKeys adds the classes to the keys of n elements, which are exponents: 16 of them from low on have keys of their own.
func (c *Coder) runKeys(n int, low byte) {
	step := exponentSteps(low)
	for lo := 0; lo < n; lo += runLength {
		class := c.classOf[lo/runLength] << 4
		keys := c.keys[lo:min(n, lo+runLength)]
		for i, k := range keys {
			keys[i] = class | step[k]
		}
	}
}

// encodeRuns appends what follows the form of a block with classes of runs. Keys, symbols and low bits are set.
func (c *Coder) encodeRuns(dst []byte, t Type, n int, bits uint64) []byte {
	c.classifyRuns(t, n)
	dst = c.bitStream(dst, bits)
	most := byte(0)
	for _, k := range c.keys[:n] {
		most = max(most, k)
	}
	low := max(most, 15) - 15
	dst = append(dst, low)
	count := (n + runLength - 1) / runLength
	var hist [256]uint32
	countSymbols(&hist, c.classOf[:count])
	dst = c.entropy.encode(dst, c.classOf[:count], &hist)
	c.runKeys(n, low)
	return c.sorter.encode(dst, n)
}

// decodeKeyed reads n symbols, whose keys are exponents, with the classes if the block has them.
func (c *Coder) decodeKeyed(p []byte, n int) ([]byte, error) {
	if !c.on {
		return c.sorter.decode(p, n)
	}
	if len(p) == 0 {
		return nil, errCorrupt
	}
	low := p[0]
	p, err := c.entropy.decode(c.classOf[:(n+runLength-1)/runLength], p[1:])
	if err != nil {
		return nil, err
	}
	c.runKeys(n, low)
	return c.sorter.decode(p, n)
}
