package recipe

import (
	"context"
	"encoding/binary"
	"io"
)

const (
	maxGzipHead = 64 << 10
	maxTrailing = 1 << 20
)

// gzipVisitor is told the parts of a gzip file in order.
type gzipVisitor interface {
	verbatim(p []byte) error // a member's header, or what follows the last member
	member() error           // a deflate stream begins
	block(b *deflateBlock) error
	trailer(p []byte) error // what follows the deflate stream, eight bytes if it is not cut short
}

// walkGzip takes a gzip file apart. It returns errInflate for one that recipes do not cover.
func walkGzip(ctx context.Context, r io.Reader, v gzipVisitor) error {
	f := newInflater(r)
	for {
		head, ok := gzipHead(f)
		if !ok {
			rest := f.take(maxTrailing + 1)
			if f.err != nil {
				return f.err
			}
			if len(rest) > maxTrailing {
				return errInflate
			}
			return v.verbatim(append(head, rest...))
		}
		if err := v.verbatim(head); err != nil {
			return err
		}
		if err := v.member(); err != nil {
			return err
		}
		if err := walkBlocks(ctx, f, v); err != nil {
			return err
		}
		if err := v.trailer(f.take(8)); err != nil {
			return err
		}
	}
}

func walkBlocks(ctx context.Context, f *inflater, v gzipVisitor) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := f.next()
		if err != nil {
			return err
		}
		if err := v.block(b); err != nil {
			return err
		}
		if b.final && !b.more {
			f.rewind()
			return nil
		}
	}
}

// gzipHead takes a member's header. When there is none it returns the bytes it took all the same.
func gzipHead(f *inflater) ([]byte, bool) {
	h := f.take(10)
	if len(h) < 10 || h[0] != 0x1f || h[1] != 0x8b || h[2] != 8 || h[3]&0xe0 != 0 {
		return h, false
	}
	flags := h[3]
	if flags&4 != 0 {
		n := f.take(2)
		h = append(h, n...)
		if len(n) < 2 {
			return h, false
		}
		x := f.take(int(binary.LittleEndian.Uint16(n)))
		h = append(h, x...)
		if len(x) < int(binary.LittleEndian.Uint16(n)) {
			return h, false
		}
	}
	for _, bit := range []byte{8, 16} {
		for more := flags&bit != 0; more; {
			c := f.take(1)
			h = append(h, c...)
			if len(c) == 0 || len(h) > maxGzipHead {
				return h, false
			}
			more = c[0] != 0
		}
	}
	if flags&2 != 0 {
		h = append(h, f.take(2)...)
	}
	return h, true
}
