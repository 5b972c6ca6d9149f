package recipe

import (
	"bytes"
	"errors"
	"io"
)

// A token is one deflate symbol: a literal byte (below 256) or a match, length<<16 | distance.
type token uint32

func matchOf(length, dist int) token { return token(length<<16 | dist) }
func (t token) isMatch() bool        { return t > 0xff }
func (t token) length() int          { return int(t >> 16) }
func (t token) dist() int            { return int(t & 0xffff) }

// size is the number of plain bytes the token stands for.
func (t token) size() int {
	if t.isMatch() {
		return t.length()
	}
	return 1
}

const (
	maxMatch       = 258
	maxPieceTokens = 1 << 18 // a coded block with more comes in pieces
	maxPiecePlain  = 8 << 20 // or with more plain bytes
	maxStored      = 65535
	endOfBlock     = 256
	litCodes       = 286
	distCodes      = 30
	clCodes        = 19
)

// Block kinds, the numbers of RFC 1951.
const (
	kindStored  = 0
	kindFixed   = 1
	kindDynamic = 2
)

// The code tables of RFC 1951, 3.2.5 and 3.2.7.
var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [30]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [30]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
	clOrder     = [clCodes]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}
)

// errInflate says that a stream is not deflate, or is deflate of a shape that recipes do not cover.
var errInflate = errors.New("not a deflate stream that a recipe can describe")

// deflateBlock is one block of a stream, or a piece of one, taken apart.
type deflateBlock struct {
	kind   int
	final  bool
	cont   bool    // not the block's first piece
	more   bool    // not its last
	pad    byte    // the bits that a stored block skips, or those after the final block
	tokens []token // none for a stored block
	stored []byte
	head   []byte // how a dynamic block spells its code lengths, see headSpelling
}

// plainLen is the number of plain bytes that the block stands for.
func (b *deflateBlock) plainLen() int {
	n := len(b.stored)
	for _, t := range b.tokens {
		n += t.size()
	}
	return n
}

// describes reports whether the block stands for the plain bytes at buf[at:], which must be there. A match may not reach
// before buf[0].
func (b *deflateBlock) describes(buf []byte, at int) bool {
	if !bytes.Equal(b.stored, buf[at:at+len(b.stored)]) {
		return false
	}
	for _, t := range b.tokens {
		if !t.isMatch() {
			if buf[at] != byte(t) {
				return false
			}
			at++
			continue
		}
		n, from := t.length(), at-t.dist()
		if from < 0 || commonPrefix(buf, from, at, n) != n {
			return false
		}
		at += n
	}
	return true
}

// inflater takes deflate streams apart into blocks. It keeps no history: matches stay matches.
type inflater struct {
	r       io.Reader
	buf     []byte
	i, end  int // buf[i:end] is unread
	eof     bool
	phantom uint // zero bytes made up past the end; a stream that uses one is truncated
	acc     uint64
	n       uint
	err     error
	lit     [1 << 15]uint16 // symbol<<4 | length, by the next 15 bits
	dst     [1 << 15]uint16
	blk     deflateBlock
}

func newInflater(r io.Reader) *inflater { return &inflater{r: r, buf: make([]byte, 64<<10)} }

// fill reads on, keeping the last bytes so that rewind can give them back.
func (f *inflater) fill() {
	keep := max(f.i-8, 0)
	copy(f.buf, f.buf[keep:f.end])
	f.i, f.end = f.i-keep, f.end-keep
	for f.end-f.i < 8 && !f.eof {
		n, err := f.r.Read(f.buf[f.end:])
		f.end += n
		if err != nil {
			f.eof = true
			if err != io.EOF && f.err == nil {
				f.err = err
			}
		}
	}
}

// need makes k bits available, k at most 32.
func (f *inflater) need(k uint) {
	for f.n < k {
		if f.i == f.end {
			f.fill()
		}
		var c byte
		if f.i < f.end {
			c = f.buf[f.i]
			f.i++
		} else {
			f.phantom++
		}
		f.acc |= uint64(c) << f.n
		f.n += 8
	}
}

// take returns up to n whole bytes, fewer only at the end of the input. The reader must be at a byte border.
func (f *inflater) take(n int) []byte {
	var out []byte
	for len(out) < n {
		if f.i == f.end {
			if f.fill(); f.i == f.end {
				break
			}
		}
		k := min(n-len(out), f.end-f.i)
		out = append(out, f.buf[f.i:f.i+k]...)
		f.i += k
	}
	return out
}

// rewind goes back to the first whole byte after the last bit used.
func (f *inflater) rewind() {
	f.i -= int(f.n/8 - min(f.phantom, f.n/8))
	f.acc, f.n, f.phantom = 0, 0, 0
}

func (f *inflater) bits(k uint) int {
	f.need(k)
	v := f.acc & (1<<k - 1)
	f.acc >>= k
	f.n -= k
	return int(v)
}

func (f *inflater) symbol(tab *[1 << 15]uint16) int {
	f.need(15)
	e := tab[f.acc&0x7fff]
	k := uint(e & 15)
	if k == 0 {
		f.err = errInflate
		return 0
	}
	f.acc >>= k
	f.n -= k
	return int(e >> 4)
}

// fillTable makes the lookup of a canonical prefix code; it refuses a code with too many words.
func fillTable(tab *[1 << 15]uint16, lens []uint8) bool {
	clear(tab[:])
	codes, ok := canonical(lens)
	if !ok {
		return false
	}
	for s, l := range lens {
		if l == 0 {
			continue
		}
		for k := int(codes[s]); k < 1<<15; k += 1 << l {
			tab[k] = uint16(s)<<4 | uint16(l)
		}
	}
	return true
}

// next returns the next block or piece. It is reused by the next call.
func (f *inflater) next() (*deflateBlock, error) {
	b := &f.blk
	b.tokens, b.stored, b.head, b.pad = b.tokens[:0], b.stored[:0], b.head[:0], 0
	if b.cont = b.more; b.cont {
		f.readTokens(b)
		return b, f.closed(b)
	}
	b.final = f.bits(1) == 1
	b.kind = f.bits(2)
	switch b.kind {
	case kindStored:
		f.readStored(b)
	case kindFixed:
		lit, dist := fixedLengths()
		if !fillTable(&f.lit, lit) || !fillTable(&f.dst, dist) {
			return nil, errInflate
		}
		f.readTokens(b)
	case kindDynamic:
		f.readHead(b)
		f.readTokens(b)
	default:
		return nil, errInflate
	}
	return b, f.closed(b)
}

// closed ends a block or piece; it returns an error if that was not all there.
func (f *inflater) closed(b *deflateBlock) error {
	if f.err != nil {
		return f.err
	}
	if b.final && !b.more {
		b.pad |= byte(f.bits(f.n & 7))
	}
	if f.phantom*8 > f.n {
		return errInflate
	}
	return nil
}

func (f *inflater) readStored(b *deflateBlock) {
	b.pad = byte(f.bits(f.n & 7))
	n := f.bits(16)
	if f.bits(16) != n^0xffff {
		f.err = errInflate
		return
	}
	f.rewind()
	b.stored = append(b.stored, f.take(n)...)
	if len(b.stored) < n {
		f.err = errInflate
	}
}

func (f *inflater) readHead(b *deflateBlock) {
	nl, nd, nc := f.bits(5), f.bits(5), f.bits(4)
	b.head = append(b.head, byte(nl), byte(nd), byte(nc))
	var cl [clCodes]uint8
	for i := 0; i < nc+4; i++ {
		cl[clOrder[i]] = uint8(f.bits(3))
		b.head = append(b.head, cl[clOrder[i]])
	}
	if !fillTable(&f.lit, cl[:]) {
		f.err = errInflate
	}
	for n := 0; n < nl+257+nd+1 && f.err == nil; {
		s := f.symbol(&f.lit)
		b.head = append(b.head, byte(s))
		switch s {
		case 16:
			b.head = append(b.head, byte(f.bits(2)))
			n += 3
		case 17:
			b.head = append(b.head, byte(f.bits(3)))
			n += 3
		case 18:
			b.head = append(b.head, byte(f.bits(7)))
			n += 11
		default:
			n++
			continue
		}
		n += int(b.head[len(b.head)-1])
	}
	if f.err != nil {
		return
	}
	h, err := parseHead(b.head)
	if err != nil || !fillTable(&f.lit, h.lit) || !fillTable(&f.dst, h.dist) {
		f.err = errInflate
	}
}

func (f *inflater) readTokens(b *deflateBlock) {
	plain := 0
	b.more = false
	for f.err == nil {
		if b.more = len(b.tokens) >= maxPieceTokens || plain >= maxPiecePlain; b.more {
			return
		}
		s := f.symbol(&f.lit)
		switch {
		case s < endOfBlock:
			b.tokens = append(b.tokens, token(s))
			plain++
		case s == endOfBlock:
			return
		case s >= litCodes:
			f.err = errInflate
			return
		default:
			l := int(lengthBase[s-257]) + f.bits(uint(lengthExtra[s-257]))
			if l == maxMatch && s != 285 {
				f.err = errInflate // the long spelling of 258: no writer we know of
				return
			}
			d := f.symbol(&f.dst)
			if d >= distCodes {
				f.err = errInflate
				return
			}
			b.tokens = append(b.tokens, matchOf(l, int(distBase[d])+f.bits(uint(distExtra[d]))))
			plain += l
		}
	}
}
