package delta

import (
	"bytes"
	"context"
	"fmt"
	"sort"
	"sync"

	"github.com/gabstv/go-bsdiff/pkg/bsdiff"
	"github.com/klauspost/compress/zstd"

	"github.com/wordcab/wcbundle/delta/diff"
	"github.com/wordcab/wcbundle/delta/match"
	"github.com/wordcab/wcbundle/delta/tensor"
)

// coder is the memory of one worker of Make.
type coder struct {
	level Level
	diff  *diff.Encoder
	quick *diff.Encoder // for segments of which little comes from the bases
	tens  *tensor.Coder
	zstd  *zstd.Encoder

	base, target []byte // of a block of weights
}

func newCoder(level Level) (*coder, error) {
	d, err := diff.NewEncoder(map[Level]diff.Level{LevelDefault: diff.Default, LevelFast: diff.Fast, LevelMax: diff.Max}[level])
	if err != nil {
		return nil, err
	}
	quick := d
	if level == LevelMax {
		if quick, err = diff.NewEncoder(diff.Default); err != nil {
			return nil, err
		}
	}
	effort := zstd.SpeedBestCompression
	if level == LevelFast {
		effort = zstd.SpeedDefault
	}
	z, err := newZstdEncoder(effort)
	return &coder{level: level, diff: d, quick: quick, tens: tensor.NewCoder(), zstd: z}, err
}

func newZstdEncoder(effort zstd.EncoderLevel) (*zstd.Encoder, error) {
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(effort), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20), zstd.WithEncoderCRC(false))
}

// pool hands the workers' memory around; whoever holds a coder may use a processor.
type pool chan *coder

func newPool(n int, level Level) (pool, error) {
	p := make(pool, n)
	for range n {
		c, err := newCoder(level)
		if err != nil {
			return nil, err
		}
		p <- c
	}
	return p, nil
}

// task codes one unit.
type task struct {
	unit
	src  *source
	pool pool
	ctx  context.Context // of the one Make that the task belongs to
}

// run returns the unit's records.
func (t *task) run() ([]record, error) {
	switch t.kind {
	case unitCopy:
		return t.copyRecords(), nil
	case unitTensor:
		return t.weights()
	}
	return t.copiesAndDifferences()
}

// copyRecords makes one record of a copy, or with a recipe several, so that the parts find their places between them.
func (t *task) copyRecords() []record {
	step := t.n
	if t.src.model != 0 {
		step = maxPlain
	}
	var out []record
	for at := int64(0); at < t.n; at += step {
		out = append(out, record{kind: recCopy, plain: min(step, t.n-at), old: t.old + at})
	}
	return out
}

func (t *task) target(at, n int64) ([]byte, error) {
	b := make([]byte, n)
	if k, err := t.src.plain.ReadAt(b, t.off+at); int64(k) != n {
		return nil, fmt.Errorf("reading the target: %w", err)
	}
	return b, nil
}

// parallel runs do for 0 to n-1, each with a coder of its own.
func (t *task) parallel(n int, do func(i int, c *coder) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		select {
		case c := <-t.pool:
			wg.Add(1)
			go func() {
				defer wg.Done()
				errs[i] = do(i, c)
				t.pool <- c
			}()
		case <-t.ctx.Done():
			errs[i] = t.ctx.Err()
		}
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// weights codes a tensor block by block.
func (t *task) weights() ([]record, error) {
	type block struct{ at, n, old int64 }
	var blocks []block
	cut := func(at, end, old int64) {
		step := int64(tensor.MaxBlock) / int64(t.typ.Element()) * int64(t.typ.Element())
		for at < end {
			n := min(step, end-at)
			blocks = append(blocks, block{at, n, old})
			at += n
			if old >= 0 {
				old += n
			}
		}
	}
	at := int64(0)
	for _, s := range t.spans {
		cut(at, s.New, -1)
		cut(s.New, s.New+s.Len, s.Old)
		at = s.New + s.Len
	}
	cut(at, t.n, -1)
	out := make([]record, len(blocks))
	return out, t.parallel(len(blocks), func(i int, c *coder) (err error) {
		b := blocks[i]
		out[i], err = t.block(c, b.at, b.n, b.old)
		return err
	})
}

func (t *task) block(c *coder, at, n, old int64) (record, error) {
	c.target, c.base = grown(c.target, int(n)), grown(c.base, int(n))
	target, base := c.target, c.base
	if k, err := t.src.plain.ReadAt(target, t.off+at); int64(k) != n {
		return record{}, fmt.Errorf("reading the target: %w", err)
	}
	if old < 0 {
		clear(base)
	} else if err := t.src.old.read(base, old); err != nil {
		return record{}, err
	}
	r := record{kind: recTensor, plain: n, typ: t.typ, old: old, body: c.tens.Encode(nil, t.typ, base, target)}
	if old < 0 || len(r.body)*20 > len(target)*19 {
		return c.smaller(r, target), nil
	}
	return r, nil
}

// smaller returns r, or the target by itself if that is smaller.
func (c *coder) smaller(r record, target []byte) record {
	alone := record{kind: recZstd, plain: r.plain, body: c.zstd.EncodeAll(target, nil)}
	if len(alone.body) >= len(target) {
		alone = record{kind: recRaw, plain: r.plain, body: bytes.Clone(target)}
	}
	if len(alone.body) < len(r.body) {
		return alone
	}
	return r
}

// copiesAndDifferences codes an executable or a run of pieces: one map, then segments.
func (t *task) copiesAndDifferences() ([]record, error) {
	target, err := t.target(0, t.n)
	if err != nil {
		return nil, err
	}
	var c *coder
	select {
	case c = <-t.pool:
	case <-t.ctx.Done():
		return nil, t.ctx.Err()
	}
	m, err := t.findMap(target)
	t.pool <- c
	if err != nil {
		return nil, err
	}
	head := record{kind: recMap, plain: t.n, copies: len(m.Copies), body: m.Append(nil)}
	n := int((t.n + maxPlain - 1) / maxPlain)
	segs := make([]record, n)
	err = t.parallel(n, func(i int, c *coder) (err error) {
		lo, hi := t.n*int64(i)/int64(n), t.n*int64(i+1)/int64(n)
		segs[i], err = t.segment(c, m, target[lo:hi], lo)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := append([]record{head}, segs...)
	if len(m.Copies) == 0 { // nothing refers to the map
		out = t.alone(segs)
	}
	if t.n == t.src.plain.Size() {
		return t.tryBsdiff(out, target)
	}
	return out, nil
}

// alone drops the map if no segment needs it.
func (t *task) alone(segs []record) []record {
	for _, s := range segs {
		if s.kind == recDiff {
			return append([]record{{kind: recMap, plain: t.n, body: (&diff.Map{}).Append(nil)}}, segs...)
		}
	}
	return segs
}

func (t *task) segment(c *coder, m *diff.Map, target []byte, at int64) (record, error) {
	base := make([]byte, len(target))
	if err := m.Layout(base, at, t.src.vault.read); err != nil {
		return record{}, err
	}
	r := record{kind: recDiff, plain: int64(len(target))}
	if covered(m.Copies, at, int64(len(target)))*2 >= int64(len(target)) {
		r.body = c.diff.Segment(nil, target, base, at, m)
		return r, nil
	}
	r.body = c.quick.Segment(nil, target, base, at, m) // context mixing of new bytes would cost a second for each megabyte
	return c.smaller(r, target), nil
}

// covered counts the bytes of [at, at+n) that copies make.
func covered(copies []match.Copy, at, n int64) int64 {
	sum := int64(0)
	for i := sort.Search(len(copies), func(i int) bool { return copies[i].New+copies[i].Len > at }); i < len(copies); i++ {
		c := copies[i]
		if c.New >= at+n {
			break
		}
		sum += min(c.New+c.Len, at+n) - max(c.New, at)
	}
	return sum
}

// findMap finds the unit's copies.
func (t *task) findMap(target []byte) (*diff.Map, error) {
	if t.kind == unitExec {
		return t.execMap(target)
	}
	m := &diff.Map{Copies: t.given}
	var rest []stretch // not found where they were expected
	left := int64(0)
	for _, s := range t.todo {
		found, err := t.nearby(target, s)
		if err != nil {
			return nil, err
		}
		if covered(found, s.at, s.n)*2 < s.n {
			rest, left = append(rest, s), left+s.n
			continue
		}
		m.Copies = append(m.Copies, found...)
		for _, g := range gaps(found, s) {
			rest, left = append(rest, g), left+g.n
		}
	}
	if left > t.src.vault.size()/fewBytes {
		for _, s := range rest {
			found, err := t.search(target, s)
			if err != nil {
				return nil, err
			}
			m.Copies = append(m.Copies, found...)
		}
	}
	sort.Slice(m.Copies, func(i, j int) bool { return m.Copies[i].New < m.Copies[j].New })
	m.Copies = tidy(m.Copies)
	return m, nil
}

// execMap finds the copies of an executable in the one it is paired with.
func (t *task) execMap(target []byte) (*diff.Map, error) {
	old := make([]byte, t.pair.n)
	if err := t.src.old.read(old, t.pair.off); err != nil {
		return nil, err
	}
	m := diff.NewMap(match.NewIndex(old), old, target, t.effort(0), diff.Loads(old), diff.Loads(target))
	for i := range m.Copies {
		m.Copies[i].Old += t.pair.off
	}
	for i := range m.OldLoads {
		m.OldLoads[i].Off += t.pair.off
	}
	return m, nil
}

// effort is how hard the matcher tries at the level; hint is the alignment to try first.
func (t *task) effort(hint int64) match.Options {
	return match.Options{Short: t.src.level != LevelFast, Hint: hint}
}

// fewBytes: less than this part of the bases is not worth holding and indexing all of them for.
const fewBytes = 4096

// leastGap is the least run of bytes without a copy that is searched again in all bases.
const leastGap = 2 << 10

// gaps lists the parts of s that no copy makes.
func gaps(copies []match.Copy, s stretch) []stretch {
	var out []stretch
	at := s.at
	gap := func(to int64) {
		if to-at >= leastGap {
			out = append(out, stretch{at: at, n: to - at, old: -1})
		}
	}
	for _, c := range copies {
		gap(c.New)
		at = c.New + c.Len
	}
	gap(s.at + s.n)
	return out
}

// nearby finds the copies of one stretch in the part of the bases that it was paired with.
func (t *task) nearby(target []byte, s stretch) ([]match.Copy, error) {
	if s.m == 0 {
		return nil, nil
	}
	old := make([]byte, s.m)
	if err := t.src.old.read(old, s.from); err != nil {
		return nil, err
	}
	found := match.NewIndex(old).Find(target[s.at:s.at+s.n], t.effort(s.old-s.from))
	for i := range found {
		found[i].New += s.at
		found[i].Old += s.from
	}
	return found, nil
}

// search finds the copies of one stretch in all bases, or the window around the place where they are expected.
func (t *task) search(target []byte, s stretch) ([]match.Copy, error) {
	v := t.src.vault
	if v.size() == 0 {
		return nil, nil
	}
	near := s.old
	if near < 0 { // the same place, in proportion
		near = int64(float64(t.off+s.at) / float64(t.src.plain.Size()) * float64(v.size()))
	}
	found, err := v.find(target[s.at:s.at+s.n], near, max(s.old, 0), t.effort(0))
	for i := range found {
		found[i].New += s.at
	}
	return found, err
}

// tidy joins copies that continue each other and keeps the map within the format's limit.
func tidy(in []match.Copy) []match.Copy {
	out := in[:0]
	for _, c := range in {
		if k := len(out) - 1; k >= 0 && out[k].New+out[k].Len == c.New && out[k].Old+out[k].Len == c.Old {
			out[k].Len += c.Len
			continue
		}
		out = append(out, c)
	}
	if len(out) <= match.MaxCopies {
		return out
	}
	kept := out[:0]
	for _, c := range out { // what short copies make becomes extra bytes
		if c.Len >= 64 && len(kept) < match.MaxCopies {
			kept = append(kept, c)
		}
	}
	return kept
}

// tryBsdiff replaces the records of a small target by a bsdiff patch if that is smaller and our own code applies it.
func (t *task) tryBsdiff(recs []record, target []byte) ([]record, error) {
	v := t.src.vault
	if t.src.level == LevelFast || v.size() == 0 || v.size()+t.n > bsdiffLimit {
		return recs, nil
	}
	old, err := v.bytes(0, v.size())
	if err != nil {
		return nil, err
	}
	patch, err := bsdiff.Bytes(old, target)
	if err != nil {
		return nil, fmt.Errorf("bsdiff: %w", err)
	}
	size := 0
	for _, r := range recs {
		size += len(r.body) + recordHead + recordTail
	}
	got := make([]byte, len(target))
	if len(patch)+recordHead+recordTail >= size || applyBsdiff(got, patch, v, 0, v.size()) != nil || string(got) != string(target) {
		return recs, nil
	}
	return []record{{kind: recBsdiff, plain: t.n, span: v.size(), body: patch}}, nil
}
