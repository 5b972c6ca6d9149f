package diff

import (
	"encoding/binary"
	"math/bits"
)

// page is the number of target bytes for which one rule holds.
const page = 4096

// Rules: how addresses are found in copied bytes.
const (
	ruleNone   = 0 // copied bytes stay as they are
	ruleCode   = 1 // x86: four bytes, relative to the next instruction
	ruleWords  = 2 // eight bytes at places that are multiples of eight, absolute
	ruleFields = 3 // four bytes at places that are multiples of four, relative to even and odd
	ruleMixed  = 4 // eight bytes as in ruleWords where they are an address, else as in ruleFields
	ruleFrames = 5 // the records of .eh_frame
	ruleFuncs  = 6 // the function records of a Go program; even: its code, odd: its function data
	rules      = 7
)

// What four-byte fields are relative to; from fieldLoads on, the start of a load of the old file.
const (
	fieldNone  = 0
	fieldHere  = 1 // the field's own address
	fieldZero  = 2
	fieldLoads = 3
)

// A rule says how addresses are found in a page. even and odd are for fields at places that are a multiple of eight, and
// at the others.
type rule struct{ kind, even, odd uint8 }

// A run is a part of a segment that one copy makes, and in which addresses move alike.
type run struct {
	lo, hi int   // in the segment
	addr   int64 // old address of lo
	move   int64 // by how much that address moves
	known  bool  // whether it has an address
}

// A predictor foretells what copied bytes become.
type predictor struct {
	m    *Map
	s    *shifts // of memory
	far  *shifts // of sections that are not in memory
	at   int64
	base []byte
	out  []byte // what is foretold
	runs []run
}

func newPredictor(m *Map, base []byte, at int64) *predictor {
	p := &predictor{}
	p.begin(m, base, make([]byte, len(base)), at)
	return p
}

// begin makes p one for the bytes from at on, which it foretells in out.
func (p *predictor) begin(m *Map, base, out []byte, at int64) {
	first := m.first(at)
	most := m.first(at+int64(len(base))) - first + 1 + 2*(len(m.OldLoads)+len(m.NewLoads))
	if cap(p.runs) < most {
		p.runs = make([]run, 0, most)
	}
	*p = predictor{m: m, s: &m.addresses()[0], far: &m.addresses()[1], at: at, base: base, out: out, runs: p.runs[:0]}
	copy(out, base)
	for _, c := range m.Copies[first:] {
		c = part(c, at, len(base))
		if c.Len <= 0 {
			break
		}
		for c.Len > 0 {
			from, known, n := locate(m.OldLoads, c.Old, c.Len)
			to, there, n := locate(m.NewLoads, c.New, n)
			lo := int(c.New - at)
			p.runs = append(p.runs, run{lo, lo + int(n), from, to - from, known && there})
			c.New, c.Old, c.Len = c.New+n, c.Old+n, c.Len-n
		}
	}
}

// release lets go of all but memory that the next segment can use.
func (p *predictor) release() { *p = predictor{runs: p.runs[:0]} }

// locate returns the address of a place and how many of the n bytes from there on are in the same load, or in none.
func locate(loads []Load, off, n int64) (int64, bool, int64) {
	for _, l := range loads {
		if off >= l.Off && off-l.Off < l.Len {
			return l.Addr + off - l.Off, true, min(n, l.Off+l.Len-off)
		}
		if off < l.Off && l.Len > 0 {
			n = min(n, l.Off-off)
		}
	}
	return 0, false, n
}

// again foretells as apply does, and forgets what another rule said of these bytes.
func (p *predictor) again(r *run, lo, hi int, u rule) {
	if lo, hi := max(lo, r.lo), min(hi, r.hi); lo < hi {
		copy(p.out[lo:hi], p.base[lo:hi])
	}
	p.apply(r, lo, hi, u)
}

// apply foretells the bytes of r inside [lo, hi) of the segment, which lie in one page. A field must lie there wholly.
func (p *predictor) apply(r *run, lo, hi int, u rule) {
	lo, hi = max(lo, r.lo), min(hi, r.hi)
	if lo >= hi {
		return
	}
	switch {
	case u.kind == ruleCode && r.known:
		p.code(r, lo, hi)
	case u.kind == ruleWords:
		p.words(lo, hi)
	case u.kind == ruleFields || u.kind == ruleMixed:
		p.fields(r, lo, hi, u)
	case u.kind == ruleFrames && r.known:
		p.frames(r, lo, hi)
	case u.kind == ruleFuncs && r.known:
		p.funcs(r, lo, hi, u)
	}
}

// beforeAddress is 1 for bytes that may come before an address in x86 code, and 2 for those that may after a byte 0F.
var beforeAddress = makeBeforeAddress()

func makeBeforeAddress() (t [256]byte) {
	for b := range t {
		switch {
		case b&0xfe == 0xe8 || b&0xc7 == 5:
			t[b] = 1
		case b&0xf0 == 0x80:
			t[b] = 2
		}
	}
	return t
}

// code foretells four bytes relative to the next instruction after call and jmp (E8, E9), jcc (0F 80 to 8F), and a ModRM
// byte that means an address relative to the instruction (mod 0, rm 5).
func (p *predictor) code(r *run, lo, hi int) {
	for i := lo + 1; i+4 <= hi; i++ {
		k := beforeAddress[p.base[i-1]]
		if k == 0 || k == 2 && (i < lo+2 || p.base[i-2] != 0x0f) {
			continue
		}
		if p.relative(r, i, 4) {
			i += 3
		}
	}
}

// relative foretells a field at i relative to after bytes further on, and tells whether it looks like an address.
func (p *predictor) relative(r *run, i int, after int64) bool {
	v := int32(binary.LittleEndian.Uint32(p.base[i:]))
	d, ok := p.s.of(r.addr + int64(i-r.lo) + after + int64(v))
	if ok {
		binary.LittleEndian.PutUint32(p.out[i:], uint32(int64(v)+d-r.move))
	}
	return ok
}

func (p *predictor) words(lo, hi int) {
	lo += int(-(p.at + int64(lo)) & 7)
	for i := lo; i+8 <= hi; i += 8 {
		v := binary.LittleEndian.Uint64(p.base[i:])
		if d, ok := p.s.of(int64(v)); ok {
			binary.LittleEndian.PutUint64(p.out[i:], v+uint64(d))
		}
	}
}

func (p *predictor) fields(r *run, lo, hi int, u rule) {
	lo += int(-(p.at + int64(lo)) & 3)
	for i := lo; i+4 <= hi; i += 4 {
		what := u.even
		if (p.at+int64(i))&4 != 0 {
			what = u.odd
		} else if u.kind == ruleMixed && i+8 <= hi {
			v := binary.LittleEndian.Uint64(p.base[i:])
			if d, ok := p.s.of(int64(v)); ok && v != 0 {
				binary.LittleEndian.PutUint64(p.out[i:], v+uint64(d))
				i += 4
				continue
			}
		}
		if w, ok := p.field(r, i, what); ok {
			binary.LittleEndian.PutUint32(p.out[i:], w)
		}
	}
}

// field foretells the field at i if it is relative to what.
func (p *predictor) field(r *run, i int, what uint8) (uint32, bool) {
	v := binary.LittleEndian.Uint32(p.base[i:])
	var origin, moved int64
	switch {
	case what == fieldNone, what == fieldHere && !r.known, int(what-fieldLoads) >= len(p.m.OldLoads) && what >= fieldLoads:
		return v, false
	case what == fieldHere:
		origin, moved = r.addr+int64(i-r.lo), r.move
	case what == fieldZero:
		d, ok := p.s.of(int64(v))
		return v + uint32(d), ok
	default:
		origin = p.m.OldLoads[what-fieldLoads].Addr
		if aside(origin) != 0 {
			moved, _ = p.far.of(origin)
			d, ok := p.far.of(origin + int64(int32(v)))
			return v + uint32(d-moved), ok
		}
		moved, _ = p.s.of(origin)
	}
	d, ok := p.s.of(origin + int64(int32(v)))
	return v + uint32(d-moved), ok
}

// equal returns how many bytes a and b have in common at their start; they are equally long.
func equal(a, b []byte) int {
	i := 0
	for ; i+8 <= len(a); i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < len(a) && a[i] == b[i] {
		i++
	}
	return i
}
