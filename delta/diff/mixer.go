package diff

// A model mixes the opinions of several contexts about the next bit, as in M. Mahoney, Adaptive weighing of context models
// for lossless data compression (2005). All of it is integer arithmetic.
//
// Each context has a slot: in the upper 22 bits the probability of a one, in the lower 10 how often it was seen. This
// model is for single bits; contexts that meet in a slot share it.
type model struct {
	slots   []uint32
	mask    uint32 // of slots
	limit   uint32 // of a slot's count
	n       int    // contexts
	at      [contexts]uint32
	stretch [contexts]int32
	weights [][contexts]int32
}

// contexts is the most contexts that a model mixes.
const contexts = 8

// newModel returns a model with 2^bits slots for n contexts, and so many sets of weights.
func newModel(bits, n, sets int, limit uint32) *model {
	x := &model{slots: make([]uint32, 1<<bits), mask: 1<<bits - 1, limit: limit, n: n,
		weights: make([][contexts]int32, sets)}
	x.slots[0] = 1 << 31
	for n := 1; n < len(x.slots); n *= 2 {
		copy(x.slots[n:], x.slots[:n])
	}
	for s := range x.weights {
		for i := range n {
			x.weights[s][i] = int32(2 << 16 / n)
		}
	}
	return x
}

// look makes context i look at the slot that h, a hash, leads to.
func (x *model) look(i int, h uint32) {
	h = (h + uint32(i)*0x3c6ef372) * 0x9e3779b1
	h = (h ^ h>>15) * 0x85ebca77
	x.at[i] = (h ^ h>>13) & x.mask
}

// code codes one bit with a set of weights.
func (x *model) code(c *coder, set uint32, bit int) int {
	w := &x.weights[set]
	dot := int64(0)
	at := x.at[:x.n]
	for i, a := range at {
		s := stretchTable[x.slots[a]>>20]
		x.stretch[i&7] = s
		dot += int64(w[i&7]) * int64(s)
	}
	p := squash(int(dot >> 16))
	bit = c.bit(bit, uint32(p))
	err := (int32(bit)<<16 - p) * 3 >> 1
	aim := int64(bit) << 22
	for i, a := range at {
		w[i&7] += (x.stretch[i&7]*err + 0x8000) >> 16
		s := &x.slots[a]
		v := *s
		k := v & 1023
		q := int64(v >> 10)
		q += (aim - q) * int64(reciprocal[k]) >> 16
		if k < x.limit {
			k++
		}
		*s = uint32(q)<<10 | k
	}
	return bit
}
