package recipe

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// chains predicts writers that keep a chain of earlier positions per hash and, from level 4, look one byte ahead before
// they take a match: the zlib family, and Go's levels 2 to 9 up to Go 1.26.
type chains struct {
	m          *rules
	w          *window
	head       []int32          // newest place of a hash
	prev       [ringSize]uint16 // how far back the place before is with the same hash; 0: out of reach
	start, end int              // of the stream's plain bytes
	cut        int              // Go: where the writer's window begins
	pos        int
	ins        int // first position not yet inserted

	prevLen  int // length of the match at pos-1 that was given up for a better one here, else minLen-1
	ahead    int // position for which aheadLen and aheadAt hold, or noPosition
	aheadLen int
	aheadAt  int
	gaveUp   int // length of the match at pos that the last prediction gave up, or 0
}

func newChains(c *chains, m *rules, w *window, start, end int) *chains {
	if c == nil {
		size := 1 << 15
		switch m.hash {
		case hashGo:
			size = 1 << 17
		case hashShift16:
			size = 1 << 16
		}
		c = &chains{head: make([]int32, size)}
	}
	c.m, c.w, c.start, c.end, c.cut, c.pos, c.ins = m, w, start, end, start, start, start
	c.prevLen, c.ahead, c.gaveUp = m.minLen-1, noPosition, 0
	for i := range c.head {
		c.head[i] = nowhere
	}
	return c
}

// noPosition is a value of ahead that no position ever has, however far the window slides.
const noPosition = math.MinInt32

func (c *chains) position() int   { return c.pos }
func (c *chains) flushed() bool   { return c.pos >= c.end }
func (c *chains) done(n int) bool { return n >= c.m.block || c.pos >= c.end }

func (c *chains) rebase(k int) {
	c.start, c.end, c.cut, c.pos, c.ins = c.start-k, c.end-k, c.cut-k, c.pos-k, c.ins-k
	if c.ahead != noPosition {
		c.ahead -= k
	}
	rebasePlaces(c.head, k)
}

// insertTo inserts all positions up to i that were not yet.
func (c *chains) insertTo(i int) {
	need := 3
	if c.m.hash == hashGo || c.m.hash == hashRabin {
		need = 4
	}
	i = min(i, c.end-need)
	if c.ins > i {
		return
	}
	b := c.w.buf[:i+need]
	k := c.ins
	switch c.m.hash {
	case hashGo:
		for ; k <= i; k++ {
			c.insert(k, bits.ReverseBytes32(load32(b, k))*0x1e35a7bd>>15)
		}
	case hashRabin:
		for ; k <= i; k++ {
			c.insert(k, (load32(b, k)*66521+66521)>>16&0x7fff)
		}
	case hashShift16:
		for ; k <= i; k++ {
			c.insert(k, (uint32(b[k])<<12^uint32(b[k+1])<<6^uint32(b[k+2]))&0xffff)
		}
	default:
		for ; k <= i; k++ {
			c.insert(k, (uint32(b[k])<<10^uint32(b[k+1])<<5^uint32(b[k+2]))&0x7fff)
		}
	}
	c.ins = k
}

func (c *chains) insert(k int, hash uint32) {
	h := &c.head[hash]
	d := k - int(*h)
	if d > ringSize {
		d = 0
	}
	c.prev[k&ringMask] = uint16(d)
	*h = int32(k)
}

// reach returns the lowest position that the first and the further candidates for a match at i may have.
func (c *chains) reach(i int) (first, further int) {
	if !c.m.sliding {
		// Position zero means "none" to this family, and only the first candidate may be at the very limit.
		return max(i-c.m.maxDist, c.start+1), max(i-c.m.maxDist+1, c.start+1)
	}
	for c.cut+2*ringSize < c.end && c.cut+2*ringSize-i < 262 {
		c.cut += ringSize
	}
	lo := max(i-c.m.maxDist, c.cut)
	return lo, lo
}

// find returns the match the writer finds at i after one of prevLen at the byte before; dist 0 for none.
func (c *chains) find(i, prevLen int) (length, dist int) {
	m, look := c.m, c.end-i
	if look < m.minLen || look <= prevLen || (m.lazy > 0 && prevLen >= m.lazy) {
		return 0, 0
	}
	c.insertTo(i)
	best, tries := m.minLen-1, m.chain
	if !m.sliding {
		best = prevLen
		if m.good > 0 && prevLen >= m.good {
			tries >>= 2
		}
	}
	limit, nice := min(maxMatch, look), min(m.nice, look)
	lo, further := c.reach(i)
	buf := c.w.buf[:i+limit]
	d := int(c.prev[i&ringMask])
	p := i - d
	if d == 0 || p < lo || c.ins <= i {
		return 0, 0
	}
	// A longer match has the byte at best and the one before in common.
	for end := load16(buf, i+best-1); ; {
		if load16(buf, p+best-1) == end {
			n := matchLen(buf[i:], buf[p:])
			if n > best && (!m.sliding || n > 4 || i-p <= 4096) {
				best, dist = n, i-p
				if n >= nice {
					break
				}
				end = load16(buf, i+best-1)
			}
		}
		if tries--; tries <= 0 || i-p == ringSize {
			break // or the writer's ring has already been overwritten here
		}
		d := int(c.prev[p&ringMask])
		if p -= d; d == 0 || p < further {
			break
		}
	}
	if dist == 0 || (!m.sliding && m.lazy > 0 && best == 3 && dist > 4096) {
		return 0, 0
	}
	return best, dist
}

func load16(b []byte, i int) uint16 { return binary.LittleEndian.Uint16(b[i:]) }

func (c *chains) predict() token {
	lit := token(c.w.buf[c.pos])
	c.gaveUp = 0
	if c.m.lazy == 0 {
		if l, d := c.find(c.pos, c.m.minLen-1); d > 0 {
			return matchOf(l, d)
		}
		return lit
	}
	l, d := c.aheadLen, c.aheadAt
	if c.ahead != c.pos {
		l, d = c.find(c.pos, c.prevLen)
	}
	if d == 0 {
		return lit
	}
	c.ahead = c.pos + 1
	c.aheadLen, c.aheadAt = c.find(c.pos+1, l)
	if c.aheadAt > 0 && c.aheadLen > l {
		c.gaveUp = l
		return lit
	}
	return matchOf(l, d)
}

func (c *chains) commit(t token) {
	if !t.isMatch() {
		c.insertTo(c.pos)
		c.prevLen = c.m.minLen - 1
		if c.gaveUp > 0 {
			c.prevLen = c.gaveUp
		} else {
			c.ahead = noPosition
		}
		c.gaveUp = 0
		c.pos++
		return
	}
	n := t.length()
	if c.m.lazy > 0 || n <= c.m.insert {
		c.insertTo(c.pos + n - 1)
	} else {
		c.insertTo(c.pos)
		c.ins = max(c.ins, c.pos+n)
	}
	c.pos += n
	c.prevLen, c.ahead, c.gaveUp = c.m.minLen-1, noPosition, 0
}

func (c *chains) jump(pos int) {
	c.insertTo(pos - 1)
	c.pos = pos
	c.prevLen, c.ahead, c.gaveUp = c.m.minLen-1, noPosition, 0
}
