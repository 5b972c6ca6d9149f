package tensor

import (
	"encoding/binary"
	"math/bits"
)

const (
	// maxLanes is the most lanes of one model.
	maxLanes = 4096
	// laneUnit is the fraction of a lane's factor: 1 + factor/laneUnit.
	laneUnit = 12
	// evenNoise is the row class that changes nothing.
	evenNoise = 8
	// laneCut is the step in which the start of a period is looked for.
	laneCut = 1 << 15
	// maxCuts bounds the blocks of one call that are looked at in full and then made shorter.
	maxCuts = 16
)

// A laneModel tells how the lanes of a tensor changed as a whole. Element i of the tensor is in lane i/run modulo the count of
// lanes: the columns of a matrix if run is 1, its rows or parts of them if run is larger.
// Layers whose normalisation was folded into their weights have a factor for each
// output; and lanes that were trained more have larger differences.
type laneModel struct {
	lanes int // 0: no model
	run   int
	phase int // the next element, modulo lanes*run
	// factors says that target elements are about base elements times 1+factor/4096; noise is the class of the distance.
	factors [maxLanes]int16
	noise   [maxLanes]byte
	rows    [maxAtoms]byte // classes of the rows of one block, evenNoise is neutral
}

// A lanes is the scratch memory of blocks with a model.
type lanes struct {
	laneModel
	x, y    [maxAtoms]uint32 // base, target
	factor  [maxAtoms]int16  // of each element
	fitting laneFit
	misses  int  // blocks of the call that had no period
	cuts    int  // blocks of the call that were made shorter
	fresh   bool // the model is not written yet
}

// floatRule describes a float type for the lane arithmetic.
type floatRule struct {
	width    uint // bits
	mantissa uint
	symbols  *[256]floatSymbol
	direct   uint32
}

func ruleOf(t Type) floatRule {
	switch t {
	case BF16:
		return floatRule{16, 7, &symbols16, direct16}
	case F16:
		return floatRule{16, 10, &symbols16, direct16}
	}
	return floatRule{32, 23, &symbols32, direct32}
}

// load unpacks elements of 2 or 4 bytes.
func load(dst []uint32, t Type, src []byte) {
	if t == F32 {
		for i := range dst {
			dst[i] = binary.LittleEndian.Uint32(src[4*i : 4*i+4])
		}
		return
	}
	i := 0
	for ; i+4 <= len(dst); i += 4 {
		d, v := dst[i:i+4], binary.LittleEndian.Uint64(src[2*i:2*i+8])
		d[0], d[1], d[2], d[3] = uint32(v)&0xffff, uint32(v)>>16, uint32(v>>32)&0xffff, uint32(v>>48)
	}
	for ; i < len(dst); i++ {
		dst[i] = uint32(binary.LittleEndian.Uint16(src[2*i : 2*i+2]))
	}
}

// store is the inverse of load.
func store(dst []byte, t Type, src []uint32) {
	if t == F32 {
		for i, v := range src {
			binary.LittleEndian.PutUint32(dst[4*i:4*i+4], v)
		}
		return
	}
	i := 0
	for ; i+4 <= len(src); i += 4 {
		s := src[i : i+4]
		v := uint64(s[0]&0xffff|s[1]<<16) | uint64(s[2]&0xffff|s[3]<<16)<<32
		binary.LittleEndian.PutUint64(dst[2*i:2*i+8], v)
	}
	for ; i < len(src); i++ {
		binary.LittleEndian.PutUint16(dst[2*i:2*i+2], uint16(src[i]))
	}
}

// predict returns what a base element without its sign becomes times 1+factor/4096. The product is exact but for rounding
// while it stays within a factor of two.
func (f floatRule) predict(mag uint32, factor int16) uint32 {
	one := int64(1) << (f.mantissa & 31)
	sig := int64(mag) & (one - 1)
	if mag < uint32(one) {
		return mag + uint32(sig*int64(factor)>>laneUnit)
	}
	sig |= one
	d := sig * int64(factor) >> laneUnit
	// Beyond the next power of two steps are twice as long, below the last one half as long.
	return mag + uint32(d+-max(0, sig+d-2*one)>>1-max(0, one-sig-d))
}

// difference returns the signed difference of the target element from the prediction, positive away from zero. Signs are
// taken off as target4 does.
func (f floatRule) difference(x, y uint32, factor int16) int32 {
	top := uint32(1) << ((f.width - 1) & 31)
	sign := x & top
	y ^= sign
	d := (y ^ -(y>>((f.width-1)&31))&(top-1)) - f.predict(x^sign, factor)
	return int32(d<<((32-f.width)&31)) >> ((32 - f.width) & 31)
}

// rowsIn returns how many rows n elements touch that begin at the model's phase. A row is once through all lanes.
func (m *laneModel) rowsIn(n int) int { return (m.phase + n + m.lanes*m.run - 1) / (m.lanes * m.run) }

// walk calls do for each stretch of n elements that is in one row and, if run is not 1, in one lane; if it is 1, each
// element is a lane further than the one before.
func (m *laneModel) walk(n int, do func(lo, hi, lane, row int)) {
	at, all := m.phase, m.lanes*m.run
	for lo, row := 0, 0; lo < n; {
		end := all - at
		if m.run > 1 {
			end = m.run - at%m.run
		}
		hi := min(n, lo+end)
		do(lo, hi, at/m.run, row)
		at += hi - lo
		lo = hi
		if at == all {
			at = 0
			row++
		}
	}
}

// advance moves the phase over n elements.
func (m *laneModel) advance(n int) { m.phase = (m.phase + n) % (m.lanes * m.run) }

// expand sets the factor of each of n elements and its noise class, shifted by four, as its key.
func (c *Coder) expand(n int) {
	m := &c.lanes.laneModel
	if m.run > 1 {
		m.walk(n, func(lo, hi, lane, row int) {
			k := noiseKey(m.noise[lane], m.rows[row])
			for i := lo; i < hi; i++ {
				c.factor[i], c.keys[i] = m.factors[lane], k
			}
		})
		return
	}
	lane := m.phase
	for i, row := 0, 0; i < n; row++ {
		k := copy(c.factor[i:n], m.factors[lane:m.lanes])
		keys := c.keys[i : i+k]
		for j, q := range m.noise[lane : lane+k] {
			keys[j] = noiseKey(q, m.rows[row])
		}
		i, lane = i+k, 0
	}
}

// noiseKey joins the classes of a lane and a row.
func noiseKey(lane, row byte) byte { return noiseKeys[int(lane)+int(row)] }

var noiseKeys = makeNoiseKeys()

func makeNoiseKeys() (k [511]byte) {
	for i := range k {
		k[i] = byte(max(0, min(15, i-evenNoise))) << 4
	}
	return k
}

// exponentSteps returns the part of the key that each exponent is: 16 steps from low on.
func exponentSteps(low byte) (step [256]byte) {
	for e := range step {
		step[e] = byte(max(0, min(15, e-int(low))))
	}
	return step
}

// exponentKeys completes the keys with 16 steps of the base's exponent from low on.
func (c *Coder) exponentKeys(n int, f floatRule, low byte) {
	step := exponentSteps(low)
	mask := uint32(1)<<(f.width-1) - 1
	keys := c.keys[:n]
	for i, x := range c.x[:n] {
		keys[i] |= step[byte(x&mask>>(f.mantissa&31))]
	}
}

// appendModel writes the lanes' factors and classes.
func (c *Coder) appendModel(dst []byte) []byte {
	m := &c.lanes.laneModel
	dst = binary.AppendUvarint(dst, uint64(m.lanes))
	dst = binary.AppendUvarint(dst, uint64(m.run))
	for shift := 0; shift < 16; shift += 8 {
		for i, v := range m.factors[:m.lanes] {
			c.syms[i] = byte(uint16(v<<1^v>>15) >> shift)
		}
		dst = c.encodeOne(dst, m.lanes)
	}
	copy(c.syms[:], m.noise[:m.lanes])
	return c.encodeOne(dst, m.lanes)
}

// readModel reads what appendModel wrote.
func (c *Coder) readModel(p []byte) ([]byte, error) {
	m := &c.lanes.laneModel
	n, k := binary.Uvarint(p)
	if k <= 0 || n == 0 || n > maxLanes {
		return nil, errCorrupt
	}
	p = p[k:]
	run, k := binary.Uvarint(p)
	if k <= 0 || run == 0 || run > maxAtoms {
		return nil, errCorrupt
	}
	p = p[k:]
	m.lanes, m.run, m.phase = int(n), int(run), 0
	var err error
	clear(m.factors[:n])
	for shift := 0; shift < 16; shift += 8 {
		if p, err = c.entropy.decode(c.syms[:n], p); err != nil {
			return nil, err
		}
		for i, s := range c.syms[:n] {
			m.factors[i] |= int16(uint16(s) << shift)
		}
	}
	for i, v := range m.factors[:n] {
		m.factors[i] = int16(uint16(v)>>1) ^ -(v & 1)
	}
	return c.entropy.decode(m.noise[:n], p)
}

// encodeLanes appends a block with the model. c.x is set, rateRows has set the classes of the rows, and c.y to differences.
func (c *Coder) encodeLanes(dst []byte, t Type, n int) []byte {
	f := ruleOf(t)
	rows := c.rowsIn(n)
	copy(c.syms[:rows], c.rows[:rows])
	dst = c.encodeOne(dst, rows)
	low := c.lowExponent(n, f)
	dst = append(dst, low)
	c.expand(n)
	c.exponentKeys(n, f, low)
	c.advance(n)
	dst = c.bitStream(dst, c.laneSymbols(n, f.direct))
	return c.sorter.encode(dst, n)
}

// laneSymbols sets the symbols and low bits of n differences in c.y.
func (c *Coder) laneSymbols(n int, direct uint32) (count uint64) {
	syms := c.syms[:n]
	acc, have, at := uint64(0), uint32(0), 0
	first := uint32(bits.Len32(direct))
	for i, d := range c.y[:n] {
		neg := d >> 31
		m := (d ^ -neg) + neg
		if z := 2*m - neg; z < direct {
			syms[i] = byte(z)
			continue
		}
		// As in symbols32, but for another p.
		low := uint32(bits.Len32(m)-3) & 31
		syms[i] = byte(direct + 8*(low+3-first) + 2*(m>>low) + neg)
		acc |= uint64(m&(1<<low-1)) << (have & 7)
		have += low
		binary.LittleEndian.PutUint64(c.bits[at:], acc)
		at += int(have >> 3)
		acc >>= have & 56
		have &= 7
	}
	return uint64(at)*8 + uint64(have)
}

func (c *Coder) decodeLanes(dst []byte, t Type, base, p []byte) (rest []byte, err error) {
	f := ruleOf(t)
	n := len(base) / t.Element()
	if c.lanes.lanes == 0 {
		return nil, errCorrupt
	}
	rows := c.rowsIn(n)
	if p, err = c.entropy.decode(c.rows[:rows], p); err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return nil, errCorrupt
	}
	low := p[0]
	load(c.x[:n], t, base)
	c.expand(n)
	c.exponentKeys(n, f, low)
	c.advance(n)
	total, p, err := c.readBits(p[1:])
	if err != nil {
		return nil, err
	}
	if p, err = c.sorter.decode(p, n); err != nil {
		return nil, err
	}
	at := c.laneValues(n, f)
	if at != total {
		return nil, errCorrupt
	}
	store(dst, t, c.y[:n])
	return p, nil
}

// laneValues sets c.y to the elements that n symbols and c.x make, and returns the count of low bits.
func (c *Coder) laneValues(n int, f floatRule) (at uint64) {
	top := uint32(1) << ((f.width - 1) & 31)
	factors, syms, out := c.factor[:n], c.syms[:n], c.y[:n]
	for i, x := range c.x[:n] {
		s := &f.symbols[syms[i]]
		low := uint32(binary.LittleEndian.Uint64(c.bits[at>>3:])>>(at&7)) & s.mask
		at += uint64(s.bits)
		sign := x & top
		y := f.predict(x^sign, factors[i]) + (s.base + low ^ s.neg) - s.neg
		out[i] = y ^ -(y>>((f.width-1)&31)&1)&(top-1) ^ sign
	}
	return at
}

func hasLanes(t Type) bool { return t == BF16 || t == F16 || t == F32 }

// encodeLong replaces the block from start on if a model of lanes makes it smaller, for a part of it at least.
func (c *Coder) encodeLong(dst []byte, start int, t Type, b *block) []byte {
	n := b.size / t.Element()
	load(c.x[:n], t, b.base)
	load(c.y[:n], t, b.target)
	c.direct(n, ruleOf(t))
	if c.lanes.lanes > 0 && c.run == 1 {
		if size := c.extent(n, c.lanes.lanes, 0); size > 0 {
			if out, ok := c.replace(dst, start, t, b, size); ok {
				return out
			}
		}
	}
	period, run := c.period(0, n)
	if period == 0 {
		return c.cutBlock(dst, start, t, b)
	}
	size, whole := n, b.size
	if run == 1 {
		if size = c.extent(n, period, laneChunk); size == 0 {
			return dst
		}
		// Two blocks say enough of what follows.
		if whole = size * t.Element(); size == n {
			whole = min(len(b.base), 2*blockBytes(t))
		}
	}
	c.lanes.lanes, c.run, c.phase = period, run, 0
	c.fit(t, b.base[:whole], b.target[:whole])
	c.fresh = true
	load(c.x[:n], t, b.base)
	load(c.y[:n], t, b.target)
	out, ok := c.replace(dst, start, t, b, size)
	if !ok {
		c.lanes.lanes = 0
		return c.cutBlock(dst, start, t, b)
	}
	return out
}

// replace puts a block of size elements with the model in the place of the one from start on, if it is smaller for its size.
func (c *Coder) replace(dst []byte, start int, t Type, b *block, size int) (out []byte, ok bool) {
	part := *b
	part.size = size * t.Element()
	phase := c.phase
	if c.fresh {
		c.trial = c.appendModel(short(c.trial[:0], blockLanes, t, &part))
	} else {
		c.trial = short(c.trial[:0], blockAgain, t, &part)
	}
	c.fresh = false
	c.rateRows(size, ruleOf(t))
	c.trial = c.encodeLanes(c.trial, t, size)
	if len(c.trial) >= (len(dst)-start)*part.size/b.size {
		c.phase = phase
		return dst, false
	}
	*b = part
	c.misses = 0
	return append(dst[:start], c.trial...), true
}

// cutBlock shortens a block that has no period at its start if one begins later.
func (c *Coder) cutBlock(dst []byte, start int, t Type, b *block) []byte {
	n := b.size / t.Element()
	for at := laneCut; at+laneCut <= n; at += laneCut {
		if period, _ := c.period(at, n); period > 0 {
			b.size = at * t.Element()
			return c.encodeAlone(dst[:start], t, b)
		}
	}
	c.misses++
	return dst
}
