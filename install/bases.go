package install

import (
	"context"
	"errors"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/delta"
	"github.com/wordcab/wcbundle/registry"
)

// SpaceError says that a folder, or the disk of a registry, has too little room.
type SpaceError struct {
	Dir        string
	Registry   string // host, in place of a folder
	Need, Free int64
}

func (e *SpaceError) Error() string {
	if e.Registry != "" {
		return fmt.Sprintf("registry %s has room for %s and would have to take %s", e.Registry, room(e.Free), room(e.Need))
	}
	return fmt.Sprintf("%s has %s free and %s are needed", e.Dir, room(e.Free), room(e.Need))
}

// room is a size for people, who have to find that much.
func room(n int64) string {
	if n < 10<<20 {
		return fmt.Sprintf("%d KiB", (n+1023)>>10)
	}
	return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
}

// checkRegistryRoom asks, before anything is sent, whether what is missing fits into the registry. Registries that do not say are believed to
// have room.
func (l *transfer) checkRegistryRoom(ctx context.Context) error {
	free, says, err := l.opt.Registry.Room(ctx)
	if err != nil || !says {
		return err
	}
	var missing []bundle.Blob
	var need int64
	for _, b := range l.lines {
		if b.Kind == bundle.KindBlob && !l.known[b.Digest] && !l.journal.Has(b.Digest) {
			missing, need = append(missing, b), need+b.Size
		}
	}
	if need <= free { // as a rule: nothing more is asked then
		return nil
	}
	for _, b := range missing {
		there, err := l.opt.Registry.Has(ctx, b.Repos[0], b.Descriptor)
		if err != nil {
			return err
		}
		if there {
			need -= b.Size
		}
	}
	if need > free {
		return &SpaceError{Registry: l.opt.Registry.Host(), Need: need, Free: free}
	}
	return nil
}

// lineRoom is what applying one delta takes of the scratch folder, in bytes: the delta itself, the bases that it wants unpacked, and
// copies of the bases where they are not read where they lie.
type lineRoom struct{ delta, unpacked, copies int64 }

// blocks is what a file system takes for itself while one delta is applied: the files' last blocks and where their names are kept.
const blocks = 64 << 10

// Room is how a patch load uses its scratch folder. Sizes are bytes.
type Room struct {
	Dir      string
	Need     int64 // at most, all blobs at once that are worked on at once
	Free     int64
	Parallel int  // blobs at once
	Copies   bool // bases are copied there before they are read; else the registry is asked for their parts
}

// planRoom finds the fastest way that fits: bases copied and several blobs at once, one at once, or no copies at all.
func planRoom(lines []lineRoom, free int64, parallel int) (Room, bool) {
	var with, without int64
	for _, l := range lines {
		with = max(with, l.delta+l.unpacked+l.copies)
		without = max(without, l.delta+l.unpacked)
	}
	for _, way := range []Room{{Need: with, Parallel: parallel, Copies: true}, {Need: with, Parallel: 1, Copies: true},
		{Need: without, Parallel: parallel}, {Need: without, Parallel: 1}} {
		way.Free = free
		if way.Need <= free/int64(way.Parallel) {
			way.Need *= int64(way.Parallel)
			return way, true
		}
	}
	return Room{Need: without, Free: free}, false
}

// checkRoom decides how the scratch folder is used, by what the signed patch says that applying needs, before anything is done.
func (p *rebuilder) checkRoom() error {
	var lines []lineRoom
	for _, line := range p.v.Patch().Plan {
		if line.Delta == nil {
			continue
		}
		s, err := p.l.file.Section(*line.Delta)
		if err != nil {
			return err
		}
		h, err := delta.ReadHeader(s)
		s.Close()
		if err != nil {
			return rebuildError(line, err)
		}
		l := lineRoom{delta: line.Delta.Size, unpacked: h.Scratch}
		for _, d := range line.From {
			if p.keptIn(d) == nil {
				l.copies += d.Size
			}
		}
		l.delta += blocks
		lines = append(lines, l)
	}
	free, err := FreeSpace(p.l.opt.Scratch)
	if err != nil {
		return err
	}
	way, ok := planRoom(lines, free, p.l.opt.Parallel)
	if !ok {
		return &SpaceError{Dir: p.l.opt.Scratch, Need: way.Need, Free: free}
	}
	way.Dir = p.l.opt.Scratch
	p.copies, p.l.opt.Parallel = way.Copies, way.Parallel
	if p.l.opt.Room != nil {
		p.l.opt.Room(way)
	}
	return nil
}

// keptIn is the kept bundle that has a base blob, or nil.
func (p *rebuilder) keptIn(d ocispec.Descriptor) *bundle.File {
	for _, f := range p.l.opt.Kept {
		if s, err := f.Section(d); err == nil {
			s.Close()
			return f
		}
	}
	return nil
}

// base is one opened base of a delta, and where it was read from.
type base struct {
	delta.Base
	io.Closer
	from  ocispec.Descriptor
	where string
	sure  bool // its bytes were hashed
	spoil func(*bundle.DigestError) error
}

// openBase opens a base blob where it costs least: in a kept bundle, copied from the registry into the scratch folder, or part by part.
// What is not hashed here is hashed by delta.Apply before it is used.
func (p *rebuilder) openBase(ctx context.Context, d ocispec.Descriptor) (*base, error) {
	if f := p.keptIn(d); f != nil {
		s, err := f.Section(d)
		if err != nil {
			return nil, err
		}
		return &base{Base: s, Closer: s, from: d, where: f.Path,
			spoil: func(e *bundle.DigestError) error { return &KeptError{Path: f.Path, Err: e} }}, nil
	}
	repo, err := p.find(ctx, d)
	if err != nil {
		return nil, err
	}
	spoil := func(e *bundle.DigestError) error { return &SpoiledError{Repo: repo, Version: p.base.Version, Err: e} }
	if !p.copies {
		g := p.l.opt.Registry.Ranges(ctx, repo, d)
		return &base{Base: g, Closer: io.NopCloser(nil), from: d, where: repo, spoil: spoil}, nil
	}
	s, err := p.copyBase(ctx, repo, d)
	var damaged *bundle.DigestError
	if errors.As(err, &damaged) {
		return nil, spoil(damaged)
	}
	if err != nil {
		return nil, fmt.Errorf("fetching base blob %s: %w", d.Digest, err)
	}
	return &base{Base: s, Closer: s, from: d, where: repo, sure: true, spoil: spoil}, nil
}

func (p *rebuilder) copyBase(ctx context.Context, repo string, d ocispec.Descriptor) (sizedFile, error) {
	r, err := p.l.opt.Registry.Open(ctx, repo, d)
	if err != nil {
		return sizedFile{}, err
	}
	defer r.Close()
	return p.keep("base-*", d, r)
}

// blame finds the base that is not what it should be, after delta.Apply has said that one is.
func blame(bases []*base) error {
	for _, b := range bases {
		if b.sure {
			continue
		}
		v, err := bundle.VerifyReader(io.NewSectionReader(b, 0, b.Size()), b.from)
		if err == nil {
			_, err = io.Copy(io.Discard, v)
		}
		var damaged *bundle.DigestError
		if errors.As(err, &damaged) {
			return b.spoil(damaged)
		}
		if err != nil {
			return fmt.Errorf("reading base blob %s in %s: %w", b.from.Digest, b.where, err)
		}
	}
	return nil
}

// KeptError says that a bundle that was kept to rebuild from is damaged.
type KeptError struct {
	Path string
	Err  *bundle.DigestError
}

func (e *KeptError) Error() string {
	return fmt.Sprintf("base %s in the kept bundle %s is damaged", e.Err.Want.Digest, e.Path)
}

// MissingError says which base blob a patch needs and the registry does not have.
type MissingError struct {
	Blob    ocispec.Descriptor
	Version string // the release that has it, where known
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("blob %s of release %s is not in the registry", e.Blob.Digest, e.Version)
}

var _ delta.Base = (*registry.Ranges)(nil)
