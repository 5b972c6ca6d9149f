package tensor

const (
	// runLength is the count of elements that share a class.
	runLength = 256
	maxRuns   = maxAtoms / runLength
	// runClasses is how many classes an encoder uses; runSpread is the least range of mean distances that it tries.
	runClasses = 8
	runSpread  = 3 << 10
)

// runs holds the classes of the runs of a block.
type runs struct {
	on      bool // the block has classes
	bitsLen uint64
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

// classifyRuns sets the classes of n symbols. It reports whether they differ enough to be worth a try.
func (c *Coder) classifyRuns(t Type, n int) bool {
	w := &weigh16
	if t == F32 {
		w = &weigh32
	}
	var mean [maxRuns]uint32
	least, most := ^uint32(0), uint32(0)
	count := (n + runLength - 1) / runLength
	for r := range count {
		part := c.syms[r*runLength : min(n, (r+1)*runLength)]
		sum := uint64(0)
		for _, s := range part {
			sum += uint64(w[s])
		}
		mean[r] = uint32(sum / uint64(len(part)))
		least, most = min(least, mean[r]), max(most, mean[r])
	}
	if most-least < runSpread {
		return false
	}
	for r, m := range mean[:count] {
		c.classOf[r] = byte(uint64(m-least) * runClasses / uint64(most-least+1))
	}
	return true
}

// runKeys adds the classes to the keys of n elements, which are exponents: 16 of them from low on have keys of their own.
func (c *Coder) runKeys(n int, low byte) {
	for lo := 0; lo < n; lo += runLength {
		class := c.classOf[lo/runLength] << 4
		keys := c.keys[lo:min(n, lo+runLength)]
		for i, k := range keys {
			keys[i] = class | byte(max(0, min(15, int(k)-int(low))))
		}
	}
}

// encodeRuns appends a block with classes of runs, if that is worth a try. encodeDiff has set keys, symbols and low bits.
func (c *Coder) encodeRuns(dst []byte, t Type, b *block) ([]byte, bool) {
	n := b.size / t.Element()
	if n < 4096 || !c.classifyRuns(t, n) {
		return dst, false
	}
	dst = c.bitStream(short(dst, blockRuns, t, b), c.bitsLen)
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
	return c.sorter.encode(dst, n), true
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
