package diff

import "encoding/binary"

// choose finds the rule of each page that foretells the target best, and foretells by it.
func (p *predictor) choose(target []byte) []rule {
	out := make([]rule, (len(target)+page-1)/page)
	if len(p.s.spans) == 0 {
		return out
	}
	last, first := rule{}, 0
	for k := range out {
		lo, hi := k*page, min(k*page+page, len(target))
		for first < len(p.runs) && p.runs[first].hi <= lo {
			first++
		}
		end := first
		for end < len(p.runs) && p.runs[end].lo < hi {
			end++
		}
		runs := p.runs[first:end]
		last = p.best(target, runs, lo, hi, last)
		p.all(runs, lo, hi, last)
		out[k] = last
	}
	return out
}

func (p *predictor) all(runs []run, lo, hi int, u rule) {
	for i := range runs {
		p.again(&runs[i], lo, hi, u)
	}
}

// misses counts the copied bytes of a page that are foretold wrongly by a rule.
func (p *predictor) misses(target []byte, runs []run, lo, hi int, u rule) int {
	n := 0
	p.all(runs, lo, hi, u)
	for _, r := range runs {
		a, b := max(lo, r.lo), min(hi, r.hi)
		for a < b {
			a += equal(target[a:b], p.out[a:b])
			if a < b {
				n++
				a++
			}
		}
	}
	return n
}

const (
	goodEnough = 4   // a rule with so few misses in a page is not worth a change
	sampled    = 100 // so many changed fields of a page are looked at
)

// best returns the rule with the fewest misses; the one of the page before, if it is as good.
func (p *predictor) best(target []byte, runs []run, lo, hi int, last rule) rule {
	best, least := last, p.misses(target, runs, lo, hi, last)
	if least <= goodEnough {
		return last
	}
	try := func(u rule) {
		if least <= goodEnough || u == last {
			return
		}
		if n := p.misses(target, runs, lo, hi, u); n < least {
			best, least = u, n
		}
	}
	try(rule{})
	try(rule{kind: ruleCode})
	if best.kind != ruleCode || least > page/32 {
		try(rule{kind: ruleWords})
		u := p.bestFields(target, runs, lo, hi)
		try(u)
		u.kind = ruleMixed
		try(u)
		try(rule{kind: ruleFrames})
		if len(runs) > 0 && least > page/64 && p.loadOf(runs[0].addr) >= goNames {
			p.funcRules(try, runs[0].addr)
		}
	}
	return best
}

// funcRules tries what function records may be relative to: code is the first large load, function data the load that
// follows or another.
func (p *predictor) funcRules(try func(rule), addr int64) {
	code := 0
	for code+1 < len(p.m.OldLoads) && p.m.OldLoads[code].Len < 4*page {
		code++
	}
	for data := range p.m.OldLoads {
		if k := p.loadOf(addr); data == k+1 || data < k && p.m.OldLoads[data].Len > 4*page && data > code {
			try(rule{ruleFuncs, uint8(fieldLoads + code), uint8(fieldLoads + data)})
		}
	}
}

// bestFields returns what foretells most of the changed fields at even and at odd places.
func (p *predictor) bestFields(target []byte, runs []run, lo, hi int) rule {
	var hits [2][fieldLoads + MaxLoads]int
	kinds, seen := fieldLoads+len(p.m.OldLoads), 0
	for j := range runs {
		r := &runs[j]
		a, b := max(lo, r.lo), min(hi, r.hi)
		a += int(-(p.at + int64(a)) & 3)
		for i := a; i+4 <= b && seen < sampled; i += 4 {
			odd := (p.at + int64(i)) >> 2 & 1
			want := binary.LittleEndian.Uint32(target[i:])
			if want == binary.LittleEndian.Uint32(p.base[i:]) {
				continue
			}
			seen++
			for what := uint8(1); int(what) < kinds; what++ {
				if v, ok := p.field(r, i, what); ok && v == want {
					hits[odd][what]++
				}
			}
		}
	}
	u := rule{kind: ruleFields}
	for what := range uint8(kinds) {
		if hits[0][what] > hits[0][u.even] {
			u.even = what
		}
		if hits[1][what] > hits[1][u.odd] {
			u.odd = what
		}
	}
	return u
}
