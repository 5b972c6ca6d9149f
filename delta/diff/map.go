package diff

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/wordcab/wcbundle/delta/match"
)

// ErrCorrupt is in every error about bytes that no encoder writes.
var ErrCorrupt = errors.New("corrupt differences")

func corrupt(what string) error { return fmt.Errorf("%w: %s", ErrCorrupt, what) }

const (
	// MaxSegment is the most target bytes in a segment.
	MaxSegment = 8 << 20
	// MaxLoads is the most ranges that each side of a Map may have.
	MaxLoads = 64
)

// A Load says that the Len bytes of a file from Off on are at address Addr when the program runs. Len is 0 for memory that
// begins as zeros and has no bytes in the file.
type Load struct{ Off, Addr, Len int64 }

// A Map says from where the bytes of a group, one executable or a run of files, are copied. Offsets are those of the group
// and of the old bytes. A Map may not be changed after its first use; then it may be used by several goroutines.
type Map struct {
	Copies             []match.Copy // sorted by New, not overlapping, at most match.MaxCopies
	OldLoads, NewLoads []Load       // sorted by Off, not overlapping, at most MaxLoads each; empty if unknown

	once   sync.Once
	shifts [2]shifts
}

// addresses returns what becomes of old addresses.
func (m *Map) addresses() *[2]shifts {
	m.once.Do(func() { m.shifts = newShifts(m) })
	return &m.shifts
}

// Append appends the map's coded form to dst.
func (m *Map) Append(dst []byte) []byte {
	c := newWriter(dst)
	k := newMapCoder(c)
	for _, loads := range [][]Load{m.OldLoads, m.NewLoads} {
		k.gap.code(c, uint64(len(loads)))
		last := Load{}
		for i := range loads {
			k.load(&loads[i], &last)
		}
	}
	k.gap.code(c, uint64(len(m.Copies)))
	for _, x := range m.Copies {
		k.copy(&x)
	}
	return c.finish()
}

// ParseMap reads what Append wrote, for a group of newLen bytes made from oldLen old bytes. What it returns is safe to use.
func ParseMap(b []byte, newLen, oldLen int64) (*Map, error) {
	c := newReader(b)
	k := newMapCoder(c)
	m := &Map{}
	for _, side := range []struct {
		loads *[]Load
		size  int64
	}{{&m.OldLoads, oldLen}, {&m.NewLoads, newLen}} {
		n := k.gap.code(c, 0)
		if n > MaxLoads {
			return nil, corrupt("too many loads")
		}
		last, end := Load{}, int64(0)
		for range n {
			var l Load
			k.load(&l, &last)
			if c.over() || l.Off < end || !inside(l.Off, l.Len, side.size) || l.Addr > maxAddr || l.Addr < -maxAddr {
				return nil, corrupt("load outside")
			}
			end = l.Off + l.Len
			*side.loads = append(*side.loads, l)
		}
	}
	n := k.gap.code(c, 0)
	if n > match.MaxCopies {
		return nil, corrupt("too many copies")
	}
	for range n {
		var x match.Copy
		end := k.newEnd
		k.copy(&x)
		if c.over() || x.New < end || x.Len <= 0 || !inside(x.New, x.Len, newLen) || !inside(x.Old, x.Len, oldLen) {
			return nil, corrupt("copy outside")
		}
		m.Copies = append(m.Copies, x)
	}
	if c.over() {
		return nil, corrupt("map runs out")
	}
	if match.Crowded(m.Copies) {
		return nil, corrupt("copies too close together")
	}
	return m, nil
}

// inside tells whether n bytes from off on are inside size bytes, for all values.
func inside(off, n, size int64) bool { return off >= 0 && n >= 0 && off <= size && n <= size-off }

// maxAddr bounds addresses so that sums of a few do not overflow.
const maxAddr = 1 << 60

// A mapCoder codes a map's numbers.
type mapCoder struct {
	c                 *coder
	gap, size, old    *number
	off, addr, length *number
	newEnd, shift     int64
}

func newMapCoder(c *coder) *mapCoder {
	return &mapCoder{c: c, gap: newNumber(), size: newNumber(), old: newNumber(),
		off: newNumber(), addr: newNumber(), length: newNumber()}
}

// load codes one load after last: its place after last's end, its address less place, against last's, its length.
func (k *mapCoder) load(l, last *Load) {
	off := last.Off + last.Len
	l.Off = off + unzigzag(k.off.code(k.c, zigzag(l.Off-off)))
	slide := last.Addr - last.Off
	l.Addr = l.Off + slide + unzigzag(k.addr.code(k.c, zigzag(l.Addr-l.Off-slide)))
	l.Len = int64(k.length.code(k.c, uint64(l.Len)))
	*last = *l
}

// copy codes one copy: bytes left out since the copy before, its length, and its alignment against the one before.
func (k *mapCoder) copy(x *match.Copy) {
	x.New = k.newEnd + int64(k.gap.code(k.c, uint64(x.New-k.newEnd)))
	x.Len = int64(k.size.code(k.c, uint64(x.Len)))
	x.Old = x.New + k.shift + unzigzag(k.old.code(k.c, zigzag(x.Old-x.New-k.shift)))
	k.newEnd, k.shift = x.New+x.Len, x.Old-x.New
}

// first returns the index of the first copy that ends after at.
func (m *Map) first(at int64) int {
	i, _ := slices.BinarySearchFunc(m.Copies, at, func(c match.Copy, at int64) int {
		if c.New+c.Len <= at {
			return -1
		}
		return 1
	})
	return i
}

// part returns the part of a copy inside the n bytes from at on; Len is not positive if there is none.
func part(c match.Copy, at int64, n int) match.Copy {
	lo, hi := max(c.New, at), min(c.New+c.Len, at+int64(n))
	return match.Copy{New: lo, Old: c.Old + lo - c.New, Len: hi - lo}
}

// Layout fills base with the old bytes of the copies into the group's bytes from at on, each at the place where the target
// has it, and zeros elsewhere. read fills p with old bytes from off on.
func (m *Map) Layout(base []byte, at int64, read func(p []byte, off int64) error) error {
	pos := 0
	for _, c := range m.Copies[m.first(at):] {
		c = part(c, at, len(base))
		if c.Len <= 0 {
			break
		}
		lo, hi := int(c.New-at), int(c.New-at+c.Len)
		clear(base[pos:lo])
		if err := read(base[lo:hi], c.Old); err != nil {
			return fmt.Errorf("reading old bytes: %w", err)
		}
		pos = hi
	}
	clear(base[pos:])
	return nil
}
