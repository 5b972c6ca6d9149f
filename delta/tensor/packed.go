package tensor

import (
	"encoding/binary"
	"math/bits"
)

// packedMin is the count of symbols from which a table for groups of symbols is worth its bytes.
const packedMin = 4096

// octetsMin is the same for groups of eight. They have more values, the rarest of which take more room than they should
// where the usual symbol has all but a sixteenth of the mass.
const octetsMin = 16384

// A packing joins symbols to bytes: where one symbol has most of the mass, groups of symbols take whole bits with less
// waste than one symbol does, and there are fewer of them to code. The highest value of a part stands for a symbol that
// follows elsewhere.
type packing struct {
	method byte
	per    int    // symbols in a byte
	escape byte   // highest value of a part
	large  uint64 // what has a bit in common with symbols from escape+1 on, in each byte
}

var (
	pairs  = packing{methodPairs, 2, 15, 0xf0f0f0f0f0f0f0f0}
	quads  = packing{methodQuads, 4, 3, 0xfcfcfcfcfcfcfcfc}
	octets = packing{methodOctets, 8, 1, 0xfefefefefefefefe}
)

const (
	eachByte = 0x0101010101010101
	bytes16  = 0x00ff00ff00ff00ff
	bytes32  = 0x000000ff000000ff
	parts4   = 0x0f0f0f0f0f0f0f0f
	parts2   = 0x0303030303030303
	halves16 = 0x000f000f000f000f
	sevens   = 0x7f7f7f7f7f7f7f7f
)

// packOf returns the packing that suits a histogram of n symbols, or nil.
func (e *entropy) packOf(n, most uint32, hist *[256]uint32) *packing {
	if n < packedMin {
		return nil
	}
	if e.eights && n >= octetsMin && most > n/8*7 && most < n/16*15 {
		return &octets
	}
	if most > n/4*3 && hist[0]+hist[1]+hist[2] > n/8*7 {
		return &quads
	}
	if inPairs(n, hist) {
		return &pairs
	}
	return nil
}

// inPairs says whether n symbols are few enough different ones for pairs.
func inPairs(n uint32, hist *[256]uint32) bool {
	small := uint32(0)
	for _, c := range hist[:15] {
		small += c
	}
	return n >= packedMin && small > n/8*7
}

// join packs eight symbols below the escape or equal to it, the first one lowest.
func (k *packing) join(dst []byte, v uint64) {
	switch k.per {
	case 2:
		binary.LittleEndian.PutUint32(dst, narrow((v|v>>4)&bytes16))
	case 4:
		v = (v | v>>6) & halves16
		v = (v | v>>12) & bytes32
		binary.LittleEndian.PutUint16(dst, uint16(v|v>>24))
	default:
		dst[0] = byte(v * 0x0102040810204080 >> 56) // brings bit 0 of byte i to bit 56+i
	}
}

// part unpacks eight symbols.
func (k *packing) part(src []byte) uint64 {
	switch k.per {
	case 2:
		v := widen(binary.LittleEndian.Uint32(src))
		return (v | v<<4) & parts4
	case 4:
		v := uint64(binary.LittleEndian.Uint16(src))
		v = (v | v<<24) & bytes32
		v = (v | v<<12) & halves16
		return (v | v<<6) & parts2
	}
	v := uint64(src[0]) * eachByte & 0x8040201008040201 // bit i is left in byte i
	return (v + sevens) >> 7 & eachByte
}

// pack sets g.packed and g.escapes from the symbols and returns their lengths.
func (g *groups) pack(k *packing, syms []byte) (packed, escapes int) {
	at, out := 0, 8/k.per
	for len(syms) >= 8 {
		v := binary.LittleEndian.Uint64(syms)
		if (v|(v+eachByte))&k.large != 0 {
			v, escapes = g.escape(k, v, escapes)
		}
		k.join(g.packed[at:], v)
		at += out
		syms = syms[8:]
	}
	if len(syms) > 0 {
		var tail [8]byte
		copy(tail[:], syms)
		v, esc := g.escape(k, binary.LittleEndian.Uint64(tail[:]), escapes)
		k.join(g.packed[at:], v)
		at, escapes = at+(len(syms)+k.per-1)/k.per, esc
	}
	return at, escapes
}

// escape replaces large symbols among eight and keeps them in g.escapes.
func (g *groups) escape(k *packing, v uint64, n int) (uint64, int) {
	large := (v&sevens + uint64(0x80-k.escape)*eachByte | v) &^ sevens
	for ; large != 0; large &= large - 1 {
		at := bits.TrailingZeros64(large) & 56
		s := byte(v >> at)
		g.escapes[n&(maxAtoms-1)] = s
		n++
		v ^= uint64(s^k.escape) << at
	}
	return v, n
}

// unpack is the inverse of pack. It reports whether all escapes were used, and no more.
func (g *groups) unpack(k *packing, syms []byte, escapes int) bool {
	at, n, in := 0, 0, 8/k.per
	for len(syms) >= 8 {
		v := k.part(g.packed[at:])
		if large := (v + eachByte) & k.large; large != 0 {
			v, n = g.restore(k, v, large, n)
		}
		binary.LittleEndian.PutUint64(syms, v)
		at += in
		syms = syms[8:]
	}
	if len(syms) > 0 {
		v := k.part(g.packed[at:]) & (1<<(8*len(syms)) - 1)
		v, n = g.restore(k, v, (v+eachByte)&k.large, n)
		var tail [8]byte
		binary.LittleEndian.PutUint64(tail[:], v)
		copy(syms, tail[:])
	}
	return n == escapes
}

// restore is the inverse of escape; large has one bit in each byte that stands for an escape.
func (g *groups) restore(k *packing, v, large uint64, n int) (uint64, int) {
	for ; large != 0; large &= large - 1 {
		at := bits.TrailingZeros64(large) & 56
		v ^= uint64(k.escape^g.escapes[n&(maxAtoms-1)]) << at
		n++
	}
	return v, n
}

// encodePacked appends a stream of groups: count of escapes, the stream of these, the stream of the packed bytes. Escapes
// are in groups themselves if level is 0 and they suit.
func (e *entropy) encodePacked(dst []byte, k *packing, syms []byte, level int) []byte {
	g := &e.groups[level]
	n, count := g.pack(k, syms)
	escapes := g.escapes[:count]
	dst = binary.AppendUvarint(append(dst, k.method), uint64(count))
	var hist [256]uint32
	sampleSymbols(&hist, escapes)
	if level == 0 && inPairs(uint32(count), &hist) {
		dst = e.encodePacked(dst, &pairs, escapes, 1)
	} else {
		dst = e.encodePlain(dst, escapes, &hist)
	}
	sampleSymbols(&hist, g.packed[:n])
	return e.encodePlain(dst, g.packed[:n], &hist)
}

// decodePacked fills syms from what encodePacked wrote behind the method.
func (e *entropy) decodePacked(k *packing, syms, p []byte, level int) ([]byte, error) {
	count, used := binary.Uvarint(p)
	if used <= 0 || count > uint64(len(syms)) {
		return nil, errCorrupt
	}
	p = p[used:]
	g := &e.groups[level]
	escapes := g.escapes[:count]
	var err error
	if level == 0 && count > 0 && len(p) > 0 && p[0] == methodPairs {
		p, err = e.decodePacked(&pairs, escapes, p[1:], 1)
	} else {
		p, err = e.decodePlain(escapes, p)
	}
	if err != nil {
		return nil, err
	}
	if p, err = e.decodePlain(g.packed[:(len(syms)+k.per-1)/k.per], p); err != nil {
		return nil, err
	}
	if !g.unpack(k, syms, int(count)) {
		return nil, errCorrupt
	}
	return p, nil
}
