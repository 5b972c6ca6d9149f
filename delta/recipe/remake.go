package recipe

import (
	"encoding/binary"
	"hash/crc32"
	"io"
)

// Remaker writes a file again from its plain bytes and the parts of its recipe. Its memory is bounded by Model.Memory
// whatever the parts are; its time by the plain bytes and the size of the parts.
type Remaker struct {
	m     *rules
	w     *window
	bw    bitWriter
	pred  predictor
	pos   int   // while there is no predictor
	todo  int64 // plain bytes of parts to come
	left  int   // plain bytes left in the part
	inner int64 // plain bytes left in the stream
	beg   int64 // plain bytes that may still be declared to be in streams
	mark  int   // the checksum has been made up to here
	crc   uint32
	size  uint32 // of the stream so far
	trail bool   // a stream has ended, and no trailer was written since
	in    partStreams
	spare predictor // the last one, for its tables
	count int       // streams begun in this part
	work  int       // bytes simulated in this part
	gap   int64     // tokens to foretell before the next miss; negative: no more misses
	blk   deflateBlock
}

// NewRemaker returns a Remaker that writes to w. plainSize is the number of plain bytes; next returns the following ones, at
// least one, valid until it is called again, or io.EOF after the last. Errors: one that wraps ErrCorrupt for a model that does not exist.
func NewRemaker(m Model, w io.Writer, plainSize int64, next func() ([]byte, error)) (*Remaker, error) {
	r := m.rules()
	if r == nil || plainSize < 0 {
		return nil, corrupt("unknown model %d", m)
	}
	size := min(plainSize, slideAt+readAhead+2*lookahead)
	return &Remaker{m: r, w: &window{buf: make([]byte, 0, size), next: next}, bw: bitWriter{w: w}, todo: plainSize, beg: plainSize}, nil
}

// Part writes the bytes that a part describes; n is its number of plain bytes. After an error the Remaker is of no use.
// Errors: one that wraps ErrCorrupt; those of the writer and of next.
func (r *Remaker) Part(n int, part []byte) error {
	if n < 0 || n > MaxPart || len(part) > MaxRecipe || int64(n) > r.todo {
		return corrupt("part out of range")
	}
	in, err := unpackPart(part)
	if err != nil {
		return err
	}
	r.in, r.count, r.work = in, 0, 0
	r.left = n
	r.todo -= int64(n)
	if err := r.nextGap(); err != nil {
		return err
	}
	for len(r.in.events) > 0 {
		if err := r.event(); err != nil {
			return err
		}
	}
	if r.left != 0 || r.gap >= 0 || len(r.in.heads) != 0 || len(r.in.verbatim) != 0 {
		return corrupt("part does not come out even")
	}
	r.bw.flush()
	return r.bw.err
}

// Close checks that the parts were all there. It writes nothing.
func (r *Remaker) Close() error {
	if r.todo != 0 || r.pred != nil {
		return corrupt("parts are missing")
	}
	return nil
}

// room makes sure that the window reaches far enough ahead for one more token, and drops what nobody needs.
func (r *Remaker) room() error {
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

func (r *Remaker) nextGap() error {
	r.gap = -1
	if len(r.in.misses) == 0 {
		return nil
	}
	v, err := uvarint(&r.in.misses, MaxPart)
	r.gap = int64(v)
	return err
}

func (r *Remaker) event() error {
	e := r.in.events[0]
	r.in.events = r.in.events[1:]
	if e&evBlock != 0 && r.pred != nil && e&3 != 3 {
		return r.block(e)
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
func (r *Remaker) begin() error {
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

func (r *Remaker) block(flags byte) error {
	b := &r.blk
	b.kind, b.final, b.pad = int(flags&3), flags&blkFinal != 0, 0
	b.tokens, b.stored = b.tokens[:0], nil
	n, ends := -1, 0
	if flags&blkLength == 0 || r.m.share && b.kind != kindStored {
		v, err := uvarint(&r.in.events, maxBlockTokens)
		if err != nil {
			return err
		}
		if flags&blkLength == 0 {
			n = int(v)
		} else {
			ends = int(v)
		}
	}
	if flags&blkPad != 0 {
		if len(r.in.events) == 0 {
			return corrupt("padding missing")
		}
		b.pad, r.in.events = r.in.events[0], r.in.events[1:]
	}
	var h *blockHead
	var err error
	if b.kind == kindStored {
		err = r.stored(b, flags, n)
	} else {
		var first int
		var flush bool
		if first, flush, err = r.tokens(b, flags, n, ends); err == nil && b.kind == kindDynamic {
			h, err = r.head(b.tokens[:first], flags, flush)
		}
	}
	if err != nil {
		return err
	}
	if err := r.bw.block(b, h); err != nil {
		return err
	}
	if b.final {
		if r.inner != 0 {
			return corrupt("a stream ends early")
		}
		r.sum()
		r.pos, r.pred, r.trail = r.pred.position(), nil, true
	}
	return nil
}

// pass notes that the next n plain bytes went out.
func (r *Remaker) pass(n int) {
	r.left -= n
	r.inner -= int64(n)
}

// sum brings the checksum and size of the stream up to date.
func (r *Remaker) sum() {
	at := r.pred.position()
	r.crc = crc32.Update(r.crc, crc32.IEEETable, r.w.buf[r.mark:at])
	r.size += uint32(at - r.mark)
	r.mark = at
}

func (r *Remaker) stored(b *deflateBlock, flags byte, n int) error {
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
func (r *Remaker) outside(n int) bool { return n > r.left || int64(n) > r.inner }

// tokens collects the tokens of a block: n of them, or if n is negative those up to where the writer may end one, after
// passing over so many such places. It returns how many of them the block's code is made for, and whether the writer flushes
// behind those.
func (r *Remaker) tokens(b *deflateBlock, flags byte, n, ends int) (first int, flush bool, err error) {
	since := 0
	for i := 0; i != n; i++ {
		if (i > 0 || n < 0) && r.pred.done(since) {
			if n < 0 && ends == 0 {
				break
			}
			if i == 0 {
				return 0, false, corrupt("block out of range")
			}
			ends--
			since = 0
			if first == 0 {
				first, flush = i, r.pred.flushed()
			}
		}
		t, err := r.next(flags, i)
		if err != nil {
			return 0, false, err
		}
		b.tokens = append(b.tokens, t)
		since++
	}
	if first == 0 || !r.m.share {
		first, flush = len(b.tokens), r.pred.flushed()
	}
	return first, flush, nil
}

// next returns the i-th token of a block and goes on behind it.
func (r *Remaker) next(flags byte, i int) (token, error) {
	if i >= maxBlockTokens || r.outside(1) {
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
func (r *Remaker) token(literal token) (token, error) {
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

func (r *Remaker) head(tokens []token, flags byte, flush bool) (*blockHead, error) {
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
