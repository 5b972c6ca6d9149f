package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

// maxAttempts is how often a request is tried that gets nowhere, before a load gives up. An attempt that moved bytes does not count.
const maxAttempts = 6

// DefaultBackoff waits 1, 2, 4, 8 and 16 seconds: about as long as a registry takes to start.
func DefaultBackoff(attempt int) time.Duration { return time.Second << attempt }

// blobs brings the release's blobs in, several at once, the largest first: the last to be done should not be the one that takes longest.
func (l *transfer) blobs(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(l.opt.Parallel)
	lines := slices.Clone(l.lines)
	slices.SortStableFunc(lines, func(a, b bundle.Blob) int { return cmp.Compare(b.Size, a.Size) })
	for _, b := range lines {
		if b.Kind == bundle.KindBlob {
			g.Go(func() error {
				m := &moving{l: l, Blob: b}
				return l.persist(ctx, b.Descriptor, m.taken, m.move)
			})
		}
	}
	return g.Wait()
}

// persist tries again after errors that may pass, and from the beginning of its patience when taken has grown.
func (l *transfer) persist(ctx context.Context, d ocispec.Descriptor, taken func() int64, do func(context.Context) error) error {
	var had int64
	for attempt := 0; ; attempt++ {
		err := do(ctx)
		if err == nil || ctx.Err() != nil || !registry.Transient(err) {
			return err
		}
		if has := taken(); has > had {
			had, attempt = has, 0
		}
		if attempt+1 == maxAttempts {
			return err
		}
		wait := l.opt.Backoff(attempt)
		var busy *registry.BusyError
		if errors.As(err, &busy) {
			wait = max(wait, busy.After)
		}
		if l.opt.Retry != nil {
			l.opt.Retry(d, err, wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// insist is persist for what either happens or not.
func (l *transfer) insist(ctx context.Context, d ocispec.Descriptor, do func(context.Context) error) error {
	return l.persist(ctx, d, func() int64 { return 0 }, do)
}

// ping waits for a registry that is being started.
func (l *transfer) ping(ctx context.Context) error {
	return l.insist(ctx, ocispec.Descriptor{}, l.opt.Registry.Ping)
}

// moving is one blob on its way into each of its repositories: pushed into the first, mounted into the others. It lives through all
// attempts, so that an upload goes on where it broke off.
type moving struct {
	bundle.Blob
	l    *transfer
	up   *registry.Upload
	how  string // of the upload: pushed, rebuilt, or there in another repository
	heal bool   // the registry's copy is damaged
}

func (m *moving) taken() int64 {
	if m.up == nil {
		return 0
	}
	return m.up.Taken()
}

func (m *moving) move(ctx context.Context) error {
	how := "there"
	var have string // a repository that holds it
	for _, repo := range m.Repos {
		ok, err := m.there(ctx, repo, have == "")
		if err != nil {
			return err
		}
		if ok {
			have = repo
			continue
		}
		got, err := m.place(ctx, repo, have)
		if err != nil {
			return err
		}
		if have == "" {
			how = got
		}
		have = repo
	}
	if err := m.l.journal.Add(m.Digest); err != nil {
		return err
	}
	m.l.note(m.Descriptor, how)
	return nil
}

// there tells whether the repository has the blob. One that is damaged is taken out, for a whole one to be put in.
func (m *moving) there(ctx context.Context, repo string, prove bool) (bool, error) {
	ok, err := m.l.opt.Registry.Has(ctx, repo, m.Descriptor)
	if err != nil || !ok || !prove {
		return ok, err
	}
	err = m.l.proveThere(ctx, repo, m.Descriptor)
	var damaged *bundle.DigestError
	if !errors.As(err, &damaged) || m.heal {
		return err == nil, err
	}
	m.heal = true
	if err := m.l.opt.Registry.Delete(ctx, repo, m.Descriptor); err != nil {
		return false, fmt.Errorf("registry %s has something else under %s@%s, and it cannot be replaced: %w", m.l.opt.Registry.Host(), repo, m.Digest, errors.Join(err, damaged))
	}
	m.l.replaced(m.Descriptor)
	return false, nil
}

// place brings a blob into one repository by the cheapest way that works.
func (m *moving) place(ctx context.Context, repo, have string) (string, error) {
	from := m.l.elseIn[m.Digest]
	if have != "" {
		from = append([]string{have}, from...)
	}
	for _, f := range from {
		if m.heal && f != have { // it would be the damaged one
			continue
		}
		if ok, err := m.l.opt.Registry.Mount(ctx, repo, f, m.Descriptor); err == nil && ok {
			return "mounted", nil
		}
	}
	if err := m.upload(ctx, repo); err != nil {
		return "", err
	}
	if m.heal {
		if err := m.l.hashThere(ctx, repo, m.Descriptor); err != nil { // a registry that keeps its copy whatever is pushed
			return "", err
		}
	}
	return m.how, nil
}

// upload sends the blob, or what is left of it.
func (m *moving) upload(ctx context.Context, repo string) error {
	if m.up == nil || m.up.Repo != repo {
		m.up = &registry.Upload{Repo: repo, Blob: m.Descriptor, Open: m.open, Place: m.l.journal.Place(m.Digest, repo),
			Moved:    func(place string) error { return m.l.journal.Move(m.Digest, repo, place) },
			Progress: func(sent int64) { m.l.sent(m.Descriptor, sent) }}
	}
	err := m.l.opt.Registry.Upload(ctx, m.up)
	var damaged *bundle.DigestError
	if m.how == "rebuilt" && errors.As(err, &damaged) && damaged.Want.Digest == m.Digest {
		return &bundle.ContentError{What: fmt.Sprintf("the patch's delta for %s", m.Digest), Err: errors.New("it makes other bytes")}
	}
	return err
}

func (m *moving) open(ctx context.Context) (io.ReadCloser, error) {
	r, how, err := m.l.open(ctx, m.Descriptor)
	m.how = how
	return r, err
}

// sent tells how far a blob is. What was told is never taken back, whatever is sent twice.
func (l *transfer) sent(d ocispec.Descriptor, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.partly[d.Digest]
	if n <= was {
		return
	}
	l.partly[d.Digest] = n
	l.done += n - was
	l.tell(LoadEvent{Blob: d, Sent: n})
}

// note says what became of a blob.
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
	l.done += d.Size - l.partly[d.Digest]
	delete(l.partly, d.Digest)
	l.tell(LoadEvent{Blob: d, How: how, Sent: d.Size})
}

// tell is called with the lock held.
func (l *transfer) tell(e LoadEvent) {
	if l.opt.Progress != nil {
		e.Done, e.There, e.Total = l.done, l.report.There, l.report.Total
		l.opt.Progress(e)
	}
}

// replaced counts a blob whose copy in the registry was damaged.
func (l *transfer) replaced(d ocispec.Descriptor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report.Healed = append(l.report.Healed, string(d.Digest))
}
