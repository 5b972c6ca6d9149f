package recipe

import "encoding/binary"

const (
	unitSize   = 65535
	unitSmall  = 128 // a last unit below this is never searched
	unitMargin = 15  // bytes at the end of a unit where no match begins
	unitBits   = 14
)

// units predicts Go's level 1 up to Go 1.26: the plain bytes are searched in units of 65535, each a block, with one
// candidate per hash and steps that grow while nothing is found. The search of a unit does not depend on what became
// of it: the writer throws its tokens away when they save too little.
type units struct {
	w          *window
	start, end int
	table      [1 << unitBits]struct {
		pos int32
		val uint32
	}
	pos    int
	uStart int // of the unit whose tokens are in list
	uEnd   int
	list   []unitToken
	at     int
}

type unitToken struct {
	pos int
	tok token
}

func newUnits(u *units, w *window, start, end int) *units {
	if u == nil {
		u = &units{}
	}
	u.w, u.start, u.end, u.pos, u.uStart, u.uEnd = w, start, end, start, start, start
	u.list, u.at = u.list[:0], 0
	for i := range u.table {
		u.table[i].pos = -1 << 30
	}
	return u
}

func (u *units) position() int { return u.pos }

// done: a block is a unit, whatever its tokens.
func (u *units) done(n int) bool {
	return u.pos >= u.end || n > 0 && (u.pos-u.start)%unitSize == 0
}

func (u *units) rebase(k int) {
	for i := range u.table {
		u.table[i].pos = max(u.table[i].pos-int32(k), -1<<30)
	}
	for i := range u.list {
		u.list[i].pos -= k
	}
	u.start, u.end, u.pos, u.uStart, u.uEnd = u.start-k, u.end-k, u.pos-k, u.uStart-k, u.uEnd-k
}

// enter searches the units that begin at pos or before and were not searched yet.
func (u *units) enter() {
	for u.pos >= u.uEnd && u.uEnd < u.end {
		u.search(u.uEnd)
	}
}

func (u *units) predict() token {
	u.enter()
	for u.at < len(u.list) && u.list[u.at].pos < u.pos {
		u.at++
	}
	if u.at < len(u.list) && u.list[u.at].pos == u.pos {
		return u.list[u.at].tok
	}
	return token(u.w.buf[u.pos])
}

func (u *units) commit(t token) {
	u.enter()
	u.pos += t.size()
}

func (u *units) jump(pos int) {
	u.pos = pos
	for u.pos > u.uEnd {
		u.search(u.uEnd)
	}
}

func (u *units) load(i int) uint32 { return binary.LittleEndian.Uint32(u.w.buf[i:]) }

func unitHash(v uint32) uint32 { return v * 0x1e35a7bd >> (32 - unitBits) }

// visit looks up the last position with the hash of the four bytes at s, puts s in its place, and returns it if it
// holds the same four bytes in reach, else -1.
func (u *units) visit(s int) int {
	v := u.load(s)
	e := &u.table[unitHash(v)]
	cand := int(e.pos)
	ok := e.val == v && s-cand <= ringSize
	e.pos, e.val = int32(s), v
	if !ok {
		return -1
	}
	return cand
}

// search fills list with the matches of the unit that begins at s0.
func (u *units) search(s0 int) {
	n := min(unitSize, u.end-s0)
	prevStart := u.uStart
	u.uStart, u.uEnd, u.list, u.at = s0, s0+n, u.list[:0], 0
	if n < unitSmall {
		return // the last unit
	}
	limit := s0 + n - unitMargin
	for s := s0; ; {
		cand := -1
		for skip, next := 32, s; cand < 0; {
			s = next
			next = s + skip>>5
			skip += skip >> 5
			if next > limit {
				return
			}
			cand = u.visit(s)
		}
		for cand >= 0 {
			l := u.extend(s, cand, max(prevStart, u.start))
			u.list = append(u.list, unitToken{s, matchOf(l, s-cand)})
			s += l
			if s >= limit {
				return
			}
			u.visit(s - 1)
			cand = u.visit(s)
		}
		s++
	}
}

// extend returns the length of the match at s with cand, whose first four bytes are known to be equal. Bytes before
// the previous unit are not compared.
func (u *units) extend(s, cand, lowest int) int {
	n := min(maxMatch, u.uEnd-s) - 4
	if cand+4 < lowest {
		return 4
	}
	return 4 + commonPrefix(u.w.buf, cand+4, s+4, n)
}
