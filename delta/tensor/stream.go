package tensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
	"slices"

	"github.com/klauspost/compress/fse"
	"github.com/klauspost/compress/huff0"
)

// errCorrupt is what Decode returns for every payload that no Encode wrote.
var errCorrupt = errors.New("tensor: corrupt payload")

// Methods of a stream.
const (
	methodStored = 0
	methodRun    = 1 // all symbols are the one that follows
	methodHuff1  = 2
	methodHuff4  = 3
	methodFSE    = 4
	methodPairs  = 5 // two symbols in a byte
	methodQuads  = 6 // four
	methodOctets = 7 // eight
)

// maxAtoms is the most symbols of one stream; huff0 takes at most 2^18-1.
const maxAtoms = 1 << 17

// huff4Min is the count from which four interleaved streams are worth their jump table.
const huff4Min = 1024

// entropy holds the coders' scratch memory.
type entropy struct {
	huff huff0.Scratch
	fse  fse.Scratch

	groups [2]groups // of a stream, and of its escapes
	eights bool      // groups of eight may be used
}

// groups are symbols that were joined to bytes, and those that were too large for that.
type groups struct {
	packed  [maxAtoms/2 + 8]byte
	escapes [maxAtoms]byte
}

// encode appends a stream of symbols, of which hist is the histogram, or an estimate of it.
func (e *entropy) encode(dst, syms []byte, hist *[256]uint32) []byte {
	n, most := uint32(len(syms)), uint32(0)
	for _, c := range hist {
		most = max(most, c)
	}
	// Huffman wastes up to a bit for each symbol where one symbol has most of the mass, and FSE takes three times as long.
	if most > n/2 && most < n {
		if k := e.packOf(n, most, hist); k != nil {
			return e.encodePacked(dst, k, syms, 0)
		}
	}
	return e.encodePlain(dst, syms, hist)
}

// encodePlain appends a stream without groups.
func (e *entropy) encodePlain(dst, syms []byte, hist *[256]uint32) []byte {
	n := uint32(len(syms))
	if n == 0 {
		return dst
	}
	if allSame(syms) {
		return append(dst, methodRun, syms[0])
	}
	method, data := byte(methodStored), []byte(nil)
	if e.skewed(hist, n) {
		method, data = e.tryFSE(syms)
	} else {
		method, data = e.tryHuff(syms)
	}
	if method == methodStored || len(data)+3 >= len(syms) {
		dst = append(dst, methodStored)
		return append(dst, syms...)
	}
	dst = append(dst, method)
	dst = binary.AppendUvarint(dst, uint64(len(data)))
	return append(dst, data...)
}

func allSame(syms []byte) bool {
	return bytes.Equal(syms[1:], syms[:len(syms)-1])
}

// skewed says whether a Huffman code of n symbols would be longer than an ideal one by a 32nd. Where no symbol has much of
// the mass it is not.
func (e *entropy) skewed(hist *[256]uint32, n uint32) bool {
	if slices.Max(hist[:]) <= n/3 {
		return false
	}
	if e.huff.BuildCTable(hist) != nil {
		return true
	}
	ideal := cost(hist)
	return uint64(e.huff.EstimateSize(hist))<<15 > ideal+ideal/32
}

func (e *entropy) tryFSE(syms []byte) (byte, []byte) {
	hist := (*[256]uint32)(e.fse.Histogram())
	countSymbols(hist, syms)
	most, last := uint32(0), 0
	for i, c := range hist {
		if c > 0 {
			most, last = max(most, c), i
		}
	}
	e.fse.HistogramFinished(byte(last), int(most))
	e.fse.MaxSymbolValue, e.fse.TableLog = 255, 12
	out, err := fse.Compress(syms, &e.fse)
	if err != nil {
		return methodStored, nil
	}
	return methodFSE, out
}

func (e *entropy) tryHuff(syms []byte) (byte, []byte) {
	e.huff.Reuse = huff0.ReusePolicyNone
	var out []byte
	var err error
	method := byte(methodHuff4)
	if len(syms) >= huff4Min {
		out, _, err = huff0.Compress4X(syms, &e.huff)
	} else {
		method = methodHuff1
		out, _, err = huff0.Compress1X(syms, &e.huff)
	}
	if err != nil {
		return methodStored, nil
	}
	return method, out
}

// decode fills syms from the stream at the start of p and returns what follows it.
func (e *entropy) decode(syms, p []byte) ([]byte, error) {
	if len(syms) > 0 && len(p) > 0 {
		switch p[0] {
		case methodPairs:
			return e.decodePacked(&pairs, syms, p[1:], 0)
		case methodQuads:
			return e.decodePacked(&quads, syms, p[1:], 0)
		case methodOctets:
			return e.decodePacked(&octets, syms, p[1:], 0)
		}
	}
	return e.decodePlain(syms, p)
}

// decodePlain is decode without groups.
func (e *entropy) decodePlain(syms, p []byte) ([]byte, error) {
	if len(syms) == 0 {
		return p, nil
	}
	if len(p) == 0 {
		return nil, errCorrupt
	}
	method := p[0]
	p = p[1:]
	switch method {
	case methodStored:
		if len(p) < len(syms) {
			return nil, errCorrupt
		}
		copy(syms, p)
		return p[len(syms):], nil
	case methodRun:
		if len(p) == 0 {
			return nil, errCorrupt
		}
		for i := range syms {
			syms[i] = p[0]
		}
		return p[1:], nil
	}
	data, rest, err := cut(p)
	if err != nil {
		return nil, err
	}
	switch method {
	case methodHuff1, methodHuff4:
		err = e.unhuff(syms, data, method)
	case methodFSE:
		err = e.unfse(syms, data)
	default:
		err = errCorrupt
	}
	return rest, err
}

func (e *entropy) unhuff(syms, data []byte, method byte) error {
	s, data, err := huff0.ReadTable(data, &e.huff)
	if err != nil {
		return errCorrupt
	}
	var out []byte
	if method == methodHuff4 {
		out, err = s.Decoder().Decompress4X(syms[:0:len(syms)], data)
	} else {
		out, err = s.Decoder().Decompress1X(syms[:0:len(syms)], data)
	}
	if err != nil || len(out) != len(syms) {
		return errCorrupt
	}
	return nil
}

func (e *entropy) unfse(syms, data []byte) error {
	e.fse.DecompressLimit = len(syms) + 1 // the limit itself is refused
	out, err := fse.Decompress(data, &e.fse)
	if err != nil || len(out) != len(syms) {
		return errCorrupt
	}
	copy(syms, out)
	return nil
}

// cut splits p behind a uvarint length and that many bytes.
func cut(p []byte) (data, rest []byte, err error) {
	n, k := binary.Uvarint(p)
	if k <= 0 || n > uint64(len(p)-k) {
		return nil, nil, errCorrupt
	}
	return p[k : k+int(n)], p[k+int(n):], nil
}

// log2Table holds log2(1+i/256) in units of 1/4096, rounded down.
var log2Table = makeLog2Table()

// makeLog2Table squares each number twelve times; each square that passes 2 is a bit of the logarithm.
func makeLog2Table() (t [256]uint32) {
	for i := range t {
		x := (256 + uint64(i)) << 22
		for range 12 {
			t[i] <<= 1
			x = x * x >> 30
			if x >= 1<<31 {
				t[i]++
				x >>= 1
			}
		}
	}
	return t
}

// log2 returns the logarithm of v, which is not 0, in units of 1/4096 bit. Only encoders use it.
func log2(v uint32) uint64 {
	n := bits.Len32(v) - 1
	f := uint64(v) << 32 >> n >> 24 & 0xff
	return uint64(n)<<12 + uint64(log2Table[f])
}

// cost returns the bits that the symbols of a histogram take with an ideal code of their own, in units of 1/4096 bit.
func cost(hist *[256]uint32) uint64 {
	n, sum := uint32(0), uint64(0)
	for _, c := range hist {
		if c > 0 {
			n += c
			sum += uint64(c) * log2(c)
		}
	}
	if n == 0 {
		return 0
	}
	return uint64(n)*log2(n) - sum
}
