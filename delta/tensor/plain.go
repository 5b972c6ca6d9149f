package tensor

import "encoding/binary"

// keyBytes sets the keys of one-byte elements: the exponent of a float, the upper half of an integer's absolute value.
func keyBytes(keys []byte, t Type, base []byte) {
	for i, x := range base {
		switch t {
		case F8E4M3:
			x = x >> 3 & 15
		case F8E5M2:
			x = x >> 2 & 31
		case I8:
			m := byte(int8(x) >> 7)
			x = ((x ^ m) - m) >> 3
		default:
			x = 0
		}
		keys[i] = x
	}
}

func ordered8(v byte) byte { return v ^ (byte(int8(v)>>7) | 0x80) }

func unordered8(v byte) byte { return v ^ (^byte(int8(v)>>7) | 0x80) }

// diffBytes sets the symbols of one-byte elements: zigzag differences, positive when they lead away from zero.
func diffBytes(syms []byte, t Type, base, target []byte) {
	for i, x := range base {
		y := target[i]
		sign := int8(x) >> 7
		switch t {
		case F8E4M3, F8E5M2:
			x, y = ordered8(x), ordered8(y)
		case Bytes:
			syms[i] = y - x
			continue
		}
		d := int8(y - x)
		d = (d ^ sign) - sign
		syms[i] = byte(d<<1 ^ d>>7)
	}
}

func undiffBytes(dst []byte, t Type, base, syms []byte) {
	for i, x := range base {
		z := syms[i]
		sign := byte(int8(x) >> 7)
		d := z>>1 ^ -(z & 1)
		d = (d ^ sign) - sign
		switch t {
		case F8E4M3, F8E5M2:
			dst[i] = unordered8(ordered8(x) + d)
		case Bytes:
			dst[i] = x + z
		default:
			dst[i] = x + d
		}
	}
}

// number reads a little-endian integer.
func number(b []byte) (v uint64) {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.LittleEndian.Uint16(b))
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func putNumber(b []byte, v uint64) {
	switch len(b) {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	default:
		binary.LittleEndian.PutUint64(b, v)
	}
}

func ordered64(v uint64) uint64 { return v ^ (uint64(int64(v)>>63) | 1<<63) }

func unordered64(v uint64) uint64 { return v ^ (^uint64(int64(v)>>63) | 1<<63) }

// encodeWide codes integers and doubles: the zigzag differences in byte planes, lowest first, one stream each.
func (c *Coder) encodeWide(dst []byte, t Type, base, target []byte) []byte {
	w := t.Element()
	n := len(base) / w
	s := 64 - 8*uint(w)
	for k := range w {
		for i := range n {
			x, y := number(base[i*w:i*w+w]), number(target[i*w:i*w+w])
			if t == F64 {
				x, y = ordered64(x), ordered64(y)
			}
			d := int64((y-x)<<s) >> s
			c.syms[i] = byte(uint64(d<<1^d>>63) >> (8 * k))
		}
		dst = c.encodeOne(dst, n)
	}
	return dst
}

func (c *Coder) decodeWide(dst []byte, t Type, base, p []byte) ([]byte, error) {
	w := t.Element()
	n := len(base) / w
	clear(dst)
	for k := range w {
		var err error
		if p, err = c.entropy.decode(c.syms[:n], p); err != nil {
			return nil, err
		}
		for i, s := range c.syms[:n] {
			dst[i*w+k] = s
		}
	}
	for i := range n {
		z, x := number(dst[i*w:i*w+w]), number(base[i*w:i*w+w])
		d := z>>1 ^ -(z & 1)
		if t == F64 {
			putNumber(dst[i*w:i*w+w], unordered64(ordered64(x)+d))
			continue
		}
		putNumber(dst[i*w:i*w+w], x+d)
	}
	return p, nil
}

// planeWidth returns the bytes that the planes of a target of its own take apart: those of a number.
func planeWidth(t Type) int {
	if w := t.Element(); w <= 8 {
		return w
	}
	return 1
}

// encodePlanes codes a target without a base: byte planes, lowest first, one stream each. Floats are rotated left by one
// bit first, which leaves the exponent in the highest plane and the sign in the lowest.
func (c *Coder) encodePlanes(dst []byte, t Type, target []byte) []byte {
	w := planeWidth(t)
	for k := range w {
		n := 0
		for lo := 0; lo < len(target); lo += maxAtoms * w {
			n = c.plane(t, target[lo:min(lo+maxAtoms*w, len(target))], k)
			dst = c.encodeOne(dst, n)
		}
	}
	return dst
}

// plane sets the symbols of plane k.
func (c *Coder) plane(t Type, target []byte, k int) int {
	w := planeWidth(t)
	n := len(target) / w
	rotate := t == BF16 || t == F16 || t == F32 || t == F64
	for i := range n {
		b := target[i*w+k]
		if rotate {
			b = b<<1 | target[i*w+(k+w-1)%w]>>7
		}
		c.syms[i] = b
	}
	return n
}

func (c *Coder) decodePlanes(dst []byte, t Type, p []byte) ([]byte, error) {
	w := planeWidth(t)
	rotate := t == BF16 || t == F16 || t == F32 || t == F64
	for k := range w {
		for lo := 0; lo < len(dst); lo += maxAtoms * w {
			part := dst[lo:min(lo+maxAtoms*w, len(dst))]
			n := len(part) / w
			var err error
			if p, err = c.entropy.decode(c.syms[:n], p); err != nil {
				return nil, err
			}
			for i, s := range c.syms[:n] {
				part[i*w+k] = s
			}
		}
	}
	if rotate {
		unrotate(dst, w)
	}
	return p, nil
}

func unrotate(dst []byte, w int) {
	for i := 0; i+w <= len(dst); i += w {
		first := dst[i]
		for k := range w {
			next := first
			if k+1 < w {
				next = dst[i+k+1]
			}
			dst[i+k] = dst[i+k]>>1 | next<<7
		}
	}
}
