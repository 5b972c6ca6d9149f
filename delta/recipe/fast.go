package recipe

import "encoding/binary"

// fast plans levels 1 to 6 of klauspost/compress and of Go from 1.27 on. The plain bytes are searched in units of 65535
// with one or two tables of the newest places per hash. History is kept in a buffer of five units, which is cut to the
// last 32 KiB when the next unit does not fit; a match is never extended back to before that buffer.
type fast struct {
	m          *rules
	w          *window
	start, end int     // of the stream
	base       int     // where the writer's buffer begins
	short      []int32 // newest place per hash of few bytes
	long       []pair  // newest two places per hash of many bytes
	list       []placed

	// The search of one unit.
	src   []byte // up to the unit's end
	emit  int    // end of the last match
	limit int    // no search begins after it
	next  int    // where the search would have gone on
}

// pair is the newest place of a hash and the one before.
type pair struct{ cur, prev int32 }

const (
	fastMargin  = 11 // bytes at the end of a unit where no search begins
	fastLeast   = 13 // a smaller unit is not searched
	fastHistory = 5 * unitSize
)

func newFast(m *rules) *fast {
	f := &fast{m: m}
	switch m.level {
	case 1, 4, 5, 6:
		f.short = make([]int32, 1<<15)
	case 2:
		f.short = make([]int32, 1<<17)
	}
	switch m.level {
	case 3:
		f.long = make([]pair, 1<<16)
	case 4, 5, 6:
		f.long = make([]pair, 1<<15)
	}
	return f
}

func (f *fast) reset(w *window, start, end int) {
	f.w, f.start, f.end = w, start, end
	f.forget(start)
}

// forget begins with empty tables and no history before pos.
func (f *fast) forget(pos int) {
	f.base = pos
	for i := range f.short {
		f.short[i] = nowhere
	}
	for i := range f.long {
		f.long[i] = pair{nowhere, nowhere}
	}
}

func (f *fast) rebase(k int) {
	f.start, f.end, f.base = f.start-k, f.end-k, f.base-k
	for i, v := range f.short {
		f.short[i] = max(v-int32(k), nowhere)
	}
	for i, v := range f.long {
		f.long[i] = pair{max(v.cur-int32(k), nowhere), max(v.prev-int32(k), nowhere)}
	}
}

func (f *fast) plan(pos int) ([]placed, int) {
	end := min(pos+f.m.unit, f.end)
	if p := f.m.period; p > 0 {
		in := (pos - f.start) % p
		end = min(end, pos-in+p)
		if in == 0 {
			f.forget(pos)
			if d := min(f.m.dict, pos-f.start); d > 0 && f.m.level > 0 {
				f.base = pos - d
				f.search(pos-d, pos)
			}
		}
	}
	f.list = f.list[:0]
	if f.m.level == 0 || end-pos < unitSmall {
		return nil, end // the last unit
	}
	f.search(pos, end)
	n := end - pos
	tokens := n
	for _, p := range f.list {
		tokens -= p.tok.length() - 1
	}
	if tokens > n-n>>4 {
		return nil, end // the writer throws them away
	}
	return f.list, end
}

// search lists the matches of the unit from pos to end.
func (f *fast) search(pos, end int) {
	f.list = f.list[:0]
	if pos-f.base+end-pos > fastHistory {
		f.base = pos - ringSize
	}
	if end-pos < fastLeast {
		return
	}
	f.src, f.emit, f.next, f.limit = f.w.buf[:end], pos, pos, end-fastMargin
	switch f.m.level {
	case 1, 2:
		f.single(pos)
	case 3:
		f.double(pos)
	case 4:
		f.twoTables(pos)
	default:
		f.lookAround(pos)
	}
}

func load32(b []byte, i int) uint32 { return binary.LittleEndian.Uint32(b[i:]) }
func load64(b []byte, i int) uint64 { return binary.LittleEndian.Uint64(b[i:]) }

// The hashes of the first 4, 5 and 7 bytes of v, of so many bits.
func hash4(v uint64, bits uint) uint32 { return uint32(v) * 2654435761 >> (32 - bits) }
func hash5(v uint64, bits uint) uint32 { return uint32((v << 24) * 889523592379 >> (64 - bits)) }
func hash7(v uint64, bits uint) uint32 { return uint32((v << 8) * 58295818150454627 >> (64 - bits)) }

// common returns how many bytes are equal at s and the earlier t, up to the unit's end.
func (f *fast) common(s, t int) int { return matchLen(f.src[s:], f.src[t:]) }

// match lists the match of l bytes at s with t, extended backwards as far as the last match, in pieces that deflate can
// say. It returns where the search goes on, the whole length and the distance.
func (f *fast) match(s, t, l int) (next, length, dist int) {
	for t > f.base && s > f.emit && f.src[t-1] == f.src[s-1] {
		s, t, l = s-1, t-1, l+1
	}
	length, dist = l, s-t
	for l > 0 {
		n := l
		if n > maxMatch {
			n = maxMatch
			if l <= maxMatch+3 {
				n -= 3 // so that enough is left for one more match
			}
		}
		f.list = append(f.list, placed{s, matchOf(n, dist)})
		s, l = s+n, l-n
	}
	f.emit = s
	return max(s, f.next+1), length, dist
}
