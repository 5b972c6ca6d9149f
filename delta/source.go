package delta

import (
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
)

// joined is several bases as one run of bytes, in order. Small reads go through a small cache.
type joined struct {
	parts []Base
	at    []int64 // where each part begins, and at the end the total
	cache [64]struct {
		page int64 // page number + 1
		n    int
		buf  []byte
	}
}

const pageSize = 32 << 10

func join(parts []Base) *joined {
	j := &joined{parts: parts, at: []int64{0}}
	for _, p := range parts {
		j.at = append(j.at, j.at[len(j.at)-1]+p.Size())
	}
	return j
}

func (j *joined) size() int64 { return j.at[len(j.parts)] }

// read fills p from off on; all of it must lie inside.
func (j *joined) read(p []byte, off int64) error {
	if off < 0 || off > j.size() || int64(len(p)) > j.size()-off {
		return corrupt("copy from outside the bases")
	}
	for len(p) > 0 {
		if len(p) >= pageSize {
			return j.direct(p, off)
		}
		c, err := j.load(off / pageSize)
		if err != nil {
			return err
		}
		n := copy(p, c[off%pageSize:])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// load returns the page with that number.
func (j *joined) load(page int64) ([]byte, error) {
	c := &j.cache[page%int64(len(j.cache))]
	if c.page == page+1 {
		return c.buf[:c.n], nil
	}
	if c.buf == nil {
		c.buf = make([]byte, pageSize)
	}
	c.page = 0
	c.n = int(min(pageSize, j.size()-page*pageSize))
	if err := j.direct(c.buf[:c.n], page*pageSize); err != nil {
		return nil, err
	}
	c.page = page + 1
	return c.buf[:c.n], nil
}

func (j *joined) direct(p []byte, off int64) error {
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

// errTooLong says that a gzip file holds more than was declared.
var errTooLong = errors.New("more plain bytes than declared")

// gunzip writes the plain bytes of a gzip base to scratch, at most limit of them.
func (s *scratch) gunzip(ctx context.Context, b Base, limit int64) (plainFile, error) {
	zr, err := gzip.NewReader(io.NewSectionReader(b, 0, b.Size()))
	if err != nil {
		return plainFile{}, err
	}
	f, err := s.file()
	if err != nil {
		return plainFile{}, err
	}
	n, err := copyContext(ctx, f, io.LimitReader(zr, limit))
	if err != nil {
		return plainFile{}, err
	}
	if k, _ := zr.Read(make([]byte, 1)); k != 0 {
		return plainFile{}, errTooLong
	}
	return plainFile{f, n}, nil
}
