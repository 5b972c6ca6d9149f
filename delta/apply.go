package delta

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/wordcab/wcbundle/delta/recipe"
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
	tmp := scratch{dir: lim.ScratchDir}
	defer tmp.close()
	plain, err := openBases(ctx, &h, bases, &tmp)
	if err != nil {
		return h, err
	}
	return h, rebuild(ctx, &h, in, w, plain, lim.workers(&h))
}

// rebuild runs the records that follow the header in on the unwrapped bases.
func rebuild(ctx context.Context, h *Header, in *countReader, w io.Writer, plain []Base, workers int) error {
	a := &applier{h: h, old: join(plain), out: &sink{w: w, sum: sha256.New(), left: h.TargetSize}}
	err := a.run(ctx, in, workers)
	if errors.Is(err, errCorrupt) || errors.Is(err, recipe.ErrCorrupt) {
		err = &CorruptError{in.n, err.Error()}
	}
	return err
}

func (lim Limits) memory() int64 {
	if lim.MaxMemory == 0 {
		return DefaultMemory
	}
	return lim.MaxMemory
}

func (lim Limits) allow(h *Header) error {
	for _, c := range []struct {
		what       string
		need, have int64
	}{{"output", h.TargetSize, lim.MaxOutput}, {"memory", h.Memory, lim.memory()}, {"scratch", h.Scratch, lim.MaxScratch}} {
		if c.need > c.have {
			return fmt.Errorf("%w: %s of %d bytes, %d allowed", ErrTooLarge, c.what, c.need, c.have)
		}
	}
	if lim.MaxOutput <= 0 {
		return fmt.Errorf("%w: no output is allowed", ErrTooLarge)
	}
	return nil
}

// workers is how many the memory allows, of those wished for.
func (lim Limits) workers(h *Header) int {
	n := 1
	for n < lim.Parallel && h.memory(n+1) <= lim.memory() {
		n++
	}
	return n
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

// openBases checks the bases and unwraps those that the delta wants plain. Nothing is decoded before its digest is right.
func openBases(ctx context.Context, h *Header, bases []Base, tmp *scratch) ([]Base, error) {
	if len(bases) != len(h.Bases) {
		return nil, fmt.Errorf("%w: %d bases, the delta has %d", ErrBaseMismatch, len(bases), len(h.Bases))
	}
	plain := make([]Base, len(bases))
	for i, b := range bases {
		if b.Size() != h.Bases[i].Size {
			return nil, fmt.Errorf("%w: base %d has %d bytes, not %d", ErrBaseMismatch, i, b.Size(), h.Bases[i].Size)
		}
		id, err := digest(ctx, b)
		if err != nil {
			return nil, fmt.Errorf("reading base %d: %w", i, err)
		}
		if id != h.Bases[i] {
			return nil, fmt.Errorf("%w: digest of base %d", ErrBaseMismatch, i)
		}
		plain[i] = b
		if h.forms[i] == recipe.None {
			continue
		}
		f, err := tmp.unwrap(ctx, b, h.plain[i])
		if err == nil && f.n != h.plain[i] {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking base %d: %w", i, err)
		}
		plain[i] = f
	}
	return plain, nil
}

// applier is one run of Apply. One goroutine reads records, some decode segments, and the caller's puts what they made in
// order, through the recipe if there is one.
type applier struct {
	h   *Header
	old *joined
	out *sink

	work  chan *job
	order chan item     // what the records make, in order
	free  chan *buffers // as many as may be under way
	last  *buffers      // given out by next
	early [][]byte      // plain bytes read while looking for a part
	parts []item
}

// An item is a segment under way, or a part of the recipe.
type item struct {
	job  *job
	n    int // plain bytes of the part
	part []byte
}

// buffers are the memory of one segment under way.
type buffers struct {
	plain, record []byte
}

func (a *applier) run(ctx context.Context, in io.Reader, workers int) error {
	n := inFlight(workers)
	a.work, a.order, a.free = make(chan *job), make(chan item, n), make(chan *buffers, n)
	for range n {
		a.free <- &buffers{}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.read(ctx, in) })
	for range workers {
		g.Go(func() error { return a.decode(ctx) })
	}
	g.Go(func() error {
		if err := a.write(ctx); err != nil {
			return err
		}
		return a.atEnd()
	})
	return g.Wait()
}

func (a *applier) atEnd() error {
	if a.out.left != 0 {
		return corrupt("less output than the header says")
	}
	if [32]byte(a.out.sum.Sum(nil)) != a.h.TargetSHA256 {
		return corrupt("the digest of the output is not that of the target")
	}
	return nil
}

func (a *applier) write(ctx context.Context) error {
	if a.h.model != 0 {
		return a.remake(ctx)
	}
	for {
		p, err := a.next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := a.out.Write(p); err != nil {
			return err
		}
	}
}

// take returns the next item; io.EOF behind the last.
func (a *applier) take(ctx context.Context) (item, error) {
	select {
	case it, ok := <-a.order:
		if !ok {
			return it, io.EOF
		}
		return it, nil
	case <-ctx.Done():
		return item{}, ctx.Err()
	}
}

// next returns the plain bytes of the next segment, valid until the call after. Parts on the way are kept.
func (a *applier) next(ctx context.Context) ([]byte, error) {
	if a.last != nil {
		a.free <- a.last
		a.last = nil
	}
	if len(a.early) > 0 {
		p := a.early[0]
		a.early = a.early[1:]
		return p, nil
	}
	for {
		it, err := a.take(ctx)
		if err != nil {
			return nil, err
		}
		if it.job == nil {
			if len(a.parts) > maxEarly {
				return nil, corrupt("recipe parts far ahead of their plain bytes")
			}
			a.parts = append(a.parts, it)
			continue
		}
		if err := a.wait(ctx, it.job); err != nil {
			return nil, err
		}
		a.last = it.job.buf
		return it.job.buf.plain, nil
	}
}

func (a *applier) wait(ctx context.Context, j *job) error {
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// maxEarly is how many segments may come before the part that they belong to, and parts before their segments.
const maxEarly = 2

// part returns the next part of the recipe, or io.EOF.
func (a *applier) part(ctx context.Context) (item, error) {
	for len(a.parts) == 0 {
		it, err := a.take(ctx)
		if err != nil {
			return it, err
		}
		if it.job == nil {
			return it, nil
		}
		if err := a.wait(ctx, it.job); err != nil {
			return it, err
		}
		if len(a.early) >= maxEarly {
			return it, corrupt("plain bytes far ahead of the recipe")
		}
		a.early = append(a.early, append([]byte(nil), it.job.buf.plain...))
		a.free <- it.job.buf
	}
	it := a.parts[0]
	a.parts = a.parts[1:]
	return it, nil
}

// remake feeds segments and parts to the recipe.
func (a *applier) remake(ctx context.Context) error {
	r, err := recipe.NewRemaker(a.h.model, a.out, a.h.PlainSize, func() ([]byte, error) { return a.next(ctx) })
	if err != nil {
		return err
	}
	for {
		it, err := a.part(ctx)
		if err == nil {
			err = r.Part(it.n, it.part)
		}
		if err == io.EOF {
			return r.Close()
		}
		if err != nil {
			_ = r.Close() // frees it; what it misses is less to the point than err
			return err
		}
	}
}
