package tensor

import "encoding/binary"

// tableCost is what a stream of its own costs over a shared one, in the units of cost: its table and lengths.
const tableCost = 40 * 8 << 12

// A sorter codes symbols that have a key each, which both sides know: the symbols are sorted by key, and the sorted run is
// cut into streams of neighbouring keys.
type sorter struct {
	entropy
	keys, syms, sorted [maxAtoms]byte
	hists              [256][256]uint32
}

// places counts the keys and returns where each key's symbols begin, and those of the second half of the elements.
func (s *sorter) places(n int) (at, second [257]int) {
	var a, b [256]uint32
	lo, hi := s.keys[:n/2], s.keys[n/2:n]
	for i, k := range lo {
		a[k]++
		b[hi[i]]++
	}
	if len(hi) > len(lo) {
		b[hi[len(lo)]]++
	}
	for k := range a {
		at[k+1] = at[k] + int(a[k]+b[k])
		second[k] = at[k] + int(a[k])
	}
	return at, second
}

// encode appends the first n symbols. Both halves are sorted at the same time, which hides the latency of the counters.
func (s *sorter) encode(dst []byte, n int) []byte {
	at, q := s.places(n)
	p := at
	half := n / 2
	keys, syms := s.keys[:half], s.syms[:half]
	keys2, syms2 := s.keys[half:half+half], s.syms[half:half+half]
	for i, k := range keys {
		k2 := keys2[i]
		j, j2 := p[k], q[k2]
		s.sorted[j&(maxAtoms-1)] = syms[i]
		s.sorted[j2&(maxAtoms-1)] = syms2[i]
		p[k], q[k2] = j+1, j2+1
	}
	if n > 2*half {
		s.sorted[q[s.keys[n-1]]] = s.syms[n-1]
	}
	ends := s.split(&at)
	dst = append(dst, byte(len(ends)-1))
	dst = append(dst, ends[:len(ends)-1]...)
	lo := 0
	for _, k := range ends {
		hi := at[int(k)+1]
		dst = s.entropy.encode(dst, s.sorted[lo:hi], &s.hists[k])
		lo = hi
	}
	return dst
}

// split returns the last key of each stream; the histogram of a stream is left at its last key. A key joins the stream
// before it unless a table of its own pays.
func (s *sorter) split(at *[257]int) (ends []byte) {
	open := -1
	openCost := uint64(0)
	for k := range 256 {
		if at[k] == at[k+1] {
			continue
		}
		h := &s.hists[k]
		countSymbols(h, s.sorted[at[k]:at[k+1]])
		own := cost(h)
		if open >= 0 {
			both := s.hists[open]
			for i, c := range h {
				both[i] += c
			}
			if c := cost(&both); c <= own+openCost+tableCost {
				*h, own = both, c
			} else {
				ends = append(ends, byte(open))
			}
		}
		open, openCost = k, own
	}
	return append(ends, byte(max(open, 0)))
}

// countSymbols makes the histogram. Four counters for each symbol keep a frequent one from waiting for itself.
func countSymbols(h *[256]uint32, syms []byte) {
	clear(h[:])
	if len(syms) >= 1024 {
		var b, c, d [256]uint32
		for len(syms) >= 8 {
			v := binary.LittleEndian.Uint64(syms)
			h[byte(v)]++
			b[byte(v>>8)]++
			c[byte(v>>16)]++
			d[byte(v>>24)]++
			h[byte(v>>32)]++
			b[byte(v>>40)]++
			c[byte(v>>48)]++
			d[byte(v>>56)]++
			syms = syms[8:]
		}
		for i := range h {
			h[i] += b[i] + c[i] + d[i]
		}
	}
	for _, s := range syms {
		h[s]++
	}
}

// decode reads the first n symbols, whose keys are set, and returns what follows.
func (s *sorter) decode(p []byte, n int) ([]byte, error) {
	at, q := s.places(n)
	p, err := s.decodeSorted(p, &at)
	if err != nil {
		return nil, err
	}
	half := n / 2
	keys, syms := s.keys[:half], s.syms[:half]
	keys2, syms2 := s.keys[half:half+half], s.syms[half:half+half]
	for i, k := range keys {
		k2 := keys2[i]
		j, j2 := at[k], q[k2]
		syms[i] = s.sorted[j&(maxAtoms-1)]
		syms2[i] = s.sorted[j2&(maxAtoms-1)]
		at[k], q[k2] = j+1, j2+1
	}
	if n > 2*half {
		s.syms[n-1] = s.sorted[q[s.keys[n-1]]]
	}
	return p, nil
}

// decodeSorted reads the streams into sorted.
func (s *sorter) decodeSorted(p []byte, at *[257]int) ([]byte, error) {
	if len(p) == 0 || len(p)-1 < int(p[0]) {
		return nil, errCorrupt
	}
	ends := p[1 : 1+int(p[0])]
	p = p[1+len(ends):]
	lo := 0
	for i := range len(ends) + 1 {
		hi := at[256]
		if i < len(ends) {
			hi = at[int(ends[i])+1]
		}
		if hi < lo {
			return nil, errCorrupt
		}
		var err error
		if p, err = s.entropy.decode(s.sorted[lo:hi], p); err != nil {
			return nil, err
		}
		lo = hi
	}
	return p, nil
}

// encodeOne appends the first n symbols as one stream, without keys.
func (s *sorter) encodeOne(dst []byte, n int) []byte {
	countSymbols(&s.hists[0], s.syms[:n])
	return s.entropy.encode(dst, s.syms[:n], &s.hists[0])
}
