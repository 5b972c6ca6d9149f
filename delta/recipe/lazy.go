package recipe

// lazy plans levels 7 to 9 of klauspost/compress and of Go from 1.27 on: chains of earlier places per hash of four bytes,
// one byte of looking ahead, a look at the end of each match, and skipping where nothing is found. The writer holds 64 KiB;
// when less than 262 bytes of it are left it drops the first half and fills it up again.
type lazy struct {
	m          *rules
	w          *window
	start, end int  // of the stream
	base       int  // where the writer's window begins
	filled     int  // where it ends
	stop       int  // where the writer flushes
	last       bool // the writer has seen all up to stop

	head []int32
	prev [ringSize]int32

	idx     int
	length  int // of the match found at idx-1, or 3
	offset  int
	waiting bool    // the byte at idx-1 has not been written yet
	chain   int     // newest place with the hash of the last inserted one
	run     uint16  // literals since the last match
	costs   []int32 // level 9: bits of the literals from costAt on, summed up
	costAt  int
	list    []placed
}

const (
	lazyMin   = 4
	lazyAhead = lazyMin + maxMatch
	lazyHash  = 17
	costBase  = 3 // bits that a match is thought to cost besides its extra bits
)

func newLazy(m *rules) *lazy { return &lazy{m: m, head: make([]int32, 1<<lazyHash)} }

func (z *lazy) reset(w *window, start, end int) {
	z.w, z.start, z.end, z.stop = w, start, end, start
}

func (z *lazy) rebase(k int) {
	z.start, z.end, z.base, z.filled, z.stop = z.start-k, z.end-k, z.base-k, z.filled-k, z.stop-k
	z.idx, z.chain, z.costAt = z.idx-k, max(z.chain-k, nowhere), z.costAt-k
	rebasePlaces(z.head, k)
	rebasePlaces(z.prev[:], k)
}

// rebasePlaces moves the places of a table back by k.
func rebasePlaces(t []int32, k int) {
	for i, v := range t {
		t[i] = max(v-int32(k), nowhere)
	}
}

// begin starts a writer at pos, with what the rules say of the bytes before as its dictionary.
func (z *lazy) begin(pos int) {
	for i := range z.head {
		z.head[i] = nowhere
	}
	for i := range z.prev {
		z.prev[i] = nowhere
	}
	dict := min(z.m.dict, pos-z.start)
	z.base, z.filled, z.stop, z.last = pos-dict, pos, z.end, false
	if z.m.period > 0 {
		z.stop = min(z.end, pos+z.m.period)
	}
	for i := z.base; i <= pos-lazyMin; i++ {
		z.insert(i)
	}
	z.idx, z.length, z.offset, z.waiting, z.chain, z.run = pos, lazyMin-1, 0, false, nowhere, 0
}

func (z *lazy) insert(i int) int {
	h := &z.head[hash4(uint64(load32(z.w.buf, i)), lazyHash)]
	was := *h
	z.prev[i&ringMask] = was
	*h = int32(i)
	return int(was)
}

// fill takes bytes into the writer's window as far as they fit.
func (z *lazy) fill() {
	if z.idx-z.base >= 2*ringSize-lazyAhead {
		z.base += ringSize
	}
	z.filled = min(z.base+2*ringSize, z.stop)
	z.last = z.filled == z.stop
}

func (z *lazy) plan(pos int) ([]placed, int) {
	z.list = z.list[:0]
	if pos >= z.stop {
		z.begin(pos)
	}
	z.fill()
	z.count()
	for z.filled-z.idx >= lazyAhead || z.last && z.filled > z.idx {
		z.step()
	}
	if z.last {
		return z.list, z.stop
	}
	if z.waiting {
		return z.list, z.idx - 1
	}
	return z.list, z.idx
}

// count makes the costs of literals that level 9 weighs matches by.
func (z *lazy) count() {
	if z.m.literals == 0 {
		return
	}
	var freq [256]uint16
	for _, c := range z.w.buf[z.idx:min(z.filled, z.idx+z.m.literals)] {
		freq[c]++
	}
	var f [256]int32
	for i, n := range freq {
		f[i] = int32(n)
	}
	lens := mergeLengths(f[:], 15)
	z.costs, z.costAt = append(z.costs[:0], 0), z.idx
	sum := int32(0)
	for _, c := range z.w.buf[z.idx:z.filled] {
		sum += int32(lens[c])
		z.costs = append(z.costs, sum)
	}
}

// add inserts idx if the writer would.
func (z *lazy) add() {
	if z.idx < z.filled-(lazyMin-1) {
		z.chain = z.insert(z.idx)
	}
}

func (z *lazy) step() {
	ahead := z.filled - z.idx
	z.add()
	length, offset := z.length, z.offset
	z.length, z.offset = lazyMin-1, 0
	if z.chain >= z.lowest() && ahead > length && length < z.m.lazy {
		z.find(min(ahead, maxMatch))
	}
	if length >= lazyMin && z.length <= length {
		z.take(length, offset, ahead)
		return
	}
	if z.length >= lazyMin {
		z.run = 0
	}
	z.idx++
	if !z.waiting {
		z.waiting = true
		return
	}
	z.run++
	if n := int(z.run) - z.m.chain; n > 0 {
		for n = 1 + n>>6; n > 0 && z.idx < z.filled-1; n-- {
			z.add()
			z.idx++
		}
		z.waiting = false
	}
}

// lowest is the lowest place that a match at idx may have.
func (z *lazy) lowest() int { return max(z.idx-ringSize, z.base) }

// find looks for a match of at most limit bytes at idx.
func (z *lazy) find(limit int) {
	buf, pos := z.w.buf[:z.idx+limit], z.idx
	nice, lowest := min(z.m.nice, limit), z.lowest()
	length, gain := lazyMin-1, 4
	for i, tries := z.chain, z.m.chain; tries > 0; tries-- {
		if buf[i+length] == buf[pos+length] {
			if n := matchLen(buf[i:i+limit], buf[pos:]); n > length {
				ok := true
				if z.m.literals > 0 {
					g := z.gain(n, pos-i)
					if ok = g > gain; ok {
						gain = g
					}
				}
				if ok {
					length, z.offset = n, pos-i
					if n >= nice {
						break
					}
				}
			}
		}
		if i <= lowest {
			break
		}
		if i = int(z.prev[i&ringMask]); i < lowest {
			break
		}
	}
	if z.offset > 0 {
		z.length = length
	}
}

// gain is how many bits a match of n bytes at idx is thought to save.
func (z *lazy) gain(n, dist int) int {
	extra := 6 // what the writer takes for the longest distance
	if dist < ringSize {
		extra = int(distExtra[distCode(dist+1)]) // and for the others, that of one more
	}
	at := z.idx - z.costAt
	return int(z.costs[at+n]-z.costs[at]) - costBase - extra - int(lengthExtra[lengthCode(n)])
}

// take writes the match of the byte before, or a longer one that begins up to two bytes later.
func (z *lazy) take(length, offset, ahead int) {
	at := z.idx - 1
	if length < maxMatch-2 && at+length < z.filled-(lazyMin-1) {
		buf := z.w.buf
		cand := int(z.head[hash4(uint64(load32(buf, at+length)), lazyHash)]) - length
		if at-cand != offset && cand > z.lowest()+2 {
			end := at + min(ahead, maxMatch+2)
			if n := matchLen(buf[at+2:end], buf[cand+2:end]); n > length {
				length, offset = n, at-cand
				for i := 1; i >= 0; i-- {
					if length >= maxMatch || buf[at+i] != buf[cand+i] {
						for ; i >= 0; i-- {
							at++
							z.idx++
							z.add()
						}
						break
					}
					length++
				}
			}
		}
	}
	z.list = append(z.list, placed{at, matchOf(length, offset)})
	next := z.idx + length - 1
	for i := z.idx + 1; i < min(next, z.filled-(lazyMin-1)); i++ {
		z.insert(i)
	}
	z.idx, z.waiting, z.length, z.run = next, false, lazyMin-1, 0
}
