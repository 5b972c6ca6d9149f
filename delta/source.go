package delta

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"sort"

	"github.com/wordcab/wcbundle/delta/recipe"
)

// joined is several bases as one run of bytes, in order.
type joined struct {
	parts []Base
	at    []int64 // where each part begins, and at the end the total
}

func join(parts []Base) *joined {
	j := &joined{parts: parts, at: []int64{0}}
	for _, p := range parts {
		j.at = append(j.at, j.at[len(j.at)-1]+p.Size())
	}
	return j
}

func (j *joined) size() int64 { return j.at[len(j.parts)] }

// inside says whether n bytes from off on lie in the bases.
func (j *joined) inside(off, n int64) bool {
	return off >= 0 && n >= 0 && off <= j.size() && n <= j.size()-off
}

// read fills p from off on; all of it must lie inside.
func (j *joined) read(p []byte, off int64) error {
	if !j.inside(off, int64(len(p))) {
		return corrupt("copy from outside the bases")
	}
	for i := sort.Search(len(j.parts), func(i int) bool { return j.at[i+1] > off }); len(p) > 0; i++ {
		n := min(int64(len(p)), j.at[i+1]-off)
		if n == 0 {
			continue
		}
		if k, err := j.parts[i].ReadAt(p[:n], off-j.at[i]); int64(k) != n {
			return fmt.Errorf("reading base %d: %w", i, err)
		}
		p, off = p[n:], off+n
	}
	return nil
}

// ReadAt makes joined an io.ReaderAt.
func (j *joined) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), max(j.size()-off, 0))
	if err := j.read(p[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

const (
	pageSize    = 32 << 10
	cachedPages = 64
)

// cachedReader reads joined bases through a small cache, because maps jump about. One goroutine may use it.
type cachedReader struct {
	*joined
	pages [cachedPages]struct {
		number int64 // + 1
		n      int
		buf    []byte
	}
}

func (c *cachedReader) read(p []byte, off int64) error {
	if !c.inside(off, int64(len(p))) {
		return corrupt("copy from outside the bases")
	}
	for len(p) > 0 {
		if len(p) >= pageSize {
			return c.joined.read(p, off)
		}
		b, err := c.page(off / pageSize)
		if err != nil {
			return err
		}
		n := copy(p, b[off%pageSize:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (c *cachedReader) page(number int64) ([]byte, error) {
	g := &c.pages[number%cachedPages]
	if g.number == number+1 {
		return g.buf[:g.n], nil
	}
	if g.buf == nil {
		g.buf = make([]byte, pageSize)
	}
	g.number = 0
	g.n = int(min(pageSize, c.size()-number*pageSize))
	if err := c.joined.read(g.buf[:g.n], number*pageSize); err != nil {
		return nil, err
	}
	g.number = number + 1
	return g.buf[:g.n], nil
}

// digest hashes a base.
func digest(ctx context.Context, b Base) (BaseID, error) {
	id := BaseID{Size: b.Size()}
	h := sha256.New()
	n, err := copyContext(ctx, h, io.NewSectionReader(b, 0, id.Size))
	if err == nil && n != id.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return id, err
	}
	h.Sum(id.SHA256[:0])
	return id, nil
}

// copyContext is io.Copy that stops when ctx is done.
func copyContext(ctx context.Context, w io.Writer, r io.Reader) (int64, error) {
	buf := make([]byte, 256<<10)
	var total int64
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, err := r.Read(buf)
		if n > 0 {
			total += int64(n)
			if _, werr := w.Write(buf[:n]); werr != nil {
				return total, werr
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// scratch is a set of temporary files that go away together.
type scratch struct {
	dir   string
	files []*os.File
}

func (s *scratch) file() (*os.File, error) {
	f, err := os.CreateTemp(s.dir, ".wcdelta-*")
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, f)
	// The name goes at once where the system allows it, so that a killed process leaves nothing behind.
	_ = os.Remove(f.Name())
	return f, nil
}

func (s *scratch) close() {
	for _, f := range s.files {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
	s.files = nil
}

// plainFile is a scratch file as a base.
type plainFile struct {
	*os.File
	n int64
}

func (p plainFile) Size() int64 { return p.n }

// unwrap writes the plain bytes of a gzip or zstd file to scratch, at most limit of them.
func (s *scratch) unwrap(ctx context.Context, b Base, limit int64) (plainFile, error) {
	f, err := s.file()
	if err != nil {
		return plainFile{}, err
	}
	n, err := recipe.Unwrap(ctx, f, b, limit)
	return plainFile{f, n}, err
}
