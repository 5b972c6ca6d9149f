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

// ordered16 maps a float to an integer that grows with it, and back: ordered16(ordered16(v)^0x8000^...) is not needed, the
// inverse is unordered16.
func ordered16(v uint16) uint16 { return v ^ (uint16(int16(v)>>15) | 0x8000) }

func unordered16(v uint16) uint16 { return v ^ (^uint16(int16(v)>>15) | 0x8000) }

func (c *Coder) encodeFloat16(dst []byte, t Type, base, target []byte) []byte {
	n := len(base) / 2
	shift, mask := exponents16(t)
	keys, syms := c.keys[:n], c.syms[:n]
	acc, have, out := uint64(0), uint(0), 0
	for i := range keys {
		x := binary.LittleEndian.Uint16(base[2*i:])
		y := binary.LittleEndian.Uint16(target[2*i:])
		keys[i] = byte(x >> (shift & 15) & mask)
		// A difference counts as positive when it leads away from zero.
		sign := int16(x) >> 15
		d := int16(ordered16(y) - ordered16(x))
		d = (d ^ sign) - sign
		z := uint16(d<<1 ^ d>>15)
		s := symbolOf16[z]
		syms[i] = s
		f := &symbols16[s]
		acc |= uint64((uint32(z)+1)>>1&f.mask) << (have & 63)
		have += uint(f.bits)
		binary.LittleEndian.PutUint64(c.bits[out:], acc)
		out += int(have >> 3)
		acc >>= have & 56 & 63
		have &= 7
	}
	dst = c.bitStream(dst, uint64(out)*8+uint64(have))
	return c.sorter.encode(dst, n)
}

func (c *Coder) decodeFloat16(dst []byte, t Type, base, p []byte) ([]byte, error) {
	n := len(base) / 2
	total, p, err := c.readBits(p)
	if err != nil {
		return nil, err
	}
	shift, mask := exponents16(t)
	keys := c.keys[:n]
	for i := range keys {
		keys[i] = byte(binary.LittleEndian.Uint16(base[2*i:]) >> (shift & 15) & mask)
	}
	if p, err = c.sorter.decode(p, n); err != nil {
		return nil, err
	}
	at := uint64(0)
	syms := c.syms[:n]
	for i, s := range syms {
		f := &symbols16[s]
		low := uint32(binary.LittleEndian.Uint64(c.bits[at>>3:])>>(at&7)) & f.mask
		at += uint64(f.bits)
		x := binary.LittleEndian.Uint16(base[2*i:])
		neg := f.neg ^ uint32(int32(int16(x))>>31)
		d := (f.base + low ^ neg) - neg
		binary.LittleEndian.PutUint16(dst[2*i:], unordered16(ordered16(x)+uint16(d)))
	}
	if at != total {
		return nil, errCorrupt
	}
	return p, nil
}

func ordered32(v uint32) uint32 { return v ^ (uint32(int32(v)>>31) | 1<<31) }

func unordered32(v uint32) uint32 { return v ^ (^uint32(int32(v)>>31) | 1<<31) }

func (c *Coder) encodeFloat32(dst []byte, base, target []byte) []byte {
	n := len(base) / 4
	keys, syms := c.keys[:n], c.syms[:n]
	acc, have, out := uint64(0), uint(0), 0
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
		acc |= uint64(m&f.mask) << (have & 63)
		have += uint(f.bits)
		binary.LittleEndian.PutUint64(c.bits[out:], acc)
		out += int(have >> 3)
		acc >>= have & 56 & 63
		have &= 7
	}
	dst = c.bitStream(dst, uint64(out)*8+uint64(have))
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
	if p, err = c.sorter.decode(p, n); err != nil {
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
