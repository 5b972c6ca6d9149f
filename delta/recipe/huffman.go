package recipe

import (
	"math/bits"
	"sort"
)

// canonical gives each symbol its code, least significant bit first as deflate writes it. It reports false when
// the lengths claim more code words than there are.
func canonical(lens []uint8) ([]uint16, bool) {
	var count, next [17]int
	for _, l := range lens {
		count[l]++
	}
	count[0] = 0
	code, used := 0, 0
	for l := 1; l <= 15; l++ {
		code = (code + count[l-1]) << 1
		next[l] = code
		used += count[l] << (15 - l)
	}
	if used > 1<<15 {
		return nil, false
	}
	out := make([]uint16, len(lens))
	for s, l := range lens {
		if l != 0 {
			out[s] = bits.Reverse16(uint16(next[l]) << (16 - l))
			next[l]++
		}
	}
	return out, true
}

func fixedLengths() (lit, dist []uint8) {
	lit, dist = make([]uint8, 288), make([]uint8, 32)
	for i := range lit {
		switch {
		case i < 144:
			lit[i] = 8
		case i < 256:
			lit[i] = 9
		case i < 280:
			lit[i] = 7
		default:
			lit[i] = 8
		}
	}
	for i := range dist {
		dist[i] = 5
	}
	return lit, dist
}

// A treeRule turns frequencies into code lengths the way one family of writers does.
type treeRule func(freq []int32, limit int) []uint8

// mergeLengths is the rule of Go's writers: length-limited package merge. On equal weight a package goes before a leaf,
// among leaves the lower symbol goes first. Up to two symbols get one bit each, whatever their weight.
func mergeLengths(freq []int32, limit int) []uint8 {
	lens := make([]uint8, len(freq))
	var leaves []int
	for s, f := range freq {
		if f != 0 {
			leaves = append(leaves, s)
		}
	}
	n := len(leaves)
	if n <= 2 {
		for _, s := range leaves {
			lens[s] = 1
		}
		return lens
	}
	sort.SliceStable(leaves, func(i, j int) bool { return freq[leaves[i]] < freq[leaves[j]] })
	limit = min(limit, n-1)
	taken := mergeLevels(freq, leaves, limit)
	for _, c := range taken {
		for _, s := range leaves[:c] {
			lens[s]++
		}
	}
	return lens
}

// mergeLevels returns for each level how many leaves, lightest first, the cheapest 2n-2 entries of the top level contain.
func mergeLevels(freq []int32, leaves []int, limit int) []int {
	n := len(leaves)
	isLeaf := make([][]bool, limit)
	var below []int64
	for l := range limit {
		var row []int64
		i, j := 0, 0
		for len(row) < 2*n-2 && (i < n || 2*j+1 < len(below)) {
			havePair := 2*j+1 < len(below)
			if i < n && (!havePair || int64(freq[leaves[i]]) < below[2*j]+below[2*j+1]) {
				row = append(row, int64(freq[leaves[i]]))
				isLeaf[l] = append(isLeaf[l], true)
				i++
				continue
			}
			row = append(row, below[2*j]+below[2*j+1])
			isLeaf[l] = append(isLeaf[l], false)
			j++
		}
		below = row
	}
	taken := make([]int, limit)
	want := 2*n - 2
	for l := limit - 1; l >= 0; l-- {
		for _, leaf := range isLeaf[l][:min(want, len(isLeaf[l]))] {
			if leaf {
				taken[l]++
			}
		}
		want = 2 * (want - taken[l])
	}
	return taken
}

// heapTree is the rule of the zlib family while it works: a binary heap of nodes by weight, then depth.
type heapTree struct {
	weight []int32
	depth  []uint8
	parent []int
	heap   []int // heap[0] is unused
}

func (h *heapTree) before(a, b int) bool {
	if h.weight[a] != h.weight[b] {
		return h.weight[a] < h.weight[b]
	}
	return h.depth[a] <= h.depth[b]
}

func (h *heapTree) sink(k int) {
	v, n := h.heap[k], len(h.heap)-1
	for c := 2 * k; c <= n; c *= 2 {
		if c < n && h.before(h.heap[c+1], h.heap[c]) {
			c++
		}
		if h.before(v, h.heap[c]) {
			break
		}
		h.heap[k] = h.heap[c]
		k = c
	}
	h.heap[k] = v
}

// join merges the two lightest nodes until one is left, and returns all nodes in the order in which they left the heap.
func (h *heapTree) join() []int {
	var order []int
	for k := (len(h.heap) - 1) / 2; k >= 1; k-- {
		h.sink(k)
	}
	for len(h.heap) > 2 {
		a := h.heap[1]
		h.heap[1] = h.heap[len(h.heap)-1]
		h.heap = h.heap[:len(h.heap)-1]
		h.sink(1)
		b := h.heap[1]
		node := len(h.weight)
		h.weight = append(h.weight, h.weight[a]+h.weight[b])
		h.depth = append(h.depth, max(h.depth[a], h.depth[b])+1)
		h.parent = append(h.parent, -1)
		h.parent[a], h.parent[b] = node, node
		order = append(order, a, b)
		h.heap[1] = node
		h.sink(1)
	}
	return append(order, h.heap[1])
}

// heapLengths is the rule of the zlib family: a heap-built tree, with at least two symbols, whose too deep leaves are
// moved up by the family's repair step.
func heapLengths(freq []int32, limit int) []uint8 {
	n := len(freq)
	h := &heapTree{weight: append([]int32(nil), freq...), depth: make([]uint8, n), parent: make([]int, n), heap: []int{0}}
	top := -1
	for s, f := range freq {
		if f != 0 {
			h.heap = append(h.heap, s)
			top = s
		}
	}
	for len(h.heap) < 3 {
		s := 0
		if top < 2 {
			top++
			s = top
		}
		h.weight[s] = 1
		h.heap = append(h.heap, s)
	}
	return h.lengths(h.join(), n, limit)
}

// lengths walks the nodes from the root down, clips what is too deep and repairs the clipped code.
func (h *heapTree) lengths(order []int, n, limit int) []uint8 {
	depth := make([]int, len(h.weight))
	var count [17]int
	over := 0
	for i := len(order) - 2; i >= 0; i-- {
		v := order[i]
		d := depth[h.parent[v]] + 1
		if d > limit {
			d = limit
			over++
		}
		depth[v] = d
		if v < n {
			count[d]++
		}
	}
	lens := make([]uint8, n)
	if over == 0 {
		for _, v := range order {
			if v < n {
				lens[v] = uint8(depth[v])
			}
		}
		return lens
	}
	for ; over > 0; over -= 2 {
		d := limit - 1
		for count[d] == 0 {
			d--
		}
		count[d]--
		count[d+1] += 2
		count[limit]--
	}
	i := 0
	for d := limit; d >= 1; d-- {
		for k := count[d]; k > 0; i++ {
			if v := order[i]; v < n {
				lens[v] = uint8(d)
				k--
			}
		}
	}
	return lens
}
