package delta

import "encoding/binary"

// remaker writes a gzip file again from its plain bytes and its recipe, part by part.
type remaker struct {
	m     *model
	w     *window
	bw    bitWriter
	pred  predictor
	pos   int   // while there is no predictor
	base  int64 // place of w.buf[0] in the plain bytes
	total int64 // of plain bytes
	end   int   // of the part
	in    partStreams
	spare predictor // the last one, for its tables
	count int       // streams begun in this part
	work  int       // bytes simulated in this part
	gap   int64     // tokens to foretell before the next miss; negative: no more misses
	blk   deflateBlock
}

// part rebuilds what one part describes: n plain bytes, and the bytes around them.
func (r *remaker) part(packed []byte, n int) error {
	in, err := unpackPart(packed)
	if err != nil {
		return err
	}
	r.in, r.count, r.work = in, 0, 0
	if r.pred != nil {
		r.pos = r.pred.position()
	}
	if k := r.w.slide(r.pos); k > 0 {
		r.pos, r.base = r.pos-k, r.base+int64(k)
		if r.pred != nil {
			r.pred.rebase(k)
		}
	}
	r.end = r.pos + n
	if err := r.w.ensure(r.end + lookahead); err != nil {
		return err
	}
	if r.end > len(r.w.buf) {
		return corrupt("recipe wants more plain bytes than there are")
	}
	if err := r.nextGap(); err != nil {
		return err
	}
	for len(r.in.events) > 0 {
		if err := r.event(); err != nil {
			return err
		}
	}
	if r.here() != r.end || r.gap >= 0 || len(r.in.heads) != 0 || len(r.in.verbatim) != 0 {
		return corrupt("recipe part does not come out even")
	}
	r.bw.flush()
	return r.bw.err
}

func (r *remaker) here() int {
	if r.pred != nil {
		return r.pred.position()
	}
	return r.pos
}

// uvarint reads a number of at most limit from s.
func uvarint(s *[]byte, limit uint64) (uint64, error) {
	v, k := binary.Uvarint(*s)
	if k <= 0 || v > limit {
		return 0, corrupt("number missing or out of range")
	}
	*s = (*s)[k:]
	return v, nil
}

func (r *remaker) nextGap() error {
	r.gap = -1
	if len(r.in.misses) == 0 {
		return nil
	}
	v, err := uvarint(&r.in.misses, maxPart)
	r.gap = int64(v)
	return err
}

func (r *remaker) event() error {
	e := r.in.events[0]
	r.in.events = r.in.events[1:]
	switch {
	case e == evVerbatim:
		n, err := uvarint(&r.in.events, uint64(len(r.in.verbatim)))
		if err != nil {
			return err
		}
		if r.pred != nil {
			return corrupt("verbatim bytes inside a stream")
		}
		r.bw.bytes(r.in.verbatim[:n])
		r.in.verbatim = r.in.verbatim[n:]
		return r.bw.err
	case e == evMember:
		n, err := uvarint(&r.in.events, uint64(r.total-r.base-int64(r.here())))
		if err != nil {
			return err
		}
		if r.pred != nil {
			return corrupt("stream inside a stream")
		}
		if r.count++; r.count > maxPartMembers {
			return corrupt("too many streams in a part")
		}
		r.spare = newPredictor(r.m, r.w, r.pos, r.pos+int(n), r.spare)
		r.pred = r.spare
		return nil
	case e&evBlock != 0 && r.pred != nil && e&3 != 3:
		return r.block(e)
	}
	return corrupt("unknown recipe event %#x", e)
}

func (r *remaker) block(flags byte) error {
	b := &r.blk
	b.kind, b.final, b.pad = int(flags&3), flags&blkFinal != 0, 0
	b.tokens, b.stored = b.tokens[:0], nil
	n := -1
	if flags&blkLength == 0 {
		v, err := uvarint(&r.in.events, maxBlockTokens)
		if err != nil {
			return err
		}
		n = int(v)
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
	} else if err = r.tokens(b, flags, n); err == nil && b.kind == kindDynamic {
		h, err = r.head(b, flags)
	}
	if err != nil {
		return err
	}
	if err := r.bw.block(b, h); err != nil {
		return err
	}
	if b.final {
		r.pos, r.pred = r.pred.position(), nil
	}
	return nil
}

func (r *remaker) stored(b *deflateBlock, flags byte, n int) error {
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
	if end < start || end > r.end || end-start > maxStored {
		return corrupt("stored block out of range")
	}
	r.pred.jump(end)
	b.stored = r.w.buf[start:end]
	return nil
}

func (r *remaker) tokens(b *deflateBlock, flags byte, n int) error {
	for i := 0; ; i++ {
		if n < 0 && r.pred.done(i) || i == n {
			return nil
		}
		if i >= maxBlockTokens || r.pred.position() >= r.end {
			return corrupt("block out of range")
		}
		t := token(r.w.buf[r.pred.position()])
		if flags&blkOther == 0 {
			var err error
			if t, err = r.token(t); err != nil {
				return err
			}
		}
		if r.pred.position()+t.size() > r.end {
			return corrupt("token out of range")
		}
		r.pred.commit(t)
		b.tokens = append(b.tokens, t)
	}
}

// token returns the next token: the predicted one, or after a miss the noted one.
func (r *remaker) token(literal token) (token, error) {
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

func (r *remaker) head(b *deflateBlock, flags byte) (*blockHead, error) {
	if flags&blkHead != 0 {
		h := predictHead(r.m, b.tokens)
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
