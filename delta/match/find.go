package match

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Options says how Find searches. Its zero value is a search by 16-byte anchors alone.
type Options struct {
	// Short adds a second pass that looks for matches of 8 bytes and more where the first left the target uncovered.
	Short bool
	// Hint is the alignment to try first: the place in the old bytes minus the place in the target.
	Hint int64
}

// search is the state of one Find.
type search struct {
	*Index
	p     []byte
	out   []Copy
	shift int // place in old minus place in p, of the last copy
}

// Find returns copies that make most of the target, sorted by New and not overlapping, each inside the target and the old
// bytes. They are approximate: bytes inside may differ. There are at most MaxCopies.
func (x *Index) Find(target []byte, opt Options) []Copy {
	s := &search{Index: x, p: target, shift: int(opt.Hint)}
	s.anchors()
	s.widen()
	s.out = join(s.out)
	if opt.Short {
		s.short()
		s.out = join(s.out)
	}
	if Crowded(s.out) {
		s.out = slices.DeleteFunc(s.out, func(c Copy) bool { return c.Len < Near/MaxNear })
	}
	return s.out[:min(len(s.out), MaxCopies)]
}

// Crowded tells whether more than MaxNear copies, which are sorted, begin in some Near bytes.
func Crowded(copies []Copy) bool {
	for i := MaxNear; i < len(copies); i++ {
		if copies[i].New-copies[i-MaxNear].New < Near {
			return true
		}
	}
	return false
}

// join drops empty copies and makes one of neighbours that continue each other.
func join(in []Copy) []Copy {
	out := in[:0]
	for _, c := range in {
		if c.Len <= 0 {
			continue
		}
		if k := len(out) - 1; k >= 0 && out[k].New+out[k].Len == c.New && out[k].Old+out[k].Len == c.Old {
			out[k].Len += c.Len
			continue
		}
		out = append(out, c)
	}
	return out
}

const (
	farOn     = 64      // a return to the same alignment after so many bytes is a copy of its own: widening may not get there
	better    = 12      // so many more bytes must be equal for a change of alignment
	giveUp    = 4096    // how far a copy that gets worse is followed
	stride    = 5       // odd
	fewDiffer = 4       // bytes of a block that the present alignment may get wrong where steps are long
	lookBack  = 1 << 16 // how far a copy may grow into the one before
)

// anchors finds exact copies, staying on an alignment as long as it serves.
func (s *search) anchors() {
	end := -1 // where the last copy on this alignment ended, or negative
	for at := 0; at+block <= len(s.p); {
		if o := at + s.shift; o >= 0 && o < len(s.old) {
			if n := equal(s.old[o:], s.p[at:]); n >= block {
				if end < 0 || at-end > farOn {
					s.add(at, o, n)
				}
				at += n
				end = at
				continue
			}
		}
		c := s.lookup(s.p[at:])
		if c < 0 || c-at == s.shift {
			at += s.step(at)
			continue
		}
		n := equal(s.old[c:], s.p[at:])
		b := s.back(at, c)
		if n+b <= s.agreeing(at-b, at+n)+better {
			at += s.step(at)
			continue
		}
		s.shift = c - at
		s.add(at-b, c-b, n+b)
		at += n
		end = at
	}
}

// step returns how far to go on. Where the present alignment makes most of the next block, only a long copy could be
// better; its blocks are met at one of any sixteen places that are an odd distance from each other.
func (s *search) step(at int) int {
	o := at + s.shift
	if o < 0 || o+block > len(s.old) || at+block+stride > len(s.p) {
		return 1
	}
	p, q := s.p[at:at+block], s.old[o:o+block]
	x := binary.LittleEndian.Uint64(p) ^ binary.LittleEndian.Uint64(q)
	y := binary.LittleEndian.Uint64(p[8:]) ^ binary.LittleEndian.Uint64(q[8:])
	if different(x)+different(y) > fewDiffer {
		return 1
	}
	return stride
}

// different counts the bytes of x that are not zero.
func different(x uint64) int {
	const low = 0x7f7f7f7f7f7f7f7f
	return bits.OnesCount64(((x&low + low) | x) &^ low)
}

func (s *search) add(at, old, n int) {
	s.out = append(s.out, Copy{int64(at), int64(old), int64(n)})
}

// back returns how far the match of at with c goes back, up to the start of the last copy, and not past giveUp, so that
// the work stays linear.
func (s *search) back(at, c int) int {
	lo := 0
	if len(s.out) > 0 {
		lo = int(s.out[len(s.out)-1].New) + 1
	}
	lo = max(lo, at-giveUp)
	b := 0
	for at-b > lo && c > b && s.old[c-b-1] == s.p[at-b-1] {
		b++
	}
	return b
}

// agreeing counts the bytes of p[lo:hi] that the present alignment gets right.
func (s *search) agreeing(lo, hi int) int {
	n := 0
	for i := max(lo, -s.shift); i < min(hi, len(s.old)-s.shift); i++ {
		if s.old[i+s.shift] == s.p[i] {
			n++
		}
	}
	return n
}

// widen lets copies grow over bytes that mostly agree, and settles where neighbours meet. It looks into a neighbour no
// further than giveUp, so that the work stays linear.
func (s *search) widen() {
	for i := range s.out {
		c := &s.out[i]
		if i == 0 {
			s.extend(c, 0)
		}
		limit := int64(len(s.p))
		if i+1 < len(s.out) {
			limit = s.out[i+1].New
		}
		c.Len = min(c.Len, limit-c.New)
		c.Len += int64(s.forward(int(c.New+c.Len), int(c.Old+c.Len), int(limit), giveUp))
		if i+1 == len(s.out) {
			break
		}
		next := &s.out[i+1]
		if next.Old-next.New == c.Old-c.New && s.bridge(c, next) {
			continue
		}
		s.extend(next, max(c.New+1, c.New+c.Len-lookBack))
		if over := c.New + c.Len - next.New; over > 0 {
			s.settle(c, next, int(over))
		}
	}
}

// bridge makes next, which is on c's alignment, begin where c does, if what lies between is not worse than either is long.
func (s *search) bridge(c, next *Copy) bool {
	lo, hi := int(c.New+c.Len), int(next.New)
	shift := int(c.Old - c.New)
	if hi-lo > giveUp {
		return false
	}
	same := 0
	for i := lo; i < hi; i++ {
		if s.old[i+shift] == s.p[i] {
			same++
		}
	}
	if hi-lo-2*same > int(min(c.Len, next.Len)) {
		return false
	}
	*next = Copy{c.New, c.Old, next.New + next.Len - c.New}
	c.Len = 0
	return true
}

// extend lets a copy grow backward, down to p[limit].
func (s *search) extend(c *Copy, limit int64) {
	b := int64(s.backward(int(c.New), int(c.Old), int(limit), giveUp))
	c.New, c.Old, c.Len = c.New-b, c.Old-b, c.Len+b
}

// forward returns how far a copy that ends before p[at] and old[c] is worth following, until it is worse by give.
func (s *search) forward(at, c, limit, give int) int {
	same, score, best := 0, 0, 0
	for k := 0; at+k < limit && c+k < len(s.old) && k-2*same <= give; k++ {
		if s.old[c+k] == s.p[at+k] {
			same++
		}
		if v := 2*same - (k + 1); v > score {
			score, best = v, k+1
		}
	}
	return best
}

// backward is forward's mirror, down to p[limit].
func (s *search) backward(at, c, limit, give int) int {
	same, score, best := 0, 0, 0
	for k := 1; at-k >= limit && c-k >= 0 && k-2*same <= give; k++ {
		if s.old[c-k] == s.p[at-k] {
			same++
		}
		if v := 2*same - k; v > score {
			score, best = v, k
		}
	}
	return best
}

// settle gives each byte that two neighbours claim to the one on whose side it does better.
func (s *search) settle(c, next *Copy, over int) {
	at, co, no := int(next.New), int(c.Old+c.Len)-over, int(next.Old)
	score, best, cut := 0, 0, 0
	for k := range over {
		if s.p[at+k] == s.old[co+k] {
			score++
		}
		if s.p[at+k] == s.old[no+k] {
			score--
		}
		if score > best {
			best, cut = score, k+1
		}
	}
	c.Len -= int64(over - cut)
	next.New, next.Old, next.Len = next.New+int64(cut), next.Old+int64(cut), next.Len-int64(cut)
}
