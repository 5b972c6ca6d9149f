package diff

import (
	"encoding/binary"
	"math/bits"
)

// A mixed codes a segment with context mixing. Reading and writing run through the same steps and fill dst; what is to be
// coded is in src, which a reader does not look at.
type mixed struct {
	c     *coder
	p     *predictor
	dst   []byte
	src   []byte
	rules []rule

	groups, flags  *model
	values, extras *octets

	hist     uint32 // of the last groups
	since    int    // bytes since the last miss, coarse
	recent   uint32 // misses of the last bytes, the last one lowest
	trail    uint64 // the same, of more
	deltas   [3]uint32
	lastAt   [1 << 16]byte // byte that came last after a hash of three
	lastDiff [1 << 16]byte // difference that came last at a hash of the base
	finder   matcher
}

// How fast the models learn.
const (
	groupRate = 40
	flagRate  = 64
	byteRate  = 160
)

const (
	groupSize = 64
	partSize  = 16
)

// Sizes of the models' tables: bits of a slot's or a line's number.
const (
	groupBits    = 14
	flagBits     = 18
	maxValueBits = 15
	maxExtraBits = 16
)

// newMixed returns a mixed that has nothing, zeros, where no copy makes bytes.
func newMixed(c *coder, p *predictor, dst, src []byte, rules []rule) *mixed {
	clear(dst)
	extra := len(dst)
	for _, r := range p.runs {
		extra -= r.hi - r.lo
	}
	x := &mixed{c: c, p: p, dst: dst, src: src, rules: rules}
	x.groups = newModel(groupBits, 2, groupRate)
	x.flags = newModel(tableBits(len(dst)/4, flagBits), 4, flagRate)
	x.values = newOctets(tableBits(len(dst)/8, maxValueBits), 4*8, byteRate)
	x.extras = newOctets(tableBits(extra*8, maxExtraBits), 2*8, byteRate)
	x.finder.init(extra, dst)
	return x
}

// tableBits returns the bits of a number, from 10 to limit.
func tableBits(n, limit int) int { return min(max(bits.Len(uint(n)), 10), limit) }

// run codes all bytes and tells whether a reader had enough to read: first what is copied, then what no copy makes, so that
// each of the two has the cache for itself.
func (x *mixed) run() bool {
	for i := range x.p.runs {
		r := &x.p.runs[i]
		for lo := r.lo; lo < r.hi; {
			hi := min(r.hi, lo+groupSize)
			x.group(r, lo, hi)
			lo = hi
			if x.c.over() {
				return false
			}
		}
	}
	pos := 0
	for i := range x.p.runs {
		r := &x.p.runs[i]
		x.extra(pos, r.lo)
		x.finder.skip(r.lo, r.hi)
		pos = r.hi
	}
	x.extra(pos, len(x.dst))
	return !x.c.over()
}

func (x *mixed) missed(lo, hi int) int {
	if x.c.enc && string(x.src[lo:hi]) != string(x.p.out[lo:hi]) {
		return 1
	}
	return 0
}

// group codes up to 64 foretold bytes.
func (x *mixed) group(r *run, lo, hi int) {
	q := x.p.base[lo:hi]
	moved := uint32(0)
	if string(q) != string(x.p.out[lo:hi]) {
		moved = 1
	}
	kind := uint32(x.rules[lo/page].kind)
	quiet := uint32(bits.Len(uint(x.since)))
	h := [contexts]uint32{
		x.hist & 0xff,
		x.hist&3 | quiet<<2 | kind<<8 | moved<<12,
		x.hist&15 | kind<<4 | moved<<8 | uint32(q[0])<<16,
		uint32(q[0]) | uint32(q[len(q)/2])<<8 | uint32(q[len(q)-1])<<16,
		x.hist & 0xffff,
		x.hist&0xff | quiet<<8 | 1<<16,
		x.hist&7 | quiet<<8 | uint32(q[0])<<16 | moved<<24,
	}
	x.groups.look(&h)
	bit := x.groups.code(x.c, 0, x.missed(lo, hi))
	x.hist = x.hist<<1 | uint32(bit)
	if bit == 0 {
		copy(x.dst[lo:hi], x.p.out[lo:hi])
		x.since += hi - lo
		x.trail <<= hi - lo
		x.recent = 0
		return
	}
	any := false
	for a := lo; a < hi; {
		b := min(hi, a+partSize)
		bit := 1
		if any || b < hi {
			k := h
			for i := range k {
				k[i] += 0x1000000 + uint32(a-lo)
			}
			k[5] = x.recent&0xffff | 1<<24
			x.groups.look(&k)
			bit = x.groups.code(x.c, 1, x.missed(a, b))
		}
		if bit == 0 {
			copy(x.dst[a:b], x.p.out[a:b])
			x.since += b - a
			x.trail <<= b - a
			x.recent = 0
		} else {
			any = true
			x.bytes(r, a, b)
		}
		a = b
	}
}

// bytes codes up to 16 foretold bytes, of which at least one is wrong.
func (x *mixed) bytes(r *run, lo, hi int) {
	any := false
	for i := lo; i < hi; i++ {
		start := i - min(bits.TrailingZeros32(^x.recent), 3)
		field, target := x.field(r, start)
		bit := 1
		if any || i+1 < hi {
			bit = x.flag(i, start, field, target)
		}
		x.recent = x.recent<<1 | uint32(bit)
		x.trail = x.trail<<1 | uint64(bit)
		if bit == 0 {
			x.dst[i] = x.p.out[i]
			x.since++
		} else {
			any = true
			x.value(i, start, field, target)
			x.since = 0
		}
	}
}

// field returns the four old bytes at i, and the old address to which they lead if they are relative.
func (x *mixed) field(r *run, i int) (v, target uint32) {
	if i >= 0 && i+4 <= len(x.p.base) {
		v = binary.LittleEndian.Uint32(x.p.base[i:])
	}
	return v, v + uint32(r.addr) + uint32(i-r.lo)
}

func (x *mixed) flag(i, start int, field, target uint32) int {
	o, b := x.p.out, x.p.base
	moved := uint32(0)
	if o[i] != b[i] {
		moved = 1
	}
	kind := uint32(x.rules[i/page].kind)
	far := uint32(x.trail & 0x888888)
	past := x.past(b, i)
	fs := uint32(i - start)
	h := [contexts]uint32{
		x.recent&0xff | uint32(min(x.since, 31))<<8 | moved<<16,
		uint32(b[i]) | past&0xff<<8 | x.recent&7<<16 | moved<<19,
		field*31 + fs*7 + x.recent&1,
		target*17 + fs,
		past&0xffffff | x.recent&1<<24 | moved<<25,
		x.recent&0xfff | kind<<12 | uint32(i&7)<<16,
		far | x.recent&3 | kind<<24,
		uint32(o[i]) | x.past(x.dst, i)<<8,
	}
	m := x.flags
	m.look(&h)
	bit := 0
	if x.c.enc && x.src[i] != o[i] {
		bit = 1
	}
	set := x.recent&1 | moved<<1
	return m.code(x.c, set, bit)
}

// past returns the four bytes before i, the last one lowest.
func (x *mixed) past(b []byte, i int) uint32 {
	if i < 4 {
		return 0
	}
	return bits.ReverseBytes32(binary.LittleEndian.Uint32(b[i-4:]))
}

// back returns the difference from what was foretold so far back.
func (x *mixed) back(i, n int) uint32 {
	if i -= n; i < 0 {
		return 0
	}
	return uint32(x.dst[i] - x.p.out[i])
}

// value codes a byte that was foretold wrongly, as its difference from what was foretold.
func (x *mixed) value(i, start int, field, target uint32) {
	o, b := x.p.out, x.p.base
	fs := uint32(i - start)
	before := x.past(x.dst, i)
	key := before & 0xffffff * 0x9e3779b1 >> 16
	baseKey := (uint32(b[i]) | x.past(b, i)&0xff<<8) & 0xffff
	d1, d2 := x.deltas[0], x.deltas[1]
	hint := uint32(x.lastAt[key] - o[i])
	h := [contexts]uint64{
		0,
		uint64(d1),
		uint64(d1 | d2<<8 | x.deltas[2]<<16),
		uint64(field)<<16 | uint64(fs<<8) | uint64(d1*min(fs, 1)),
		uint64(target)<<8 | uint64(fs),
		uint64(uint32(o[i]) | uint32(x.lastDiff[baseKey])<<8 | fs<<16),
		uint64(x.back(i, 4) | x.back(i, 8)<<8 | 1<<24),
		uint64(hint | before&0xff<<8 | 2<<24),
	}
	v := 0
	if x.c.enc {
		v = int(x.src[i] - o[i])
	}
	v = x.values.octet(x.c, fs*8, v, &h)
	x.dst[i] = o[i] + byte(v)
	x.lastAt[key] = x.dst[i]
	x.lastDiff[baseKey] = byte(v)
	x.deltas = [3]uint32{uint32(v), d1, d2}
}

// extra codes bytes that no copy makes.
func (x *mixed) extra(lo, hi int) {
	if lo < hi {
		x.finder.find(lo)
	}
	for i := lo; i < hi; i++ {
		if i&4095 == 0 && x.c.over() {
			return
		}
		x.literal(i)
	}
}

func (x *mixed) literal(i int) {
	past := x.past(x.dst, i)
	older := uint32(0)
	if i >= 8 {
		older = x.past(x.dst, i-4)
	}
	guess, sure := x.finder.guess(i)
	h := [contexts]uint64{
		0,
		uint64(past & 0xff),
		uint64(past & 0xffff),
		uint64(past & 0xffffff),
		uint64(past & 0xffff00),
		uint64(past),
		uint64(older&0xffff)<<32 | uint64(past),
		uint64(guess) | uint64(min(sure, 15))<<8 | uint64(past&0xff)<<16,
	}
	set := uint32(min(sure, 1)) * 8
	v := x.extras.octet(x.c, set, int(x.src[i]), &h)
	x.dst[i] = byte(v)
	x.finder.update(i, byte(v))
}

// A matcher finds what followed the last time that the last bytes were the same.
type matcher struct {
	dst   []byte
	table []int32
	shift uint
	at, n int // where the present match goes on, and how long it is
	on    bool
}

const matchMin = 5

func (m *matcher) init(extra int, dst []byte) {
	m.dst, m.on = dst, extra > 0
	size := uint(min(max(bits.Len(uint(len(dst)/4)), 10), 16))
	m.table, m.shift = make([]int32, 1<<size), 64-size
}

func (m *matcher) hash(i int) uint64 {
	return binary.LittleEndian.Uint64(m.dst[i-8:]) >> 24 * 0x9e3779b97f4a7c15 >> m.shift
}

// add notes the place i.
func (m *matcher) add(i int) {
	if m.on && i >= 8 {
		m.table[m.hash(i)] = int32(i)
	}
}

// skip notes some of the places of bytes that were as foretold.
func (m *matcher) skip(lo, hi int) {
	if !m.on {
		return
	}
	for i := lo; i < hi; i += 4 {
		m.add(i)
	}
}

// find looks for a match before the byte at i.
func (m *matcher) find(i int) {
	m.n = 0
	if i < 8 || !m.on {
		return
	}
	m.at = int(m.table[m.hash(i)])
	for m.at > 0 && m.n < 32 && m.at-m.n > 0 && m.dst[m.at-m.n-1] == m.dst[i-m.n-1] {
		m.n++
	}
	if m.n < matchMin {
		m.n = 0
	}
	m.table[m.hash(i)] = int32(i)
}

// guess returns the byte that the match foretells, and how long the match is, or 0.
func (m *matcher) guess(i int) (byte, int) {
	if m.n == 0 || m.at >= i {
		return 0, 0
	}
	return m.dst[m.at], m.n
}

// update takes the byte that came at i.
func (m *matcher) update(i int, b byte) {
	if m.n > 0 && m.at < i && m.dst[m.at] == b {
		m.n = min(m.n+1, 64)
		m.at++
		m.add(i + 1)
		return
	}
	m.find(i + 1)
}
