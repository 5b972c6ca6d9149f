package diff

import (
	"cmp"
	"slices"

	"github.com/wordcab/wcbundle/delta/match"
)

// A span of addresses begins at from and moves by shift; it ends where the next begins.
type span struct{ from, shift int64 }

// shifts says what becomes of old addresses. pages[i] is the number of spans that begin before page i.
type shifts struct {
	spans  []span
	pages  []uint32
	lo, hi int64 // addresses that the old file knows
	page   uint
}

// slack is how far after the last known address one is still taken for an address.
const slack = 64 << 20

// newShifts derives the movement of addresses from the copies: what begins in a copy moves with it, what lies between
// copies with the copy before. Copies that lie inside others are left out.
func newShifts(m *Map) [2]shifts {
	var out [2]shifts
	old, zero := m.OldLoads, []Load(nil)
	if len(old) == 0 || len(m.NewLoads) == 0 {
		return out
	}
	for _, l := range m.NewLoads {
		if l.Len == 0 {
			zero = append(zero, l)
		}
	}
	copies := byOld(m.Copies)
	for _, l := range old {
		s := &out[aside(l.Addr)]
		if l.Len > 0 {
			s.add(l, copies, m.NewLoads)
		} else if len(zero) > 0 {
			s.spans = append(s.spans, span{l.Addr, zero[0].Addr - l.Addr})
			zero = zero[1:]
		}
		if s.hi == s.lo {
			s.lo, s.hi = l.Addr, l.Addr+l.Len
		}
		s.lo, s.hi = min(s.lo, l.Addr), max(s.hi, l.Addr+l.Len)
	}
	out[0].hi += slack
	for i := range out {
		s := &out[i]
		slices.SortStableFunc(s.spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		s.index()
	}
	return out
}

// aside tells whether an address is that of a section which is not in memory; such have their own shifts.
func aside(addr int64) int {
	if addr >= asideAddr {
		return 1
	}
	return 0
}

// byOld returns the copies sorted by Old and cut so that they do not overlap there; what begins first, stays, unless
// what overlaps its end is longer.
func byOld(in []match.Copy) []match.Copy {
	sorted := slices.Clone(in)
	slices.SortStableFunc(sorted, func(a, b match.Copy) int { return cmp.Compare(a.Old, b.Old) })
	out := sorted[:0]
	for _, c := range sorted {
		if k := len(out) - 1; k >= 0 && c.Old < out[k].Old+out[k].Len {
			last := &out[k]
			over := last.Old + last.Len - c.Old
			if over >= c.Len {
				continue
			}
			if c.Len > last.Len {
				last.Len -= over
			} else {
				c = match.Copy{New: c.New + over, Old: c.Old + over, Len: c.Len - over}
			}
		}
		out = append(out, c)
	}
	return out
}

// add adds the spans of one old load.
func (s *shifts) add(l Load, copies []match.Copy, loads []Load) {
	i, _ := slices.BinarySearchFunc(copies, l.Off, func(c match.Copy, off int64) int {
		if c.Old+c.Len <= off {
			return -1
		}
		return 1
	})
	for ; i < len(copies) && copies[i].Old < l.Off+l.Len; i++ {
		c := copies[i]
		lo := max(c.Old, l.Off)
		to, ok := address(loads, lo-c.Old+c.New)
		if !ok || c.Len <= 0 {
			continue
		}
		from := l.Addr + lo - l.Off
		s.spans = append(s.spans, span{from, to - from})
	}
}

// address returns the address of a place in a file.
func address(loads []Load, off int64) (int64, bool) {
	for _, l := range loads {
		if off >= l.Off && off-l.Off < l.Len {
			return l.Addr + off - l.Off, true
		}
	}
	return 0, false
}

// index makes the table of pages: about as many as there are spans, at most 2^20.
func (s *shifts) index() {
	if len(s.spans) == 0 {
		return
	}
	width := s.spans[len(s.spans)-1].from - s.spans[0].from
	limit := int64(min(max(len(s.spans)*2, 1<<10), 1<<20))
	for width>>s.page >= limit {
		s.page++
	}
	s.pages = make([]uint32, width>>s.page+2)
	for _, p := range s.spans {
		s.pages[(p.from-s.spans[0].from)>>s.page+1]++
	}
	for i := 1; i < len(s.pages); i++ {
		s.pages[i] += s.pages[i-1]
	}
}

// of returns by how much the old address t moves, and whether t looks like an address of the old file.
func (s *shifts) of(t int64) (int64, bool) {
	if t < s.lo || t >= s.hi || len(s.spans) == 0 {
		return 0, false
	}
	d := t - s.spans[0].from
	if d < 0 {
		return s.spans[0].shift, true
	}
	i := int(d >> s.page)
	if i > len(s.pages)-2 {
		return s.spans[len(s.spans)-1].shift, true
	}
	lo, hi := s.pages[i], s.pages[i+1]
	for lo < hi {
		mid := (lo + hi) / 2
		if s.spans[mid].from <= t {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return s.spans[lo-1].shift, true
}
