package recipe

import (
	"context"
	"errors"
	"io"
	"slices"
)

// A sample is the head of the file: blocks of at least sampleSize plain bytes that hold sampleMatches matches, but not more
// than sampleMost plain bytes.
const (
	sampleSize    = 1280 << 10 // more than the blocks of any parallel writer
	sampleMatches = 8 << 10
	sampleMost    = 8 << 20
	sampleShort   = 128 << 10 // plain bytes that a model must foretell at no more than sampleCost to be tried at all
	sampleCost    = 24 << 10
	maxMembers    = 1 << 24
)

// sampler is the visitor that keeps the head of a gzip file and counts the plain bytes of all members.
type sampler struct {
	blocks  []sampleBlock
	plain   int // plain bytes of blocks
	matches int
	members []int64 // plain bytes of each member
	total   int64
}

type sampleBlock struct {
	begins bool // a member begins here
	deflateBlock
}

func takeSample(ctx context.Context, gz io.Reader) (*sampler, error) {
	s := &sampler{}
	return s, walkGzip(ctx, gz, s)
}

func (s *sampler) verbatim([]byte) error { return nil }
func (s *sampler) trailer([]byte) error  { return nil }

func (s *sampler) full() bool {
	return s.plain > sampleMost || s.plain > sampleSize && s.matches > sampleMatches
}

func (s *sampler) member() error {
	s.members = append(s.members, 0)
	if !s.full() {
		s.blocks = append(s.blocks, sampleBlock{begins: true})
	}
	if len(s.members) > maxMembers {
		return errInflate
	}
	return nil
}

func (s *sampler) block(b *deflateBlock) error {
	n := b.plainLen()
	s.members[len(s.members)-1] += int64(n)
	s.total += int64(n)
	if s.full() {
		return nil
	}
	s.plain += n
	for _, t := range b.tokens {
		if t.isMatch() {
			s.matches++
		}
	}
	c := *b
	c.tokens = append([]token(nil), b.tokens...)
	c.stored = append([]byte(nil), b.stored...)
	c.head = append([]byte(nil), b.head...)
	s.blocks = append(s.blocks, sampleBlock{deflateBlock: c})
	return nil
}

// pick finds the model that misses least in the sample. plain is the file's plain bytes.
func (s *sampler) pick(ctx context.Context, plain io.Reader) (Model, error) {
	head := make([]byte, min(s.total, int64(s.plain)+lookahead))
	if _, err := io.ReadFull(plain, head); err != nil {
		return 0, err
	}
	likely, err := s.likely(ctx, head)
	if err != nil {
		return 0, err
	}
	var best Model
	least := -1
	for _, m := range likely {
		cost, perfect, err := s.cost(ctx, m, head, least)
		if err != nil && !errors.Is(err, ErrNoRecipe) && !errors.Is(err, errInflate) {
			return 0, err
		}
		if err == nil && (least < 0 || cost < least) {
			best, least = m, cost
		}
		if perfect {
			break
		}
	}
	if best == 0 {
		return 0, ErrNoRecipe
	}
	return best, nil
}

// likely sorts the models by what they miss in the first blocks of the sample, and drops those that miss much more than others.
func (s *sampler) likely(ctx context.Context, head []byte) ([]Model, error) {
	short := &sampler{members: s.members}
	for _, b := range s.blocks {
		if short.plain >= sampleShort {
			break
		}
		short.blocks = append(short.blocks, b)
		short.plain += b.plainLen()
	}
	type candidate struct {
		m    Model
		cost int
	}
	var all []candidate
	limit, least := sampleCost, -1
	for _, m := range models() {
		cost, perfect, err := short.cost(ctx, m, head, limit)
		if errors.Is(err, ErrNoRecipe) || errors.Is(err, errInflate) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if perfect && len(short.blocks) == len(s.blocks) {
			return []Model{m}, nil
		}
		if all = append(all, candidate{m, cost}); least < 0 || cost < least {
			least, limit = cost, min(sampleCost, 2*cost+64)
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return a.cost - b.cost })
	var out []Model
	for _, c := range all {
		if c.cost <= limit {
			out = append(out, c.m)
		}
	}
	return out, nil
}

// cost is the size of the sample's recipe under a model, and whether that misses nothing; or ErrNoRecipe where it grows above
// limit, unless that is negative.
func (s *sampler) cost(ctx context.Context, m Model, head []byte, limit int) (cost int, perfect bool, err error) {
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	if limit < 0 {
		limit = MaxRecipe
	}
	r := &recorder{m: m.rules(), w: &window{rest: head, next: func() ([]byte, error) { return nil, io.EOF }}, members: s.members,
		left: int64(limit), emit: func(_ int, p []byte) error {
			cost += len(p)
			return nil
		}}
	for i := range s.blocks {
		b := &s.blocks[i]
		if b.begins {
			if r.pred != nil {
				r.pos, r.pred = r.pred.position(), nil
			}
			err = r.member()
		} else {
			err = r.block(&b.deflateBlock)
		}
		if err != nil {
			return 0, false, err
		}
	}
	perfect = !r.missed
	err = r.endPart()
	return cost, perfect && err == nil, err
}
