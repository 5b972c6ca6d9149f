package diff

// states is how many a byte can hold. State 0 has seen nothing.
const states = 256

// mostSeen is, for the smaller count of zeros and ones that a state remembers, the largest of the other.
var mostSeen = [...]int{48, 28, 16, 10, 7, 6}

// counts is what a state remembers: how often a zero and a one were seen, the last ones most.
type counts struct{ zeros, ones int }

func (p counts) allowed() bool {
	lo, hi := min(p.zeros, p.ones), max(p.zeros, p.ones)
	return lo < len(mostSeen) && hi <= mostSeen[lo]
}

// after returns what is remembered after one more bit: of more than two of the other kind, a third.
func (p counts) after(bit int) counts {
	if bit == 0 {
		q := counts{p.ones, p.zeros}.after(1)
		return counts{q.ones, q.zeros}
	}
	q := counts{p.zeros, p.ones + 1}
	if q.zeros > 2 {
		q.zeros = 2 + (q.zeros-2)/3
	}
	for !q.allowed() {
		if q.zeros > 0 && q.ones <= mostSeen[0] {
			q.zeros--
		} else {
			q.ones--
		}
	}
	return q
}

// nextState is the state after a zero and after a one, seen how many bits a state remembers, firstSay what it says at first.
var nextState, seen, firstSay = makeStates()

// makeStates numbers the states by how much they remember.
func makeStates() (next [2][states]byte, seen [states]byte, say [states]int32) {
	number := map[counts]int{}
	var list []counts
	for sum := range 2 * mostSeen[0] {
		for zeros := range sum + 1 {
			if p := (counts{zeros, sum - zeros}); p.allowed() {
				number[p] = len(list)
				list = append(list, p)
			}
		}
	}
	for i, p := range list {
		for bit := range next {
			next[bit][i] = byte(number[p.after(bit)])
		}
		n := p.zeros + p.ones
		seen[i] = byte(n)
		say[i] = int32(stretchTable[(2*p.ones+1)<<11/(n+1)]) * firstWeight
	}
	return next, seen, say
}

// firstWeight is how much the odds that a state has seen count at first, in 1/65536.
const firstWeight = 20000
