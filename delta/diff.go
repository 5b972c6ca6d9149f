package delta

import "encoding/binary"

// How a segment's differences from its copies are written.
const (
	diffGaps  = 0 // equal bytes counted, others as byte differences
	diffBytes = 1 // every byte difference
	diffBF16  = 2 // element differences, two bytes each, in the order of the base's exponents
	diffFP16  = 3
	diffFP32  = 4
	diffMax   = diffFP32
)

// An op copies n bytes from old, a place in the joined bases, to at, a place in the segment.
type op struct {
	at, n int
	old   int64
}

// An elementKind is a float format: its width in bytes and where the exponent begins.
type elementKind struct {
	width, shift uint
	mask         uint32
}

func elementOf(diff uint8) elementKind {
	switch diff {
	case diffBF16:
		return elementKind{2, 7, 0xff}
	case diffFP16:
		return elementKind{2, 10, 0x1f}
	}
	return elementKind{4, 23, 0xff}
}

func (k elementKind) load(b []byte) uint32 {
	if k.width == 2 {
		return uint32(binary.LittleEndian.Uint16(b))
	}
	return binary.LittleEndian.Uint32(b)
}

func (k elementKind) store(b []byte, v uint32) {
	if k.width == 2 {
		binary.LittleEndian.PutUint16(b, uint16(v))
		return
	}
	binary.LittleEndian.PutUint32(b, v)
}

func (k elementKind) bucket(v uint32) int { return int(v >> k.shift & k.mask) }

// ordered maps a float's bits to an integer of the same width that grows with the float, and back.
func (k elementKind) ordered(v uint32) uint32 {
	sign := uint32(1) << (8*k.width - 1)
	if v&sign != 0 {
		return ^v & (sign<<1 - 1)
	}
	return v | sign
}

func (k elementKind) unordered(v uint32) uint32 {
	sign := uint32(1) << (8*k.width - 1)
	if v&sign == 0 {
		return ^v & (sign<<1 - 1)
	}
	return v &^ sign
}

// zigzag maps small differences of either sign, modulo the width, to small numbers.
func (k elementKind) zigzag(d uint32) uint32 {
	s := 32 - 8*k.width
	x := int32(d<<s) >> s
	return uint32(x<<1^x>>31) & (1<<(8*k.width-1)<<1 - 1)
}

func unzigzag(z uint32) uint32 { return z>>1 ^ -(z & 1) }

// inner returns the part of a copy that holds whole elements: places that are multiples of the width in the plain bytes.
func (k elementKind) inner(o op, begin int64) (lo, hi int) {
	w := int64(k.width)
	lo = o.at + int((w-(begin+int64(o.at))%w)%w)
	hi = o.at + o.n
	if lo >= hi {
		return hi, hi
	}
	return lo, hi - (hi-lo)%int(w)
}

// elements visits each op's edge bytes and elements, in order.
func (k elementKind) elements(ops []op, begin int64, edge, element func(at int)) {
	for _, o := range ops {
		lo, hi := k.inner(o, begin)
		for i := o.at; i < lo; i++ {
			edge(i)
		}
		for i := lo; i < hi; i += int(k.width) {
			element(i)
		}
		for i := hi; i < o.at+o.n; i++ {
			edge(i)
		}
	}
}

// places counts the elements per bucket and returns where each bucket begins, and the count of edges and elements.
func (k elementKind) places(base []byte, ops []op, begin int64) (at [257]int, edges, n int) {
	k.elements(ops, begin, func(int) { edges++ }, func(i int) {
		at[k.bucket(k.load(base[i:]))+1]++
		n++
	})
	for i := 1; i < len(at); i++ {
		at[i] += at[i-1]
	}
	return at, edges, n
}

// encodeElements returns the differences stream. base has the copied bytes at the places of the target's.
func (k elementKind) encodeElements(target, base []byte, ops []op, begin int64) []byte {
	at, edges, n := k.places(base, ops, begin)
	out := make([]byte, edges+n*int(k.width))
	e := 0
	k.elements(ops, begin, func(i int) {
		out[e] = target[i] - base[i]
		e++
	}, func(i int) {
		b := k.load(base[i:])
		z := k.zigzag(k.ordered(k.load(target[i:])) - k.ordered(b))
		p := &at[k.bucket(b)]
		for j := range int(k.width) {
			out[edges+j*n+*p] = byte(z >> (8 * j))
		}
		*p++
	})
	return out
}

// decodeElements turns the copied bytes in p into the target's.
func (k elementKind) decodeElements(p []byte, diffs []byte, ops []op, begin int64) error {
	at, edges, n := k.places(p, ops, begin)
	if len(diffs) != edges+n*int(k.width) {
		return corrupt("differences of the wrong length")
	}
	e := 0
	k.elements(ops, begin, func(i int) {
		p[i] += diffs[e]
		e++
	}, func(i int) {
		b := k.load(p[i:])
		q := &at[k.bucket(b)]
		var z uint32
		for j := range int(k.width) {
			z |= uint32(diffs[edges+j*n+*q]) << (8 * j)
		}
		*q++
		k.store(p[i:], k.unordered((k.ordered(b)+unzigzag(z))&(1<<(8*k.width-1)<<1-1)))
	})
	return nil
}

// encodeGaps writes the differences of copies that are mostly equal: how many bytes are, then one that is not.
func encodeGaps(target, base []byte, ops []op) (gaps, diffs []byte) {
	run := uint64(0)
	for _, o := range ops {
		for i := o.at; i < o.at+o.n; i++ {
			if target[i] == base[i] {
				run++
				continue
			}
			gaps = binary.AppendUvarint(gaps, run)
			diffs = append(diffs, target[i]-base[i])
			run = 0
		}
	}
	return gaps, diffs
}

func decodeGaps(p, gaps, diffs []byte, ops []op) error {
	next := func() (int, error) {
		if len(gaps) == 0 {
			return maxPart, nil
		}
		v, err := uvarint(&gaps, maxPart)
		return int(v), err
	}
	gap, err := next()
	if err != nil {
		return err
	}
	for _, o := range ops {
		i := o.at
		for ; gap < o.at+o.n-i; i++ {
			i += gap
			if len(diffs) == 0 {
				return corrupt("differences run out")
			}
			p[i] += diffs[0]
			diffs = diffs[1:]
			if gap, err = next(); err != nil {
				return err
			}
		}
		gap -= o.at + o.n - i
	}
	if len(gaps) != 0 || len(diffs) != 0 {
		return corrupt("differences left over")
	}
	return nil
}
