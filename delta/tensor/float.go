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
	return byte(direct + ((o-first)*4+m>>((o-2)&31)&3)*2 + uint32(z&1)), m
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

// floatSymbols sets the keys, the symbols and the low bits of floats, and returns the count of the latter.
func (c *Coder) floatSymbols(t Type, base, target []byte) (bits uint64) {
	if t == F32 {
		return c.symbols32(base, target)
	}
	return c.symbols16(t, base, target)
}

// encodeFloat16 appends differences of 16-bit floats.
func (c *Coder) encodeFloat16(dst []byte, t Type, base, target []byte) []byte {
	dst = c.bitStream(dst, c.symbols16(t, base, target))
	return c.sorter.encode(dst, len(base)/2)
}

// symbols16 takes four elements at a time. Where all four differences have symbols of their own, the symbols are the
// differences and there are no low bits; the other fours are listed and done again.
func (c *Coder) symbols16(t Type, base, target []byte) (bits uint64) {
	n := len(base) / 2
	w := bitWriter{out: c.bits[:]}
	for _, at := range c.easy16(t, base, target) {
		i := 4 * int(at)
		x, y := binary.LittleEndian.Uint64(base[2*i:]), binary.LittleEndian.Uint64(target[2*i:])
		binary.LittleEndian.PutUint32(c.syms[i:], w.symbols4(difference4(x, y)))
	}
	for i := n &^ 3; i < n; i++ {
		x, y := binary.LittleEndian.Uint16(base[2*i:]), binary.LittleEndian.Uint16(target[2*i:])
		z := uint16(difference4(uint64(x), uint64(y)))
		s := symbolOf16[z]
		f := &symbols16[s]
		c.syms[i] = s
		w.put(uint64((uint32(z)+1)>>1&f.mask), f.bits)
	}
	c.exponentsTail(t, base)
	return w.count()
}

// easy16 sets the keys of whole fours, the symbols of those where no sign changes and all differences are short, and returns
// the others. It makes a list of them because branches would not be foreseen.
func (c *Coder) easy16(t Type, base, target []byte) (hard []uint16) {
	shift, mask := exponents16(t)
	shift &= 15
	mask4 := uint64(mask) * ones
	count := 0
	four := func(i int, x, y uint64) (key, sym uint64) {
		sign := x & tops
		y ^= sign
		// What y has more than x, plus the highest bit.
		d := (y | tops) - (x ^ sign)
		z := d<<1&^ones ^ (^d>>15&ones)*0xffff
		c.hard[count&(len(c.hard)-1)] = uint16(i)
		large := z&beyond | y&tops
		count += int((large | -large) >> 63)
		return uint64(narrow(x >> shift & mask4)), uint64(narrow(z & bytes16))
	}
	i, n := 0, len(base)/8
	for ; i+2 <= n; i += 2 {
		x, y := base[8*i:8*i+16], target[8*i:8*i+16]
		k, s := four(i, binary.LittleEndian.Uint64(x), binary.LittleEndian.Uint64(y))
		k2, s2 := four(i+1, binary.LittleEndian.Uint64(x[8:]), binary.LittleEndian.Uint64(y[8:]))
		binary.LittleEndian.PutUint64(c.keys[4*i:4*i+8], k|k2<<32)
		binary.LittleEndian.PutUint64(c.syms[4*i:4*i+8], s|s2<<32)
	}
	if i < n {
		k, s := four(i, binary.LittleEndian.Uint64(base[8*i:]), binary.LittleEndian.Uint64(target[8*i:]))
		binary.LittleEndian.PutUint32(c.keys[4*i:], uint32(k))
		binary.LittleEndian.PutUint32(c.syms[4*i:], uint32(s))
	}
	return c.hard[:count]
}

// symbols4 returns the symbols of four zigzag differences and writes their low bits.
func (w *bitWriter) symbols4(z uint64) (syms uint32) {
	low, n := uint64(0), uint32(0)
	for k := range 4 {
		v := uint16(z >> (16 * k))
		s := symbolOf16[v]
		f := &symbols16[s]
		syms |= uint32(s) << (8 * k)
		low |= uint64((uint32(v)+1)>>1&f.mask) << (n & 63)
		n += f.bits
	}
	w.put(low, n)
	return syms
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
	bits := uint64(0)
	for _, at := range c.uneasy16(dst, base) {
		i := 4 * int(at)
		var z uint64
		z, bits = c.differences4(binary.LittleEndian.Uint32(c.syms[i:]), bits)
		binary.LittleEndian.PutUint64(dst[2*i:], target4(binary.LittleEndian.Uint64(base[2*i:]), z))
	}
	for i := n &^ 3; i < n; i++ {
		z, next := c.differences4(uint32(c.syms[i]), bits)
		bits = next
		x := uint64(binary.LittleEndian.Uint16(base[2*i:]))
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(target4(x, z)))
	}
	if bits != total {
		return nil, errCorrupt
	}
	return p, nil
}

// uneasy16 is the inverse of easy16: it sets whole fours as if no symbol had low bits, and returns those that have.
func (c *Coder) uneasy16(dst, base []byte) (hard []uint16) {
	const large = 0xe0e0e0e0
	count := 0
	i, n := 0, len(base)/8
	for ; i+2 <= n; i += 2 {
		s := binary.LittleEndian.Uint64(c.syms[4*i : 4*i+8])
		x, y := base[8*i:8*i+16], dst[8*i:8*i+16]
		binary.LittleEndian.PutUint64(y, target4(binary.LittleEndian.Uint64(x), widen(uint32(s))))
		binary.LittleEndian.PutUint64(y[8:], target4(binary.LittleEndian.Uint64(x[8:]), widen(uint32(s>>32))))
		c.hard[count&(len(c.hard)-1)] = uint16(i)
		count += int(-(s & large) >> 63)
		c.hard[count&(len(c.hard)-1)] = uint16(i + 1)
		count += int(-(s >> 32 & large) >> 63)
	}
	if i < n {
		s := binary.LittleEndian.Uint32(c.syms[4*i:])
		binary.LittleEndian.PutUint64(dst[8*i:], target4(binary.LittleEndian.Uint64(base[8*i:]), widen(s)))
		c.hard[count] = uint16(i)
		count += int(-uint64(s&large) >> 63)
	}
	return c.hard[:count]
}

// exponents sets the keys of 16-bit floats.
func (c *Coder) exponents(t Type, base []byte) {
	shift, mask := exponents16(t)
	shift &= 15
	mask4 := uint64(mask) * ones
	i, n := 0, len(base)/8
	for ; i+2 <= n; i += 2 {
		x := base[8*i : 8*i+16]
		k, k2 := narrow(binary.LittleEndian.Uint64(x)>>shift&mask4), narrow(binary.LittleEndian.Uint64(x[8:])>>shift&mask4)
		binary.LittleEndian.PutUint64(c.keys[4*i:4*i+8], uint64(k)|uint64(k2)<<32)
	}
	if i < n {
		binary.LittleEndian.PutUint32(c.keys[4*i:], narrow(binary.LittleEndian.Uint64(base[8*i:])>>shift&mask4))
	}
	c.exponentsTail(t, base)
}

// exponentsTail sets the keys of those that follow the last whole four.
func (c *Coder) exponentsTail(t Type, base []byte) {
	shift, mask := exponents16(t)
	n := len(base) / 2
	for i := n &^ 3; i < n; i++ {
		c.keys[i] = byte(binary.LittleEndian.Uint16(base[2*i:]) >> (shift & 15) & mask)
	}
}

// differences4 returns the zigzag differences of four symbols whose low bits begin at bit at, and where the next ones do.
func (c *Coder) differences4(s uint32, at uint64) (z, next uint64) {
	// Four have at most 52 low bits.
	low := binary.LittleEndian.Uint64(c.bits[at>>3:]) >> (at & 7)
	for k := range 4 {
		f := &symbols16[byte(s>>(8*k))]
		d := uint16((f.base + uint32(low)&f.mask ^ f.neg) - f.neg)
		z |= uint64(d<<1^uint16(int16(d)>>15)) << (16 * k)
		low >>= f.bits & 63
		at += uint64(f.bits)
	}
	return z, at
}

// symbols32 does the same for 32-bit floats, one at a time. Signs are taken off as target4 does.
func (c *Coder) symbols32(base, target []byte) (count uint64) {
	n := len(base) / 4
	keys, syms := c.keys[:n], c.syms[:n]
	// A bitWriter's fields would not stay in registers.
	acc, have, at := uint64(0), uint32(0), 0
	for i := range keys {
		x, y := binary.LittleEndian.Uint32(base[4*i:4*i+4]), binary.LittleEndian.Uint32(target[4*i:4*i+4])
		keys[i] = byte(x >> 23)
		sign := x & (1 << 31)
		y ^= sign
		d := int32(y^uint32(int32(y)>>31)&(1<<31-1)) - int32(x^sign)
		neg := uint32(d) >> 31
		m := uint32((d ^ d>>31) - d>>31)
		if z := 2*m - neg; z < direct32 {
			syms[i] = byte(z)
			continue
		}
		// 8(o-p) and the two bits, which have the highest above them, as doc.go has it.
		low := uint32(bits.Len32(m)-3) & 31
		syms[i] = byte(8*low + 2*(m>>low) + neg)
		acc |= uint64(m&(1<<low-1)) << (have & 7)
		have += low
		binary.LittleEndian.PutUint64(c.bits[at:], acc)
		at += int(have >> 3)
		acc >>= have & 56
		have &= 7
	}
	return uint64(at)*8 + uint64(have)
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
		x := binary.LittleEndian.Uint32(base[4*i : 4*i+4])
		sign := x & (1 << 31)
		y := (x ^ sign) + (f.base + low ^ f.neg) - f.neg
		binary.LittleEndian.PutUint32(dst[4*i:4*i+4], y^uint32(int32(y)>>31)&(1<<31-1)^sign)
	}
	if at != total {
		return nil, errCorrupt
	}
	return p, nil
}
