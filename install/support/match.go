package support

import (
	"bytes"
	"sort"
)

// minLiteral is the shortest literal in bytes, and the window by which the matcher looks literals up. The mask must be
// shorter, or replacing would not shrink the text.
const minLiteral = 6

// matcher finds many literals in one pass. Literals are kept by their first six bytes; a table of the hashes of the
// first three bytes turns most positions away before the map is asked.
type matcher struct {
	first [1 << 16]bool
	by    map[[minLiteral]byte][][]byte
	count int
}

// newMatcher takes literals of at least minLiteral bytes; shorter ones are left out.
func newMatcher(literals map[string]struct{}) *matcher {
	m := &matcher{by: map[[minLiteral]byte][][]byte{}}
	for s := range literals {
		if len(s) < minLiteral {
			continue
		}
		key := [minLiteral]byte([]byte(s[:minLiteral]))
		m.by[key] = append(m.by[key], []byte(s))
		m.first[hash3(key[:])] = true
		m.count++
	}
	for _, list := range m.by {
		sort.Slice(list, func(i, j int) bool { return len(list[i]) > len(list[j]) })
	}
	return m
}

func hash3(b []byte) uint16 {
	v := uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16
	return uint16((v * 2654435761) >> 16)
}

// at returns the length of the longest literal that begins at the start of text, or 0.
func (m *matcher) at(text []byte) int {
	if len(text) < minLiteral || !m.first[hash3(text)] {
		return 0
	}
	for _, l := range m.by[[minLiteral]byte(text[:minLiteral])] {
		if bytes.HasPrefix(text, l) {
			return len(l)
		}
	}
	return 0
}

// span is the bytes from to end, end excluded.
type span struct{ from, end int }

// next returns the first span at or after from that literals cover. Literals that overlap are one span: replacing only
// the first would leave a part of the second.
func (m *matcher) next(text []byte, from int) (span, bool) {
	for i := from; i+minLiteral <= len(text); i++ {
		n := m.at(text[i:])
		if n == 0 {
			continue
		}
		s := span{i, i + n}
		for j := i + 1; j < s.end; j++ {
			if n := m.at(text[j:]); n > 0 {
				s.end = max(s.end, j+n)
			}
		}
		return s, true
	}
	return span{}, false
}

// replace masks every literal and says how many spans it masked. Without a hit it returns text itself.
func (m *matcher) replace(text, mask []byte) ([]byte, int) {
	s, ok := m.next(text, 0)
	if !ok {
		return text, 0
	}
	out, done, n := make([]byte, 0, len(text)), 0, 0
	for ok {
		out = append(append(out, text[done:s.from]...), mask...)
		done, n = s.end, n+1
		s, ok = m.next(text, done)
	}
	return append(out, text[done:]...), n
}

// found reports whether any literal is in text.
func (m *matcher) found(text []byte) bool {
	_, ok := m.next(text, 0)
	return ok
}
