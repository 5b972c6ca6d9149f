package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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
	Scratch  string         // folder for base blobs while deltas are applied
	Kept     []*bundle.File // bundles whose blobs a patch may be rebuilt from, beside the registry's; each is hashed before it is used
	Room     func(Room)     // told how the scratch folder will be used, before anything is done; nil = nobody
	Parallel int            // blobs at once, default 4
	Rehash   bool           // hash what is in the registry too, and put in anew what is damaged
	MoveTags bool           // let tags point at this release that point at what this site has not loaded
	Progress func(LoadEvent)
	Journal  string                                                    // file that remembers what a load has done that is cut off; "" = none
	Retry    func(d ocispec.Descriptor, err error, wait time.Duration) // told before a blob, or the registry itself (no digest), is tried again; nil = nobody
	Backoff  func(attempt int) time.Duration                           // nil = DefaultBackoff
}

// LoadEvent says how far one blob is, and the whole. Done never falls. Sizes are bytes.
type LoadEvent struct {
	Blob  ocispec.Descriptor
	How   string // what became of it: there, mounted, pushed, rebuilt, manifest; "" while it is on its way
	Sent  int64  // of the blob
	Done  int64  // of the release, in the registry now
	There int64  // of Done, what was there before
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
	Healed  []string           `json:"healed,omitempty"` // digests whose copy in the registry was damaged and is not any more
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
	fulfils bool                       // it is the patch for which the site's inventory was made
	elseIn  map[digest.Digest][]string // repositories that may hold a blob already

	journal *Journal
	known   map[digest.Digest]bool // blobs that loads of this site vouch for

	mu     sync.Mutex
	report LoadReport
	done   int64
	partly map[digest.Digest]int64 // bytes of blobs that are on their way
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
	l := &transfer{opt: opt, file: f, v: v, lines: linesOf(v), elseIn: map[digest.Digest][]string{}, partly: map[digest.Digest]int64{}}
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
	if err := l.ping(ctx); err != nil {
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
		if l.journal, err = OpenJournal(l.opt.Journal, l.v.Head().Digest, l.opt.Registry.Host(), l.report.Version); err != nil {
			return l.report, err
		}
	}
	if err := l.checkRegistryRoom(ctx); err != nil {
		return l.report, errors.Join(err, l.journal.Close(false))
	}
	if err := l.bring(ctx, manifests); err != nil {
		return l.report, errors.Join(err, l.journal.Close(false))
	}
	slices.Sort(l.report.Healed)
	l.report.Signers = signers
	r := l.opt.Record
	r.accept(l.v, by, l.scratch, l.opt.Now)
	if l.fulfils {
		r.Promised = nil
	}
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
	if err := l.insist(ctx, l.v.Head(), func(ctx context.Context) error { return l.tags(ctx, manifests) }); err != nil {
		return err
	}
	return l.readBack(ctx)
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
			err := l.insist(ctx, b.Descriptor, func(ctx context.Context) error { return l.manifest(ctx, repo, b.Descriptor, raw[b.Digest]) })
			if err != nil {
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
			g.Go(func() error {
				return l.insist(ctx, b.Descriptor, func(ctx context.Context) error { return l.readBackOne(ctx, repo, b) })
			})
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

// scratchFile is a file that is gone once closed.
type scratchFile struct{ *os.File }

func (s scratchFile) Close() error {
	err := s.File.Close()
	return errors.Join(err, os.Remove(s.Name()))
}
