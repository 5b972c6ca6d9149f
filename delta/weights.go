package delta

import (
	"io"

	"github.com/wordcab/wcbundle/delta/tensor"
)

const (
	alignMost   = 512 << 20 // most bytes of base and target that are aligned without names
	sampleBytes = 64 << 10
)

// weights finds what a changed tensor, or a file of weights, comes from: the tensor of its name; else the one of its type
// and size that a sample fits best; else whatever parts of the bases its signs and exponents resemble.
func (p *planner) weights(t piece) ([]tensor.Span, error) {
	pair, err := p.tensorPair(t)
	if err != nil || pair == nil {
		return p.aligned(t, nil, err)
	}
	if pair.n == t.n {
		ok, err := p.resembles(t, pair.off)
		if err != nil {
			return nil, err
		}
		if ok {
			return []tensor.Span{{New: 0, Old: pair.off, Len: t.n}}, nil
		}
	}
	return p.aligned(t, pair, nil)
}

// tensorPair picks the base tensor by name, then by sample.
func (p *planner) tensorPair(t piece) (*piece, error) {
	if q := p.paired(t); q != nil && q.typ == t.typ {
		return q, nil
	}
	for _, i := range p.tensor[tensorName(t.name)] {
		if q := &p.pieces[i]; q.typ == t.typ && tensorName(t.name) != "" {
			return q, nil
		}
	}
	var best *piece
	least := int64(sampleBytes) * 9 / 10
	found := p.sized[t.n]
	for _, i := range found[:min(len(found), 4*tries)] {
		q := &p.pieces[i]
		if q.kind != pieceTensor || q.typ != t.typ {
			continue
		}
		n, err := p.sample(t, q.off)
		if err != nil {
			return nil, err
		}
		if n < least {
			best, least = q, n
		}
	}
	return best, nil
}

// sample returns the coded size of about 64 KiB of t against the bases at old, scaled as if it were exactly that.
func (p *planner) sample(t piece, old int64) (int64, error) {
	a, at, err := p.middle(t)
	if err != nil {
		return 0, err
	}
	b := make([]byte, len(a))
	if err := p.old.read(b, old+at); err != nil {
		return 0, err
	}
	return p.sampleSize(t.typ, b, a), nil
}

// middle reads what a sample of t is, and says where in t it begins.
func (p *planner) middle(t piece) (a []byte, at int64, err error) {
	n := min(t.n, sampleBytes)
	el := int64(t.typ.Element())
	at = (t.n - n) / 2 / el * el
	a = make([]byte, n)
	if _, err := p.target.ReadAt(a, t.off+at); err != nil && err != io.EOF {
		return nil, 0, err
	}
	return a, at, nil
}

func (p *planner) sampleSize(t tensor.Type, base, target []byte) int64 {
	if p.coder == nil {
		p.coder = tensor.NewCoder()
	}
	p.coded = p.coder.Encode(p.coded[:0], t, base, target)
	return int64(len(p.coded)) * sampleBytes / int64(len(target))
}

// resembles says whether t is better coded against the bases at old than by itself.
func (p *planner) resembles(t piece, old int64) (bool, error) {
	with, err := p.sample(t, old)
	if err != nil {
		return false, err
	}
	a, _, err := p.middle(t)
	if err != nil {
		return false, err
	}
	return with < p.sampleSize(t.typ, make([]byte, len(a)), a), nil
}

// aligned looks for changed parts of the bases in t without names: in the pair, else in all weights of the type.
func (p *planner) aligned(t piece, pair *piece, err error) ([]tensor.Span, error) {
	if err != nil || t.n > alignMost {
		return nil, err
	}
	var from []piece
	if pair != nil && pair.n <= alignMost {
		from = []piece{*pair}
	} else {
		total := int64(0)
		for _, q := range p.pieces {
			if q.kind == pieceTensor && q.typ == t.typ && total+q.n <= alignMost {
				from = append(from, q)
				total += q.n
			}
		}
	}
	target := make([]byte, t.n)
	if _, err := p.target.ReadAt(target, t.off); err != nil && err != io.EOF {
		return nil, err
	}
	var base []byte
	for _, q := range from {
		b := make([]byte, q.n)
		if err := p.old.read(b, q.off); err != nil {
			return nil, err
		}
		base = append(base, b...)
	}
	return relocate(tensor.Align(base, target, t.typ), from), nil
}

// relocate turns places in the joined pieces from into places in the bases, cutting spans at the pieces' borders.
func relocate(spans []tensor.Span, from []piece) []tensor.Span {
	var out []tensor.Span
	for _, s := range spans {
		begin := int64(0)
		for _, q := range from {
			lo, hi := max(s.Old, begin), min(s.Old+s.Len, begin+q.n)
			if lo < hi {
				out = append(out, tensor.Span{New: s.New + lo - s.Old, Old: q.off + lo - begin, Len: hi - lo})
			}
			begin += q.n
		}
	}
	return out
}
