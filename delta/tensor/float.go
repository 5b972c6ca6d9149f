package tensor

import (
	"encoding/binary"
	"math/bits"
)

// A float is a symbol for its difference: small ones have a symbol each, large ones share it with all that agree in sign,
// length and the two bits below the highest; the bits below those are stored as they are.
type floatSymbol struct {
	base uint32 // smallest absolute difference
	neg  uint32 // all ones for a negative difference
	bits uint32 // stored low bits
	mask uint32
}

const (
	direct16 = 32
	direct32 = 16
)

var (
	symbols16 = makeSymbols(direct16, 15)
	symbols32 = makeSymbols(direct32, 31)
	// symbolOf16 is the symbol of each zigzag difference.
	symbolOf16 = makeSymbolOf16()
)

func makeSymbols(direct, top int) (t [256]floatSymbol) {
	n := 0
	for ; n < direct; n++ {
		t[n] = floatSymbol{base: uint32(n+1) >> 1, neg: -uint32(n & 1)}
	}
	for o := bits.Len(uint(direct)) - 2; o <= top; o++ {
		for sub := range uint32(4) {
			for neg := range uint32(2) {
				low := uint32(o - 2)
				t[n] = floatSymbol{base: (4 + sub) << low, neg: -neg, bits: low, mask: 1<<low - 1}
				n++
			}
		}
	}
	return t
}

// symbolOf returns the symbol for the zigzag of a difference, and its absolute value.
func symbolOf(z uint64, direct uint32) (sym byte, m uint32) {
	m = uint32((z + 1) >> 1)
	if z < uint64(direct) {
		return byte(z), m
	}
	o := uint32(bits.Len32(m)) - 1
	first := uint32(bits.Len32(direct)) - 2
	return byte(direct + ((o-first)*4+m>>(o-2)&3)*2 + uint32(z&1)), m
}

func makeSymbolOf16() (t [1 << 16]byte) {
	for z := range t {
		t[z], _ = symbolOf(uint64(z), direct16)
	}
	return t
}

// exponents16 returns where the exponent begins in a 16-bit float, and its mask.
func exponents16(t Type) (shift uint, mask uint16) {
	if t == F16 {
		return 10, 31
	}
	return 7, 255
}

// encodeFloat16 codes four elements at a time. Where all four differences have symbols of their own, the symbols are the
// differences and there are no low bits.
func (c *Coder) encodeFloat16(dst []byte, t Type, base, target []byte) []byte {
	n := len(base) / 2
	w := bitWriter{out: c.bits[:]}
	shift, mask := exponents16(t)
	mask4 := uint64(mask) * ones
	i := 0
	for ; i+4 <= n; i += 4 {
		x, y := binary.LittleEndian.Uint64(base[2*i:]), binary.LittleEndian.Uint64(target[2*i:])
		binary.LittleEndian.PutUint32(c.keys[i:], narrow(x>>(shift&15)&mask4))
		// The calls that difference4 makes are spelt out, for it is too long to be inlined.
		signs := spreadTops(x)
		z := zigzag4(subLanes(ordered4(y, spreadTops(y)), ordered4(x, signs)), signs)
		if z&beyond == 0 {
			binary.LittleEndian.PutUint32(c.syms[i:], narrow(z))
			continue
		}
		for k := range 4 {
			c.symbol(i+k, uint16(z>>(16*k)), &w)
		}
	}
	for ; i < n; i++ {
		x, y := binary.LittleEndian.Uint16(base[2*i:]), binary.LittleEndian.Uint16(target[2*i:])
		c.keys[i] = byte(x >> (shift & 15) & mask)
		c.symbol(i, uint16(difference4(uint64(x), uint64(y))), &w)
	}
	dst = c.bitStream(dst, w.count())
	return c.sorter.encode(dst, n)
}

// symbol sets the symbol of element i from its zigzag difference and writes the low bits.
func (c *Coder) symbol(i int, z uint16, w *bitWriter) {
	s := symbolOf16[z]
	c.syms[i] = s
	f := &symbols16[s]
	w.put((uint32(z)+1)>>1&f.mask, f.bits)
}

func (c *Coder) decodeFloat16(dst []byte, t Type, base, p []byte) ([]byte, error) {
	n := len(base) / 2
	total, p, err := c.readBits(p)
	if err != nil {
		return nil, err
	}
	c.exponents(t, base)
	if p, err = c.decodeKeyed(p, n); err != nil {
		return nil, err
	}
	at, i := uint64(0), 0
	for ; i+4 <= n; i += 4 {
		s := binary.LittleEndian.Uint32(c.syms[i:])
		z := widen(s)
		if s&0xe0e0e0e0 != 0 {
			z, at = c.differences4(s, at)
		}
		x := binary.LittleEndian.Uint64(base[2*i:])
		signs := spreadTops(x)
		y := unordered4(addLanes(ordered4(x, signs), unzigzag4(z, signs)))
		binary.LittleEndian.PutUint64(dst[2*i:], y)
	}
	for ; i < n; i++ {
		z, next := c.low(c.syms[i], at)
		at = next
		x := uint64(binary.LittleEndian.Uint16(base[2*i:]))
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(target4(x, z)))
	}
	if at != total {
		return nil, errCorrupt
	}
	return p, nil
}

// exponents sets the keys of 16-bit floats.
func (c *Coder) exponents(t Type, base []byte) {
	shift, mask := exponents16(t)
	mask4 := uint64(mask) * ones
	n := len(base) / 2
	i := 0
	for ; i+4 <= n; i += 4 {
		x := binary.LittleEndian.Uint64(base[2*i:])
		binary.LittleEndian.PutUint32(c.keys[i:], narrow(x>>(shift&15)&mask4))
	}
	for ; i < n; i++ {
		c.keys[i] = byte(binary.LittleEndian.Uint16(base[2*i:]) >> (shift & 15) & mask)
	}
}

// low returns the zigzag difference of a symbol whose low bits begin at bit at, and where the next ones do.
func (c *Coder) low(sym byte, at uint64) (z, next uint64) {
	f := &symbols16[sym]
	raw := uint32(binary.LittleEndian.Uint64(c.bits[at>>3:])>>(at&7)) & f.mask
	d := uint16((f.base + raw ^ f.neg) - f.neg)
	return uint64(d<<1 ^ uint16(int16(d)>>15)), at + uint64(f.bits)
}

func (c *Coder) differences4(s uint32, at uint64) (z, next uint64) {
	for k := range 4 {
		var v uint64
		v, at = c.low(byte(s>>(8*k)), at)
		z |= v << (16 * k)
	}
	return z, at
}

func ordered32(v uint32) uint32 { return v ^ (uint32(int32(v)>>31) | 1<<31) }

func unordered32(v uint32) uint32 { return v ^ (^uint32(int32(v)>>31) | 1<<31) }

func (c *Coder) encodeFloat32(dst []byte, base, target []byte) []byte {
	n := len(base) / 4
	keys, syms := c.keys[:n], c.syms[:n]
	w := bitWriter{out: c.bits[:]}
	for i := range keys {
		x := binary.LittleEndian.Uint32(base[4*i:])
		y := binary.LittleEndian.Uint32(target[4*i:])
		keys[i] = byte(x >> 23)
		sign := int32(x) >> 31
		d := int32(ordered32(y) - ordered32(x))
		d = (d ^ sign) - sign
		s, m := symbolOf(uint64(uint32(d<<1^d>>31)), direct32)
		syms[i] = s
		f := &symbols32[s]
		w.put(m&f.mask, f.bits)
	}
	dst = c.bitStream(dst, w.count())
	return c.sorter.encode(dst, n)
}

func (c *Coder) decodeFloat32(dst []byte, base, p []byte) ([]byte, error) {
	n := len(base) / 4
	total, p, err := c.readBits(p)
	if err != nil {
		return nil, err
	}
	keys := c.keys[:n]
	for i := range keys {
		keys[i] = byte(binary.LittleEndian.Uint32(base[4*i:]) >> 23)
	}
	if p, err = c.decodeKeyed(p, n); err != nil {
		return nil, err
	}
	at := uint64(0)
	for i, s := range c.syms[:n] {
		f := &symbols32[s]
		low := uint32(binary.LittleEndian.Uint64(c.bits[at>>3:])>>(at&7)) & f.mask
		at += uint64(f.bits)
		x := binary.LittleEndian.Uint32(base[4*i:])
		neg := f.neg ^ uint32(int32(x)>>31)
		d := (f.base + low ^ neg) - neg
		binary.LittleEndian.PutUint32(dst[4*i:], unordered32(ordered32(x)+d))
	}
	if at != total {
		return nil, errCorrupt
	}
	return p, nil
}
