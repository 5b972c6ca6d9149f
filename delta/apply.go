package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"

	"github.com/klauspost/compress/zstd"
)

// Apply reads a delta from d, rebuilds its target from bases and writes it to w. It checks that the bases are the right
// ones before it uses them, and returns an error unless what it wrote has the size and digest that the header names; on
// an error, what w got must be thrown away. d must end with the delta.
//
// Errors: ErrTooLarge when lim does not allow what the header asks for, ErrBaseMismatch, *CorruptError for a damaged or
// hostile delta, the error of ctx, or one from reading and writing.
func Apply(ctx context.Context, w io.Writer, d io.Reader, bases []Base, lim Limits) (Header, error) {
	in := &countReader{r: d}
	h, err := ReadHeader(in)
	if err != nil {
		return h, err
	}
	if err := lim.allow(&h); err != nil {
		return h, err
	}
	a := &applier{h: h, in: in, out: &sink{w: w, sum: sha256.New(), left: h.TargetSize}}
	defer a.tmp.close()
	a.tmp.dir = lim.ScratchDir
	if err = a.open(ctx, bases); err == nil {
		err = a.run(ctx)
	}
	if errors.Is(err, errCorrupt) {
		err = &CorruptError{in.n, err.Error()}
	}
	return h, err
}

func (lim Limits) allow(h *Header) error {
	memory := lim.MaxMemory
	if memory == 0 {
		memory = DefaultMemory
	}
	for _, c := range []struct {
		what       string
		need, have int64
	}{{"output", h.TargetSize, lim.MaxOutput}, {"memory", h.Memory, memory}, {"scratch", h.Scratch, lim.MaxScratch}} {
		if c.need > c.have {
			return fmt.Errorf("%w: %s of %d bytes, %d allowed", ErrTooLarge, c.what, c.need, c.have)
		}
	}
	if lim.MaxOutput <= 0 {
		return fmt.Errorf("%w: no output is allowed", ErrTooLarge)
	}
	return nil
}

type countReader struct {
	r io.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// sink hashes what goes out and refuses a byte too many.
type sink struct {
	w    io.Writer
	sum  hash.Hash
	left int64
}

func (s *sink) Write(p []byte) (int, error) {
	if int64(len(p)) > s.left {
		return 0, corrupt("more output than the header says")
	}
	s.left -= int64(len(p))
	s.sum.Write(p)
	return s.w.Write(p)
}

// applier is one run of Apply.
type applier struct {
	h   Header
	in  *countReader
	out *sink
	tmp scratch
	old *joined

	seen    uint32 // segments
	plain   int64  // bytes of plain rebuilt so far
	frame   *zstd.Decoder
	unpack  *unpacker
	record  []byte
	buf     []byte
	waiting []waitingPart
	bytes   int // in waiting
}

type waitingPart struct {
	n      int
	recipe []byte
}

// open checks the bases and gunzips those that the delta wants plain.
func (a *applier) open(ctx context.Context, bases []Base) error {
	if len(bases) != len(a.h.Bases) {
		return fmt.Errorf("%w: %d bases, the delta has %d", ErrBaseMismatch, len(bases), len(a.h.Bases))
	}
	plain := make([]Base, len(bases))
	for i, b := range bases {
		if b.Size() != a.h.Bases[i].Size {
			return fmt.Errorf("%w: base %d has %d bytes, not %d", ErrBaseMismatch, i, b.Size(), a.h.Bases[i].Size)
		}
		id, err := digest(ctx, b)
		if err != nil {
			return fmt.Errorf("reading base %d: %w", i, err)
		}
		if id != a.h.Bases[i] {
			return fmt.Errorf("%w: digest of base %d", ErrBaseMismatch, i)
		}
		plain[i] = b
		if n := a.h.gunzip[i]; n >= 0 {
			f, err := a.tmp.gunzip(ctx, b, n)
			if err == nil && f.n != n {
				err = errTooLong
			}
			if err != nil {
				return fmt.Errorf("unpacking base %d: %w", i, err)
			}
			plain[i] = f
		}
	}
	a.old = join(plain)
	u, err := newUnpacker()
	a.unpack = u
	return err
}

func (a *applier) run(ctx context.Context) error {
	defer a.unpack.dec.Close()
	if a.h.layout == layoutFrame {
		d, err := zstd.NewReader(a.in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(frameWindow))
		if err != nil {
			return err
		}
		defer d.Close()
		a.frame = d
	}
	body := a.copyPlain
	if a.h.model != 0 {
		body = a.remake
	}
	if err := body(ctx); err != nil {
		return err
	}
	if a.out.left != 0 {
		return corrupt("less output than the header says")
	}
	if [32]byte(a.out.sum.Sum(nil)) != a.h.TargetSHA256 {
		return corrupt("the digest of the output is not that of the target")
	}
	return nil
}

func (a *applier) copyPlain(ctx context.Context) error {
	for {
		plain, recipe, err := a.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(recipe) != 0 {
			return corrupt("recipe without a model")
		}
		if _, err := a.out.Write(plain); err != nil {
			return err
		}
	}
}

// remake feeds the segments to a remaker, whose window reads ahead of the part it works on.
func (a *applier) remake(ctx context.Context) error {
	size := min(a.h.plainSize, 2*int64(a.h.maxPlain)+lookahead+2*history)
	w := &window{buf: make([]byte, 0, size), more: func() ([]byte, error) {
		plain, recipe, err := a.next(ctx)
		if err != nil {
			return nil, err
		}
		a.bytes += len(recipe)
		if a.bytes > 2*maxStreams {
			return nil, corrupt("too much recipe for the plain bytes")
		}
		a.waiting = append(a.waiting, waitingPart{len(plain), bytes.Clone(recipe)})
		return plain, nil
	}}
	r := &remaker{m: modelByID(a.h.model), w: w, total: a.h.plainSize, bw: bitWriter{w: a.out}}
	for {
		if len(a.waiting) == 0 {
			if err := w.ensure(len(w.buf) + 1); err != nil {
				return err
			}
		}
		if len(a.waiting) == 0 {
			break
		}
		p := a.waiting[0]
		a.waiting = a.waiting[1:]
		a.bytes -= len(p.recipe)
		if err := r.part(p.recipe, p.n); err != nil {
			return err
		}
	}
	if r.pred != nil {
		return corrupt("the last stream does not end")
	}
	return nil
}

// next returns the next segment's plain bytes and recipe part, valid until the call after. io.EOF means that all is
// there: the number of segments, the number of plain bytes and the end of the delta have been checked.
func (a *applier) next(ctx context.Context) (plain, recipe []byte, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	if a.seen == a.h.segments {
		if a.plain != a.h.plainSize {
			return nil, nil, corrupt("fewer plain bytes than the header says")
		}
		return nil, nil, a.atEnd()
	}
	a.seen++
	if a.frame != nil {
		plain, recipe, err = a.nextFramed()
	} else {
		plain, recipe, err = a.nextRecord()
	}
	a.plain += int64(len(plain))
	return plain, recipe, err
}

func (a *applier) atEnd() error {
	var b [1]byte
	if a.frame != nil {
		if n, err := a.frame.Read(b[:]); n != 0 || err != io.EOF {
			return corrupt("bytes after the last segment")
		}
	}
	if n, err := io.ReadFull(a.in, b[:]); n != 0 {
		return corrupt("bytes after the end")
	} else if err != io.EOF {
		return err
	}
	return io.EOF
}

// room returns the buffer for a segment of n plain bytes, once that is within what is left.
func (a *applier) room(n uint32) ([]byte, error) {
	if n > a.h.maxPlain || int64(n) > a.h.plainSize-a.plain {
		return nil, corrupt("more plain bytes than the header says")
	}
	a.buf = grown(a.buf, int(n))
	return a.buf, nil
}

func (a *applier) nextFramed() (plain, recipe []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(a.frame, head[:]); err != nil {
		return nil, nil, framed(err)
	}
	k := binary.LittleEndian.Uint32(head[4:])
	if k > a.h.maxStreams {
		return nil, nil, corrupt("recipe larger than the header says")
	}
	if a.buf, err = a.room(binary.LittleEndian.Uint32(head[:])); err != nil {
		return nil, nil, err
	}
	a.record = grown(a.record, int(k))
	for _, p := range [][]byte{a.record, a.buf} {
		if _, err := io.ReadFull(a.frame, p); err != nil {
			return nil, nil, framed(err)
		}
	}
	return a.buf, a.record, nil
}

// framed tells damage in a frame from an error of the reader below it.
func framed(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return corrupt("frame: %v", err)
}

func (a *applier) nextRecord() (plain, recipe []byte, err error) {
	n, err := a.u32()
	if err != nil {
		return nil, nil, err
	}
	if n > a.h.maxRecord {
		return nil, nil, corrupt("record larger than the header says")
	}
	if err := a.fill(int(n)); err != nil {
		return nil, nil, err
	}
	sum, err := a.u32()
	if err != nil {
		return nil, nil, err
	}
	if sum != crc32.Checksum(a.record, castagnoli()) {
		return nil, nil, corrupt("record checksum")
	}
	s, err := parseSegment(&a.h, a.record)
	if err != nil {
		return nil, nil, err
	}
	if a.buf, err = a.room(s.plain); err != nil {
		return nil, nil, err
	}
	recipe, err = a.unpack.rebuild(a.buf, &s, a.old, a.plain)
	return a.buf, recipe, err
}

func (a *applier) u32() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(a.in, b[:])
	return binary.LittleEndian.Uint32(b[:]), a.cut(err)
}

func (a *applier) cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return corrupt("cut short")
	}
	return err
}

// fill reads n bytes into record, in steps, so that memory is taken only for bytes that have come.
func (a *applier) fill(n int) error {
	a.record = a.record[:0]
	for len(a.record) < n {
		have := len(a.record)
		k := min(n-have, 1<<20)
		if cap(a.record) < have+k {
			a.record = append(make([]byte, 0, min(int64(n), max(2*int64(have), 1<<20))), a.record...)
		}
		a.record = a.record[:have+k]
		if _, err := io.ReadFull(a.in, a.record[have:]); err != nil {
			return a.cut(err)
		}
	}
	return nil
}

// unlimited is for Make, which proves deltas against its own bases.
const unlimited = math.MaxInt64
