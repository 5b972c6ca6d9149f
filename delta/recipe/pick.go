package recipe

import (
	"context"
	"errors"
	"io"
)

// A sample is the head of the file: blocks of at least sampleSize plain bytes that hold sampleMatches matches, but not more
// than sampleMost plain bytes.
const (
	sampleSize    = 1280 << 10 // more than the blocks of any parallel writer
	sampleMatches = 8 << 10
	sampleMost    = 8 << 20
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
	var best Model
	least := -1
	for _, m := range models() {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		cost, perfect, err := s.cost(m, head, least)
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

// cost is the size of the sample's recipe under a model, and whether that misses nothing; or ErrNoRecipe where it grows above
// limit, unless that is negative.
func (s *sampler) cost(m Model, head []byte, limit int) (cost int, perfect bool, err error) {
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
