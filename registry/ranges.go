package registry

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	oci "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
)

// Ranges reads a blob in the registry at any place, without a copy of it. Blocks that were read lately are kept. What it gives is what the
// registry says: whoever reads it checks it. It is safe for concurrent use.
type Ranges struct {
	ctx  context.Context
	r    *Registry
	repo string
	blob ocispec.Descriptor

	mu     sync.Mutex
	blocks map[int64]*list.Element // by number
	order  *list.List              // of *block, the latest in front
}

type block struct {
	n    int64
	once sync.Once
	b    []byte
	err  error
}

const (
	blockSize  = 1 << 20
	blocksKept = 48
)

// ErrNoRanges is returned by a Ranges whose registry gives blobs only whole.
var ErrNoRanges = errors.New("the registry gives blobs only whole")

// Ranges makes a reader of one blob; ctx ends its requests.
func (r *Registry) Ranges(ctx context.Context, repo string, d ocispec.Descriptor) *Ranges {
	ctx = auth.AppendRepositoryScope(ctx, oci.Reference{Registry: r.host, Repository: repo}, auth.ActionPull)
	return &Ranges{ctx: ctx, r: r, repo: repo, blob: d, blocks: map[int64]*list.Element{}, order: list.New()}
}

// Size is that of the descriptor.
func (g *Ranges) Size() int64 { return g.blob.Size }

// ReadAt reads as io.ReaderAt says.
func (g *Ranges) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("reading before the beginning of a blob")
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		if at >= g.blob.Size {
			return n, io.EOF
		}
		b, err := g.block(at / blockSize)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], b[at%blockSize:])
	}
	return n, nil
}

// block gives one block, fetched once however many ask for it.
func (g *Ranges) block(n int64) ([]byte, error) {
	b := g.kept(n)
	b.once.Do(func() {
		for range 3 { // a connection that broke is no reason to throw away what was rebuilt until here
			if b.b, b.err = g.fetch(n); b.err == nil || !Transient(b.err) {
				return
			}
		}
	})
	if b.err != nil {
		g.forget(n)
	}
	return b.b, b.err
}

func (g *Ranges) kept(n int64) *block {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.blocks[n]; ok {
		g.order.MoveToFront(e)
		return e.Value.(*block)
	}
	b := &block{n: n}
	g.blocks[n] = g.order.PushFront(b)
	if g.order.Len() > blocksKept {
		last := g.order.Back()
		delete(g.blocks, g.order.Remove(last).(*block).n)
	}
	return b
}

func (g *Ranges) forget(n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e, ok := g.blocks[n]; ok {
		g.order.Remove(e)
		delete(g.blocks, n)
	}
}

func (g *Ranges) fetch(n int64) ([]byte, error) {
	from := n * blockSize
	to := min(from+blockSize, g.blob.Size)
	req, err := http.NewRequestWithContext(g.ctx, http.MethodGet, g.r.base(g.repo)+"/blobs/"+string(g.blob.Digest), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	resp, err := g.r.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reading %s in %s: %w", g.blob.Digest, g.repo, err)
	}
	if resp.StatusCode == http.StatusOK && (from > 0 || to < g.blob.Size) {
		resp.Body.Close()
		return nil, ErrNoRanges
	}
	if resp.StatusCode != http.StatusPartialContent && resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("reading %s in %s: %w", g.blob.Digest, g.repo, answered(resp, http.StatusPartialContent))
	}
	defer resp.Body.Close()
	b := make([]byte, to-from)
	if _, err := io.ReadFull(resp.Body, b); err != nil {
		return nil, fmt.Errorf("reading %s in %s: %w", g.blob.Digest, g.repo, err)
	}
	return b, nil
}
