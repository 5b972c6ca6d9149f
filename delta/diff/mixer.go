package diff

// A mixer foretells a bit from what several contexts remember of the bits that came in them before. What a context
// remembers is a state, a byte; a state of a context has a say, a number that is learnt; and the sum of what all of them
// say is the logarithm of the odds. That is logistic regression on the states, learnt bit by bit: as M. Mahoney, Adaptive
// weighing of context models for lossless data compression (2005), but with a weight for each state in the place of a
// probability for each state and a weight for each context.
type mixer struct {
	says []says
	rate int32
}

// contexts is how many contexts a mixer asks.
const contexts = 8

// says is what each state of each context says, in units of 1/256 of a natural logarithm, times 65536.
type says [contexts][states]int32

// newMixer returns a mixer with so many sets of says.
func newMixer(sets int, rate int32) mixer {
	x := mixer{says: make([]says, sets), rate: rate}
	for s := range x.says {
		for i := range x.says[s] {
			x.says[s][i] = firstSay
		}
	}
	return x
}

// judge codes one bit with a set of says, of contexts in states s. The loops are spelt out because this is where all the
// time goes.
func (x *mixer) judge(c *coder, set uint32, s *[contexts]byte, bit int) int {
	y := &x.says[set]
	y0, y1, y2, y3 := &y[0][s[0]], &y[1][s[1]], &y[2][s[2]], &y[3][s[3]]
	y4, y5, y6, y7 := &y[4][s[4]], &y[5][s[5]], &y[6][s[6]], &y[7][s[7]]
	p := squash((*y0 + *y1 + *y2 + *y3 + *y4 + *y5 + *y6 + *y7) >> 16)
	bit = c.bit(bit, uint32(p))
	// What is as sure as can be is not made surer, so that says stay small.
	d := (int32(bit)<<16 - p) / 16 * x.rate
	*y0, *y1, *y2, *y3 = *y0+d, *y1+d, *y2+d, *y3+d
	*y4, *y5, *y6, *y7 = *y4+d, *y5+d, *y6+d, *y7+d
	return bit
}

// A model is a mixer of single bits. Contexts that meet in a state share it.
type model struct {
	mixer
	states []byte
	mask   uint32
	at     [contexts]uint32 // in states
}

// newModel returns a model with 2^bits states and so many sets of says.
func newModel(bits, sets int, rate int32) *model {
	return &model{mixer: newMixer(sets, rate), states: make([]byte, 1<<bits), mask: 1<<bits - 1}
}

// look makes each context look at the state that its hash leads to.
func (x *model) look(hashes *[contexts]uint32) {
	for i := range contexts {
		h := (hashes[i] + uint32(i)*0x3c6ef372) * 0x9e3779b1
		h = (h ^ h>>15) * 0x85ebca77
		x.at[i] = (h ^ h>>13) & x.mask
	}
}

// code codes one bit with a set of says.
func (x *model) code(c *coder, set uint32, bit int) int {
	var s [contexts]byte
	for i := range contexts {
		s[i] = x.states[x.at[i]]
	}
	bit = x.judge(c, set, &s, bit)
	n := &nextState[bit&1]
	for i := range contexts {
		x.states[x.at[i]] = n[s[i]]
	}
	return bit
}

// An octets is a mixer of bytes. Each context has a line of states for the upper half of a byte and sixteen for the lower
// half. Context 0 is nothing at all and context 1 one byte: they have lines of their own. The others share lines, which
// together fit the processor's cache: a model that waits for memory is several times as slow.
type octets struct {
	mixer
	none  [32]line
	one   [256 * 32]line
	lines []line
	mask  uint32 // of lines
	line  [contexts]*line
}

// A line has a check of the context and a state for each of the 15 nodes of half a byte.
type line [16]byte

// newOctets returns a model with 2^bits lines and so many sets of says.
func newOctets(bits, sets int, rate int32) *octets {
	return &octets{mixer: newMixer(sets, rate), lines: make([]line, 1<<bits), mask: 1<<bits - 1}
}

// look makes each context look at the line of its hash and of near, a number below 32: one of two neighbours, the one seen
// less often if neither is theirs. All lines are read before any is judged, so that the reads overlap.
func (x *octets) look(hashes *[contexts]uint64, near uint32) {
	x.line[0] = &x.none[near&31]
	x.line[1] = &x.one[hashes[1]&255<<5|uint64(near&31)]
	var checks, found [contexts]byte
	var places [contexts]uint32
	step := uint64(near) * 0x9e3779b97f4a7c15
	for i := 2; i < contexts; i++ {
		h := hashes[i] ^ step
		places[i] = uint32(h>>32) & x.mask
		checks[i] = byte(h>>24) | 1
		x.line[i] = &x.lines[places[i]]
		found[i] = x.line[i][0]
	}
	for i := 2; i < contexts; i++ {
		if found[i] != checks[i] {
			x.line[i] = x.second(places[i], checks[i])
		}
	}
}

// second returns the line a or its neighbour, cleared unless it is the check's.
func (x *octets) second(a uint32, check byte) *line {
	l, other := &x.lines[a], &x.lines[a^1]
	if other[0] == check {
		return other
	}
	if seen[l[1]] > seen[other[1]] {
		l = other
	}
	*l = line{check}
	return l
}

// octet codes a byte, half by half, each half with lines of its own. It uses eight sets from set on.
func (x *octets) octet(c *coder, set uint32, v int, h *[contexts]uint64) int {
	for i := 2; i < contexts; i++ {
		h[i] = (h[i] + uint64(i)*0x3c6ef372) * 0x9e3779b97f4a7c15
		h[i] ^= h[i] >> 29
	}
	out := uint32(1)
	for half := range uint32(2) {
		x.look(h, half*out)
		node := uint32(1)
		for j := range uint32(4) {
			bit := x.code(c, node, set+half*4+j, v>>(7-half*4-j)&1)
			node = node<<1 | uint32(bit)
		}
		out = out<<4 | node&15
	}
	return int(out & 255)
}

// code codes one bit: node, from 1 to 15, is the state in each line.
func (x *octets) code(c *coder, node, set uint32, bit int) int {
	node &= 15
	a, b, d, e, f, g, h, i := x.line[0], x.line[1], x.line[2], x.line[3], x.line[4], x.line[5], x.line[6], x.line[7]
	s := [contexts]byte{a[node], b[node], d[node], e[node], f[node], g[node], h[node], i[node]}
	bit = x.judge(c, set, &s, bit)
	n := &nextState[bit&1]
	a[node], b[node], d[node], e[node], f[node], g[node], h[node], i[node] = n[s[0]], n[s[1]], n[s[2]], n[s[3]], n[s[4]], n[s[5]], n[s[6]], n[s[7]]
	return bit
}
