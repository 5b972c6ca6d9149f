package delta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/wordcab/wcbundle/delta/recipe"
)

// Make writes a delta that turns bases into target to w, and returns its header. It decides by itself how: what it tries
// and what it keeps is in the package comment. Before a byte goes to w it has applied the delta and compared.
//
// It reads bases and target several times. Its memory is about 1.5 bytes per unwrapped base byte, for as many of them as
// MakeOptions.Window, and 256 MiB.
func Make(ctx context.Context, w io.Writer, bases []Base, target Base, opt MakeOptions) (Header, error) {
	if len(bases) > maxBases || opt.Level > LevelMax || opt.Parallel < 0 || opt.Window < 0 || opt.Window > MaxWindow {
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
	return d.h, nil
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

func (d *draft) body() io.Reader { return io.NewSectionReader(d.file, 0, d.size) }

func (d *draft) reader() io.Reader {
	return io.MultiReader(bytes.NewReader(d.h.marshal()), d.body())
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

// best makes the delta of the plain bytes if there is a recipe that pays, else that of the target as it is.
func (m *maker) best(ctx context.Context) (*draft, error) {
	form := recipe.Detect(m.target)
	if form != recipe.None {
		d, err := m.withRecipe(ctx)
		if err == nil && d.size < m.target.Size()*19/20 {
			return d, nil
		}
		if err != nil && (ctx.Err() != nil || !errors.Is(err, errNoRecipe)) {
			return nil, err
		}
	}
	return m.asItIs(ctx, form == recipe.None)
}

// errNoRecipe says that the target's plain bytes cannot be turned into the target again.
var errNoRecipe = errors.New("no recipe")

// source is what a draft is made from.
type source struct {
	level  Level
	plain  Base
	form   recipe.Form
	model  recipe.Model
	parts  []part
	recipe *os.File // where the parts' recipes are
	forms  []recipe.Form
	bases  []Base // as they are, or unwrapped
	vault  *vault
	old    *joined
}

type part struct {
	n    int // plain bytes
	off  int64
	size int
}

// openBases unwraps the bases that are compressed, if wanted; one that is damaged is used as it is.
func (m *maker) openBases(ctx context.Context, s *source, unwrap bool) error {
	for _, b := range m.bases {
		form := recipe.None
		if unwrap {
			form = recipe.Detect(b)
		}
		if form != recipe.None {
			f, err := m.tmp.unwrap(ctx, b, unlimited)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				b = f
			} else {
				form = recipe.None
			}
		}
		s.bases, s.forms = append(s.bases, b), append(s.forms, form)
	}
	return nil
}

// unlimited is for Make, which works on its user's own files.
const unlimited = 1 << 50

func (m *maker) asItIs(ctx context.Context, unwrap bool) (*draft, error) {
	s := &source{plain: m.target}
	if err := m.openBases(ctx, s, unwrap); err != nil {
		return nil, err
	}
	return m.draft(ctx, s)
}

// withRecipe takes the target's compression apart and makes a draft of its plain bytes.
func (m *maker) withRecipe(ctx context.Context) (*draft, error) {
	f, err := m.tmp.unwrap(ctx, m.target, unlimited)
	if err != nil {
		return nil, errors.Join(errNoRecipe, err)
	}
	s := &source{plain: f, form: recipe.Detect(m.target)}
	if s.recipe, err = m.tmp.file(); err != nil {
		return nil, err
	}
	if s.model, err = recipe.Record(ctx, m.target, f, f.n, s.addPart); err != nil {
		return nil, errors.Join(errNoRecipe, err)
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

// window is how many base bytes are searched at once: as the options say, or half of the bases as they are given. What has a
// name is paired by it wherever it lies, so that halving costs hardly a byte.
func (m *maker) window() int64 {
	if m.opt.Window > 0 {
		return m.opt.Window
	}
	given := int64(0)
	for _, b := range m.bases {
		given += b.Size()
	}
	return min(max(given/2, leastWindow), MaxWindow)
}

// draft plans the target, codes its units in parallel and writes their records in order; then it proves the delta.
func (m *maker) draft(ctx context.Context, s *source) (*draft, error) {
	s.level = m.opt.Level
	o, err := newOrigin(ctx, s.bases)
	if err != nil {
		return nil, err
	}
	s.old, s.vault = o.old, &vault{joined: o.old, window: m.window()}
	units, err := plan(ctx, o, s.plain, s.plain.Size())
	if err != nil {
		return nil, err
	}
	f, err := m.tmp.file()
	if err != nil {
		return nil, err
	}
	d := &drafter{src: s, draft: &draft{h: m.header(s), file: f}, used: map[string]bool{}, progress: m.opt.Progress}
	if d.zstd, err = newZstdEncoder(zstd.SpeedBestCompression); err != nil {
		return nil, err
	}
	if err := d.units(ctx, units, max(m.opt.Parallel, 1)); err != nil {
		return nil, err
	}
	if err := d.finish(units); err != nil {
		return nil, err
	}
	return d.draft, m.prove(ctx, s, d.draft)
}

func (m *maker) header(s *source) Header {
	h := Header{TargetSize: m.id.Size, TargetSHA256: m.id.SHA256, PlainSize: s.plain.Size(), Bases: m.ids, form: s.form, model: s.model, forms: s.forms}
	for _, b := range s.bases {
		h.plain = append(h.plain, b.Size())
	}
	return h
}

// prove applies a draft and compares what comes out with the target.
func (m *maker) prove(ctx context.Context, s *source, d *draft) error {
	if d.h.Memory > DefaultMemory {
		return fmt.Errorf("%w: applying the delta would need %d bytes of memory", errNoRecipe, d.h.Memory)
	}
	lim := Limits{Parallel: m.opt.Parallel}
	if err := rebuild(ctx, &d.h, &countReader{r: d.body()}, io.Discard, s.bases, lim.workers(&d.h)); err != nil {
		return fmt.Errorf("delta does not prove itself: %w", err)
	}
	return nil
}

// drafter writes records.
type drafter struct {
	*draft
	src      *source
	zstd     *zstd.Encoder
	parts    int   // written
	partsAt  int64 // plain bytes that those cover
	plain    int64 // made by the records so far
	used     map[string]bool
	progress func(done, total int64)
}

// result is what a task makes.
type result struct {
	recs []record
	err  error
}

// units codes the units, some at a time, and writes them in order.
func (d *drafter) units(ctx context.Context, units []unit, workers int) error {
	p, err := newPool(workers, d.src.level)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ahead := make(chan chan result, workers)
	go func() {
		defer close(ahead)
		for i := range units {
			c := make(chan result, 1)
			select {
			case ahead <- c:
			case <-ctx.Done():
				return
			}
			t := &task{unit: units[i], src: d.src, pool: p, ctx: ctx}
			go func() {
				recs, err := t.run()
				c <- result{recs, err}
			}()
		}
	}()
	for c := range ahead {
		r := <-c
		if r.err != nil {
			return r.err
		}
		if err := d.records(r.recs); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (d *drafter) records(recs []record) error {
	for _, r := range recs {
		if r.kind != recMap {
			if err := d.partsUpTo(d.plain); err != nil {
				return err
			}
			d.plain += r.plain
		}
		if err := d.add(&r); err != nil {
			return err
		}
	}
	if d.progress != nil {
		d.progress(d.plain, d.src.plain.Size())
	}
	return nil
}

// partsUpTo writes the parts of the recipe that begin at or before a place.
func (d *drafter) partsUpTo(plain int64) error {
	for d.parts < len(d.src.parts) && d.partsAt <= plain {
		p := d.src.parts[d.parts]
		b := make([]byte, p.size)
		if n, err := d.src.recipe.ReadAt(b, p.off); n != p.size {
			return fmt.Errorf("reading the recipe: %w", err)
		}
		d.parts++
		d.partsAt += int64(p.n)
		d.h.maxPart = max(d.h.maxPart, uint32(p.size))
		if err := d.add(&record{kind: recPart, plain: int64(p.n), raw: uint32(p.size), body: d.zstd.EncodeAll(b, nil)}); err != nil {
			return err
		}
	}
	return nil
}

var formNames = [...]string{recipe.Gzip: "gzip", recipe.Zstd: "zstd"}

// words are what a delta's codec says of the records in it.
var words = [...]string{recDiff: "copies", recTensor: "tensor", recZstd: "zstd", recRaw: "raw", recBsdiff: "bsdiff", recCopy: "same", recNames: ""}

// add appends a record and widens the header's maxima.
func (d *drafter) add(r *record) error {
	b := r.marshal()
	body := len(b) - recordHead - recordTail
	if body > maxRecord || (r.kind != recMap && r.kind != recPart && r.kind != recCopy && r.plain > maxPlain) {
		return errors.New("a segment is too large for the format")
	}
	d.h.maxRecord = max(d.h.maxRecord, uint32(body))
	switch r.kind {
	case recMap:
		d.h.maxCopies = max(d.h.maxCopies, uint32(r.copies))
	case recCopy:
		d.h.maxPlain = max(d.h.maxPlain, uint32(min(r.plain, copyStep)))
	case recPart, recNames:
	default:
		d.h.maxPlain = max(d.h.maxPlain, uint32(r.plain))
	}
	switch r.kind {
	case recMap, recDiff:
		d.h.uses |= usesDiff
	case recTensor:
		d.h.uses |= usesTensor
	case recZstd:
		d.h.uses |= usesZstd
	}
	if int(r.kind) < len(words) && words[r.kind] != "" {
		d.used[words[r.kind]] = true
	}
	n, err := d.file.WriteAt(b, d.size)
	d.size += int64(n)
	return err
}

// copyStep is the least segment in which a copy record is applied.
const copyStep = 4 << 20

// finish writes what is left of the recipe, and the names.
func (d *drafter) finish(units []unit) error {
	if err := d.partsUpTo(unlimited); err != nil {
		return err
	}
	if err := d.add(namesOf(units, d.zstd)); err != nil {
		return err
	}
	var codec []string
	if d.src.model != 0 {
		codec = append(codec, formNames[d.src.form]+"("+d.src.model.String()+")")
	}
	for _, w := range words {
		if d.used[w] {
			codec = append(codec, w)
		}
	}
	d.h.Codec = strings.Join(codec, "+")
	return d.h.check()
}
