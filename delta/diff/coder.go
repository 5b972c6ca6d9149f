package diff

// A coder is a binary arithmetic coder, as in M. Mahoney's lpaq: the interval [low, high] is 32 bits wide, and its leading
// byte is put out when both ends agree on it. With enc set it writes buf, else it reads buf, zero bytes after the end.
type coder struct {
	low, high, x uint32
	enc          bool
	buf          []byte
	pos          int // of the next byte to read
}

func newWriter(dst []byte) *coder { return &coder{high: 1<<32 - 1, enc: true, buf: dst} }

func newReader(b []byte) *coder {
	c := &coder{high: 1<<32 - 1, buf: b}
	for range 4 {
		c.x = c.x<<8 | uint32(c.next())
	}
	return c
}

func (c *coder) next() byte {
	c.pos++
	if c.pos > len(c.buf) {
		return 0
	}
	return c.buf[c.pos-1]
}

// bit codes one bit. p is the probability of a one in 1/65536, from 1 to 65535. When reading, the bit given is not looked at.
func (c *coder) bit(bit int, p uint32) int {
	mid := c.low + uint32(uint64(c.high-c.low)*uint64(p)>>16)
	if !c.enc {
		bit = 0
		if c.x <= mid {
			bit = 1
		}
	}
	if bit != 0 {
		c.high = mid
	} else {
		c.low = mid + 1
	}
	for (c.low^c.high)>>24 == 0 {
		c.shift()
	}
	return bit
}

func (c *coder) shift() {
	if c.enc {
		c.buf = append(c.buf, byte(c.high>>24))
	} else {
		c.x = c.x<<8 | uint32(c.next())
	}
	c.low <<= 8
	c.high = c.high<<8 | 255
}

// finish puts out what a reader needs to tell the last bit, and returns the bytes.
func (c *coder) finish() []byte {
	c.buf = append(c.buf, byte(c.high>>24), byte(c.high>>16))
	return c.buf
}

// over tells whether a reader has gone further past the end than finish and the first read account for.
func (c *coder) over() bool { return c.pos > len(c.buf)+2 }

// A prob is an adaptive probability of a one, in 1/65536.
type prob uint16

// code codes a bit and moves p by 1/2^rate of the error. The bounds of p keep the coder's interval valid.
func (p *prob) code(c *coder, bit int, rate uint) int {
	bit = c.bit(bit, uint32(*p))
	if bit != 0 {
		*p += (65535 - 31 - *p) >> rate
	} else {
		*p -= (*p - 32) >> rate
	}
	return bit
}

// A number is a model of unsigned numbers below 2^62: how many bits they have, in unary-coded binary tree form, then the
// bits, of which the upper three are modelled by value and the rest by place.
type number struct {
	size [64]prob
	top  [64][8]prob
	rest [64]prob
}

func newNumber() *number {
	n := &number{}
	for i := range n.size {
		n.size[i], n.rest[i] = 1<<15, 1<<15
		for j := range n.top[i] {
			n.top[i][j] = 1 << 15
		}
	}
	return n
}

const numberRate = 4

// code codes v, or returns what it reads.
func (n *number) code(c *coder, v uint64) uint64 {
	size := 1 // tree over six bits: the length of v+1, less one
	length := 63
	for length > 0 && (v+1)>>length == 0 {
		length--
	}
	for j := 5; j >= 0; j-- {
		size = size<<1 | n.size[size].code(c, length>>j&1, numberRate)
	}
	length = size & 63
	out, node := uint64(1), 1
	for j := length - 1; j >= 0; j-- {
		bit := int((v + 1) >> j & 1)
		if node < 8 {
			bit = n.top[length][node].code(c, bit, numberRate)
			node = node<<1 | bit
		} else {
			bit = n.rest[j].code(c, bit, numberRate)
		}
		out = out<<1 | uint64(bit)
	}
	return out - 1
}

// zigzag maps numbers of either sign and small size to small numbers.
func zigzag(v int64) uint64   { return uint64(v<<1 ^ v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }
