package delta

import (
	"context"
	"encoding/binary"
	"io"
)

const (
	maxGzipHead = 64 << 10
	maxTrailing = 1 << 20
)

// gzipVisitor is told the parts of a gzip file in order. Between two streams lie verbatim bytes: trailers, headers,
// and what follows the last member.
type gzipVisitor interface {
	verbatim(p []byte) error
	member() error // a deflate stream begins
	block(b *deflateBlock) error
}

// walkGzip takes a gzip file apart. It returns errInflate for one that recipes do not cover.
func walkGzip(ctx context.Context, r io.Reader, v gzipVisitor) error {
	f := newInflater(r)
	var pending []byte // the trailer of the member before
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
			return v.verbatim(append(append(pending, head...), rest...))
		}
		if err := v.verbatim(append(pending, head...)); err != nil {
			return err
		}
		if err := v.member(); err != nil {
			return err
		}
		if err := walkBlocks(ctx, f, v); err != nil {
			return err
		}
		pending = f.take(8)
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
		if b.final {
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

// unwrapper is the visitor that writes the plain bytes and notes how long each member's are.
type unwrapper struct {
	w       io.Writer
	buf     []byte
	wrote   int // buf[wrote:] is not written yet
	begin   int // where in buf the member begins, or zero
	members []int64
	total   int64
}

func (u *unwrapper) verbatim([]byte) error { return nil }

func (u *unwrapper) member() error {
	u.members = append(u.members, 0)
	u.begin = len(u.buf)
	return nil
}

func (u *unwrapper) block(b *deflateBlock) error {
	before := len(u.buf)
	u.buf = append(u.buf, b.stored...)
	for _, t := range b.tokens {
		if !t.isMatch() {
			u.buf = append(u.buf, byte(t))
			continue
		}
		d, n := t.dist(), t.length()
		at := len(u.buf) - d
		if at < u.begin {
			return errInflate
		}
		if d >= n {
			u.buf = append(u.buf, u.buf[at:at+n]...)
			continue
		}
		for i := range n {
			u.buf = append(u.buf, u.buf[at+i])
		}
	}
	n := len(u.buf) - before
	if n > maxPart-minPart {
		return errInflate
	}
	u.members[len(u.members)-1] += int64(n)
	u.total += int64(n)
	if len(u.buf) < 1<<20 {
		return nil
	}
	return u.flush()
}

// flush writes what was not written yet and keeps what matches can reach.
func (u *unwrapper) flush() error {
	_, err := u.w.Write(u.buf[u.wrote:])
	keep := min(ringSize, len(u.buf))
	u.begin = max(u.begin-(len(u.buf)-keep), 0)
	copy(u.buf, u.buf[len(u.buf)-keep:])
	u.buf, u.wrote = u.buf[:keep], keep
	return err
}
