package tensor

import "encoding/binary"

// keys8 returns the keys of eight one-byte elements: the exponent of a float, the upper part of an integer's absolute value.
func keys8(t Type, x uint64) uint64 {
	switch t {
	case F8E4M3:
		return x >> 3 & parts4
	case F8E5M2:
		return x >> 2 & (eachByte * 31)
	case I8:
		neg := x >> 7 & eachByte
		return ((x ^ neg*255) + neg) >> 3 & (eachByte * 31)
	}
	return 0
}

func addBytes(a, b uint64) uint64 { return (a&sevens + b&sevens) ^ (a^b)&^sevens }

func subBytes(a, b uint64) uint64 { return (a | ^uint64(sevens) - b&sevens) ^ (a^^b)&^sevens }

// difference8 returns the symbols of eight one-byte elements: zigzag differences, positive when they lead away from zero.
func difference8(t Type, x, y uint64) uint64 {
	var d uint64
	switch t {
	case Bytes:
		return subBytes(y, x)
	case I8:
		neg := x >> 7 & eachByte
		d = addBytes(subBytes(y, x)^neg*255, neg)
	default: // floats, as in target4
		sign := x &^ sevens
		y ^= sign
		d = subBytes(y^(y>>7&eachByte)*127, x^sign)
	}
	return d<<1&^eachByte ^ (d>>7&eachByte)*255
}

// target8 is the inverse of difference8.
func target8(t Type, x, z uint64) uint64 {
	d := z>>1&sevens ^ (z&eachByte)*255
	switch t {
	case Bytes:
		return addBytes(x, z)
	case I8:
		neg := x >> 7 & eachByte
		return addBytes(x, addBytes(d^neg*255, neg))
	}
	sign := x &^ sevens
	y := addBytes(x^sign, d)
	return y ^ (y>>7&eachByte)*127 ^ sign
}

// keyBytes sets the keys of one-byte elements.
func keyBytes(keys []byte, t Type, base []byte) {
	i := 0
	for ; i+8 <= len(base); i += 8 {
		binary.LittleEndian.PutUint64(keys[i:i+8], keys8(t, binary.LittleEndian.Uint64(base[i:i+8])))
	}
	for ; i < len(base); i++ {
		keys[i] = byte(keys8(t, uint64(base[i])))
	}
}

// diffBytes sets the symbols of one-byte elements.
func diffBytes(syms []byte, t Type, base, target []byte) {
	i := 0
	for ; i+8 <= len(base); i += 8 {
		x, y := binary.LittleEndian.Uint64(base[i:i+8]), binary.LittleEndian.Uint64(target[i:i+8])
		binary.LittleEndian.PutUint64(syms[i:i+8], difference8(t, x, y))
	}
	for ; i < len(base); i++ {
		syms[i] = byte(difference8(t, uint64(base[i]), uint64(target[i])))
	}
}

// undiffBytes is the inverse of diffBytes.
func undiffBytes(dst []byte, t Type, base, syms []byte) {
	i := 0
	for ; i+8 <= len(base); i += 8 {
		x, z := binary.LittleEndian.Uint64(base[i:i+8]), binary.LittleEndian.Uint64(syms[i:i+8])
		binary.LittleEndian.PutUint64(dst[i:i+8], target8(t, x, z))
	}
	for ; i < len(base); i++ {
		dst[i] = byte(target8(t, uint64(base[i]), uint64(syms[i])))
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
