package recipe

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
)

// Source is a file that can be read at random. Its size must not change.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Form is how a file is wrapped. The numbers are frozen.
type Form uint8

// The forms that Detect knows.
const (
	None Form = 0
	Gzip Form = 1 // RFC 1952
	Zstd Form = 2 // RFC 8878
)

// Limits that a caller checks before it takes memory for a part.
const (
	MaxPart   = 16 << 20 // plain bytes of one part
	MaxRecipe = 16 << 20 // bytes of one part's recipe
)

// Errors to branch on. All errors of this package that are not from a reader, a writer or a context wrap one of them.
var (
	ErrCorrupt  = errors.New("recipe: corrupt") // a part, or a file to unwrap, is damaged or hostile
	ErrTooLong  = errors.New("recipe: more plain bytes than allowed")
	ErrNoRecipe = errors.New("recipe: no model restores the file at an acceptable cost")
)

func corrupt(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, a...))
}

// Detect tells the form of s by its first bytes. A file that cannot be read has the form None.
func Detect(s Source) Form {
	var h [4]byte
	if s.Size() < 9 {
		return None
	}
	if n, _ := s.ReadAt(h[:], 0); n != len(h) {
		return None
	}
	switch {
	case bytes.Equal(h[:3], []byte{0x1f, 0x8b, 8}):
		return Gzip
	case bytes.Equal(h[:], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	}
	return None
}

// Unwrap writes the plain bytes of all members or frames of src to dst, one after the other, and returns how many. What
// follows the last gzip member is left out. It returns an error that wraps ErrTooLong once there are more than limit plain
// bytes, one that wraps ErrCorrupt for a file that is damaged or of form None, or that of ctx, src or dst.
func Unwrap(ctx context.Context, dst io.Writer, src Source, limit int64) (int64, error) {
	out := &limitWriter{w: dst, left: limit}
	in := &contextReader{ctx: ctx, r: io.NewSectionReader(src, 0, src.Size())}
	var err error
	switch Detect(src) {
	case Gzip:
		err = gunzip(out, in)
	case Zstd:
		err = unzstd(out, in)
	default:
		err = corrupt("the form of the file is not known")
	}
	n := limit - out.left
	switch {
	case err == nil || in.err != nil && errors.Is(err, in.err) || errors.Is(err, ErrTooLong) || errors.Is(err, ErrCorrupt):
		return n, err
	case out.err != nil:
		return n, out.err
	}
	return n, corrupt("unwrapping: %v", err)
}

// gunzip writes the plain bytes of all members. Bytes after the last member that are not a member's header end it.
func gunzip(dst io.Writer, src io.Reader) error {
	br := bufio.NewReaderSize(src, 64<<10)
	zr, err := gzip.NewReader(br)
	for err == nil {
		zr.Multistream(false)
		if _, err := io.Copy(dst, zr); err != nil {
			return err
		}
		if err = zr.Reset(br); err == io.EOF || errors.Is(err, gzip.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
	}
	return err
}

// limitWriter refuses a byte too many and remembers what went wrong below it.
type limitWriter struct {
	w    io.Writer
	left int64
	err  error
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if int64(len(p)) > l.left {
		return 0, ErrTooLong
	}
	n, err := l.w.Write(p)
	l.left -= int64(n)
	if err != nil {
		l.err = err
	}
	return n, err
}

// contextReader stops when its context does, and remembers errors other than the end.
type contextReader struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (c *contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		c.err = err
		return 0, err
	}
	n, err := c.r.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}
