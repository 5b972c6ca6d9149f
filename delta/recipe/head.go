package recipe

// blockHead is the header of a dynamic block: its code lengths and how it spells them.
type blockHead struct {
	lit, dist []uint8
	cl        []uint8 // lengths of the code length code, all 19
	spelling  []byte
}

// A head spelling is the header of a dynamic block as bytes, one per field: HLIT, HDIST, HCLEN, HCLEN+4 code length
// code lengths in the order of RFC 1951, then the code length symbols, 16 to 18 followed by their extra bits.

// parseHead reads a head spelling strictly: nothing missing, nothing left over.
func parseHead(b []byte) (blockHead, error) {
	h := blockHead{spelling: b, cl: make([]uint8, clCodes)}
	if len(b) < 3 || b[0] > 31 || b[1] > 31 || b[2] > 15 || len(b) < 3+int(b[2])+4 {
		return h, corrupt("block header too short")
	}
	nl, nd, nc := int(b[0])+257, int(b[1])+1, int(b[2])+4
	for i, l := range b[3 : 3+nc] {
		if l > 7 {
			return h, corrupt("code length out of range")
		}
		h.cl[clOrder[i]] = l
	}
	lens := make([]uint8, 0, nl+nd)
	for b = b[3+nc:]; len(b) > 0 && len(lens) < nl+nd; {
		s := b[0]
		b = b[1:]
		if s > 18 || h.cl[s] == 0 {
			return h, corrupt("code length symbol without a code")
		}
		if s < 16 {
			lens = append(lens, s)
			continue
		}
		if len(b) == 0 || b[0] >= 1<<[3]uint{2, 3, 7}[s-16] || (s == 16 && len(lens) == 0) {
			return h, corrupt("bad repeat in a block header")
		}
		var v uint8
		if s == 16 {
			v = lens[len(lens)-1]
		}
		for n := [3]int{3, 3, 11}[s-16] + int(b[0]); n > 0; n-- {
			lens = append(lens, v)
		}
		b = b[1:]
	}
	if len(b) != 0 || len(lens) != nl+nd {
		return h, corrupt("block header of the wrong length")
	}
	h.lit, h.dist = lens[:nl], lens[nl:]
	return h, nil
}

// spellRuns appends the code length symbols for lens: runs of zeros as 17 and 18, of others as one and 16.
func spellRuns(out []byte, lens []uint8) []byte {
	for i := 0; i < len(lens); {
		v := lens[i]
		n := 1
		for i+n < len(lens) && lens[i+n] == v {
			n++
		}
		i += n
		if v != 0 {
			out = append(out, v)
			n--
			for n >= 3 {
				k := min(n, 6)
				out = append(out, 16, byte(k-3))
				n -= k
			}
		} else {
			for n >= 11 {
				k := min(n, 138)
				out = append(out, 18, byte(k-11))
				n -= k
			}
			if n >= 3 {
				out = append(out, 17, byte(n-3))
				n = 0
			}
		}
		for ; n > 0; n-- {
			out = append(out, v)
		}
	}
	return out
}

// tally counts the symbols of a block, the end marker included.
func tally(tokens []token) (lit [litCodes]int32, dist [distCodes]int32) {
	for _, t := range tokens {
		if t.isMatch() {
			lit[257+lengthCode(t.length())]++
			dist[distCode(t.dist())]++
		} else {
			lit[t]++
		}
	}
	lit[endOfBlock] = 1
	return lit, dist
}

// predictHead is the header that the model's writer gives a block with these tokens; flush says that it flushes behind them.
func predictHead(m *rules, tokens []token, flush bool) blockHead {
	litFreq, distFreq := tally(tokens)
	full := m.full && !flush && !allZero(distFreq[:])
	if m.tree == treeMerge && allZero(distFreq[:]) {
		distFreq[0] = 1 // Go counts one distance so that the code is never empty
	}
	rule := treeRule(heapLengths)
	if m.tree == treeMerge {
		rule = mergeLengths
	}
	lit, dist := rule(litFreq[:], 15), rule(distFreq[:], 15)
	if !full {
		lit, dist = lit[:max(257, trimmed(lit))], dist[:max(1, trimmed(dist))]
	}
	var runs []byte
	if m.tree == treeMerge {
		runs = spellRuns(nil, append(append([]uint8(nil), lit...), dist...))
	} else {
		runs = spellRuns(spellRuns(nil, lit), dist)
	}
	var clFreq [clCodes]int32
	for i := 0; i < len(runs); i++ {
		clFreq[runs[i]]++
		if runs[i] >= 16 {
			i++
		}
	}
	cl := rule(clFreq[:], 7)
	nc := clCodes
	for nc > 4 && cl[clOrder[nc-1]] == 0 {
		nc--
	}
	s := []byte{byte(len(lit) - 257), byte(len(dist) - 1), byte(nc - 4)}
	for _, o := range clOrder[:nc] {
		s = append(s, cl[o])
	}
	return blockHead{lit: lit, dist: dist, cl: cl, spelling: append(s, runs...)}
}

func allZero(f []int32) bool {
	for _, v := range f {
		if v != 0 {
			return false
		}
	}
	return true
}

func trimmed(lens []uint8) int {
	n := len(lens)
	for n > 0 && lens[n-1] == 0 {
		n--
	}
	return n
}

// lengthCodes is the code of each match length, nearCodes that of each distance up to 256, farCodes
// that of the distances of each 128 from one more than a multiple of it.
var lengthCodes, nearCodes, farCodes = codeTables()

func codeTables() (length [maxMatch + 1]uint8, near, far [257]uint8) {
	for l, c := 3, 0; l <= maxMatch; l++ {
		for c < 28 && int(lengthBase[c+1]) <= l {
			c++
		}
		length[l] = uint8(c)
	}
	code := func(d int) uint8 {
		c := 0
		for c < distCodes-1 && int(distBase[c+1]) <= d {
			c++
		}
		return uint8(c)
	}
	for i := range near {
		near[i] = code(i)
		far[i] = code(i<<7 + 1)
	}
	return length, near, far
}

func lengthCode(l int) int { return int(lengthCodes[l]) }

func distCode(d int) int {
	if d <= 256 {
		return int(nearCodes[d])
	}
	return int(farCodes[(d-1)>>7&0xff])
}
