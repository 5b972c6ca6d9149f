package tensor

import (
	"encoding/binary"
	"math/bits"
)

// Kinds of fields of quant blocks.
const (
	fieldScale  = iota // fp16 scales
	fieldNibble        // bytes of two 4-bit numbers
	fieldInt8          // signed bytes
	fieldBits          // bytes of 1-, 2- or 6-bit numbers: differences modulo 256
)

type quantField struct{ kind, bytes int }

// The fields in the order of the file, as ggml-common.h of https://github.com/ggml-org/ggml lays them out.
var quantFields = [...][]quantField{
	0:           {{fieldScale, 2}, {fieldNibble, 16}},
	Q4_1 - Q4_0: {{fieldScale, 4}, {fieldNibble, 16}},
	Q5_0 - Q4_0: {{fieldScale, 2}, {fieldBits, 4}, {fieldNibble, 16}},
	Q5_1 - Q4_0: {{fieldScale, 4}, {fieldBits, 4}, {fieldNibble, 16}},
	Q8_0 - Q4_0: {{fieldScale, 2}, {fieldInt8, 32}},
	Q8_1 - Q4_0: {{fieldScale, 4}, {fieldInt8, 32}},
	Q2_K - Q4_0: {{fieldNibble, 16}, {fieldBits, 64}, {fieldScale, 4}},
	Q3_K - Q4_0: {{fieldBits, 32}, {fieldBits, 64}, {fieldBits, 12}, {fieldScale, 2}},
	Q4_K - Q4_0: {{fieldScale, 4}, {fieldBits, 12}, {fieldNibble, 128}},
	Q5_K - Q4_0: {{fieldScale, 4}, {fieldBits, 12}, {fieldBits, 32}, {fieldNibble, 128}},
	Q6_K - Q4_0: {{fieldNibble, 128}, {fieldBits, 64}, {fieldInt8, 16}, {fieldScale, 2}},
}

func fieldsOf(t Type) []quantField {
	if t < Q4_0 || int(t-Q4_0) >= len(quantFields) {
		return nil
	}
	return quantFields[t-Q4_0]
}

// fieldOrder returns the fields with their places in the element, scales first: the others' keys depend on them.
func fieldOrder(t Type, do func(f quantField, off int) bool) {
	for _, scales := range []bool{true, false} {
		off := 0
		for _, f := range fieldsOf(t) {
			if (f.kind == fieldScale) == scales && !do(f, off) {
				return
			}
			off += f.bytes
		}
	}
}

// gather copies the field of every element into one run.
func gather(dst, src []byte, width, off, n int) int {
	at := 0
	for i := off; i < len(src); i += width {
		at += copy(dst[at:], src[i:i+n])
	}
	return at
}

func scatter(dst, src []byte, width, off, n int) {
	at := 0
	for i := off; i < len(dst); i += width {
		at += copy(dst[i:i+n], src[at:])
	}
}

func (c *Coder) encodeQuants(dst []byte, t Type, base, target []byte) []byte {
	w := t.Element()
	fieldOrder(t, func(f quantField, off int) bool {
		n := gather(c.a[:], base, w, off, f.bytes)
		gather(c.b[:], target, w, off, f.bytes)
		if f.kind == fieldScale {
			c.classify(n, f.bytes)
			dst = c.encodeFloat16(dst, F16, c.a[:n], c.b[:n])
			return true
		}
		atoms := c.fieldKeys(n, f)
		c.fieldSymbols(n, f.kind)
		dst = c.sorter.encode(dst, atoms)
		return true
	})
	return dst
}

func (c *Coder) decodeQuants(dst []byte, t Type, base, p []byte) (rest []byte, err error) {
	w := t.Element()
	fieldOrder(t, func(f quantField, off int) bool {
		n := gather(c.a[:], base, w, off, f.bytes)
		if f.kind == fieldScale {
			p, err = c.decodeFloat16(c.b[:n], F16, c.a[:n], p)
			c.classify(n, f.bytes)
		} else {
			atoms := c.fieldKeys(n, f)
			p, err = c.sorter.decode(p, atoms)
			c.fieldValues(n, f.kind)
		}
		scatter(dst, c.b[:n], w, off, f.bytes)
		return err == nil
	})
	return p, err
}

// classify sets the class of each element: 0 if the first scale is the same in c.a and c.b, else the bits of the distance.
func (c *Coder) classify(n, width int) {
	for i := 0; i < n; i += width {
		x, y := binary.LittleEndian.Uint16(c.a[i:]), binary.LittleEndian.Uint16(c.b[i:])
		c.class[i/width] = byte(min(bits.Len16(uint16(difference4(uint64(x), uint64(y)))), 15)) << 4
	}
}

// fieldKeys sets the keys for n bytes of a field in c.a and returns the symbols they have: the element's class, and
// what the old value is.
func (c *Coder) fieldKeys(n int, f quantField) int {
	// A field has a multiple of four bytes.
	for i, e := 0, 0; i < n; e++ {
		class := uint64(c.class[e]) * eachByte
		for end := i + f.bytes; i < end; i += 4 {
			x := binary.LittleEndian.Uint32(c.a[i : i+4])
			switch f.kind {
			case fieldNibble:
				binary.LittleEndian.PutUint64(c.keys[2*i:2*i+8], class|nibbles(x))
			case fieldInt8:
				k := keys8(I8, uint64(x))
				k -= k >> 4 & eachByte // 16 becomes 15
				binary.LittleEndian.PutUint32(c.keys[i:i+4], uint32(class|k))
			default:
				binary.LittleEndian.PutUint32(c.keys[i:i+4], uint32(class))
			}
		}
	}
	if f.kind == fieldNibble {
		return 2 * n
	}
	return n
}

// nibbles takes four bytes apart into eight numbers of 4 bits, the lower ones first.
func nibbles(v uint32) uint64 {
	w := widen(v)
	return (w | w<<4) & parts4
}

// fieldSymbols sets the symbols of n bytes of a field.
func (c *Coder) fieldSymbols(n, kind int) {
	switch kind {
	case fieldNibble:
		for i := 0; i+4 <= n; i += 4 {
			x, y := nibbles(binary.LittleEndian.Uint32(c.a[i:i+4])), nibbles(binary.LittleEndian.Uint32(c.b[i:i+4]))
			binary.LittleEndian.PutUint64(c.syms[2*i:2*i+8], (y|eachByte<<4-x)&parts4)
		}
	case fieldInt8:
		diffBytes(c.syms[:n], I8, c.a[:n], c.b[:n])
	default:
		diffBytes(c.syms[:n], Bytes, c.a[:n], c.b[:n])
	}
}

// fieldValues sets c.b from the symbols.
func (c *Coder) fieldValues(n, kind int) {
	switch kind {
	case fieldNibble:
		for i := 0; i+4 <= n; i += 4 {
			y := (nibbles(binary.LittleEndian.Uint32(c.a[i:i+4])) + binary.LittleEndian.Uint64(c.syms[2*i:2*i+8])&parts4) & parts4
			binary.LittleEndian.PutUint32(c.b[i:i+4], narrow((y|y>>4)&bytes16))
		}
	case fieldInt8:
		undiffBytes(c.b[:n], I8, c.a[:n], c.syms[:n])
	default:
		undiffBytes(c.b[:n], Bytes, c.a[:n], c.syms[:n])
	}
}
