package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

// LoadOptions are what loading takes beside the verified bundle.
type LoadOptions struct {
	Registry *registry.Registry
	Record   *Record
	Store    Store
	Now      time.Time
	Scratch  string // folder for base blobs while deltas are applied
	Parallel int    // blobs at once, default 4
	MoveTags bool   // let tags point at this release that point at what this site has not loaded
	Progress func(LoadEvent)
	Journal  string                                                    // file that remembers what a load has done that is cut off; "" = none
	Retry    func(d ocispec.Descriptor, err error, wait time.Duration) // told before a blob is tried again; nil = nobody
	Backoff  func(attempt int) time.Duration                           // nil = DefaultBackoff
}

// maxAttempts is how often a blob is tried before a load gives up.
const maxAttempts = 6

// DefaultBackoff waits 1, 2, 4, 8 and 16 seconds: about as long as a registry takes to start.
func DefaultBackoff(attempt int) time.Duration { return time.Second << attempt }

// LoadEvent says what became of one blob.
type LoadEvent struct {
	Blob  ocispec.Descriptor
	How   string // there, mounted, pushed, rebuilt, manifest
	Done  int64  // bytes of the release that are in the registry now
	Total int64
}

// LoadReport sums a load up. Sizes are bytes.
type LoadReport struct {
	Version string             `json:"version"`
	Head    ocispec.Descriptor `json:"head"`
	Signers []string           `json:"signers"`
	Blobs   int                `json:"blobs"`
	There   int64              `json:"there"`   // was in the registry
	Pushed  int64              `json:"pushed"`  // travelled whole
	Rebuilt int64              `json:"rebuilt"` // made from base blobs and deltas
	Deltas  int64              `json:"deltas"`  // size of those deltas
	Total   int64              `json:"total"`
	Fixes   []string           `json:"fixes,omitempty"`  // vulnerabilities, by the release's VEX document
	Undoes  []bundle.Contained `json:"undoes,omitempty"` // fixes that run and that it does not have: apply would refuse it
}

// Load brings a verified bundle into the registry and raises the record.
func Load(ctx context.Context, f *bundle.File, v bundle.Verified, opt LoadOptions) (LoadReport, error) {
	l, err := newTransfer(f, v, opt)
	if err != nil {
		return LoadReport{}, err
	}
	l.open = func(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, string, error) {
		s, err := f.Section(d)
		return s, "pushed", err
	}
	return l.run(ctx, "bundle", v.Signers())
}

// transfer moves one release's content into the registry.
type transfer struct {
	opt     LoadOptions
	file    *bundle.File
	v       bundle.Verified
	lines   []bundle.Blob
	open    func(context.Context, ocispec.Descriptor) (io.ReadCloser, string, error)
	scratch int64                      // bytes of scratch disk that a patch takes
	elseIn  map[digest.Digest][]string // repositories that may hold a blob already

	journal *Journal
	known   map[digest.Digest]bool // blobs that loads of this site vouch for

	mu     sync.Mutex
	report LoadReport
	done   int64
}

func newTransfer(f *bundle.File, v bundle.Verified, opt LoadOptions) (*transfer, error) {
	if v.Release() == nil {
		return nil, errors.New("refusing to load a bundle that was not verified")
	}
	if opt.Registry == nil || opt.Record == nil || opt.Store == nil {
		return nil, errors.New("loading needs a registry and the site's record")
	}
	if opt.Parallel <= 0 {
		opt.Parallel = 4
	}
	if opt.Backoff == nil {
		opt.Backoff = DefaultBackoff
	}
	l := &transfer{opt: opt, file: f, v: v, lines: linesOf(v), elseIn: map[digest.Digest][]string{}}
	for _, b := range l.lines {
		l.report.Total += b.Size
	}
	l.report.Blobs, l.report.Version, l.report.Head = len(l.lines), v.Release().Version, v.Head()
	return l, nil
}

// linesOf is the closure with the head's own blobs, which lie in the release's repository.
func linesOf(v bundle.Verified) []bundle.Blob {
	repos := []string{bundle.ReleaseRepo(v.Release().Name)}
	var out []bundle.Blob
	for _, d := range v.Own() {
		out = append(out, bundle.Blob{Descriptor: d, Kind: bundle.KindBlob, Repos: repos})
	}
	return append(out, v.Release().Closure...)
}

func (l *transfer) run(ctx context.Context, by string, signers []string) (LoadReport, error) {
	if err := l.opt.Registry.Ping(ctx); err != nil {
		return l.report, err
	}
	l.known = known(ctx, l.opt)
	if err := l.checkTags(ctx); err != nil {
		return l.report, err
	}
	manifests, err := l.readManifests(ctx)
	if err != nil {
		return l.report, err
	}
	if err := l.checkAttachments(ctx); err != nil {
		return l.report, err
	}
	if l.opt.Journal != "" {
		if l.journal, err = OpenJournal(l.opt.Journal, l.v.Head().Digest, l.opt.Registry.Host()); err != nil {
			return l.report, err
		}
	}
	if err := l.bring(ctx, manifests); err != nil {
		return l.report, errors.Join(err, l.journal.Close(false))
	}
	l.report.Signers = signers
	r := l.opt.Record
	r.accept(l.v, by, l.scratch, l.opt.Now)
	now := r.loaded(l.v.Head().Digest)
	l.report.Fixes = now.Fixes
	if runs := r.running(); runs != nil && runs.Head.Digest != now.Head.Digest {
		l.report.Undoes = lost(runs, now)
	}
	err = l.opt.Store.Save(ctx, r)
	return l.report, errors.Join(err, l.journal.Close(err == nil))
}

// bring moves the content: blobs, then manifests, then tags, and reads everything back.
func (l *transfer) bring(ctx context.Context, manifests map[digest.Digest][]byte) error {
	if err := l.blobs(ctx); err != nil {
		return err
	}
	if err := l.manifests(ctx, manifests); err != nil {
		return err
	}
	if err := l.tags(ctx, manifests); err != nil {
		return err
	}
	return l.readBack(ctx)
}

func (l *transfer) blobs(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.opt.Parallel)
	for _, b := range l.lines {
		if b.Kind == bundle.KindBlob {
			g.Go(func() error { return l.persist(ctx, b) })
		}
	}
	return g.Wait()
}

// persist tries a blob again after errors that may pass.
func (l *transfer) persist(ctx context.Context, b bundle.Blob) error {
	for attempt := 0; ; attempt++ {
		err := l.blob(ctx, b)
		if err == nil || attempt+1 == maxAttempts || ctx.Err() != nil || !registry.Transient(err) {
			return err
		}
		wait := l.opt.Backoff(attempt)
		if l.opt.Retry != nil {
			l.opt.Retry(b.Descriptor, err, wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// blob brings one blob into each of its repositories: pushed into the first, mounted into the others.
func (l *transfer) blob(ctx context.Context, b bundle.Blob) error {
	how := "there"
	var have string // a repository that holds it
	for _, repo := range b.Repos {
		ok, err := l.opt.Registry.Has(ctx, repo, b.Descriptor)
		if err != nil {
			return err
		}
		if ok && have == "" {
			err = l.proveThere(ctx, repo, b.Descriptor)
		}
		if err != nil {
			return err
		}
		if ok {
			have = repo
			continue
		}
		got, err := l.place(ctx, b, repo, have)
		if err != nil {
			return err
		}
		if have == "" {
			how = got
		}
		have = repo
	}
	if err := l.journal.Add(b.Digest); err != nil {
		return err
	}
	l.note(b.Descriptor, how)
	return nil
}

// place brings a blob into one repository by the cheapest way that works.
func (l *transfer) place(ctx context.Context, b bundle.Blob, repo, have string) (string, error) {
	from := l.elseIn[b.Digest]
	if have != "" {
		from = append([]string{have}, from...)
	}
	for _, f := range from {
		if ok, err := l.opt.Registry.Mount(ctx, repo, f, b.Descriptor); err == nil && ok {
			return "mounted", nil
		}
	}
	r, how, err := l.open(ctx, b.Descriptor)
	if err != nil {
		return "", err
	}
	defer r.Close()
	err = l.opt.Registry.Push(ctx, repo, b.Descriptor, r)
	var damaged *bundle.DigestError
	if how == "rebuilt" && errors.As(err, &damaged) {
		return how, &bundle.ContentError{What: fmt.Sprintf("the patch's delta for %s", b.Digest), Err: errors.New("it makes other bytes")}
	}
	return how, err
}

func (l *transfer) note(d ocispec.Descriptor, how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch how {
	case "pushed":
		l.report.Pushed += d.Size
	case "rebuilt":
		l.report.Rebuilt += d.Size
	default:
		l.report.There += d.Size
	}
	l.done += d.Size
	if l.opt.Progress != nil {
		l.opt.Progress(LoadEvent{Blob: d, How: how, Done: l.done, Total: l.report.Total})
	}
}

// readManifests reads every manifest and checks its form, before anything is pushed.
func (l *transfer) readManifests(ctx context.Context) (map[digest.Digest][]byte, error) {
	raw := map[digest.Digest][]byte{l.v.Head().Digest: l.v.HeadBytes()}
	for _, b := range l.lines {
		if b.Kind != bundle.KindManifest {
			continue
		}
		c, err := l.small(ctx, b.Descriptor)
		if err == nil {
			err = bundle.CheckManifest(b.Descriptor, c)
		}
		if err != nil {
			return nil, err
		}
		raw[b.Digest] = c
	}
	return raw, nil
}

// manifests pushes manifests, children before the indexes that name them, the head last.
func (l *transfer) manifests(ctx context.Context, raw map[digest.Digest][]byte) error {
	var plainOnes, indexes []bundle.Blob
	for _, b := range l.lines {
		if b.Kind != bundle.KindManifest {
			continue
		}
		if b.MediaType == ocispec.MediaTypeImageManifest || b.MediaType == "application/vnd.docker.distribution.manifest.v2+json" {
			plainOnes = append(plainOnes, b)
		} else {
			indexes = append(indexes, b)
		}
	}
	head := bundle.Blob{Descriptor: l.v.Head(), Repos: []string{bundle.ReleaseRepo(l.v.Release().Name)}}
	for _, b := range append(append(plainOnes, indexes...), head) {
		for _, repo := range b.Repos {
			if err := l.manifest(ctx, repo, b.Descriptor, raw[b.Digest]); err != nil {
				return err
			}
		}
		if b.Digest != head.Digest {
			l.note(b.Descriptor, "manifest")
		}
	}
	return nil
}

// manifest pushes a manifest that is not there. One with a subject is pushed again: where the registry does not list such
// manifests by itself the client does, and a run that was killed between the two has not.
func (l *transfer) manifest(ctx context.Context, repo string, d ocispec.Descriptor, raw []byte) error {
	ok, err := l.opt.Registry.Has(ctx, repo, d)
	if err != nil || ok && !hasSubject(raw) {
		return err
	}
	return l.opt.Registry.Push(ctx, repo, d, bytes.NewReader(raw))
}

func hasSubject(manifest []byte) bool {
	var m ocispec.Manifest
	return json.Unmarshal(manifest, &m) == nil && m.Subject != nil
}

// small reads a manifest from the file or, where a patch leaves it out, from the registry.
func (l *transfer) small(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if l.file.Has(d.Digest) {
		return l.file.Fetch(ctx, d, bundle.MaxManifest)
	}
	for _, repo := range append(l.elseIn[d.Digest], l.reposOf(d.Digest)...) {
		if b, err := l.opt.Registry.Fetch(ctx, repo, d, bundle.MaxManifest); err == nil {
			return b, nil
		}
	}
	return nil, &MissingError{Blob: d, Version: l.v.Release().Version}
}

func (l *transfer) reposOf(d digest.Digest) []string {
	if line := l.v.Release().Line(d); line != nil {
		return line.Repos
	}
	return nil
}

// readBack reads every manifest from the registry again: what the nodes will be given is what was signed.
func (l *transfer) readBack(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.opt.Parallel)
	head := bundle.Blob{Descriptor: l.v.Head(), Kind: bundle.KindManifest, Repos: []string{bundle.ReleaseRepo(l.v.Release().Name)}}
	for _, b := range append(l.lines, head) {
		for _, repo := range b.Repos {
			g.Go(func() error { return l.readBackOne(ctx, repo, b) })
		}
	}
	return g.Wait()
}

func (l *transfer) readBackOne(ctx context.Context, repo string, b bundle.Blob) error {
	if b.Kind == bundle.KindManifest {
		if _, err := l.opt.Registry.Fetch(ctx, repo, b.Descriptor, bundle.MaxManifest); err != nil {
			return fmt.Errorf("reading back what was loaded: %w", err)
		}
		return nil
	}
	ok, err := l.opt.Registry.Has(ctx, repo, b.Descriptor)
	if err == nil && !ok {
		err = fmt.Errorf("the registry took %s into %s and does not have it: run load again", b.Digest, repo)
	}
	return err
}

// MissingError says which base blob a patch needs and the registry does not have.
type MissingError struct {
	Blob    ocispec.Descriptor
	Version string // the release that has it, where known
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("blob %s of release %s is not in the registry", e.Blob.Digest, e.Version)
}

// scratchFile is a file that is gone once closed.
type scratchFile struct{ *os.File }

func (s scratchFile) Close() error {
	err := s.File.Close()
	return errors.Join(err, os.Remove(s.Name()))
}
