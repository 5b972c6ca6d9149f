package tensor

// tableCost is what a stream of its own costs over a shared one, in the units of cost: its table and lengths.
const tableCost = 40 * 8 << 12

// A sorter codes symbols that have a key each, which both sides know: the symbols are sorted by key, and the sorted run is
// cut into streams of neighbouring keys.
type sorter struct {
	entropy
	keys, syms, sorted [maxAtoms]byte
	hists              [256][256]uint32
}

// places counts the keys and returns where each key's symbols begin.
func (s *sorter) places(n int) (at [257]int) {
	var a, b [256]uint32
	keys := s.keys[:n]
	i := 0
	for ; i+1 < n; i += 2 {
		a[keys[i]]++
		b[keys[i+1]]++
	}
	if i < n {
		a[keys[i]]++
	}
	for k := range a {
		at[k+1] = at[k] + int(a[k]+b[k])
	}
	return at
}

// encode appends the first n symbols.
func (s *sorter) encode(dst []byte, n int) []byte {
	at := s.places(n)
	next := at
	keys := s.keys[:n]
	syms := s.syms[:n]
	for i, k := range keys {
		p := next[k]
		next[k] = p + 1
		s.sorted[p&(maxAtoms-1)] = syms[i]
	}
	ends := s.split(&at)
	dst = append(dst, byte(len(ends)-1))
	for _, k := range ends[:len(ends)-1] {
		dst = append(dst, k)
	}
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

func countSymbols(h *[256]uint32, syms []byte) {
	clear(h[:])
	var b [256]uint32
	i := 0
	for ; i+1 < len(syms); i += 2 {
		h[syms[i]]++
		b[syms[i+1]]++
	}
	if i < len(syms) {
		h[syms[i]]++
	}
	for i, c := range b {
		h[i] += c
	}
}

// decode reads the first n symbols, whose keys are set, and returns what follows.
func (s *sorter) decode(p []byte, n int) ([]byte, error) {
	at := s.places(n)
	p, err := s.decodeSorted(p, &at)
	if err != nil {
		return nil, err
	}
	keys := s.keys[:n]
	syms := s.syms[:n]
	for i, k := range keys {
		q := at[k]
		at[k] = q + 1
		syms[i] = s.sorted[q&(maxAtoms-1)]
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
