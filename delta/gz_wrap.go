package delta

import (
	"bytes"
	"context"
	"errors"
	"io"
)

// sampleSize is how much of a gzip file is looked at to find its model.
const sampleSize = 512 << 10

// errEnough stops a walk early.
var errEnough = errors.New("enough")

// sampler keeps the head of a gzip file: its blocks, and no more than sampleSize compressed tokens' worth of plain bytes.
type sampler struct {
	unwrapper
	blocks []sampleBlock
}

type sampleBlock struct {
	begins bool // a member begins here
	deflateBlock
}

func (s *sampler) member() error {
	s.blocks = append(s.blocks, sampleBlock{begins: true})
	return s.unwrapper.member()
}

func (s *sampler) block(b *deflateBlock) error {
	if s.total > sampleSize {
		return errEnough
	}
	c := *b
	c.tokens = append([]token(nil), b.tokens...)
	c.stored = append([]byte(nil), b.stored...)
	c.head = append([]byte(nil), b.head...)
	s.blocks = append(s.blocks, sampleBlock{deflateBlock: c})
	return s.unwrapper.block(b)
}

// pickModel finds the model that misses least at the head of the gzip file. plain is the file's plain bytes.
func pickModel(ctx context.Context, gz, plain io.Reader, members []int64) (*model, error) {
	s := &sampler{unwrapper: unwrapper{w: io.Discard}}
	if err := walkGzip(ctx, gz, s); err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	head := make([]byte, s.total+lookahead)
	n, err := io.ReadFull(plain, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	head = head[:n]
	var best *model
	least := -1
	for _, id := range modelIDs() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m := modelByID(id)
		if cost := s.cost(m, head, members, least); least < 0 || cost < least {
			best, least = m, cost
		}
		if least <= 16+len(s.blocks)*2 {
			break // as good as it gets
		}
	}
	return best, nil
}

// cost is the size of the sample's recipe under a model. It gives up above limit, unless that is negative.
func (s *sampler) cost(m *model, head []byte, members []int64, limit int) int {
	first := true
	w := &window{more: func() ([]byte, error) {
		if !first {
			return nil, io.EOF
		}
		first = false
		return head, nil
	}}
	cost := 0
	r := &recorder{m: m, w: w, members: members, minPart: maxPart, emit: func(_ int, p []byte) error {
		cost += len(p)
		return nil
	}}
	for i := range s.blocks {
		b := &s.blocks[i]
		if b.begins {
			if r.member() != nil {
				break
			}
			continue
		}
		if r.block(&b.deflateBlock) != nil {
			break
		}
		if now := len(r.out.misses) + len(r.out.heads); limit >= 0 && cost+now > limit {
			return cost + now + 1
		}
	}
	if r.endPart() != nil {
		return cost + 1<<30
	}
	return cost
}

// readerWindow is a window on r, read in large steps.
func readerWindow(r io.Reader) *window {
	buf := make([]byte, 1<<20)
	return &window{more: func() ([]byte, error) {
		n, err := io.ReadFull(r, buf)
		if err == io.ErrUnexpectedEOF {
			err = io.EOF
		}
		return buf[:n], err
	}}
}

// isGzip reports whether the first bytes are those of a gzip member.
func isGzip(r io.ReaderAt, size int64) bool {
	var h [3]byte
	if size < 18 {
		return false
	}
	n, _ := r.ReadAt(h[:], 0)
	return n == len(h) && bytes.Equal(h[:], []byte{0x1f, 0x8b, 8})
}
