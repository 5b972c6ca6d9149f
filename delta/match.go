package delta

import "encoding/binary"

// anchor is the size of the base blocks that the index knows.
const anchor = 16

// index finds anchors of the joined bases: one slot per hash, holding a block number + 1, the earliest block first.
type index struct {
	old   []byte
	table []uint32
	shift uint
}

func anchorHash(p []byte) uint64 {
	a, b := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
	x := a*0x9e3779b97f4a7c15 ^ (b*0xc2b2ae3d27d4eb4f + 0x165667b19e3779f9)
	x ^= x >> 29
	return x * 0x9e3779b97f4a7c15
}

func newIndex(old []byte) *index {
	n, bits := len(old)/anchor, uint(10)
	for n*3/2 > 1<<bits {
		bits++
	}
	ix := &index{old: old, table: make([]uint32, 1<<bits), shift: 64 - bits}
	for i := range n {
		p := old[i*anchor : (i+1)*anchor]
		s := anchorHash(p) >> ix.shift
		if v := ix.table[s]; v != 0 {
			if c := int(v-1) * anchor; string(old[c:c+anchor]) == string(p) {
				continue
			}
			if s = (s + 1) & uint64(len(ix.table)-1); ix.table[s] != 0 {
				continue
			}
		}
		ix.table[s] = uint32(i + 1)
	}
	return ix
}

// lookup returns the place of a base block equal to the anchor at p, or -1.
func (ix *index) lookup(p []byte) int {
	s := anchorHash(p) >> ix.shift
	for k := range uint64(2) {
		v := ix.table[(s+k)&uint64(len(ix.table)-1)]
		if v == 0 {
			return -1
		}
		c := int(v-1) * anchor
		if string(ix.old[c:c+anchor]) == string(p[:anchor]) {
			return c
		}
	}
	return -1
}

// scan holds the search of one segment.
type scan struct {
	*index
	p     []byte
	ops   []op
	shift int // place in old minus place in p, of the last copy
	have  bool
}

// match returns the copies that make most of p. shift is the alignment of the segment before, to try first.
func (ix *index) match(p []byte, shift int) []op {
	s := &scan{index: ix, p: p, shift: shift}
	s.have = true
	s.anchors()
	s.widen()
	return joinOps(s.ops)
}

// joinOps drops empty copies and makes one of neighbours that continue each other.
func joinOps(in []op) []op {
	out := in[:0]
	for _, o := range in {
		if o.n <= 0 {
			continue
		}
		if k := len(out) - 1; k >= 0 && out[k].at+out[k].n == o.at && out[k].old+int64(out[k].n) == o.old {
			out[k].n += o.n
			continue
		}
		out = append(out, o)
	}
	return out
}

// farOn is the distance after which a return to the same alignment is a copy of its own: widening may not get there.
const farOn = 64

// anchors finds exact copies, staying on an alignment as long as it serves.
func (s *scan) anchors() {
	end := -1 // where the last copy on this alignment ended, or negative
	for at := 0; at+anchor <= len(s.p); {
		if o := at + s.shift; s.have && o >= 0 && o < len(s.old) {
			if n := matchLen(s.old[o:], s.p[at:]); n >= anchor {
				if end < 0 || at-end > farOn {
					s.ops = append(s.ops, op{at, n, int64(o)})
				}
				at += n
				end = at
				continue
			}
		}
		c := s.lookup(s.p[at:])
		if c < 0 || (s.have && c-at == s.shift) {
			at++
			continue
		}
		n := matchLen(s.old[c:], s.p[at:])
		b := s.back(at, c)
		if s.have && n+b <= s.agreeing(at-b, at+n)+12 {
			at++
			continue
		}
		s.shift, s.have = c-at, true
		s.ops = append(s.ops, op{at - b, n + b, int64(c - b)})
		at += n
		end = at
	}
}

// back returns how far the match of at with c goes back, up to the start of the last copy.
func (s *scan) back(at, c int) int {
	lo := 0
	if len(s.ops) > 0 {
		lo = s.ops[len(s.ops)-1].at + 1
	}
	b := 0
	for at-b > lo && c > b && s.old[c-b-1] == s.p[at-b-1] {
		b++
	}
	return b
}

// agreeing counts the bytes of p[lo:hi] that the present alignment gets right.
func (s *scan) agreeing(lo, hi int) int {
	n := 0
	for i := lo; i < hi; i++ {
		if o := i + s.shift; o >= 0 && o < len(s.old) && s.old[o] == s.p[i] {
			n++
		}
	}
	return n
}

// giveUp is how far a copy that gets worse is followed.
const giveUp = 4096

// widen lets copies grow over bytes that mostly agree, and settles where neighbours meet.
func (s *scan) widen() {
	if len(s.ops) > 0 {
		o := &s.ops[0]
		b := s.backward(o.at, int(o.old), 0)
		o.at, o.old, o.n = o.at-b, o.old-int64(b), o.n+b
	}
	for i := range s.ops {
		o := &s.ops[i]
		limit := len(s.p)
		if i+1 < len(s.ops) {
			limit = s.ops[i+1].at
		}
		if o.at+o.n > limit {
			o.n = limit - o.at
		}
		o.n += s.forward(o.at+o.n, int(o.old)+o.n, limit)
		if i+1 == len(s.ops) {
			break
		}
		next := &s.ops[i+1]
		b := s.backward(next.at, int(next.old), o.at+1)
		next.at, next.old, next.n = next.at-b, next.old-int64(b), next.n+b
		if over := o.at + o.n - next.at; over > 0 {
			s.settle(o, next, over)
		}
	}
}

// forward returns how far a copy that ends before p[at] and old[c] is worth following.
func (s *scan) forward(at, c, limit int) int {
	same, score, best := 0, 0, 0
	for k := 0; at+k < limit && c+k < len(s.old) && k-2*same <= giveUp; k++ {
		if s.old[c+k] == s.p[at+k] {
			same++
		}
		if v := 2*same - (k + 1); v > score {
			score, best = v, k+1
		}
	}
	return best
}

// backward is forward's mirror, down to p[limit].
func (s *scan) backward(at, c, limit int) int {
	same, score, best := 0, 0, 0
	for k := 1; at-k >= limit && c-k >= 0 && k-2*same <= giveUp; k++ {
		if s.old[c-k] == s.p[at-k] {
			same++
		}
		if v := 2*same - k; v > score {
			score, best = v, k
		}
	}
	return best
}

// settle gives each byte that two neighbours claim to the one on whose side it does better.
func (s *scan) settle(o, next *op, over int) {
	score, best, cut := 0, 0, 0
	for k := range over {
		i := o.at + o.n - over + k
		if s.p[i] == s.old[int(o.old)+o.n-over+k] {
			score++
		}
		if s.p[i] == s.old[int(next.old)+k] {
			score--
		}
		if score > best {
			best, cut = score, k+1
		}
	}
	o.n -= over - cut
	next.at, next.old, next.n = next.at+cut, next.old+int64(cut), next.n-cut
}
