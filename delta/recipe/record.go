package recipe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Record finds the model that restores src from its plain bytes and hands out the recipe's parts in order: part says how n
// plain bytes, those after the part before, become bytes of src. The sum of all n is plainSize, each is at most MaxPart, and
// the last may be zero; a part has at most MaxRecipe bytes. Parts are not compressed, the caller should do that.
//
// plain must hold what Unwrap wrote. Record reads src two to three times. It does not remake: a caller that must be sure
// feeds the parts to a Remaker and compares.
//
// Errors: ErrNoRecipe when no model restores src with parts of together at most a third of its size plus 4 KiB, or for zstd
// 3 % plus 4 KiB, in which case some parts may have been handed out already; ErrCorrupt when plain is not what src holds; those of ctx, src, plain and emit.
func Record(ctx context.Context, src Source, plain io.ReaderAt, plainSize int64, emit func(n int, part []byte) error) (Model, error) {
	var m Model
	var err error
	switch Detect(src) {
	case Gzip:
		m, err = recordGzip(ctx, src, io.NewSectionReader(plain, 0, plainSize), emit)
	case Zstd:
		m, err = recordZstd(ctx, src, io.NewSectionReader(plain, 0, plainSize), emit)
	default:
		err = ErrNoRecipe
	}
	if errors.Is(err, errInflate) {
		err = fmt.Errorf("%w: %w", ErrNoRecipe, err)
	}
	return m, err
}

// What a recipe may cost.
const (
	costShare = 3 // the share of a gzip file, as its divisor: with the content beside it, more would save little
	costFree  = 4 << 10
)

func recordGzip(ctx context.Context, src Source, plain *io.SectionReader, emit func(n int, part []byte) error) (Model, error) {
	gz := func() io.Reader { return io.NewSectionReader(src, 0, src.Size()) }
	s, err := takeSample(ctx, gz())
	if err != nil {
		return 0, err
	}
	if s.total != plain.Size() {
		return 0, corrupt("%d plain bytes given, the file has %d", plain.Size(), s.total)
	}
	m, err := s.pick(ctx, plain)
	if err != nil {
		return 0, err
	}
	if _, err := plain.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	r := &recorder{m: m.rules(), w: readerWindow(plain), members: s.members, left: src.Size()/costShare + costFree, emit: emit}
	if err := walkGzip(ctx, gz(), r); err != nil {
		return 0, err
	}
	return m, r.endPart()
}

// readerWindow is a window on r, read in large steps.
func readerWindow(r io.Reader) *window {
	buf := make([]byte, 1<<20)
	return &window{next: func() ([]byte, error) {
		n, err := io.ReadFull(r, buf)
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		return buf[:n], err
	}}
}

// recorder is the visitor that writes a recipe: it predicts each token and notes what was missed.
type recorder struct {
	m       *rules
	w       *window
	members []int64 // plain length of each member still to come
	pred    predictor
	pos     int // while there is no predictor
	crc     uint32
	size    uint32 // of the member so far
	out     partStreams
	spare   predictor // the last one, for its tables
	gap     uint64    // tokens foretold since the last miss
	since   int       // tokens since the block began or might have ended
	count   int       // members begun in this part
	work    int       // bytes simulated in this part
	plain   int       // plain bytes in the part so far
	left    int64     // bytes that may still be handed out
	missed  bool      // a token, block end or header was not as predicted
	emit    func(plain int, part []byte) error
}

func (r *recorder) verbatim(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	r.out.events = append(r.out.events, evVerbatim)
	r.out.events = binary.AppendUvarint(r.out.events, uint64(len(p)))
	r.out.verbatim = append(r.out.verbatim, p...)
	return nil
}

func (r *recorder) trailer(p []byte) error {
	r.pos, r.pred = r.pred.position(), nil
	var want [8]byte
	binary.LittleEndian.PutUint32(want[:], r.crc)
	binary.LittleEndian.PutUint32(want[4:], r.size)
	if !bytes.Equal(p, want[:]) {
		return r.verbatim(p)
	}
	r.out.events = append(r.out.events, evTrailer)
	return nil
}

func (r *recorder) member() error {
	n := r.members[0]
	r.members = r.members[1:]
	r.out.events = append(r.out.events, evMember)
	r.out.events = binary.AppendUvarint(r.out.events, uint64(n))
	r.count++
	r.crc, r.size = 0, 0
	if r.count > maxPartMembers {
		return errInflate
	}
	r.spare = newPredictor(r.m, r.w, r.pos, r.pos+int(n), r.spare)
	r.pred = r.spare
	return nil
}

func (r *recorder) block(b *deflateBlock) error {
	n := b.plainLen()
	if n > MaxPart-minPart {
		return errInflate
	}
	if k := r.w.slide(r.pred.position() - readAhead); k > 0 {
		r.pred.rebase(k)
	}
	at := r.pred.position()
	if err := r.w.ensure(at + n + lookahead); err != nil {
		return err
	}
	if len(r.w.buf) < at+n || !b.describes(r.w.buf, at) {
		return corrupt("the plain bytes are not those of the file")
	}
	if b.kind == kindStored {
		r.stored(b)
	} else if !r.coded(b) {
		return ErrNoRecipe
	}
	at = r.pred.position()
	r.crc = crc32.Update(r.crc, crc32.IEEETable, r.w.buf[at-n:at])
	r.size += uint32(n)
	r.plain += n
	if r.work > maxSimulated || r.out.size() > MaxRecipe-64 || int64(r.out.size()) > r.left {
		return ErrNoRecipe
	}
	if r.plain >= minPart || len(r.out.verbatim) >= minPart || r.count == maxPartMembers {
		return r.endPart()
	}
	return nil
}

// endPart hands the part out; the last part may be without plain bytes.
func (r *recorder) endPart() error {
	if r.out.size() > MaxRecipe-64 || int64(r.out.size()) > r.left {
		return ErrNoRecipe
	}
	p := r.out.pack()
	n := r.plain
	r.left -= int64(len(p))
	r.out, r.plain, r.gap, r.count, r.work = partStreams{}, 0, 0, 0, 0
	return r.emit(n, p)
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
		} else {
			r.missed = true
		}
		r.work += e - (end - n)
	}
	r.pred.jump(end)
	r.event(b, flags, n)
}

func blockFlags(b *deflateBlock) byte {
	f := byte(evBlock | b.kind)
	if b.cont {
		f |= blkKind
	}
	if b.final {
		f |= blkFinal
	}
	if b.pad != 0 {
		f |= blkPad
	}
	return f
}

// event notes a block; n is its length, or the ends passed over if that is what the flags say.
func (r *recorder) event(b *deflateBlock, flags byte, n int) {
	if b.more {
		r.out.events = append(r.out.events, evMore)
	}
	r.out.events = append(r.out.events, flags)
	if flags&blkLength == 0 || r.m.share && b.kind != kindStored {
		r.out.events = binary.AppendUvarint(r.out.events, uint64(n))
	}
	if b.pad != 0 {
		r.out.events = append(r.out.events, b.pad)
	}
}

// coded records a block with a code. It gives up and reports false when that costs too much.
func (r *recorder) coded(b *deflateBlock) bool {
	flags := blockFlags(b)
	if r.m.plan == planUnits && !hasMatch(b.tokens) {
		flags |= blkOther
	}
	passed, first, flush := 0, len(b.tokens), false
	if !b.cont {
		r.since = 0
	}
	for i, t := range b.tokens {
		if r.since > 0 && r.pred.done(r.since) {
			if passed == 0 {
				first, flush = i, r.pred.flushed()
			}
			passed++
			r.since = 0
		}
		if flags&blkOther == 0 {
			r.token(t)
			if int64(len(r.out.misses)) > r.left {
				return false
			}
		}
		r.pred.commit(t)
		r.since++
	}
	length := len(b.tokens)
	switch {
	case b.more:
	case r.pred.done(r.since) && (r.m.share || passed == 0):
		flags |= blkLength
		length = passed
	default:
		r.missed = true
	}
	if !r.m.share || passed == 0 {
		first, flush = len(b.tokens), r.pred.flushed()
	}
	if b.kind == kindDynamic && !b.cont {
		if h := predictHead(r.m, b.tokens[:first], flush); bytes.Equal(h.spelling, b.head) {
			flags |= blkHead
		} else {
			r.missed = true
			r.out.heads = binary.AppendUvarint(r.out.heads, uint64(len(b.head)))
			r.out.heads = append(r.out.heads, b.head...)
		}
	}
	r.event(b, flags, length)
	return true
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
	r.out.misses = binary.AppendUvarint(r.out.misses, r.gap)
	r.gap, r.missed = 0, true
	if !t.isMatch() {
		r.out.misses = append(r.out.misses, 0)
		return
	}
	r.out.misses = binary.AppendUvarint(r.out.misses, uint64(t.length()-2))
	r.out.misses = binary.AppendUvarint(r.out.misses, uint64(t.dist()))
}
