package recipe

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Remaker writes a file again from its plain bytes and the parts of its recipe. Its memory is bounded by Model.Memory
// whatever the parts are; its time by the plain bytes and the size of the parts.
type Remaker struct {
	todo int64 // plain bytes of parts to come
	form remaker
}

// remaker does the work of a Remaker for one form.
type remaker interface {
	part(n int, part []byte) error
	close() error // checks that all ended
}

// NewRemaker returns a Remaker that writes to w. plainSize is the number of plain bytes; next returns the following ones, at
// least one, valid until it is called again, or io.EOF after the last. Errors: one that wraps ErrCorrupt for a model that
// does not exist.
func NewRemaker(m Model, w io.Writer, plainSize int64, next func() ([]byte, error)) (*Remaker, error) {
	if plainSize < 0 {
		return nil, corrupt("negative size")
	}
	if z := m.zstdLevel(); z != 0 {
		f, err := newZstdRemaker(z, w, plainSize, next)
		return &Remaker{todo: plainSize, form: f}, err
	}
	r := m.rules()
	if r == nil {
		return nil, corrupt("unknown model %d", m)
	}
	size := min(plainSize, slideAt+readAhead+2*lookahead)
	f := &gzipRemaker{m: r, w: &window{buf: make([]byte, 0, size), next: next}, bw: bitWriter{w: w}, beg: plainSize}
	return &Remaker{todo: plainSize, form: f}, nil
}

// Part writes the bytes that a part describes; n is its number of plain bytes. After an error the Remaker is of no use.
// Errors: one that wraps ErrCorrupt; those of the writer and of next.
func (r *Remaker) Part(n int, part []byte) error {
	if n < 0 || n > MaxPart || len(part) > MaxRecipe || int64(n) > r.todo {
		return corrupt("part out of range")
	}
	r.todo -= int64(n)
	return r.form.part(n, part)
}

// Close checks that the parts were all there, and lets memory go. It writes nothing.
func (r *Remaker) Close() error {
	err := r.form.close()
	if err == nil && r.todo != 0 {
		err = corrupt("parts are missing")
	}
	return err
}

// gzipRemaker writes gzip members.
type gzipRemaker struct {
	m     *rules
	w     *window
	bw    bitWriter
	pred  predictor
	pos   int   // while there is no predictor
	left  int   // plain bytes left in the part
	inner int64 // plain bytes left in the stream
	beg   int64 // plain bytes that may still be declared to be in streams
	mark  int   // the checksum has been made up to here
	crc   uint32
	size  uint32 // of the stream so far
	trail bool   // a stream has ended, and no trailer was written since
	in    partStreams
	spare predictor // the last one, for its tables
	open  bool      // the block goes on in the next piece
	more  bool      // so does the one that comes
	since int       // tokens since the block began or might have ended
	count int       // streams begun in this part
	work  int       // bytes simulated in this part
	gap   int64     // tokens to foretell before the next miss; negative: no more misses
	blk   deflateBlock
}

func (r *gzipRemaker) part(n int, part []byte) error {
	in, err := unpackPart(part)
	if err != nil {
		return err
	}
	r.in, r.count, r.work = in, 0, 0
	r.left = n
	if err := r.nextGap(); err != nil {
		return err
	}
	for len(r.in.events) > 0 {
		if err := r.event(); err != nil {
			return err
		}
	}
	if r.left != 0 || r.gap >= 0 || r.more || len(r.in.heads) != 0 || len(r.in.verbatim) != 0 {
		return corrupt("part does not come out even")
	}
	r.bw.flush()
	return r.bw.err
}

func (r *gzipRemaker) close() error {
	if r.pred != nil {
		return corrupt("the last stream does not end")
	}
	return nil
}

// room makes sure that the window reaches far enough ahead for one more token, and drops what nobody needs.
func (r *gzipRemaker) room() error {
	pos := r.pred.position()
	if len(r.w.buf)-pos >= lookahead || r.w.eof {
		return nil
	}
	if pos >= slideAt {
		r.sum()
		if k := r.w.slide(pos); k > 0 {
			r.pred.rebase(k)
			pos, r.mark = pos-k, r.mark-k
		}
	}
	return r.w.ensure(pos + lookahead + readAhead)
}

func (r *gzipRemaker) nextGap() error {
	r.gap = -1
	if len(r.in.misses) == 0 {
		return nil
	}
	v, err := uvarint(&r.in.misses, MaxPart)
	r.gap = int64(v)
	return err
}

func (r *gzipRemaker) event() error {
	e := r.in.events[0]
	r.in.events = r.in.events[1:]
	if r.pred != nil && e&evBlock != 0 && r.open == (e&blkKind == blkKind) {
		return r.block(e)
	}
	if r.pred != nil && e == evMore && !r.more {
		r.more = true
		return nil
	}
	if r.pred != nil {
		return corrupt("event %#x inside a stream", e)
	}
	switch e {
	case evVerbatim:
		n, err := uvarint(&r.in.events, uint64(len(r.in.verbatim)))
		if err != nil {
			return err
		}
		r.bw.bytes(r.in.verbatim[:n])
		r.in.verbatim = r.in.verbatim[n:]
		r.trail = false
		return r.bw.err
	case evTrailer:
		if !r.trail {
			return corrupt("trailer without a stream")
		}
		var t [8]byte
		binary.LittleEndian.PutUint32(t[:], r.crc)
		binary.LittleEndian.PutUint32(t[4:], r.size)
		r.bw.bytes(t[:])
		r.trail = false
		return r.bw.err
	case evMember:
		return r.begin()
	}
	return corrupt("unknown event %#x", e)
}

// begin starts a deflate stream.
func (r *gzipRemaker) begin() error {
	n, err := uvarint(&r.in.events, uint64(r.beg))
	if err != nil {
		return err
	}
	if r.count++; r.count > maxPartMembers {
		return corrupt("too many streams in a part")
	}
	r.beg -= int64(n)
	r.inner, r.crc, r.size, r.mark = int64(n), 0, 0, r.pos
	r.spare = newPredictor(r.m, r.w, r.pos, r.pos+int(n), r.spare)
	r.pred = r.spare
	return nil
}

// block writes a block or a piece of one.
func (r *gzipRemaker) block(flags byte) error {
	b := &r.blk
	b.tokens, b.stored = b.tokens[:0], nil
	if b.cont = r.open; !b.cont {
		b.kind, b.final, r.since = int(flags&blkKind), flags&blkFinal != 0, 0
	}
	r.open, r.more = r.more, false
	n, ends, err := r.length(b, flags)
	if err != nil {
		return err
	}
	b.pad = 0
	if flags&blkPad != 0 {
		if len(r.in.events) == 0 {
			return corrupt("padding missing")
		}
		b.pad, r.in.events = r.in.events[0], r.in.events[1:]
	}
	if b.kind == kindStored {
		if err = r.stored(b, flags, n); err == nil {
			err = r.bw.begin(b, nil)
		}
	} else {
		err = r.coded(b, flags, n, ends)
	}
	if err != nil || r.open || !b.final {
		return err
	}
	if r.inner != 0 {
		return corrupt("a stream ends early")
	}
	r.sum()
	r.pos, r.pred, r.trail = r.pred.position(), nil, true
	return nil
}

// length reads how long a block is: n tokens or stored bytes, or if n is negative up to where the writer would end it after
// passing over so many such places.
func (r *gzipRemaker) length(b *deflateBlock, flags byte) (n, ends int, err error) {
	predicted := flags&blkLength != 0
	if r.open && (predicted || b.kind == kindStored) {
		return 0, 0, corrupt("piece of a block without a length")
	}
	if predicted && (!r.m.share || b.kind == kindStored) {
		return -1, 0, nil
	}
	v, err := uvarint(&r.in.events, MaxPart)
	if err != nil {
		return 0, 0, err
	}
	if predicted {
		return -1, int(v), nil
	}
	return int(v), 0, nil
}

// coded writes a block with a code, or a piece of one.
func (r *gzipRemaker) coded(b *deflateBlock, flags byte, n, ends int) error {
	first, flush, err := r.tokens(b, flags, n, ends)
	if err != nil {
		return err
	}
	if !b.cont {
		var h *blockHead
		if b.kind == kindDynamic {
			if h, err = r.head(b.tokens[:first], flags, flush); err != nil {
				return err
			}
		}
		if err := r.bw.begin(b, h); err != nil {
			return err
		}
	}
	if err := r.bw.symbols(b.tokens); err != nil || r.open {
		return err
	}
	return r.bw.close(b)
}

// pass notes that the next n plain bytes went out.
func (r *gzipRemaker) pass(n int) {
	r.left -= n
	r.inner -= int64(n)
}

// sum brings the checksum and size of the stream up to date.
func (r *gzipRemaker) sum() {
	at := r.pred.position()
	r.crc = crc32.Update(r.crc, crc32.IEEETable, r.w.buf[r.mark:at])
	r.size += uint32(at - r.mark)
	r.mark = at
}

func (r *gzipRemaker) stored(b *deflateBlock, flags byte, n int) error {
	if err := r.room(); err != nil {
		return err
	}
	start := r.pred.position()
	end := start + n
	if flags&blkOther == 0 {
		e := simulate(r.pred)
		if n < 0 {
			end = e
		}
		if r.work += e - start; r.work > maxSimulated {
			return corrupt("too much simulated")
		}
	}
	if end < start || end-start > maxStored || r.outside(end-start) || end > len(r.w.buf) {
		return corrupt("stored block out of range")
	}
	r.pred.jump(end)
	b.stored = r.w.buf[start:end]
	r.pass(len(b.stored))
	return nil
}

// outside reports whether n more plain bytes are too many for the part or the stream.
func (r *gzipRemaker) outside(n int) bool { return n > r.left || int64(n) > r.inner }

// tokens collects the tokens of a block: n of them, or if n is negative those up to where the writer may end one, after
// passing over so many such places. It returns how many of them the block's code is made for, and whether the writer flushes
// behind those.
func (r *gzipRemaker) tokens(b *deflateBlock, flags byte, n, ends int) (first int, flush bool, err error) {
	for i := 0; i != n; i++ {
		if (r.since > 0 || n < 0) && r.pred.done(r.since) {
			if n < 0 && ends == 0 {
				break
			}
			if r.since == 0 {
				return 0, false, corrupt("block out of range")
			}
			ends--
			r.since = 0
			if first == 0 {
				first, flush = i, r.pred.flushed()
			}
		}
		t, err := r.next(flags, i)
		if err != nil {
			return 0, false, err
		}
		b.tokens = append(b.tokens, t)
		r.since++
	}
	if first == 0 || !r.m.share {
		first, flush = len(b.tokens), r.pred.flushed()
	}
	return first, flush, nil
}

// next returns the i-th token of a block and goes on behind it.
func (r *gzipRemaker) next(flags byte, i int) (token, error) {
	if i > maxPieceTokens || r.outside(1) {
		return 0, corrupt("block out of range")
	}
	if err := r.room(); err != nil {
		return 0, err
	}
	at := r.pred.position()
	if at >= len(r.w.buf) {
		return 0, corrupt("fewer plain bytes than declared")
	}
	t := token(r.w.buf[at])
	if flags&blkOther == 0 {
		var err error
		if t, err = r.token(t); err != nil {
			return 0, err
		}
	}
	size := t.size()
	if r.outside(size) || at+size > len(r.w.buf) {
		return 0, corrupt("token out of range")
	}
	r.pred.commit(t)
	r.pass(size)
	return t, nil
}

// token returns the next token: the predicted one, or after a miss the noted one.
func (r *gzipRemaker) token(literal token) (token, error) {
	t := r.pred.predict()
	if r.gap < 0 {
		return t, nil
	}
	if r.gap > 0 {
		r.gap--
		return t, nil
	}
	l, err := uvarint(&r.in.misses, maxMatch-2)
	if err != nil {
		return 0, err
	}
	t = literal
	if l != 0 {
		d, err := uvarint(&r.in.misses, ringSize)
		if err != nil || d == 0 {
			return 0, corrupt("distance out of range")
		}
		t = matchOf(int(l)+2, int(d))
	}
	return t, r.nextGap()
}

func (r *gzipRemaker) head(tokens []token, flags byte, flush bool) (*blockHead, error) {
	if flags&blkHead != 0 {
		h := predictHead(r.m, tokens, flush)
		return &h, nil
	}
	n, err := uvarint(&r.in.heads, uint64(len(r.in.heads)))
	if err != nil || n > uint64(len(r.in.heads)) {
		return nil, corrupt("block header missing")
	}
	h, err := parseHead(r.in.heads[:n])
	r.in.heads = r.in.heads[n:]
	return &h, err
}
