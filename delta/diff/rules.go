package diff

// A ruleCoder codes the rules of a segment's pages.
type ruleCoder struct {
	c    *coder
	same [4]prob
	what [3]*number
	hist int
	last rule
}

func newRuleCoder(c *coder) *ruleCoder {
	k := &ruleCoder{c: c}
	for i := range k.same {
		k.same[i] = 1 << 15
	}
	for i := range k.what {
		k.what[i] = newNumber()
	}
	return k
}

// rule codes one rule, or returns what it reads: whether it is the last one, else its kind, even and odd.
func (k *ruleCoder) rule(u rule) rule {
	bit := 0
	if u != k.last {
		bit = 1
	}
	bit = k.same[k.hist&3].code(k.c, bit, 4)
	k.hist = k.hist<<1 | bit
	if bit == 0 {
		return k.last
	}
	u.kind = uint8(k.what[0].code(k.c, uint64(u.kind)))
	if u.kind == ruleFields || u.kind == ruleMixed || u.kind == ruleFuncs {
		u.even = uint8(k.what[1].code(k.c, uint64(u.even)))
		u.odd = uint8(k.what[2].code(k.c, uint64(u.odd)))
	} else {
		u.even, u.odd = 0, 0
	}
	k.last = u
	return u
}

func writeRules(rules []rule) []byte {
	k := newRuleCoder(newWriter(nil))
	for _, u := range rules {
		k.rule(u)
	}
	return k.c.finish()
}

func readRules(b []byte, n int) ([]rule, error) {
	k := newRuleCoder(newReader(b))
	out := make([]rule, n)
	for i := range out {
		if out[i] = k.rule(rule{}); k.c.over() {
			return nil, corrupt("rules run out")
		}
	}
	return out, nil
}

// follow foretells by the given rules, one for each page.
func (p *predictor) follow(rules []rule) {
	for i := range p.runs {
		r := &p.runs[i]
		for lo := r.lo; lo < r.hi; {
			k := lo / page
			hi := min(r.hi, k*page+page)
			if rules[k].kind != ruleNone {
				p.apply(r, lo, hi, rules[k])
			}
			lo = hi
		}
	}
}
