package diff

// An octets is a model of bytes. It mixes like model, but its slots are half as large and its lines know whose they are,
// so that a context that was never seen has no opinion rather than another's.
//
// A line has 16 slots of 16 bits. The first is a check of the context; the others have in the upper 12 bits the
// probability of a one, in the lower 4 how often it was seen.
type octets struct {
	slots   []uint16
	mask    uint32 // of lines
	n       int    // contexts
	at      [contexts]uint32
	stretch [contexts]int32
	weights [][contexts]int32
}

// newOctets returns a model with 2^bits lines for n contexts, and so many sets of weights.
func newOctets(bits, n, sets int) *octets {
	x := &octets{slots: make([]uint16, 16<<bits), mask: 1<<bits - 1, n: n, weights: make([][contexts]int32, sets)}
	for s := range x.weights {
		for i := range n {
			x.weights[s][i] = int32(2 << 16 / n)
		}
	}
	return x
}

// look makes each context look at the line of its hash and of near, a number below 32: one of two neighbours, the one seen
// less often if neither is theirs. Lines for one hash are close together, which spares the processor's address table; all
// lines are read before any is judged, so that the reads overlap.
func (x *octets) look(hashes *[contexts]uint32, near uint32) {
	var checks, found [contexts]uint16
	for i := range x.n {
		h := (hashes[i&7] + uint32(i)*0x3c6ef372) * 0x9e3779b1
		h = (h ^ h>>15) * 0x85ebca77
		h ^= h >> 13
		a := (h*0x2c1b3c6d>>7 ^ near<<1) & x.mask << 4
		checks[i&7] = uint16((h>>16 + near*0x9e35) | 1)
		found[i&7] = x.slots[a]
		x.at[i&7] = a
	}
	for i := range x.n {
		if found[i&7] != checks[i&7] {
			x.at[i&7] = x.second(x.at[i&7], checks[i&7])
		}
	}
}

// second returns the line a or its neighbour, cleared unless it is the check's.
func (x *octets) second(a uint32, check uint16) uint32 {
	b := a ^ 16
	if x.slots[b] == check {
		return b
	}
	if x.slots[a+1]&15 > x.slots[b+1]&15 {
		a = b
	}
	s := x.slots[a : a+16]
	s[0] = check
	for k := 1; k < len(s); k++ {
		s[k] = 1 << 15
	}
	return a
}

// code codes one bit: node, from 1 to 15, is the slot in each line; set the weights.
func (x *octets) code(c *coder, node, set uint32, bit int) int {
	w := &x.weights[set]
	dot := int64(0)
	at := x.at[:x.n]
	for i, a := range at {
		s := stretchTable[x.slots[a+node]>>4]
		x.stretch[i&7] = s
		dot += int64(w[i&7]) * int64(s)
	}
	p := squash(int(dot >> 16))
	bit = c.bit(bit, uint32(p))
	err := (int32(bit)<<16 - p) * 3
	aim := int32(bit) * 4095
	for i, a := range at {
		w[i&7] += (x.stretch[i&7]*err + 0x8000) >> 16
		s := &x.slots[a+node]
		v := *s
		k := v & 15
		q := int32(v >> 4)
		q += (aim - q) * int32(reciprocal[k]) >> 16
		if k < 15 {
			k++
		}
		*s = uint16(q)<<4 | k
	}
	return bit
}

// octet codes a byte, half by half, each half with lines of its own. It uses 32 sets of weights from set on.
func (x *octets) octet(c *coder, set uint32, v int, hashes *[contexts]uint32) int {
	out := 1
	for half := 0; half < 2; half++ {
		x.look(hashes, uint32(half*out))
		node := 1
		for j := 0; j < 4; j++ {
			bit := x.code(c, uint32(node), set+uint32(half*16+node), v>>(7-half*4-j)&1)
			node = node<<1 | bit
		}
		out = out<<4 | node&15
	}
	return out & 255
}
