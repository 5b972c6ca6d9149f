package diff

// A model mixes the opinions of several contexts about the next bit, as in M. Mahoney, Adaptive weighing of context models
// for lossless data compression (2005). All of it is integer arithmetic.
//
// Each context has a slot: in the upper 22 bits the probability of a one less 1/2, in the lower 10 how often it was seen.
// Slots come in lines of 16, one line for a context and half a byte, so that four bits cost one miss of the cache.
type model struct {
	slots   []uint32
	mask    uint32 // of lines
	limit   uint32 // of a slot's count
	n       int    // contexts
	at      [contexts]uint32
	stretch [contexts]int32
	weights [][contexts]int32
}

// contexts is the most contexts that a model mixes.
const contexts = 8

// newModel returns a model with 2^bits lines for n contexts, and so many sets of weights.
func newModel(bits, n, sets int, limit uint32) *model {
	x := &model{slots: make([]uint32, 16<<bits), mask: 1<<bits - 1, limit: limit, n: n,
		weights: make([][contexts]int32, sets)}
	for s := range x.weights {
		for i := range n {
			x.weights[s][i] = int32(2 << 16 / n)
		}
	}
	return x
}

// line makes context i look at the line that h, a hash, leads to.
func (x *model) line(i int, h uint32) {
	h = (h + uint32(i)*0x3c6ef372) * 0x9e3779b1
	h = (h ^ h>>15) * 0x85ebca77
	x.at[i] = (h ^ h>>13) & x.mask << 4
}

// code codes one bit: node, from 0 to 15, is the slot in each line; set the weights.
func (x *model) code(c *coder, node, set uint32, bit int) int {
	w := &x.weights[set]
	dot := int64(0)
	n := x.n
	for i := 0; i < n; i++ {
		s := stretchTable[(x.slots[x.at[i]+node]^1<<31)>>20&4095]
		x.stretch[i] = s
		dot += int64(w[i]) * int64(s)
	}
	p := squash(int(dot >> 16))
	bit = c.bit(bit, uint32(p))
	err := (int32(bit)<<16 - p) * 3 >> 2
	for i := 0; i < n; i++ {
		w[i] += (x.stretch[i]*err + 0x8000) >> 16
		s := &x.slots[x.at[i]+node]
		v := *s ^ 1<<31
		k := v & 1023
		q := int64(v >> 10)
		q += (int64(bit)<<22 - q) * int64(reciprocal[k]) >> 16
		if k < x.limit {
			k++
		}
		*s = (uint32(min(max(q, 64), 1<<22-64))<<10 | k) ^ 1<<31
	}
	return bit
}

// octet codes a byte, half by half, with the lines that line chooses for each half: it is called with 0, then with
// 16 plus the first half. It uses 32 sets of weights from set on.
func (x *model) octet(c *coder, set uint32, v int, hashes *[contexts]uint32) int {
	out := 1
	for half := 0; half < 2; half++ {
		for i := range x.n {
			x.line(i, hashes[i]+uint32(half*out)*0x2545f491)
		}
		node := 1
		for j := 0; j < 4; j++ {
			bit := x.code(c, uint32(node), set+uint32(half*16+node), v>>(7-half*4-j)&1)
			node = node<<1 | bit
		}
		out = out<<4 | node&15
	}
	return out & 255
}
