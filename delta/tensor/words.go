package tensor

import "encoding/binary"

// Four 16-bit lanes in one word: their highest bits, their lowest, and what a difference of direct16 or more has set.
const (
	tops   = 0x8000800080008000
	ones   = 0x0001000100010001
	beyond = 0xffe0ffe0ffe0ffe0
)

// spreadTops sets all bits of each lane whose highest bit is set.
func spreadTops(v uint64) uint64 { return (v >> 15 & ones) * 0xffff }

func addLanes(a, b uint64) uint64 { return (a&^tops + b&^tops) ^ (a^b)&tops }

func subLanes(a, b uint64) uint64 { return (a | tops - b&^tops) ^ (a^^b)&tops }

// narrow packs the lower bytes of four lanes, whose upper bytes are zero.
func narrow(v uint64) uint32 {
	v = (v | v>>8) & 0x0000ffff0000ffff
	return uint32(v | v>>16)
}

// widen is the inverse of narrow.
func widen(v uint32) uint64 {
	w := (uint64(v) | uint64(v)<<16) & 0x0000ffff0000ffff
	return (w | w<<8) & 0x00ff00ff00ff00ff
}

// ordered4 orders four elements, of which signs has all bits set in the lanes of negative ones: all bits inverted if the sign
// is set, else the sign set.
func ordered4(v, signs uint64) uint64 { return v ^ (signs | tops) }

// difference4 returns the zigzag differences of four elements.
func difference4(x, y uint64) uint64 {
	signs := spreadTops(x)
	d := subLanes(ordered4(y, spreadTops(y)), ordered4(x, signs))
	d = addLanes(d^signs, signs&ones)
	return d<<1&^ones ^ spreadTops(d)
}

// target4 is the inverse of difference4. With the signs of x taken off both, what lies beyond zero is counted from -1 down.
func target4(x, z uint64) uint64 {
	sign := x & tops
	neg := (z & ones) * 0xffff
	y := ((x ^ sign) + (z>>1&^tops ^ neg&^tops)) ^ neg&tops
	return y ^ (y>>15&ones)*0x7fff ^ sign
}

// A bitWriter packs low bits, lowest first. out has eight bytes more than what is written.
type bitWriter struct {
	out  []byte
	acc  uint64
	have uint
	at   int
}

// put appends n bits of v, at most 57; v has no others.
func (w *bitWriter) put(v uint64, n uint32) {
	w.acc |= v << (w.have & 63)
	w.have += uint(n)
	binary.LittleEndian.PutUint64(w.out[w.at:], w.acc)
	w.at += int(w.have >> 3)
	w.acc >>= w.have & 56
	w.have &= 7
}

// count returns the bits written.
func (w *bitWriter) count() uint64 { return uint64(w.at)*8 + uint64(w.have) }
