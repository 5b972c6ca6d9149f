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

// places is where the next symbol of each key goes, for each quarter of the elements. Sorting the quarters at the same time
// hides the latency of the counters.
type places [4][256]uint32

// places counts the keys, sets where each key's symbols begin in each quarter, and returns where they begin in all. The
// elements that four does not divide belong to the last quarter.
func (s *sorter) places(p *places, n int) (at [257]int) {
	*p = places{}
	q := n / 4
	a, b, c, d := s.keys[:q], s.keys[q:2*q], s.keys[2*q:3*q], s.keys[3*q:4*q]
	for i, k := range a {
		p[0][k]++
		p[1][b[i]]++
		p[2][c[i]]++
		p[3][d[i]]++
	}
	for _, k := range s.keys[4*q : n] {
		p[3][k]++
	}
	sum := uint32(0)
	for k := range 256 {
		for j := range p {
			c := p[j][k]
			p[j][k] = sum
			sum += c
		}
		at[k+1] = int(sum)
	}
	return at
}

// encode appends the first n symbols.
func (s *sorter) encode(dst []byte, n int) []byte {
	var p places
	at := s.places(&p, n)
	s.sort(&p, n)
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

// sort puts the symbols in the order of their keys.
func (s *sorter) sort(p *places, n int) {
	q := n / 4
	a, b, c, d := s.keys[:q], s.keys[q:2*q], s.keys[2*q:3*q], s.keys[3*q:4*q]
	w, x, y, z := s.syms[:q], s.syms[q:2*q], s.syms[2*q:3*q], s.syms[3*q:4*q]
	for i, k := range a {
		j := p[0][k]
		p[0][k] = j + 1
		s.sorted[j&(maxAtoms-1)] = w[i]
		k = b[i]
		j = p[1][k]
		p[1][k] = j + 1
		s.sorted[j&(maxAtoms-1)] = x[i]
		k = c[i]
		j = p[2][k]
		p[2][k] = j + 1
		s.sorted[j&(maxAtoms-1)] = y[i]
		k = d[i]
		j = p[3][k]
		p[3][k] = j + 1
		s.sorted[j&(maxAtoms-1)] = z[i]
	}
	for i, k := range s.keys[4*q : n] {
		s.sorted[p[3][k]] = s.syms[4*q+i]
		p[3][k]++
	}
}

// unsort is the inverse of sort.
func (s *sorter) unsort(p *places, n int) {
	q := n / 4
	a, b, c, d := s.keys[:q], s.keys[q:2*q], s.keys[2*q:3*q], s.keys[3*q:4*q]
	w, x, y, z := s.syms[:q], s.syms[q:2*q], s.syms[2*q:3*q], s.syms[3*q:4*q]
	for i, k := range a {
		j := p[0][k]
		p[0][k] = j + 1
		w[i] = s.sorted[j&(maxAtoms-1)]
		k = b[i]
		j = p[1][k]
		p[1][k] = j + 1
		x[i] = s.sorted[j&(maxAtoms-1)]
		k = c[i]
		j = p[2][k]
		p[2][k] = j + 1
		y[i] = s.sorted[j&(maxAtoms-1)]
		k = d[i]
		j = p[3][k]
		p[3][k] = j + 1
		z[i] = s.sorted[j&(maxAtoms-1)]
	}
	for i, k := range s.keys[4*q : n] {
		s.syms[4*q+i] = s.sorted[p[3][k]]
		p[3][k]++
	}
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
		sampleSymbols(h, s.sorted[at[k]:at[k+1]])
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

// sampleSymbols estimates the histogram of many symbols from a quarter of them. What is rare may be missing.
func sampleSymbols(h *[256]uint32, syms []byte) {
	const chunk, least = 256, 4096
	if len(syms) < least {
		countSymbols(h, syms)
		return
	}
	clear(h[:])
	var t [3][256]uint32
	for i := 0; len(syms) >= chunk; i++ {
		// Which part of the chunk it is changes, for rows may be as long as some chunks.
		at := (i ^ i>>2) & 3 * (chunk / 4)
		addSymbols(h, &t, syms[at:at+chunk/4])
		syms = syms[chunk:]
	}
	for i := range h {
		h[i] = (h[i] + t[0][i] + t[1][i] + t[2][i]) * 4
	}
	for _, s := range syms {
		h[s]++
	}
}

// countSymbols makes the histogram.
func countSymbols(h *[256]uint32, syms []byte) {
	clear(h[:])
	if len(syms) >= 1024 {
		var t [3][256]uint32
		whole := len(syms) &^ 7
		addSymbols(h, &t, syms[:whole])
		syms = syms[whole:]
		for i := range h {
			h[i] += t[0][i] + t[1][i] + t[2][i]
		}
	}
	for _, s := range syms {
		h[s]++
	}
}

// addSymbols counts symbols, a multiple of eight. Four counters for each keep a frequent one from waiting for itself.
func addSymbols(h *[256]uint32, t *[3][256]uint32, syms []byte) {
	a, b, c := &t[0], &t[1], &t[2]
	for len(syms) >= 8 {
		v := binary.LittleEndian.Uint64(syms)
		h[byte(v)]++
		a[byte(v>>8)]++
		b[byte(v>>16)]++
		c[byte(v>>24)]++
		h[byte(v>>32)]++
		a[byte(v>>40)]++
		b[byte(v>>48)]++
		c[byte(v>>56)]++
		syms = syms[8:]
	}
}

// decode reads the first n symbols, whose keys are set, and returns what follows.
func (s *sorter) decode(p []byte, n int) ([]byte, error) {
	var at places
	begins := s.places(&at, n)
	p, err := s.decodeSorted(p, &begins)
	if err != nil {
		return nil, err
	}
	s.unsort(&at, n)
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
	sampleSymbols(&s.hists[0], s.syms[:n])
	return s.entropy.encode(dst, s.syms[:n], &s.hists[0])
}
