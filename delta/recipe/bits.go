package recipe

import "io"

// bitWriter writes deflate's bits. Errors are sticky.
type bitWriter struct {
	w   io.Writer
	buf []byte
	acc uint64
	n   uint
	err error
}

func (b *bitWriter) bits(v uint32, k uint) {
	b.acc |= uint64(v) << b.n
	b.n += k
	for b.n >= 8 {
		b.buf = append(b.buf, byte(b.acc))
		b.acc >>= 8
		b.n -= 8
	}
	if len(b.buf) >= 64<<10 {
		b.flush()
	}
}

// align fills the byte up with the bits of pad.
func (b *bitWriter) align(pad byte) {
	if b.n > 0 {
		b.bits(uint32(pad)&(1<<(8-b.n)-1), 8-b.n)
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

// block writes one whole block; h is nil unless the block is dynamic.
func (b *bitWriter) block(d *deflateBlock, h *blockHead) error {
	final := uint32(0)
	if d.final {
		final = 1
	}
	b.bits(final|uint32(d.kind)<<1, 3)
	lit, dist := fixedLengths()
	switch d.kind {
	case kindStored:
		b.align(d.pad)
		b.bits(uint32(len(d.stored)), 16)
		b.bits(uint32(len(d.stored))^0xffff, 16)
		b.bytes(d.stored)
		return b.err
	case kindDynamic:
		if err := b.head(h); err != nil {
			return err
		}
		lit, dist = h.lit, h.dist
	}
	if err := b.symbols(d.tokens, lit, dist); err != nil {
		return err
	}
	if d.final {
		b.align(d.pad)
	}
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

// symbols writes tokens and the end marker; a symbol without a code is an error.
func (b *bitWriter) symbols(tokens []token, lit, dist []uint8) error {
	lc, ok1 := canonical(lit)
	dc, ok2 := canonical(dist)
	if !ok1 || !ok2 {
		return corrupt("block code has too many words")
	}
	put := func(codes []uint16, lens []uint8, s int) bool {
		if s >= len(lens) || lens[s] == 0 {
			return false
		}
		b.bits(uint32(codes[s]), uint(lens[s]))
		return true
	}
	for _, t := range tokens {
		if !t.isMatch() {
			if !put(lc, lit, int(t)) {
				return corrupt("literal without a code")
			}
			continue
		}
		l, d := lengthCode(t.length()), distCode(t.dist())
		if !put(lc, lit, 257+l) {
			return corrupt("length without a code")
		}
		b.bits(uint32(t.length())-uint32(lengthBase[l]), uint(lengthExtra[l]))
		if !put(dc, dist, d) {
			return corrupt("distance without a code")
		}
		b.bits(uint32(t.dist())-uint32(distBase[d]), uint(distExtra[d]))
	}
	if !put(lc, lit, endOfBlock) {
		return corrupt("end of block without a code")
	}
	return b.err
}
