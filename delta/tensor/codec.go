package tensor

import (
	"bytes"
	"encoding/binary"
)

// MaxBlock is the most target bytes of one Encode call.
const MaxBlock = 4 << 20

// Forms of a payload, its first byte.
const (
	formStored = 0
	formEqual  = 1
	formBlocks = 2
)

// Forms of a block.
const (
	blockEqual  = 0
	blockDiff   = 1
	blockPlanes = 2
)

// A Coder encodes and decodes blocks of tensors. It keeps scratch memory, at most CoderMemory; it is not for concurrent use.
type Coder struct {
	sorter
	bits  [maxAtoms * 4]byte // low bits that are not coded
	a, b  [maxAtoms]byte     // fields of quant blocks: of the base, of the target
	class [maxAtoms / 16]byte
	trial []byte
}

// NewCoder returns a Coder.
func NewCoder() *Coder { return &Coder{} }

// blockBytes returns the bytes of the target in one block of the payload.
func blockBytes(t Type) int {
	w := t.Element()
	switch {
	case t == Bytes || w == 1:
		return maxAtoms
	case w <= 4:
		return 1 << 16 * w
	case w == 8:
		return 1 << 15 * w
	}
	return maxAtoms / int(elementsIn(t)) * w
}

// Encode appends to dst what Decode needs to make target out of base. base and target have the same length, at most
// MaxBlock; more is coded as bytes that follow no base. The payload is at most 16 bytes longer than target.
func (c *Coder) Encode(dst []byte, t Type, base, target []byte) []byte {
	start := len(dst)
	if len(base) != len(target) || len(target) > MaxBlock || t.Element() == 0 {
		return append(append(dst, formStored), target...)
	}
	if bytes.Equal(base, target) {
		return append(dst, formEqual)
	}
	dst = append(dst, formBlocks)
	whole := len(target) - len(target)%t.Element()
	size := blockBytes(t)
	for lo := 0; lo < whole; lo += size {
		hi := min(lo+size, whole)
		dst = c.encodeBlock(dst, t, base[lo:hi], target[lo:hi])
		if len(dst)-start > len(target)+len(target)/4 {
			break
		}
	}
	dst = append(dst, target[whole:]...)
	if len(dst)-start > len(target) {
		return append(append(dst[:start], formStored), target...)
	}
	return dst
}

// encodeBlock appends one block of whole elements.
func (c *Coder) encodeBlock(dst []byte, t Type, base, target []byte) []byte {
	if bytes.Equal(base, target) {
		return append(dst, blockEqual)
	}
	start := len(dst)
	dst = append(dst, blockDiff)
	dst = c.encodeDiff(dst, t, base, target)
	// Where the base helps little it may even harm.
	if n := len(dst) - start; n > len(target)/2 {
		c.trial = c.encodePlanes(append(c.trial[:0], blockPlanes), t, target)
		if len(c.trial) < n {
			dst = append(dst[:start], c.trial...)
		}
	}
	return dst
}

func (c *Coder) encodeDiff(dst []byte, t Type, base, target []byte) []byte {
	switch t {
	case BF16, F16:
		return c.encodeFloat16(dst, t, base, target)
	case F32:
		return c.encodeFloat32(dst, base, target)
	case Bytes, I8, F8E4M3, F8E5M2:
		diffBytes(c.syms[:len(base)], t, base, target)
		keyBytes(c.keys[:len(base)], t, base)
		return c.sorter.encode(dst, len(base))
	case I16, I32, I64, F64:
		return c.encodeWide(dst, t, base, target)
	}
	return c.encodeQuants(dst, t, base, target)
}

// Decode turns a payload of Encode back into the target. dst and base have the length of the target; they may not overlap.
// Any payload that no Encode wrote gives an error or some bytes, never a panic.
func (c *Coder) Decode(dst []byte, t Type, base, enc []byte) error {
	if len(base) != len(dst) || t.Element() == 0 || len(enc) == 0 {
		return errCorrupt
	}
	form, p := enc[0], enc[1:]
	if form == formStored {
		if len(p) != len(dst) {
			return errCorrupt
		}
		copy(dst, p)
		return nil
	}
	if form == formEqual && len(p) == 0 {
		copy(dst, base)
		return nil
	}
	if form != formBlocks || len(dst) > MaxBlock {
		return errCorrupt
	}
	whole := len(dst) - len(dst)%t.Element()
	size := blockBytes(t)
	for lo := 0; lo < whole; lo += size {
		hi := min(lo+size, whole)
		var err error
		if p, err = c.decodeBlock(dst[lo:hi], t, base[lo:hi], p); err != nil {
			return err
		}
	}
	if len(p) != len(dst)-whole {
		return errCorrupt
	}
	copy(dst[whole:], p)
	return nil
}

func (c *Coder) decodeBlock(dst []byte, t Type, base, p []byte) ([]byte, error) {
	if len(p) == 0 {
		return nil, errCorrupt
	}
	form, p := p[0], p[1:]
	switch form {
	case blockEqual:
		copy(dst, base)
		return p, nil
	case blockDiff:
		return c.decodeDiff(dst, t, base, p)
	case blockPlanes:
		return c.decodePlanes(dst, t, p)
	}
	return nil, errCorrupt
}

func (c *Coder) decodeDiff(dst []byte, t Type, base, p []byte) ([]byte, error) {
	switch t {
	case BF16, F16:
		return c.decodeFloat16(dst, t, base, p)
	case F32:
		return c.decodeFloat32(dst, base, p)
	case Bytes, I8, F8E4M3, F8E5M2:
		keyBytes(c.keys[:len(base)], t, base)
		p, err := c.sorter.decode(p, len(base))
		if err == nil {
			undiffBytes(dst, t, base, c.syms[:len(base)])
		}
		return p, err
	case I16, I32, I64, F64:
		return c.decodeWide(dst, t, base, p)
	}
	return c.decodeQuants(dst, t, base, p)
}

// bitStream appends the low bits that an encoder left in c.bits.
func (c *Coder) bitStream(dst []byte, bits uint64) []byte {
	dst = binary.AppendUvarint(dst, bits)
	return append(dst, c.bits[:(bits+7)/8]...)
}

// readBits moves the low bits to c.bits and returns their count.
func (c *Coder) readBits(p []byte) (bits uint64, rest []byte, err error) {
	bits, k := binary.Uvarint(p)
	if k <= 0 || bits > uint64(len(p)-k)*8 || (bits+7)/8 > uint64(len(c.bits)-8) {
		return 0, nil, errCorrupt
	}
	n := int((bits + 7) / 8)
	p = p[k:]
	copy(c.bits[:], p[:n])
	return bits, p[n:], nil
}
