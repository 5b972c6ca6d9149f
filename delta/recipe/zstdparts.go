package recipe

import (
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/zstd"
)

// A zstd part is a run of events: evVerbatim with a length and so many bytes, evMember with the plain bytes of a frame.

// partsOfFrames hands out the parts for frames that the model's encoder writes.
func partsOfFrames(src Source, frames []zstdFrame, emit func(n int, part []byte) error) error {
	var part []byte
	n := 0
	flush := func() error {
		p, k := part, n
		part, n = nil, 0
		return emit(k, p)
	}
	for _, f := range frames {
		for at := f.at; f.plain < 0 && at < f.at+f.size; {
			b := make([]byte, min(f.at+f.size-at, 1<<20))
			if k, err := src.ReadAt(b, at); k < len(b) {
				return err
			}
			part = binary.AppendUvarint(append(part, evVerbatim), uint64(len(b)))
			part = append(part, b...)
			at += int64(len(b))
			if len(part) >= minPart {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if f.plain < 0 {
			continue
		}
		part = binary.AppendUvarint(append(part, evMember), uint64(f.plain))
		for left := f.plain; left > 0; {
			k := int(min(left, int64(minPart-n)))
			left -= int64(k)
			if n += k; n == minPart {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if len(part) >= minPart {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// zstdRemaker writes zstd frames with the pinned encoder.
type zstdRemaker struct {
	w    io.Writer
	enc  *zstd.Encoder
	next func() ([]byte, error)
	rest []byte // of what next gave
	open bool   // a frame has begun
	left int64  // plain bytes of the frame to come
	beg  int64  // plain bytes that may still be declared to be in frames
}

func newZstdRemaker(level zstd.EncoderLevel, w io.Writer, plainSize int64, next func() ([]byte, error)) (*zstdRemaker, error) {
	enc, err := newEncoder(level, nil)
	return &zstdRemaker{w: w, enc: enc, next: next, beg: plainSize}, err
}

func (r *zstdRemaker) part(n int, part []byte) error {
	for {
		if err := r.feed(&n); err != nil {
			return err
		}
		if len(part) == 0 {
			break
		}
		if r.open {
			return corrupt("event inside a frame")
		}
		e := part[0]
		part = part[1:]
		v, err := uvarint(&part, uint64(r.beg)+MaxRecipe)
		if err != nil {
			return err
		}
		switch {
		case e == evVerbatim && v <= uint64(len(part)):
			if _, err := r.w.Write(part[:v]); err != nil {
				return err
			}
			part = part[v:]
		case e == evMember && v <= uint64(r.beg):
			r.beg -= int64(v)
			r.left, r.open = int64(v), true
			r.enc.Reset(r.w)
		default:
			return corrupt("unknown event %#x", e)
		}
	}
	if n != 0 {
		return corrupt("part does not come out even")
	}
	return nil
}

// feed gives the open frame up to n plain bytes and ends it when it has all.
func (r *zstdRemaker) feed(n *int) error {
	for r.open && r.left > 0 && *n > 0 {
		if len(r.rest) == 0 {
			p, err := r.next()
			switch {
			case err == io.EOF:
				return corrupt("fewer plain bytes than declared")
			case err != nil:
				return err
			case len(p) == 0:
				return io.ErrNoProgress
			}
			r.rest = p
		}
		k := int(min(int64(min(len(r.rest), *n)), r.left))
		if _, err := r.enc.Write(r.rest[:k]); err != nil {
			return err
		}
		r.rest = r.rest[k:]
		r.left -= int64(k)
		*n -= k
	}
	if !r.open || r.left > 0 {
		return nil
	}
	r.open = false
	return r.enc.Close()
}

func (r *zstdRemaker) close() error {
	r.enc.Reset(nil)
	if r.open {
		return corrupt("the last frame does not end")
	}
	return nil
}
