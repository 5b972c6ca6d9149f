package delta

import (
	"bytes"
	"encoding/binary"
)

// Records of a recipe's event stream; doc.go has the format.
const (
	evVerbatim = 0x01
	evMember   = 0x02
	evBlock    = 0x80

	blkFinal  = 1 << 2
	blkHead   = 1 << 3 // the header is as predicted
	blkLength = 1 << 4 // the block ends where predicted
	blkPad    = 1 << 5 // a byte of padding bits follows
	blkOther  = 1 << 6 // stored: not simulated; else: literals only
)

// What one part may hold, so that a hostile one cannot buy much work with few bytes.
const (
	minPart        = 4 << 20  // plain bytes after which a part ends with the block
	maxPart        = 16 << 20 // plain bytes of a part
	maxPartMembers = 1 << 16
	maxSimulated   = 2 * maxPart
)

// partStreams are the four streams of one part of a recipe.
type partStreams struct {
	events, misses, heads, verbatim []byte
}

// pack joins the streams, each behind its length.
func (p *partStreams) pack() []byte {
	var out []byte
	for _, s := range [][]byte{p.events, p.misses, p.heads, p.verbatim} {
		out = binary.AppendUvarint(out, uint64(len(s)))
		out = append(out, s...)
	}
	return out
}

func unpackPart(b []byte) (p partStreams, err error) {
	for _, s := range []*[]byte{&p.events, &p.misses, &p.heads, &p.verbatim} {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			return p, corrupt("recipe part too short")
		}
		*s, b = b[k:k+int(n)], b[k+int(n):]
	}
	if len(b) != 0 {
		return p, corrupt("recipe part too long")
	}
	return p, nil
}

// recorder is the visitor that writes a recipe: it predicts each token and notes what was missed.
type recorder struct {
	m       *model
	w       *window
	members []int64 // plain length of each member still to come
	pred    predictor
	pos     int // while there is no predictor
	out     partStreams
	spare   predictor // the last one, for its tables
	gap     uint64    // tokens foretold since the last miss
	count   int       // members begun in this part
	work    int       // bytes simulated in this part
	plain   int       // plain bytes in the part so far
	missed  int64
	emit    func(plain int, part []byte) error
	minPart int
}

func (r *recorder) verbatim(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	r.leave()
	r.out.events = append(r.out.events, evVerbatim)
	r.out.events = binary.AppendUvarint(r.out.events, uint64(len(p)))
	r.out.verbatim = append(r.out.verbatim, p...)
	return nil
}

func (r *recorder) leave() {
	if r.pred != nil {
		r.pos, r.pred = r.pred.position(), nil
	}
}

func (r *recorder) member() error {
	r.leave()
	n := r.members[0]
	r.members = r.members[1:]
	r.out.events = append(r.out.events, evMember)
	r.out.events = binary.AppendUvarint(r.out.events, uint64(n))
	r.count++
	if r.count > maxPartMembers {
		return errInflate
	}
	r.spare = newPredictor(r.m, r.w, r.pos, r.pos+int(n), r.spare)
	r.pred = r.spare
	return nil
}

func (r *recorder) block(b *deflateBlock) error {
	n := b.plainLen()
	if k := r.w.slide(r.pred.position() - 1<<20); k > 0 {
		r.pred.rebase(k)
	}
	if err := r.w.ensure(r.pred.position() + n + lookahead); err != nil {
		return err
	}
	if b.kind == kindStored {
		r.stored(b)
	} else {
		r.coded(b)
	}
	if r.work > maxSimulated {
		return errInflate
	}
	r.plain += n
	if r.plain >= r.minPart || len(r.out.verbatim) >= minPart {
		return r.endPart()
	}
	return nil
}

// endPart hands the part out; the last part may be without plain bytes.
func (r *recorder) endPart() error {
	p := r.out.pack()
	n := r.plain
	r.out, r.plain, r.gap, r.count, r.work = partStreams{}, 0, 0, 0, 0
	return r.emit(n, p)
}

// simulate lets the writer run through a block whose tokens nobody knows, and returns where it would end.
func simulate(p predictor) int {
	start := p.position()
	for n := 0; !p.done(n) && p.position()-start <= maxStored; n++ {
		p.commit(p.predict())
	}
	return p.position()
}

func (r *recorder) stored(b *deflateBlock) {
	flags := blockFlags(b)
	n := len(b.stored)
	end := r.pred.position() + n
	if n == 0 && !r.pred.done(0) {
		flags |= blkOther
	} else {
		e := simulate(r.pred)
		if e == end {
			flags |= blkLength
		}
		r.work += e - (end - n)
	}
	r.pred.jump(end)
	r.event(b, flags, n)
}

func blockFlags(b *deflateBlock) byte {
	f := byte(evBlock | b.kind)
	if b.final {
		f |= blkFinal
	}
	if b.pad != 0 {
		f |= blkPad
	}
	return f
}

func (r *recorder) event(b *deflateBlock, flags byte, n int) {
	r.out.events = append(r.out.events, flags)
	if flags&blkLength == 0 {
		r.out.events = binary.AppendUvarint(r.out.events, uint64(n))
	}
	if b.pad != 0 {
		r.out.events = append(r.out.events, b.pad)
	}
}

func (r *recorder) coded(b *deflateBlock) {
	flags := blockFlags(b)
	if r.m.unit && !hasMatch(b.tokens) {
		flags |= blkOther
	}
	foretold := true
	for i, t := range b.tokens {
		foretold = foretold && !r.pred.done(i)
		if flags&blkOther == 0 {
			r.token(t)
		}
		r.pred.commit(t)
	}
	if foretold && r.pred.done(len(b.tokens)) {
		flags |= blkLength
	}
	if b.kind == kindDynamic {
		if h := predictHead(r.m, b.tokens); bytes.Equal(h.spelling, b.head) {
			flags |= blkHead
		} else {
			r.out.heads = binary.AppendUvarint(r.out.heads, uint64(len(b.head)))
			r.out.heads = append(r.out.heads, b.head...)
		}
	}
	r.event(b, flags, len(b.tokens))
}

func hasMatch(tokens []token) bool {
	for _, t := range tokens {
		if t.isMatch() {
			return true
		}
	}
	return false
}

func (r *recorder) token(t token) {
	if r.pred.predict() == t {
		r.gap++
		return
	}
	r.missed++
	r.out.misses = binary.AppendUvarint(r.out.misses, r.gap)
	r.gap = 0
	if !t.isMatch() {
		r.out.misses = append(r.out.misses, 0)
		return
	}
	r.out.misses = binary.AppendUvarint(r.out.misses, uint64(t.length()-2))
	r.out.misses = binary.AppendUvarint(r.out.misses, uint64(t.dist()))
}
