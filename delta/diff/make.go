package diff

import "github.com/wordcab/wcbundle/delta/match"

// NewMap finds the copies that make target from old, which x indexes. If both sides have loads, it looks twice: the second
// time with the target's addresses turned back to what they were by the first map, so that what only moved is equal.
func NewMap(x *match.Index, old, target []byte, opt match.Options, oldLoads, newLoads []Load) *Map {
	m := &Map{Copies: x.Find(target, opt), OldLoads: oldLoads, NewLoads: newLoads}
	if len(oldLoads) == 0 || len(newLoads) == 0 {
		return m
	}
	return &Map{Copies: x.Find(m.turnBack(old, target), opt), OldLoads: oldLoads, NewLoads: newLoads}
}

// turnBack returns target with the addresses that the map foretells turned into those of the old file.
func (m *Map) turnBack(old, target []byte) []byte {
	back := &Map{OldLoads: m.NewLoads, NewLoads: m.OldLoads}
	for _, c := range m.Copies {
		back.Copies = append(back.Copies, match.Copy{New: c.Old, Old: c.New, Len: c.Len})
	}
	out := make([]byte, 0, len(target))
	base := make([]byte, min(len(target), MaxSegment))
	for at := 0; at < len(target); at += MaxSegment {
		t := target[at:min(at+MaxSegment, len(target))]
		b := base[:len(t)]
		_ = m.Layout(b, int64(at), func(p []byte, off int64) error {
			copy(p, old[off:])
			return nil
		})
		forward := newPredictor(m, b, int64(at))
		rules := forward.choose(t)
		p := &predictor{m: back, s: &back.addresses()[0], far: &back.addresses()[1], at: int64(at), base: t, out: append([]byte(nil), t...)}
		p.runs = p.reverse(forward.runs)
		p.follow(rules)
		out = append(out, p.out...)
	}
	return out
}

// reverse returns runs for all of a segment of the target, from those that make it.
func (p *predictor) reverse(runs []run) []run {
	var out []run
	pos := 0
	between := func(hi int) {
		for pos < hi {
			from, known, n := locate(p.m.OldLoads, p.at+int64(pos), int64(hi-pos))
			move, _ := p.s.of(from)
			out = append(out, run{pos, pos + int(n), from, move, known})
			pos += int(n)
		}
	}
	for _, r := range runs {
		between(r.lo)
		out = append(out, run{r.lo, r.hi, r.addr + r.move, -r.move, r.known})
		pos = r.hi
	}
	between(len(p.base))
	return out
}
