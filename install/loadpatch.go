package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/delta"
	"github.com/wordcab/wcbundle/sign"
)

// BaseError says that none of the releases that a patch can start from is at the site.
type BaseError struct {
	Target string   // version the patch makes
	Wants  []string // versions it can start from
	Has    []string // versions at the site
}

func (e *BaseError) Error() string {
	return fmt.Sprintf("the patch to %s starts from %v, the site has %v", e.Target, e.Wants, e.Has)
}

// LoadPatch rebuilds the patch's target from what the registry already holds and raises the record.
func LoadPatch(ctx context.Context, f *bundle.File, v bundle.VerifiedPatch, opt LoadOptions) (LoadReport, error) {
	l, err := newTransfer(f, v.Target(), opt)
	if err != nil {
		return LoadReport{}, err
	}
	if err := l.ping(ctx); err != nil {
		return LoadReport{}, err
	}
	base, err := l.chooseBase(ctx, v)
	if err != nil {
		return LoadReport{}, err
	}
	// A patch is small: all of it is hashed before anything is pushed, so that a damaged one changes nothing at all.
	if _, err := verifyPatch(ctx, f, v, nil); err != nil {
		return LoadReport{}, err
	}
	for _, b := range base.Closure {
		l.elseIn[b.Digest] = b.Repos
	}
	p := &rebuilder{l: l, v: v, base: base, plan: map[digest.Digest]bundle.PatchLine{}}
	for _, line := range v.Patch().Plan {
		p.plan[line.Target.Digest] = line
	}
	if err := p.checkRoom(); err != nil {
		return LoadReport{}, err
	}
	if err := p.checkBases(ctx); err != nil {
		return LoadReport{}, err
	}
	l.open, l.scratch, l.fulfils = p.open, v.Patch().Peak.Scratch, opt.Record.fulfils(v)
	return l.run(ctx, "patch", v.Signers())
}

// chooseBase finds the release at the site that the patch starts from. Its release.json comes from the registry, by the
// digest in the head, which comes by the digest in the signed patch and in the site's record. A patch of channel security must
// stand on it.
func (l *transfer) chooseBase(ctx context.Context, v bundle.VerifiedPatch) (*bundle.Release, error) {
	t, err := sign.ParseTrust(l.opt.Record.Trust)
	if err != nil {
		return nil, fmt.Errorf("the site's trust policy: %w", err)
	}
	p := v.Patch()
	no := &BaseError{Target: p.Target.Version}
	var beyond error
	for _, b := range p.Bases {
		no.Wants = append(no.Wants, b.Version)
		if !l.opt.Record.Has(b.Head) {
			continue
		}
		base, err := fetchRelease(ctx, l.opt, p.Name, b.Head)
		if err != nil {
			return nil, err
		}
		if err := v.Target().Stands(base, t); err == nil {
			return base, nil
		} else if beyond == nil {
			beyond = err
		}
	}
	if beyond != nil {
		return nil, beyond
	}
	for _, had := range l.opt.Record.Loads {
		no.Has = append(no.Has, had.Version)
	}
	return nil, no
}

// fetchRelease reads a release that the site accepted before.
func fetchRelease(ctx context.Context, opt LoadOptions, product string, head ocispec.Descriptor) (*bundle.Release, error) {
	repo := bundle.ReleaseRepo(product)
	raw, err := opt.Registry.Fetch(ctx, repo, head, bundle.MaxManifest)
	if err != nil {
		return nil, fmt.Errorf("the base release's head: %w", err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) == 0 {
		return nil, fmt.Errorf("the base release's head %s is not well-formed", head.Digest)
	}
	rel, err := opt.Registry.Fetch(ctx, repo, m.Layers[0], bundle.MaxRelease)
	if err != nil {
		return nil, fmt.Errorf("the base release's release.json: %w", err)
	}
	return bundle.ParseRelease(rel)
}

// rebuilder opens target blobs as a patch's plan says.
type rebuilder struct {
	l    *transfer
	v    bundle.VerifiedPatch
	base *bundle.Release
	plan map[digest.Digest]bundle.PatchLine

	copies bool // bases are copied into the scratch folder before they are read
}

// checkBases asks the registry for every base blob that the plan needs, before anything is done.
func (p *rebuilder) checkBases(ctx context.Context) error {
	for _, line := range p.v.Patch().Plan {
		need := line.From
		if line.How == bundle.HowBase {
			need = []ocispec.Descriptor{line.Target}
		}
		for _, d := range need {
			if p.keptIn(d) != nil {
				continue
			}
			if _, err := p.find(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// find names a repository that has a base blob.
func (p *rebuilder) find(ctx context.Context, d ocispec.Descriptor) (string, error) {
	line := p.base.Line(d.Digest)
	if line == nil {
		return "", &MissingError{Blob: d, Version: p.base.Version}
	}
	for _, repo := range line.Repos {
		ok, err := p.l.opt.Registry.Has(ctx, repo, d)
		if err != nil {
			return "", err
		}
		if ok {
			return repo, nil
		}
	}
	return "", &MissingError{Blob: d, Version: p.base.Version}
}

// open gives a target blob's bytes. Whoever reads them checks them against the target's digest.
func (p *rebuilder) open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, string, error) {
	line, ok := p.plan[d.Digest]
	if !ok {
		return nil, "", fmt.Errorf("the patch has no line for %s", d.Digest)
	}
	switch line.How {
	case bundle.HowFull:
		s, err := p.l.file.Section(d)
		return s, "pushed", err
	case bundle.HowDelta:
		r, err := p.rebuild(ctx, line)
		return r, "rebuilt", err
	}
	if f := p.keptIn(d); f != nil {
		s, err := f.Section(d)
		return s, "pushed", err
	}
	repo, err := p.find(ctx, d)
	if err != nil {
		return nil, "", err
	}
	r, err := p.l.opt.Registry.Open(ctx, repo, d)
	return r, "there", err
}

// rebuild applies a delta into a pipe. The decoder sees a copy of the delta that agreed with its digest in the signed patch.
func (p *rebuilder) rebuild(ctx context.Context, line bundle.PatchLine) (io.ReadCloser, error) {
	in, err := p.takeDelta(ctx, *line.Delta)
	if err != nil {
		return nil, err
	}
	var bases []*base
	release := func() {
		in.Close()
		for _, b := range bases {
			b.Close()
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	for _, d := range line.From {
		b, err := p.openBase(ctx, d)
		if err != nil {
			release()
			cancel()
			return nil, err
		}
		bases = append(bases, b)
	}
	r, w := io.Pipe()
	go func() {
		defer release()
		w.CloseWithError(p.apply(ctx, w, in, bases, line))
	}()
	return pipeEnd{r, cancel}, nil
}

func (p *rebuilder) apply(ctx context.Context, w io.Writer, in io.Reader, bases []*base, line bundle.PatchLine) error {
	plain := make([]delta.Base, len(bases))
	for i, b := range bases {
		plain[i] = b
	}
	_, err := delta.Apply(ctx, w, in, plain, delta.Limits{
		MaxOutput: line.Target.Size, ScratchDir: p.l.opt.Scratch, MaxScratch: p.v.Patch().Peak.Scratch,
		Parallel: runtime.GOMAXPROCS(0), // as far as delta.DefaultMemory goes
	})
	if errors.Is(err, delta.ErrBaseMismatch) {
		if whose := blame(bases); whose != nil {
			return whose
		}
	}
	return rebuildError(line, err)
}

// rebuildError says what went wrong in making a target blob. Delta and bases agreed with their digests: where the decoder says no, the
// patch was made wrong.
func rebuildError(line bundle.PatchLine, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, delta.ErrBaseMismatch) || errors.Is(err, delta.ErrTooLarge) || errors.As(err, new(*delta.CorruptError)) {
		return &bundle.ContentError{What: fmt.Sprintf("the patch's delta for %s", line.Target.Digest), Err: err}
	}
	return fmt.Errorf("rebuilding %s: %w", line.Target.Digest, err)
}

// pipeEnd stops the writer of a pipe when its reader is closed.
type pipeEnd struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (p pipeEnd) Close() error {
	p.cancel()
	return p.PipeReader.Close()
}

// takeDelta copies a delta into the scratch folder while it is hashed: a medium that changes afterwards changes nothing.
func (p *rebuilder) takeDelta(ctx context.Context, d ocispec.Descriptor) (_ sizedFile, err error) {
	r, err := p.l.file.Content(d).OpenVerified(ctx)
	if err != nil {
		return sizedFile{}, err
	}
	defer r.Close()
	s, err := p.keep("delta-*", d, r)
	if err != nil {
		return sizedFile{}, fmt.Errorf("reading delta %s: %w", d.Digest, err)
	}
	p.l.mu.Lock()
	p.l.report.Deltas += d.Size
	p.l.mu.Unlock()
	_, err = s.Seek(0, io.SeekStart)
	return s, err
}

// sizedFile is a scratch file that knows its size.
type sizedFile struct {
	scratchFile
	size int64
}

func (s sizedFile) Size() int64 { return s.size }

// keep copies a blob into a scratch file of its own.
func (p *rebuilder) keep(pattern string, d ocispec.Descriptor, r io.Reader) (sizedFile, error) {
	f, err := os.CreateTemp(p.l.opt.Scratch, pattern)
	if err != nil {
		return sizedFile{}, fmt.Errorf("making room for it: %w", err)
	}
	s := sizedFile{scratchFile{f}, d.Size}
	if _, err := io.Copy(f, r); err != nil {
		return sizedFile{}, errors.Join(err, s.Close())
	}
	return s, nil
}
