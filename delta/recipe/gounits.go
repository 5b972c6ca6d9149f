package recipe

import "encoding/binary"

const (
	unitSize   = 65535
	unitSmall  = 128 // a last unit below this is never searched
	unitMargin = 15  // bytes at the end of a unit where no match begins
	unitBits   = 14
)

// nowhere is a position that is out of every reach.
const nowhere = -1 << 30

// goUnits plans Go's level 1 up to Go 1.26: the plain bytes are searched in units of 65535, each a block, with one
// candidate per hash and steps that grow while nothing is found. The search of a unit does not depend on what became
// of it: the writer throws its tokens away when they save too little.
type goUnits struct {
	w          *window
	start, end int
	table      [1 << unitBits]struct {
		pos int32
		val uint32
	}
	list []placed
}

func (u *goUnits) reset(w *window, start, end int) {
	u.w, u.start, u.end = w, start, end
	for i := range u.table {
		u.table[i].pos = nowhere
	}
}

func (u *goUnits) rebase(k int) {
	for i := range u.table {
		u.table[i].pos = max(u.table[i].pos-int32(k), nowhere)
	}
	u.start, u.end = u.start-k, u.end-k
}

func (u *goUnits) load(i int) uint32 { return binary.LittleEndian.Uint32(u.w.buf[i:]) }

func unitHash(v uint32) uint32 { return v * 0x1e35a7bd >> (32 - unitBits) }

// visit looks up the last position with the hash of the four bytes at s, puts s in its place, and returns it if it
// holds the same four bytes in reach, else -1.
func (u *goUnits) visit(s int) int {
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

func (u *goUnits) plan(s0 int) ([]placed, int) {
	end := min(s0+unitSize, u.end)
	u.list = u.list[:0]
	if end-s0 < unitSmall {
		return nil, end // the last unit
	}
	limit := end - unitMargin
	lowest := max(s0-unitSize, u.start)
	for s := s0; ; {
		cand := -1
		for skip, next := 32, s; cand < 0; {
			s = next
			next = s + skip>>5
			skip += skip >> 5
			if next > limit {
				return u.list, end
			}
			cand = u.visit(s)
		}
		for cand >= 0 {
			l := 4
			if cand+4 >= lowest { // bytes before the previous unit are not compared
				l += commonPrefix(u.w.buf, cand+4, s+4, min(maxMatch, end-s)-4)
			}
			u.list = append(u.list, placed{s, matchOf(l, s-cand)})
			s += l
			if s >= limit {
				return u.list, end
			}
			u.visit(s - 1)
			cand = u.visit(s)
		}
		s++
	}
}
