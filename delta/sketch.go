package delta

import (
	"context"
	"io"
	"slices"

	"github.com/wordcab/wcbundle/delta/recipe"
)

// Sketch is what a file is about: samples of its content and the names in it. Comparing sketches tells which of many files
// make good bases, without reading them again.
type Sketch struct {
	chunks map[uint64]int64 // hash of a content-defined chunk to its bytes
	names  map[string]int64 // names without versions, to the bytes under them
	keep   uint64           // hashes with one of these bits set are left out
}

const (
	chunkMask  = 1<<12 - 1 // chunks of about 4 KiB
	chunkLeast = 1 << 10
	chunkMost  = 1 << 15
	maxChunks  = 1 << 18 // samples of one sketch; from then on only every second, fourth, ... hash counts
)

// NewSketch reads b, unwrapped if it is compressed. It needs about 8 MiB of memory and scratch for the plain bytes.
func NewSketch(ctx context.Context, b Base, scratchDir string) (*Sketch, error) {
	tmp := scratch{dir: scratchDir}
	defer tmp.close()
	if recipe.Detect(b) != recipe.None {
		f, err := tmp.unwrap(ctx, b, unlimited)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			b = f
		}
	}
	s := &Sketch{chunks: map[uint64]int64{}, names: map[string]int64{}}
	ps, err := split(b, b.Size())
	if err != nil {
		return nil, err
	}
	for _, p := range ps {
		if p.kind != pieceMeta && p.name != "" {
			s.names[stripped(p.name)] += p.n
		}
	}
	_, err = copyContext(ctx, &chunker{s: s}, io.NewSectionReader(b, 0, b.Size()))
	return s, err
}

// chunker cuts what is written to it where a rolling hash of the last bytes says so (gear hashing, as in FastCDC, Xia et
// al., USENIX ATC 2016), and notes the chunks' hashes.
type chunker struct {
	s    *Sketch
	roll uint64
	sum  uint64
	n    int64
}

func (c *chunker) Write(p []byte) (int, error) {
	for _, b := range p {
		c.roll = c.roll<<1 + spread(uint64(b)+1)
		c.sum = (c.sum ^ uint64(b)) * 0x100000001b3
		c.n++
		if c.n >= chunkLeast && c.roll>>20&chunkMask == 0 || c.n == chunkMost {
			c.end()
		}
	}
	return len(p), nil
}

// spread is the finalizer of a 64-bit mixing function; equal input, equal output.
func spread(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (c *chunker) end() {
	if h := spread(c.sum); h&c.s.keep == 0 {
		c.s.chunks[h] = c.n
	}
	c.sum, c.n = 0, 0
	if len(c.s.chunks) <= maxChunks {
		return
	}
	c.s.keep = c.s.keep<<1 | 1
	for h := range c.s.chunks {
		if h&c.s.keep != 0 {
			delete(c.s.chunks, h)
		}
	}
}

// Choose picks at most most of the sketches whose files together say most about target, the best first. A file is picked
// for the bytes that none before it covers; bytes under the same name count half, because they may have changed.
func Choose(target *Sketch, from []*Sketch, most int) []int {
	chunks, names := map[uint64]int64{}, map[string]int64{}
	for h, n := range target.chunks {
		chunks[h] = n
	}
	for s, n := range target.names {
		names[s] = n
	}
	var out []int
	for len(out) < most {
		best, least := -1, int64(64<<10) // less is not worth fetching a file for
		for i, s := range from {
			if n := s.covers(chunks, names, target.keep); n > least && !slices.Contains(out, i) {
				best, least = i, n
			}
		}
		if best < 0 {
			break
		}
		out = append(out, best)
		for h := range from[best].chunks {
			delete(chunks, h)
		}
		for s := range from[best].names {
			delete(names, s)
		}
	}
	return out
}

// covers estimates the bytes of chunks and names that s has. keep is that of the sketch they come from.
func (s *Sketch) covers(chunks map[uint64]int64, names map[string]int64, keep uint64) int64 {
	sum := int64(0)
	for h := range s.chunks {
		sum += chunks[h]
	}
	sum *= int64(max(s.keep, keep) + 1)
	for name, n := range s.names {
		sum += min(n, names[name]) / 2
	}
	return sum
}
