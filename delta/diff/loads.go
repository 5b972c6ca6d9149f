package diff

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// Loads returns where an executable's bytes are in memory: the sections of an ELF file (32 or 64 bits, little-endian), or
// its segments if it names no sections, or the sections of a PE file. It returns nil for other bytes, and for files that
// contradict themselves. They are sorted by Off and do not overlap.
func Loads(img []byte) []Load {
	var out []Load
	switch {
	case len(img) > 64 && string(img[:4]) == "\x7fELF" && img[5] == 1:
		if out = elfSections(img); out == nil {
			out = elfSegments(img)
		}
	case len(img) > 64 && string(img[:2]) == "MZ":
		out = peSections(img)
	}
	return tidy(out)
}

// tidy sorts loads and drops those that begin inside others, and what is too many.
func tidy(in []Load) []Load {
	slices.SortStableFunc(in, func(a, b Load) int { return cmp.Compare(a.Off, b.Off) })
	out, end := in[:0], int64(0)
	for _, l := range in {
		if l.Off >= end {
			out = append(out, l)
			end = l.Off + l.Len
		}
	}
	return out[:min(len(out), MaxLoads)]
}

// A reader reads fields; one that lies outside the bytes reads as 0 and sets bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) at(off int64, n int) uint64 {
	if !inside(off, int64(n), int64(len(r.b))) {
		r.bad = true
		return 0
	}
	switch p := r.b[off:]; n {
	case 2:
		return uint64(binary.LittleEndian.Uint16(p))
	case 4:
		return uint64(binary.LittleEndian.Uint32(p))
	default:
		return binary.LittleEndian.Uint64(p)
	}
}

// name tells whether the name at off is s.
func (r *reader) name(off int64, s string) bool {
	n := int64(len(s)) + 1
	return inside(off, n, int64(len(r.b))) && string(r.b[off:off+n]) == s+"\x00"
}

// An elfForm has the places of fields, which differ between 32 and 64 bits.
type elfForm struct {
	word                             int
	phoff, shoff                     int64
	phentsize, phnum, shentsize      int64
	paddr, poff, psize               int64
	sflags, saddr, soff, ssize, need int64
}

func formOf(img []byte) elfForm {
	if img[4] == 1 {
		return elfForm{4, 28, 32, 42, 44, 46, 8, 4, 16, 8, 12, 16, 20, 40}
	}
	return elfForm{8, 32, 40, 54, 56, 58, 16, 8, 32, 8, 16, 24, 32, 64}
}

const (
	elfAlloc  = 2
	elfTLS    = 0x400
	elfNoBits = 8
	elfLoad   = 1
	elfMaxHdr = 4096
	asideAddr = 1 << 40 // plus its place is the address of a section that is not in memory
)

func elfSections(img []byte) []Load {
	f, r := formOf(img), reader{b: img}
	off, size, n := int64(r.at(f.shoff, f.word)), int64(r.at(f.shentsize, 2)), int64(r.at(f.shentsize+2, 2))
	if off <= 0 || size < f.need || n > elfMaxHdr || !inside(off, n*size, int64(len(img))) {
		return nil
	}
	var out []Load
	var module Load
	names := int64(r.at(off+min(int64(r.at(f.shentsize+6-2, 2)), n-1)*size+f.soff, f.word))
	for i := range n {
		h := off + i*size
		kind, flags := r.at(h+4, 4), r.at(h+f.sflags, f.word)
		l := Load{int64(r.at(h+f.soff, f.word)), int64(r.at(h+f.saddr, f.word)), int64(r.at(h+f.ssize, f.word))}
		if flags&elfAlloc == 0 && kind != 0 {
			l.Addr = asideAddr + l.Off
		}
		if kind == 0 || kind == elfNoBits && flags&elfTLS != 0 {
			continue
		}
		if kind == elfNoBits {
			l.Off, l.Len = 0, 0
			if k := len(out) - 1; k >= 0 {
				l.Off = out[k].Off + out[k].Len // wherever it says it is, there may be other bytes
			}
		}
		out = keep(out, l, img)
		if r.name(names+int64(r.at(h, 4)), ".go.module") {
			module = l
		}
	}
	return splitAt(out, module, img)
}

// splitAt cuts loads where the words of a Go program's module data point: its tables begin there, and fields in them are
// relative to their beginnings.
func splitAt(loads []Load, module Load, img []byte) []Load {
	r := reader{b: img}
	for i := int64(0); i+8 <= min(module.Len, 1024); i += 8 {
		a := int64(r.at(module.Off+i, 8))
		for j, l := range loads {
			if d := a - l.Addr; d > 0 && d < l.Len && len(loads) < MaxLoads {
				loads[j].Len = d
				loads = slices.Insert(loads, j+1, Load{l.Off + d, a, l.Len - d})
				break
			}
		}
	}
	return loads
}

func elfSegments(img []byte) []Load {
	f, r := formOf(img), reader{b: img}
	off, size, n := int64(r.at(f.phoff, f.word)), int64(r.at(f.phentsize, 2)), int64(r.at(f.phnum, 2))
	if off <= 0 || n > elfMaxHdr || !inside(off, n*size, int64(len(img))) {
		return nil
	}
	var out []Load
	for i := range n {
		h := off + i*size
		if r.at(h, 4) != elfLoad || r.bad {
			continue
		}
		out = keep(out, Load{int64(r.at(h+f.poff, f.word)), int64(r.at(h+f.paddr, f.word)), int64(r.at(h+f.psize, f.word))}, img)
	}
	return out
}

func peSections(img []byte) []Load {
	r := reader{b: img}
	h := int64(r.at(60, 4))
	n, opt := int64(r.at(h+6, 2)), int64(r.at(h+20, 2))
	if r.bad || r.at(h, 4) != 'P'|'E'<<8 || n > elfMaxHdr {
		return nil
	}
	base := int64(r.at(h+24+28, 4))
	if r.at(h+24, 2) == 0x20b {
		base = int64(r.at(h+24+24, 8))
	}
	out := keep(nil, Load{0, base, min(h, int64(len(img)))}, img)
	for i := range n {
		s := h + 24 + opt + i*40
		l := Load{int64(r.at(s+20, 4)), base + int64(r.at(s+12, 4)), int64(r.at(s+16, 4))}
		if r.bad {
			return nil
		}
		out = keep(out, l, img)
	}
	return out
}

// keep appends a load that can be true.
func keep(out []Load, l Load, img []byte) []Load {
	if !inside(l.Off, l.Len, int64(len(img))) || l.Addr > maxAddr || l.Addr < -maxAddr {
		return out
	}
	return append(out, l)
}
