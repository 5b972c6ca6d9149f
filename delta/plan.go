package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/wordcab/wcbundle/delta/match"
	"github.com/wordcab/wcbundle/delta/tensor"
)

// A unit is a stretch of the target that is coded by itself: a stretch of the bases, a tensor, an executable, or a run of
// smaller pieces.
type unit struct {
	kind  unitKind
	name  string
	off   int64
	n     int64
	old   int64 // of a copy
	typ   tensor.Type
	spans []tensor.Span // of weights: New within the unit, Old within the bases; none lies where nothing was found
	pair  *piece        // base of an executable, off within the bases
	given []match.Copy  // copies known from names and digests, New within the unit, Old within the bases
	todo  []stretch     // what is to be searched
	count int           // pieces
}

type unitKind uint8

const (
	unitCopy unitKind = iota
	unitTensor
	unitExec
	unitMixed
)

// A stretch of a unit without a known copy. from is the part of the bases that it most likely comes from, which may be
// empty; old is the place to look at first, or negative.
type stretch struct {
	at, n   int64
	old     int64
	from, m int64
}

const (
	copyUnit   = 1 << 20  // an unchanged piece this large is a unit
	execUnit   = 64 << 10 // so is a changed executable of this size
	tensorUnit = 4 << 10  // and a changed tensor
	mixedUnit  = 32 << 20 // most bytes of a run of pieces
	execMost   = 1 << 30  // larger executables are searched like other bytes
)

// origin is what the bases have, by name, size and digest.
type origin struct {
	old    *joined
	pieces []piece // off is the place in the joined bases
	named  map[string][]int
	loose  map[string][]int // by name without versions
	tensor map[string][]int // by the tensor's own name
	sized  map[int64][]int
	sums   map[int]*[32]byte
}

func newOrigin(ctx context.Context, bases []Base) (*origin, error) {
	o := &origin{old: join(bases), named: map[string][]int{}, loose: map[string][]int{}, tensor: map[string][]int{},
		sized: map[int64][]int{}, sums: map[int]*[32]byte{}}
	for i, b := range bases {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ps, err := split(b, b.Size())
		if err != nil {
			return nil, fmt.Errorf("reading base %d: %w", i, err)
		}
		for _, p := range ps {
			p.off += o.old.at[i]
			o.add(p)
		}
	}
	return o, nil
}

func (o *origin) add(p piece) {
	i := len(o.pieces)
	o.pieces = append(o.pieces, p)
	o.named[p.name] = append(o.named[p.name], i)
	if s := stripped(p.name); s != "" {
		o.loose[s] = append(o.loose[s], i)
	}
	if p.kind == pieceTensor {
		o.tensor[tensorName(p.name)] = append(o.tensor[tensorName(p.name)], i)
	}
	o.sized[p.n] = append(o.sized[p.n], i)
}

// tries bounds how many base pieces of the same size or name are looked at.
const tries = 16

// identical returns the place of a base piece with the same bytes as p, or -1. Samples tell most pieces apart; the first
// one with the same samples is compared, and if that fails the digests of all such are.
func (o *origin) identical(target io.ReaderAt, p piece) (int64, error) {
	found := o.sized[p.n]
	if p.kind == pieceMeta || p.n == 0 || len(found) == 0 {
		return -1, nil
	}
	like, err := o.alike(target, p, found[:min(len(found), 16*tries)])
	if err != nil || len(like) == 0 {
		return -1, err
	}
	off := o.pieces[like[0]].off
	if same, err := equalRanges(target, p.off, o.old, off, p.n); err != nil || same {
		return off, err
	}
	if like = like[1:]; len(like) == 0 {
		return -1, nil
	}
	sum, err := sumOf(target, p.off, p.n)
	if err != nil {
		return -1, err
	}
	for _, i := range like {
		s := o.sums[i]
		if s == nil {
			v, err := sumOf(o.old, o.pieces[i].off, p.n)
			if err != nil {
				return -1, err
			}
			s = &v
			o.sums[i] = s
		}
		if *s == sum {
			return o.pieces[i].off, nil
		}
	}
	return -1, nil
}

// samplePage is the size of one of the samples that alike compares.
const samplePage = 4 << 10

// alike returns those of the base pieces found, of p's size, that agree with p at the begin, in the middle and at the end.
func (o *origin) alike(target io.ReaderAt, p piece, found []int) (like []int, err error) {
	n := min(p.n, samplePage)
	var want [3][]byte
	got := make([]byte, n)
	for _, i := range found {
		same := true
		for k := 0; k < len(want) && same; k++ {
			at := (p.n - n) / 2 * int64(k)
			if want[k] == nil {
				want[k] = make([]byte, n)
				if _, err := io.ReadFull(io.NewSectionReader(target, p.off+at, n), want[k]); err != nil {
					return nil, err
				}
			}
			if err := o.old.read(got, o.pieces[i].off+at); err != nil {
				return nil, err
			}
			same = bytes.Equal(got, want[k])
		}
		if same {
			like = append(like, i)
		}
	}
	return like, nil
}

// equalRanges compares n bytes of a and b.
func equalRanges(a io.ReaderAt, aOff int64, b *joined, bOff, n int64) (bool, error) {
	size := min(n, 128<<10)
	x, y := make([]byte, size), make([]byte, size)
	for at := int64(0); at < n; at += size {
		k := min(size, n-at)
		if _, err := io.ReadFull(io.NewSectionReader(a, aOff+at, k), x[:k]); err != nil {
			return false, err
		}
		if err := b.read(y[:k], bOff+at); err != nil {
			return false, err
		}
		if !bytes.Equal(x[:k], y[:k]) {
			return false, nil
		}
	}
	return true, nil
}

func sumOf(r io.ReaderAt, off, n int64) (sum [32]byte, err error) {
	h := sha256.New()
	_, err = io.Copy(h, io.NewSectionReader(r, off, n))
	h.Sum(sum[:0])
	return sum, err
}

// paired returns the base piece that p most likely comes from: of the same kind and name, else of the same name without
// versions; of several the one nearest in size. Nil if there is none.
func (o *origin) paired(p piece) *piece {
	for _, list := range [][]int{o.named[p.name], o.loose[stripped(p.name)]} {
		var best *piece
		for _, i := range list[:min(len(list), tries)] {
			q := &o.pieces[i]
			if q.kind != p.kind || q.n == 0 || (best != nil && abs(q.n-p.n) >= abs(best.n-p.n)) {
				continue
			}
			best = q
		}
		if best != nil {
			return best
		}
	}
	return nil
}

func abs(n int64) int64 { return max(n, -n) }

// planner makes units of the target's pieces.
type planner struct {
	*origin
	target io.ReaderAt
	size   int64
	units  []unit
	mixed  unit
	last   int64 // place in the bases behind the last known copy, or -1
	coder  *tensor.Coder
	coded  []byte
}

// plan says how each piece of the target is to be coded.
func plan(ctx context.Context, o *origin, target io.ReaderAt, size int64) ([]unit, error) {
	ps, err := split(target, size)
	if err != nil {
		return nil, fmt.Errorf("reading the target: %w", err)
	}
	p := &planner{origin: o, target: target, size: size, last: -1}
	for _, t := range ps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := p.piece(t); err != nil {
			return nil, err
		}
	}
	p.flush()
	return p.units, nil
}

func (p *planner) piece(t piece) error {
	same, err := p.identical(p.target, t)
	if err != nil {
		return err
	}
	if same >= 0 {
		p.same(t, same)
		return nil
	}
	switch {
	case t.kind == pieceTensor && t.n >= tensorUnit && t.typ != tensor.Bytes:
		spans, err := p.weights(t)
		if err != nil {
			return err
		}
		p.unit(unit{kind: unitTensor, name: shown(t.name), off: t.off, n: t.n, typ: t.typ, spans: spans, count: 1})
		return nil
	case t.kind == pieceExec && t.n >= execUnit && t.n <= execMost:
		pair := p.paired(t)
		if pair != nil && pair.n <= execMost {
			p.unit(unit{kind: unitExec, name: shown(t.name), off: t.off, n: t.n, pair: pair, count: 1})
			return nil
		}
	}
	p.search(t)
	return nil
}

// unit ends the run of small pieces and adds u.
func (p *planner) unit(u unit) {
	p.flush()
	p.units = append(p.units, u)
}

func (p *planner) flush() {
	if p.mixed.n > 0 {
		if p.mixed.count > 1 {
			p.mixed.name = fmt.Sprintf("%d pieces, to %s", p.mixed.count, p.mixed.name)
		}
		p.units = append(p.units, p.mixed)
	}
	p.mixed = unit{}
}

// room starts a run of pieces at off, or goes on with the one there is.
func (p *planner) room(t piece) {
	if p.mixed.n >= mixedUnit {
		p.flush()
	}
	if p.mixed.n == 0 {
		p.mixed = unit{kind: unitMixed, off: t.off}
	}
	if name := shown(t.name); name != "" {
		p.mixed.name = name
	}
	p.mixed.count++
}

func (p *planner) same(t piece, old int64) {
	p.last = old + t.n
	if t.n >= copyUnit {
		p.unit(unit{kind: unitCopy, name: shown(t.name), off: t.off, n: t.n, old: old, count: 1})
		return
	}
	p.room(t)
	p.mixed.given = append(p.mixed.given, match.Copy{New: p.mixed.n, Old: old, Len: t.n})
	p.mixed.n += t.n
}

// beside is how far from its proportional place a part of a large file is looked for first.
const beside = 16 << 20

// near names the part of the pair that s is searched in first.
func near(pair *piece, s stretch) stretch {
	if pair == nil || s.old < 0 {
		return s
	}
	lo, hi := max(pair.off, s.old-beside), min(pair.off+pair.n, s.old+s.n+beside)
	if lo < hi {
		s.from, s.m = lo, hi-lo
	}
	return s
}

// search adds a piece whose copies are not known. A tar header is taken for a changed copy of that of the same name.
func (p *planner) search(t piece) {
	pair := p.paired(t)
	old := int64(-1)
	if pair != nil {
		old = pair.off
	} else if p.last >= 0 {
		old = p.last
	}
	if t.kind == pieceMeta && pair != nil && t.n <= 4<<10 {
		p.room(t)
		n := min(t.n, pair.n)
		p.mixed.given = append(p.mixed.given, match.Copy{New: p.mixed.n, Old: old, Len: n})
		if n < t.n {
			p.mixed.todo = append(p.mixed.todo, stretch{at: p.mixed.n + n, n: t.n - n, old: -1})
		}
		p.mixed.n += t.n
		p.last = old + n
		return
	}
	for t.n > 0 {
		p.room(t)
		n := min(t.n, mixedUnit)
		p.mixed.todo = append(p.mixed.todo, near(pair, stretch{at: p.mixed.n, n: n, old: old}))
		p.mixed.n += n
		t.off, t.n = t.off+n, t.n-n
		if old >= 0 {
			old += n
		}
	}
	p.last = old
}
