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
	prev       [ringSize]uint16 // how far back the place before is with the same hash; noPlace: out of reach
	origin     int              // of the stream's plain bytes
	stop       int              // where they end
	start, end int              // of those that the writer may look at
	job        int              // where the writer begins anew, if the rules say so
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
	c.m, c.w, c.origin, c.stop, c.cut, c.pos = m, w, start, end, start, start
	c.end, c.job = start, start
	c.begin()
	return c
}

// begin starts the writer at pos, with what the rules say of the bytes before as its dictionary.
func (c *chains) begin() {
	c.start = c.pos - min(c.m.dict, c.pos-c.origin)
	c.ins = c.start
	c.forget()
	for i := range c.head {
		c.head[i] = nowhere
	}
}

// forget drops what the writer knew of the next position.
func (c *chains) forget() { c.prevLen, c.ahead, c.gaveUp = c.m.minLen-1, noPosition, 0 }

// enter goes on to the next piece of the input when the one before is done.
func (c *chains) enter() {
	for c.pos >= c.end && c.end < c.stop {
		c.forget()
		if c.m.period == 0 {
			c.end, c.job = c.stop, c.stop
			return
		}
		if c.pos >= c.job && c.pos > c.origin {
			c.begin()
		}
		c.piece()
	}
}

// piece finds the end of the piece at pos. A job of the writer has so many bytes, or ends with the last hit of a rolling
// hash in that many; each hit ends a piece.
func (c *chains) piece() {
	limit := c.job
	if c.pos >= c.job {
		limit = min(c.pos+c.m.period, c.stop)
		c.job = limit
	}
	c.end = limit
	if !c.m.rolling {
		return
	}
	h, i := uint32(rollHit), c.pos-12
	if i < c.origin {
		i = c.origin
	}
	first, last := 0, 0
	for ; i < limit; i++ {
		h = (h<<1 ^ uint32(c.w.buf[i])) & rollMask
		if h == rollHit && i >= c.pos {
			if last = i + 1; first == 0 {
				first = last
			}
		}
	}
	if first > 0 {
		c.end, c.job = first, last
	}
}

// The rolling hash of pigz -R has a hit when it has this value.
const (
	rollMask = 1<<12 - 1
	rollHit  = rollMask >> 1
)

// noPosition is a value of ahead that no position ever has, however far the window slides.
const noPosition = math.MinInt32

func (c *chains) position() int { return c.pos }
func (c *chains) flushed() bool { return c.pos >= c.stop }
func (c *chains) done(n int) bool {
	return n >= c.m.block || c.pos >= c.stop || n > 0 && c.pos >= c.end
}

func (c *chains) rebase(k int) {
	c.start, c.end, c.cut, c.pos, c.ins = c.start-k, c.end-k, c.cut-k, c.pos-k, c.ins-k
	c.origin, c.stop, c.job = c.origin-k, c.stop-k, c.job-k
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
		d = noPlace
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
	p := i - int(c.prev[i&ringMask])
	if p < lo || c.ins <= i {
		return 0, 0
	}
	// A longer match has the byte at best and the one before in common.
	at := buf[best-1:]
	for end := load16(at, i); ; {
		if load16(at, p) == end {
			n := matchLen(buf[i:], buf[p:])
			if n > best && (!m.sliding || n > 4 || i-p <= 4096) {
				best, dist = n, i-p
				if n >= nice {
					break
				}
				at = buf[best-1:]
				end = load16(at, i)
			}
		}
		tries--
		if p -= int(c.prev[p&ringMask]); p < further || tries <= 0 {
			break
		}
	}
	if dist == 0 || (!m.sliding && m.lazy > 0 && best == 3 && dist > 4096) {
		return 0, 0
	}
	return best, dist
}

// noPlace is a way back that leads out of every reach.
const noPlace = 1<<16 - 1

func load16(b []byte, i int) uint16 { return binary.LittleEndian.Uint16(b[i:]) }

func (c *chains) predict() token {
	c.enter()
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
	c.enter()
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
	c.forget()
}

func (c *chains) jump(pos int) {
	c.enter()
	c.insertTo(pos - 1)
	c.pos = pos
	c.forget()
}
