package tensor

import (
	"bytes"
	"encoding/binary"
	"slices"
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
	blockLanes  = 3 // with a new model
	blockAgain  = 4 // with the model of the last such block
	blockRuns   = 5 // differences with classes of runs
	shortBlock  = 0x80
)

// A Coder encodes and decodes blocks of tensors. It keeps scratch memory, at most CoderMemory; it is not for concurrent use.
type Coder struct {
	sorter
	lanes
	runs
	bits  [maxAtoms * 4]byte // low bits that are not coded
	a, b  [maxAtoms]byte     // fields of quant blocks: of the base, of the target
	class [maxAtoms / 16]byte
	trial []byte

	// hard lists the fours of elements of which one has low bits.
	hard [maxAtoms / 4]uint16
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
		return maxAtoms * w
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
	c.lanes.lanes, c.misses, c.cuts = 0, 0, 0
	// Neighbouring quants that change do so the same way, and escapes would not show it.
	c.eights = fieldsOf(t) == nil
	for lo := 0; lo < whole; {
		b := block{base[lo:whole], target[lo:whole], min(size, whole-lo)}
		dst = c.encodeBlock(dst, t, &b)
		if lo == 0 { // the others will be about as long
			dst = slices.Grow(dst, min((len(dst)-start)*(whole/b.size)*9/8, len(target))+16)
		}
		lo += b.size
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

// A block is the first size bytes of what is left to encode.
type block struct {
	base, target []byte
	size         int
}

// encodeBlock appends a block of whole elements, and makes b.size smaller if a shorter one is better.
func (c *Coder) encodeBlock(dst []byte, t Type, b *block) []byte {
	if bytes.Equal(b.base[:b.size], b.target[:b.size]) {
		return append(dst, blockEqual)
	}
	start := len(dst)
	dst = c.encodeAlone(dst, t, b)
	if hasLanes(t) && b.size >= 4096 && c.misses < 2 && c.cuts < maxCuts && len(dst)-start > b.size*3/8 {
		size := b.size
		dst = c.encodeLong(dst, start, t, b)
		if b.size < size {
			c.cuts++
		}
	}
	return dst
}

// encodeAlone appends a block without a model.
func (c *Coder) encodeAlone(dst []byte, t Type, b *block) []byte {
	start := len(dst)
	if hasLanes(t) {
		dst = c.encodeFloats(dst, t, b)
	} else {
		dst = short(dst, blockDiff, t, b)
		dst = c.encodeDiff(dst, t, b.base[:b.size], b.target[:b.size])
	}
	// Where the base helps little it may even harm.
	if n := len(dst) - start; n > b.size*5/8 {
		c.trial = c.encodePlanes(short(c.trial[:0], blockPlanes, t, b), t, b.target[:b.size])
		if len(c.trial) < n {
			dst = append(dst[:start], c.trial...)
		}
	}
	return dst
}

// encodeFloats appends a block of differences, with classes of runs where that is better.
func (c *Coder) encodeFloats(dst []byte, t Type, b *block) []byte {
	n := b.size / t.Element()
	bits := c.floatSymbols(t, b.base[:b.size], b.target[:b.size])
	maybe, surely := c.runsDiffer(t, n)
	if surely {
		return c.encodeRuns(short(dst, blockRuns, t, b), t, n, bits)
	}
	start := len(dst)
	dst = c.bitStream(short(dst, blockDiff, t, b), bits)
	dst = c.sorter.encode(dst, n)
	if maybe {
		c.trial = c.encodeRuns(short(c.trial[:0], blockRuns, t, b), t, n, bits)
		if len(c.trial) < len(dst)-start {
			dst = append(dst[:start], c.trial...)
		}
	}
	return dst
}

// short begins a block of the form that has fewer elements than a whole one.
func short(dst []byte, form byte, t Type, b *block) []byte {
	if b.size == min(blockBytes(t), len(b.base)) {
		return append(dst, form)
	}
	return binary.AppendUvarint(append(dst, form|shortBlock), uint64(b.size/t.Element()))
}

func (c *Coder) encodeDiff(dst []byte, t Type, base, target []byte) []byte {
	switch t {
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
	c.lanes.lanes = 0
	for lo := 0; lo < whole; {
		n, form, rest, err := blockHead(p, t, min(size, whole-lo))
		if err != nil {
			return err
		}
		hi := lo + n
		if p, err = c.decodeBlock(dst[lo:hi], t, base[lo:hi], form, rest); err != nil {
			return err
		}
		lo = hi
	}
	if len(p) != len(dst)-whole {
		return errCorrupt
	}
	copy(dst[whole:], p)
	return nil
}

// blockHead reads the form of a block and its bytes of the target, whole if it is not a short one.
func blockHead(p []byte, t Type, whole int) (n int, form byte, rest []byte, err error) {
	if len(p) == 0 {
		return 0, 0, nil, errCorrupt
	}
	form, p = p[0], p[1:]
	if form&shortBlock == 0 {
		return whole, form, p, nil
	}
	v, k := binary.Uvarint(p)
	if k <= 0 || v == 0 || v >= uint64(whole/t.Element()) {
		return 0, 0, nil, errCorrupt
	}
	return int(v) * t.Element(), form &^ shortBlock, p[k:], nil
}

func (c *Coder) decodeBlock(dst []byte, t Type, base []byte, form byte, p []byte) ([]byte, error) {
	switch form {
	case blockEqual:
		copy(dst, base)
		return p, nil
	case blockDiff:
		return c.decodeDiff(dst, t, base, p)
	case blockPlanes:
		return c.decodePlanes(dst, t, p)
	}
	if !hasLanes(t) {
		return nil, errCorrupt
	}
	switch form {
	case blockRuns:
		c.on = true
		p, err := c.decodeDiff(dst, t, base, p)
		c.on = false
		return p, err
	case blockLanes:
		p, err := c.readModel(p)
		if err != nil {
			return nil, err
		}
		return c.decodeLanes(dst, t, base, p)
	case blockAgain:
		return c.decodeLanes(dst, t, base, p)
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
