package delta

import (
	"context"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/wordcab/wcbundle/delta/diff"
	"github.com/wordcab/wcbundle/delta/recipe"
	"github.com/wordcab/wcbundle/delta/tensor"
)

// A group is the target bytes that share a map.
type group struct {
	m    *diff.Map
	n    int64 // of plain bytes
	done int64 // of them read
}

// A job is one segment to decode.
type job struct {
	rec   record
	group *group
	at    int64 // of a diff segment in its group
	buf   *buffers
	done  chan error
}

// reader goes through the records.
type reader struct {
	a     *applier
	rr    recordReader
	dec   *zstd.Decoder
	group *group
	plain int64 // plain bytes of the records so far
}

// read turns records into items and jobs, and checks that they make as many plain bytes as the header says.
func (a *applier) read(ctx context.Context, in io.Reader) error {
	dec, err := newZstd(a.h.maxPart)
	if err != nil {
		return err
	}
	defer dec.Close()
	r := &reader{a: a, rr: recordReader{in, a.h.maxRecord}, dec: dec}
	for {
		if err := r.record(ctx); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
	}
	if r.plain != a.h.PlainSize || (r.group != nil && r.group.done != r.group.n) {
		return corrupt("fewer plain bytes than the header says")
	}
	// After an error they stay open: the others stop with the context, and do not take it for the end.
	close(a.order)
	close(a.work)
	return nil
}

func newZstd(most uint32) (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(uint64(max(most, 1<<10))), zstd.WithDecodeAllCapLimit(true))
}

// buffers waits for memory for one more segment.
func (r *reader) buffers(ctx context.Context) (*buffers, error) {
	select {
	case b := <-r.a.free:
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *reader) record(ctx context.Context) error {
	b, err := r.buffers(ctx)
	if err != nil {
		return err
	}
	var rec record
	rec, b.record, err = r.rr.next(b.record)
	if err != nil {
		return err
	}
	switch rec.kind {
	case recMap, recPart, recNames:
		r.a.free <- b
		return r.aside(ctx, rec)
	case recCopy:
		return r.copies(ctx, rec, b)
	}
	return r.segment(ctx, rec, b)
}

// aside handles the records that make no plain bytes.
func (r *reader) aside(ctx context.Context, rec record) error {
	switch rec.kind {
	case recMap:
		if r.group != nil && r.group.done != r.group.n {
			return corrupt("a map inside a group")
		}
		if rec.plain > r.a.h.PlainSize-r.plain || r.a.h.uses&usesDiff == 0 {
			return corrupt("map out of range")
		}
		m, err := diff.ParseMap(rec.body, rec.plain, r.a.old.size())
		if err != nil {
			return corrupt("map: %v", err)
		}
		if len(m.Copies) > int(r.a.h.maxCopies) {
			return corrupt("map larger than the header says")
		}
		r.group = &group{m: m, n: rec.plain}
		return nil
	case recPart:
		if rec.raw > r.a.h.maxPart || rec.plain > recipe.MaxPart {
			return corrupt("recipe part larger than the header says")
		}
		p, err := r.dec.DecodeAll(rec.body, make([]byte, 0, rec.raw))
		if err != nil || len(p) != int(rec.raw) {
			return corrupt("recipe part does not decode to its length")
		}
		return r.put(ctx, item{n: int(rec.plain), part: p})
	}
	return nil // names are for people
}

func (r *reader) put(ctx context.Context, it item) error {
	select {
	case r.a.order <- it:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// room checks that n more plain bytes are within what the header says.
func (r *reader) room(n int64) error {
	if n > r.a.h.PlainSize-r.plain {
		return corrupt("more plain bytes than the header says")
	}
	r.plain += n
	return nil
}

// copies cuts a copy of any length into jobs.
func (r *reader) copies(ctx context.Context, rec record, b *buffers) (err error) {
	if err := r.room(rec.plain); err != nil {
		return err
	}
	if !r.a.old.inside(rec.old, rec.plain) {
		return corrupt("copy from outside the bases")
	}
	if rec.plain > 0 && r.a.h.maxPlain == 0 {
		return corrupt("segment larger than the header says")
	}
	if rec.plain == 0 {
		r.a.free <- b
	}
	for left := rec.plain; left > 0; {
		if b == nil {
			if b, err = r.buffers(ctx); err != nil {
				return err
			}
		}
		n := min(left, int64(r.a.h.maxPlain))
		if err := r.send(ctx, &job{rec: record{kind: recCopy, plain: n, old: rec.old}, buf: b}); err != nil {
			return err
		}
		rec.old, left, b = rec.old+n, left-n, nil
	}
	return nil
}

func (r *reader) segment(ctx context.Context, rec record, b *buffers) error {
	if rec.plain > int64(r.a.h.maxPlain) {
		return corrupt("segment larger than the header says")
	}
	if err := r.room(rec.plain); err != nil {
		return err
	}
	j := &job{rec: rec, buf: b, group: r.group}
	inGroup := r.group != nil && r.group.done < r.group.n
	if rec.kind == recDiff && !inGroup {
		return corrupt("segment without a map")
	}
	if inGroup {
		j.at = r.group.done
		if rec.plain > r.group.n-r.group.done {
			return corrupt("segment larger than its group")
		}
		r.group.done += rec.plain
	}
	return r.send(ctx, j)
}

func (r *reader) send(ctx context.Context, j *job) error {
	j.done = make(chan error, 1)
	if err := r.put(ctx, item{job: j}); err != nil {
		return err
	}
	select {
	case r.a.work <- j:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// decoder is one worker: it keeps its memory from segment to segment.
type decoder struct {
	a    *applier
	old  cachedReader
	base []byte
	diff *diff.Decoder
	tens *tensor.Coder
	zstd *zstd.Decoder
}

func (a *applier) decode(ctx context.Context) error {
	d := &decoder{a: a, old: cachedReader{joined: a.old}}
	defer d.close()
	for {
		select {
		case j, ok := <-a.work:
			if !ok {
				return nil
			}
			j.buf.plain = grown(j.buf.plain, int(j.rec.plain))
			j.done <- d.segment(j)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *decoder) close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}

// grown returns a slice of n bytes, in buf if it is large enough.
func grown(buf []byte, n int) []byte {
	if cap(buf) < n {
		return make([]byte, n)
	}
	return buf[:n]
}

// segment decodes one segment into its buffer.
func (d *decoder) segment(j *job) error {
	dst, rec := j.buf.plain, &j.rec
	switch rec.kind {
	case recDiff:
		return d.diffs(dst, j)
	case recTensor:
		return d.tensor(dst, rec)
	case recZstd:
		return d.alone(dst, rec)
	case recRaw:
		if copy(dst, rec.body) != len(dst) || len(rec.body) != len(dst) {
			return corrupt("raw segment of the wrong length")
		}
		return nil
	case recBsdiff:
		if !d.a.old.inside(rec.old, rec.span) {
			return corrupt("patch of bytes outside the bases")
		}
		return applyBsdiff(dst, rec.body, &d.old, rec.old, rec.span)
	}
	return d.old.read(dst, rec.old)
}

func (d *decoder) diffs(dst []byte, j *job) (err error) {
	if d.diff == nil {
		if d.diff, err = diff.NewDecoder(); err != nil {
			return err
		}
	}
	d.base = grown(d.base, len(dst))
	if err := j.group.m.Layout(d.base, j.at, d.old.read); err != nil {
		return err
	}
	if err := d.diff.Segment(dst, d.base, j.at, j.group.m, j.rec.body); err != nil {
		return corrupt("segment: %v", err)
	}
	return nil
}

func (d *decoder) tensor(dst []byte, rec *record) error {
	if d.a.h.uses&usesTensor == 0 {
		return corrupt("a decoder that the header does not name")
	}
	if d.tens == nil {
		d.tens = tensor.NewCoder()
	}
	if len(dst) > tensor.MaxBlock {
		return corrupt("block of elements too large")
	}
	d.base = grown(d.base, len(dst))
	if rec.old < 0 {
		clear(d.base)
	} else if err := d.old.joined.read(d.base, rec.old); err != nil {
		return err
	}
	if err := d.tens.Decode(dst, rec.typ, d.base, rec.body); err != nil {
		return corrupt("elements: %v", err)
	}
	return nil
}

func (d *decoder) alone(dst []byte, rec *record) (err error) {
	if d.a.h.uses&usesZstd == 0 {
		return corrupt("a decoder that the header does not name")
	}
	if d.zstd == nil {
		if d.zstd, err = newZstd(maxPlain); err != nil {
			return err
		}
	}
	out, err := d.zstd.DecodeAll(rec.body, dst[:0:len(dst)])
	if err != nil || len(out) != len(dst) {
		return corrupt("segment does not decode to its length")
	}
	return nil
}
