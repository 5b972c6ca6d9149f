package delta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"

	"github.com/gabstv/go-bsdiff/pkg/bsdiff"
	"github.com/klauspost/compress/zstd"
)

// Make writes a delta that turns bases into target to w, and returns its header. It decides by itself how: what it tries
// and what it keeps is in the package comment. Before a byte goes to w it has applied the delta and compared.
//
// It reads bases and target several times, and needs about 1.5 bytes of memory per plain base byte and 256 MiB.
func Make(ctx context.Context, w io.Writer, bases []Base, target Base, opt MakeOptions) (Header, error) {
	if opt.Level == 0 {
		opt.Level = int(zstd.SpeedBestCompression)
	}
	if opt.Level < 0 || opt.Level > int(zstd.SpeedBestCompression) || len(bases) > maxBases {
		return Header{}, errors.New("making a delta: options out of range")
	}
	m := &maker{opt: opt, bases: bases, target: target, tmp: scratch{dir: opt.ScratchDir}}
	defer m.tmp.close()
	if err := m.hash(ctx); err != nil {
		return Header{}, err
	}
	d, err := m.best(ctx)
	if err != nil {
		return Header{}, fmt.Errorf("making a delta: %w", err)
	}
	if _, err := copyContext(ctx, w, d.reader()); err != nil {
		return Header{}, fmt.Errorf("writing a delta: %w", err)
	}
	h := d.h
	return h, h.check()
}

// maker is one run of Make.
type maker struct {
	opt    MakeOptions
	bases  []Base
	target Base
	tmp    scratch
	ids    []BaseID
	id     BaseID // of the target
}

// draft is a finished delta on scratch.
type draft struct {
	h    Header
	file *os.File
	size int64 // of the body
}

func (d *draft) reader() io.Reader {
	return io.MultiReader(strings.NewReader(string(d.h.marshal())), io.NewSectionReader(d.file, 0, d.size))
}

func (m *maker) hash(ctx context.Context) (err error) {
	for i, b := range m.bases {
		id, err := digest(ctx, b)
		if err != nil {
			return fmt.Errorf("reading base %d: %w", i, err)
		}
		m.ids = append(m.ids, id)
	}
	if m.id, err = digest(ctx, m.target); err != nil {
		return fmt.Errorf("reading the target: %w", err)
	}
	return nil
}

// best makes the smallest draft that proves itself.
func (m *maker) best(ctx context.Context) (*draft, error) {
	var best *draft
	gz := isGzip(m.target, m.target.Size())
	if gz {
		d, err := m.withRecipe(ctx)
		if err == nil {
			err = m.prove(ctx, d)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil {
			best = d
		}
	}
	if best != nil && best.size < m.target.Size()*17/20 {
		return best, nil
	}
	d, err := m.asItIs(ctx, !gz)
	if err != nil {
		return nil, err
	}
	if best != nil && best.size <= d.size {
		return best, nil
	}
	return d, m.prove(ctx, d)
}

// prove applies a draft and compares what comes out with the target.
func (m *maker) prove(ctx context.Context, d *draft) error {
	_, err := Apply(ctx, io.Discard, d.reader(), m.bases, Limits{
		MaxOutput: max(m.id.Size, 1), ScratchDir: m.opt.ScratchDir, MaxScratch: unlimited})
	if err != nil {
		return fmt.Errorf("delta does not prove itself: %w", err)
	}
	return nil
}

// source is what a draft is made from.
type source struct {
	plain  Base
	parts  []part
	recipe *os.File // where the parts' recipes are
	model  *model
	gunzip []int64
	bases  []Base // as they are, or gunzipped
}

type part struct {
	n    int // plain bytes
	off  int64
	size int
}

// openBases gunzips the bases that are gzip files, if wanted; one that is damaged is used as it is.
func (m *maker) openBases(ctx context.Context, s *source, gunzip bool) error {
	for _, b := range m.bases {
		s.bases, s.gunzip = append(s.bases, b), append(s.gunzip, -1)
		if !gunzip || !isGzip(b, b.Size()) {
			continue
		}
		f, err := m.tmp.gunzip(ctx, b, unlimited)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			s.bases[len(s.bases)-1], s.gunzip[len(s.gunzip)-1] = f, f.n
		}
	}
	return nil
}

// singlePart is the size up to which a target is one segment.
const singlePart = bsdiffLimit

func (m *maker) asItIs(ctx context.Context, gunzip bool) (*draft, error) {
	s := &source{plain: m.target}
	if err := m.openBases(ctx, s, gunzip); err != nil {
		return nil, err
	}
	step := int64(minPart)
	if m.target.Size() <= singlePart {
		step = singlePart
	}
	for left := m.target.Size(); left > 0; {
		n := min(left, step)
		s.parts = append(s.parts, part{n: int(n)})
		left -= n
	}
	return m.draft(ctx, s)
}

// withRecipe takes the target's gzip apart and makes a draft of its plain bytes.
func (m *maker) withRecipe(ctx context.Context) (*draft, error) {
	gz := func() io.Reader { return io.NewSectionReader(m.target, 0, m.target.Size()) }
	f, err := m.tmp.file()
	if err != nil {
		return nil, err
	}
	u := &unwrapper{w: f}
	if err := walkGzip(ctx, gz(), u); err != nil {
		return nil, err
	}
	if err := u.flush(); err != nil {
		return nil, err
	}
	s := &source{plain: plainFile{f, u.total}}
	plain := func() io.Reader { return io.NewSectionReader(f, 0, u.total) }
	if s.model, err = pickModel(ctx, gz(), plain(), u.members); err != nil {
		return nil, err
	}
	if s.recipe, err = m.tmp.file(); err != nil {
		return nil, err
	}
	r := &recorder{m: s.model, w: readerWindow(plain()), members: u.members, minPart: minPart, emit: s.addPart}
	if u.total <= singlePart {
		r.minPart = singlePart
	}
	if err := walkGzip(ctx, gz(), r); err != nil {
		return nil, err
	}
	if err := r.endPart(); err != nil {
		return nil, err
	}
	if err := m.openBases(ctx, s, true); err != nil {
		return nil, err
	}
	return m.draft(ctx, s)
}

func (s *source) addPart(n int, recipe []byte) error {
	p := part{n: n, size: len(recipe)}
	if k := len(s.parts); k > 0 {
		p.off = s.parts[k-1].off + int64(s.parts[k-1].size)
	}
	s.parts = append(s.parts, p)
	_, err := s.recipe.WriteAt(recipe, p.off)
	return err
}

// each calls do with the plain bytes and the recipe of each part.
func (s *source) each(ctx context.Context, do func(plain, recipe []byte, begin int64) error) error {
	begin := int64(0)
	for _, p := range s.parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		plain, recipe := make([]byte, p.n), make([]byte, p.size)
		if n, err := s.plain.ReadAt(plain, begin); n != p.n {
			return fmt.Errorf("reading plain bytes: %w", err)
		}
		if p.size > 0 {
			if n, err := s.recipe.ReadAt(recipe, p.off); n != p.size {
				return fmt.Errorf("reading the recipe: %w", err)
			}
		}
		if err := do(plain, recipe, begin); err != nil {
			return err
		}
		begin += int64(p.n)
	}
	return nil
}

func (m *maker) header(s *source, layout uint8) Header {
	h := Header{layout: layout, TargetSize: m.id.Size, TargetSHA256: m.id.SHA256, plainSize: s.plain.Size(),
		segments: uint32(len(s.parts)), Bases: m.ids, gunzip: s.gunzip}
	if s.model != nil {
		h.model = s.model.id
		h.Codec = "gzip(" + s.model.name + ")+"
	}
	return h
}

// draft writes the segments; where the bases gave little it tries one frame too and keeps the smaller.
func (m *maker) draft(ctx context.Context, s *source) (*draft, error) {
	old := join(s.bases)
	image := make([]byte, old.size())
	if err := old.read(image, 0); err != nil {
		return nil, err
	}
	k, err := newPacker(image, zstd.EncoderLevel(m.opt.Level))
	if err != nil {
		return nil, err
	}
	d, err := m.segments(ctx, s, k, old)
	if err != nil {
		return nil, err
	}
	if k.same*2 > s.plain.Size() {
		return d, nil
	}
	f, err := m.framed(ctx, s)
	if err == nil && f.size < d.size {
		return f, nil
	}
	return d, err
}

// segments makes a draft of layoutSegments.
func (m *maker) segments(ctx context.Context, s *source, k *packer, old *joined) (*draft, error) {
	f, err := m.tmp.file()
	if err != nil {
		return nil, err
	}
	d := &draft{h: m.header(s, layoutSegments), file: f}
	err = s.each(ctx, func(plain, recipe []byte, begin int64) error {
		seg := k.segment(plain, recipe, begin, s.plain.Size())
		if len(plain) > 0 && int64(len(plain)) == s.plain.Size() && len(k.old) > 0 && len(plain)+len(k.old) <= bsdiffLimit {
			if err := k.tryBsdiff(&seg, plain, old); err != nil {
				return err
			}
		}
		return d.add(&seg)
	})
	for _, word := range []string{"match", "bsdiff", "planes"} {
		if k.used[word] {
			d.h.Codec += word + "+"
		}
	}
	d.h.Codec += "zstd"
	return d, err
}

// tryBsdiff replaces the segment by a bsdiff patch if that is smaller and our own code applies it.
func (k *packer) tryBsdiff(seg *segment, plain []byte, old *joined) error {
	patch, err := bsdiff.Bytes(k.old, plain)
	if err != nil {
		return fmt.Errorf("bsdiff: %w", err)
	}
	recipe := seg.streams[strRecipe]
	if len(patch) >= seg.size()-len(recipe.enc) {
		return nil
	}
	got := make([]byte, len(plain))
	if applyBsdiff(got, patch, old) != nil || string(got) != string(plain) {
		return nil
	}
	*seg = segment{kind: segBsdiff, plain: seg.plain}
	seg.streams[strExtra] = stream{raw: uint32(len(patch)), enc: patch}
	seg.streams[strRecipe] = recipe
	k.used["bsdiff"] = true
	delete(k.used, "match")
	delete(k.used, "planes")
	return nil
}

// add appends a segment record to a draft and widens the header's maxima.
func (d *draft) add(seg *segment) error {
	rec := seg.marshal()
	var raw uint32
	for _, t := range seg.streams {
		raw += t.raw
	}
	if len(rec) > maxRecord || raw > maxStreams || seg.plain > maxPart {
		return errors.New("a segment is too large for the format")
	}
	d.h.maxPlain = max(d.h.maxPlain, seg.plain)
	d.h.maxRecord = max(d.h.maxRecord, uint32(len(rec)))
	d.h.maxStreams = max(d.h.maxStreams, raw)
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(rec)))
	b = append(b, rec...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(rec, castagnoli()))
	n, err := d.file.WriteAt(b, d.size)
	d.size += int64(n)
	return err
}

// framed makes a draft of layoutFrame.
func (m *maker) framed(ctx context.Context, s *source) (*draft, error) {
	f, err := m.tmp.file()
	if err != nil {
		return nil, err
	}
	d := &draft{h: m.header(s, layoutFrame), file: f}
	d.h.Codec += "zstd"
	out := &countWriter{w: f}
	enc, err := zstd.NewWriter(out, zstd.WithEncoderLevel(zstd.EncoderLevel(m.opt.Level)), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(frameWindow))
	if err != nil {
		return nil, err
	}
	err = s.each(ctx, func(plain, recipe []byte, _ int64) error {
		d.h.maxPlain = max(d.h.maxPlain, uint32(len(plain)))
		d.h.maxStreams = max(d.h.maxStreams, uint32(len(recipe)))
		if len(plain) > maxPart || len(recipe) > maxStreams {
			return errors.New("a segment is too large for the format")
		}
		head := binary.LittleEndian.AppendUint32(nil, uint32(len(plain)))
		head = binary.LittleEndian.AppendUint32(head, uint32(len(recipe)))
		for _, p := range [][]byte{head, recipe, plain} {
			if _, err := enc.Write(p); err != nil {
				return err
			}
		}
		return nil
	})
	if cerr := enc.Close(); err == nil {
		err = cerr
	}
	d.size = out.n
	return d, err
}

type countWriter struct {
	w io.Writer
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
