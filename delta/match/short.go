package match

import (
	"encoding/binary"
	"slices"
)

const (
	shortLen    = 8       // bytes that must be equal
	shortWorth  = 12      // bytes that a short copy must make, more than it gets wrong
	shortMargin = 1 << 11 // so far around the place in the old bytes where a gap would lie, short matches are looked for
	shortBits   = 13
	shortGive   = 32      // how far a copy that gets worse is followed
	shortPart   = 1 << 13 // so much of a gap is looked at together
)

// short looks for copies inside what the others left uncovered, near the place where the neighbours lie in the old bytes.
func (s *search) short() {
	table := make([]uint32, 1<<shortBits)
	found := s.out
	end, old := 0, 0
	for _, c := range append(slices.Clone(s.out), Copy{New: int64(len(s.p)), Old: -1}) {
		for hi := int(c.New); hi-end >= shortWorth; {
			n := min(hi-end, shortPart)
			found = s.near(table, found, end, end+n, max(old-shortMargin, 0), min(old+n+shortMargin, len(s.old)))
			end, old = end+n, old+n
		}
		end, old = int(c.New+c.Len), int(c.Old+c.Len)
	}
	slices.SortFunc(found, func(a, b Copy) int { return int(min(max(a.New-b.New, -1), 1)) })
	s.out = found
}

// near appends the short copies of p[lo:hi] from old[from:to]. The table holds places less from, and one.
func (s *search) near(table []uint32, found []Copy, lo, hi, from, to int) []Copy {
	if to-from < shortLen {
		return found
	}
	clear(table)
	hash := func(b []byte) uint64 { return binary.LittleEndian.Uint64(b) * 0x9e3779b97f4a7c15 >> (64 - shortBits) }
	for i := to - shortLen; i >= from; i-- {
		table[hash(s.old[i:])] = uint32(i - from + 1)
	}
	start := lo
	for at := lo; at+shortLen <= hi; {
		c := from + int(table[hash(s.p[at:])]) - 1
		n := 0
		if c >= from {
			n = equal(s.old[c:to], s.p[at:hi])
		}
		if n < shortLen {
			at++
			continue
		}
		f := s.forward(at+n, c+n, hi, shortGive)
		b := s.backward(at, c, start, shortGive)
		if right := s.right(at-b, c-b, b+n+f); 2*right-(b+n+f) < shortWorth {
			at++
			continue
		}
		found = append(found, Copy{int64(at - b), int64(c - b), int64(b + n + f)})
		at += n + f
		start = at
	}
	return found
}

// right counts the bytes that a copy makes as they are.
func (s *search) right(at, c, n int) int {
	k := 0
	for i := range n {
		if s.p[at+i] == s.old[c+i] {
			k++
		}
	}
	return k
}
