package recipe

import (
	"encoding/binary"
	"io"
)

// bitWriter writes deflate's bits. Errors are sticky.
type bitWriter struct {
	w   io.Writer
	buf []byte
	acc uint64
	n   uint
	err error

	lit, dist [288]word // of the block
}

func (b *bitWriter) bits(v uint32, k uint) {
	b.acc |= uint64(v) << b.n
	b.n += k
	if b.n >= 32 {
		b.buf = binary.LittleEndian.AppendUint32(b.buf, uint32(b.acc))
		b.acc >>= 32
		b.n -= 32
	}
}

// whole moves the whole bytes to the buffer.
func (b *bitWriter) whole() {
	for ; b.n >= 8; b.n -= 8 {
		b.buf = append(b.buf, byte(b.acc))
		b.acc >>= 8
	}
	if len(b.buf) >= 64<<10 {
		b.flush()
	}
}

// align fills the byte up with the bits of pad.
func (b *bitWriter) align(pad byte) {
	b.whole()
	if b.n > 0 {
		b.bits(uint32(pad)&(1<<(8-b.n)-1), 8-b.n)
		b.whole()
	}
}

// bytes writes whole bytes; the writer must be aligned.
func (b *bitWriter) bytes(p []byte) {
	b.buf = append(b.buf, p...)
	if len(b.buf) >= 64<<10 {
		b.flush()
	}
}

func (b *bitWriter) flush() {
	if b.err == nil {
		_, b.err = b.w.Write(b.buf)
	}
	b.buf = b.buf[:0]
}

// begin writes what comes before the symbols of a block; h is nil unless the block is dynamic.
func (b *bitWriter) begin(d *deflateBlock, h *blockHead) error {
	final := uint32(0)
	if d.final {
		final = 1
	}
	b.bits(final|uint32(d.kind)<<1, 3)
	if d.kind == kindStored {
		b.align(d.pad)
		b.bits(uint32(len(d.stored)), 16)
		b.bits(uint32(len(d.stored))^0xffff, 16)
		b.whole()
		b.bytes(d.stored)
		return b.err
	}
	lit, dist := fixedLengths()
	if d.kind == kindDynamic {
		if err := b.head(h); err != nil {
			return err
		}
		lit, dist = h.lit, h.dist
	}
	var ok1, ok2 bool
	b.lit, ok1 = wordsOf(lit)
	b.dist, ok2 = wordsOf(dist)
	if !ok1 || !ok2 {
		return corrupt("block code has too many words")
	}
	return b.err
}

// close ends a block that is not stored.
func (b *bitWriter) close(d *deflateBlock) error {
	end := b.lit[endOfBlock]
	if end.bits == 0 {
		return corrupt("end of block without a code")
	}
	b.bits(uint32(end.code), uint(end.bits))
	if d.final {
		b.align(d.pad)
	}
	b.whole()
	return b.err
}

func (b *bitWriter) head(h *blockHead) error {
	s := h.spelling
	codes, ok := canonical(h.cl)
	if !ok {
		return corrupt("code length code has too many words")
	}
	b.bits(uint32(s[0])|uint32(s[1])<<5|uint32(s[2])<<10, 14)
	nc := int(s[2]) + 4
	for _, l := range s[3 : 3+nc] {
		b.bits(uint32(l), 3)
	}
	for s = s[3+nc:]; len(s) > 0; s = s[1:] {
		b.bits(uint32(codes[s[0]]), uint(h.cl[s[0]]))
		if s[0] >= 16 {
			b.bits(uint32(s[1]), [3]uint{2, 3, 7}[s[0]-16])
			s = s[1:]
		}
	}
	return nil
}

// symbols writes tokens; one without a code is an error.
func (b *bitWriter) symbols(tokens []token) error {
	lc, dc := &b.lit, &b.dist
	missing := false
	for i, t := range tokens {
		if i&0xfff == 0 {
			b.whole()
		}
		if !t.isMatch() {
			w := lc[t]
			missing = missing || w.bits == 0
			b.bits(uint32(w.code), uint(w.bits))
			continue
		}
		l, d := lengthCode(t.length()), distCode(t.dist())
		w, v := lc[257+l], dc[d]
		missing = missing || w.bits == 0 || v.bits == 0
		b.bits(uint32(w.code)|(uint32(t.length())-uint32(lengthBase[l]))<<w.bits, uint(w.bits+lengthExtra[l]))
		b.bits(uint32(v.code)|(uint32(t.dist())-uint32(distBase[d]))<<v.bits, uint(v.bits+distExtra[d]))
	}
	if missing {
		return corrupt("token without a code")
	}
	return b.err
}

// word is a code word, least significant bit first; without bits it is none.
type word struct {
	code uint16
	bits uint8
}

// wordsOf makes the words of a canonical prefix code; it reports false when there are too many.
func wordsOf(lens []uint8) (out [288]word, ok bool) {
	codes, ok := canonical(lens)
	for s, c := range codes {
		out[s] = word{c, lens[s]}
	}
	return out, ok
}
