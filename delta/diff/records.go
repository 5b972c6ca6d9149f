package diff

import "encoding/binary"

func (p *predictor) u32(i int) uint32 { return binary.LittleEndian.Uint32(p.base[i:]) }

// frames foretells the records of .eh_frame (Linux Standard Base Core, 10.6.1) that describe a function: length, distance
// back to the common record, begin of the code relative to here, its length, and if four bytes of augmentation follow,
// an address relative to here.
func (p *predictor) frames(r *run, lo, hi int) {
	lo += int(-(p.at + int64(lo)) & 3)
	for i := lo; i+12 <= hi; i += 4 {
		n, back := p.u32(i), p.u32(i+4)
		if n%4 != 0 || n < 12 || n > 1<<16 || back%4 != 0 || back == 0 || back > 1<<26 {
			continue
		}
		if !p.relative(r, i+8, 0) {
			continue
		}
		if d, ok := p.s.of(r.addr + int64(i+4-r.lo) - int64(back)); ok {
			binary.LittleEndian.PutUint32(p.out[i+4:], uint32(int64(back)+r.move-d))
		}
		if i+21 <= hi && p.base[i+16] == 4 && p.u32(i+17) != 0 {
			p.relative(r, i+17, 0)
		}
		i += 8
	}
}

// The tables of a Go program (go.dev/src/runtime/symtab.go) come one after the other: function names, units, files, program
// counters, functions.
const (
	goNames = 4 // so many loads before that of the functions
	goUnits = 3
	goPC    = 1
)

// funcs foretells Go's function records (go.dev/src/runtime/runtime2.go, type _func): of eleven words and as many more as
// two of its fields say, at places that are a multiple of eight.
func (p *predictor) funcs(r *run, lo, hi int, u rule) {
	k := p.loadOf(r.addr)
	if k < goNames {
		return
	}
	here := uint8(fieldLoads + k)
	lo += int(-(p.at + int64(lo)) & 7)
	for i := lo; i+44 <= hi; {
		pcdata, data := int(p.u32(i+28)), int(p.base[i+43])
		if p.base[i+42] != 0 || pcdata > 8 || data > 12 || !p.below(i+4, k-goNames) || !p.below(i+16, k-goPC) ||
			!p.below(i+20, k-goPC) || !p.below(i+24, k-goPC) {
			i += 8
			continue
		}
		p.put(r, i, u.even)
		p.put(r, i+4, here-goNames)
		for _, f := range []int{16, 20, 24} {
			p.put(r, i+f, here-goPC)
		}
		p.unit(i+32, k-goUnits)
		end := i + 44
		for ; pcdata > 0 && end+4 <= hi; pcdata, end = pcdata-1, end+4 {
			if p.u32(end) != 0 {
				p.put(r, end, here-goPC)
			}
		}
		for ; data > 0 && end+4 <= hi; data, end = data-1, end+4 {
			if p.u32(end) != 1<<32-1 {
				p.put(r, end, u.odd)
			}
		}
		i = end + int(-(p.at+int64(end))&7)
	}
}

// loadOf returns which of the old loads an address is in, or -1.
func (p *predictor) loadOf(addr int64) int {
	for k, l := range p.m.OldLoads {
		if addr >= l.Addr && addr-l.Addr < l.Len {
			return k
		}
	}
	return -1
}

// below tells whether the field at i can be a place in a load.
func (p *predictor) below(i, load int) bool { return int64(p.u32(i)) < p.m.OldLoads[load].Len }

// put foretells one field.
func (p *predictor) put(r *run, i int, what uint8) {
	if w, ok := p.field(r, i, what); ok {
		binary.LittleEndian.PutUint32(p.out[i:], w)
	}
}

// unit foretells a place in the table of units, which counts in four bytes.
func (p *predictor) unit(i, load int) {
	origin, v := p.m.OldLoads[load].Addr, p.u32(i)
	moved, _ := p.s.of(origin)
	if d, ok := p.s.of(origin + 4*int64(v)); ok {
		binary.LittleEndian.PutUint32(p.out[i:], v+uint32((d-moved)/4))
	}
}
