package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/wordcab/wcbundle/bundle"
)

// Options say how to reach a registry.
type Options struct {
	Host      string // host or host:port
	PlainHTTP bool   // speak http to a host that is not loopback
	CA        string // certificates in PEM; "" = the system's roots. With one, loopback is spoken to by https too
	CertFile  string // client certificate in PEM, shown to the registry's own host alone
	KeyFile   string
	Also      []string      // other hosts that the registry may send us to: its token service, its store of blobs
	Login     Login         // shown to the registry and to its token service
	Stall     time.Duration // give a request up when no byte has moved for so long; 0 = DefaultStall
}

// Registry is a client of one registry. It is safe for concurrent use.
type Registry struct {
	host   string
	plain  bool
	border *border
	client *session

	wholeOnly atomic.Bool  // it takes blobs only whole
	piece     atomic.Int64 // bytes of a request that it takes; 0 = any
	comparing comparing
}

// New makes a client. It connects to nothing.
func New(opt Options) (*Registry, error) {
	if opt.Host == "" {
		return nil, errors.New("no registry is named")
	}
	if opt.Stall <= 0 {
		opt.Stall = DefaultStall
	}
	b, err := newBorder(opt)
	if err != nil {
		return nil, err
	}
	return &Registry{host: opt.Host, plain: b.scheme == "http", border: b, client: newSession(b, opt.Login)}, nil
}

// Host is the registry's host and port.
func (r *Registry) Host() string { return r.host }

func (r *Registry) repo(path string) (*remote.Repository, error) {
	repo, err := remote.NewRepository(r.host + "/" + path)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", path, err)
	}
	repo.PlainHTTP, repo.Client, repo.SkipReferrersGC = r.plain, r.client, true
	return repo, nil
}

// ErrSilent is returned by Ping when nothing that is a registry answers.
var ErrSilent = errors.New("no registry answers")

// Ping asks whether a registry answers.
func (r *Registry) Ping(ctx context.Context) error {
	reg, err := remote.NewRegistry(r.host)
	if err != nil {
		return err
	}
	reg.PlainHTTP, reg.Client = r.plain, r.client
	err = reg.Ping(ctx)
	if errors.As(err, new(*DeniedError)) || errors.As(err, new(*ElsewhereError)) { // something answered
		return err
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", r.host, ErrSilent, err)
	}
	return nil
}

// Has tells whether the repository has the blob or manifest.
func (r *Registry) Has(ctx context.Context, repo string, d ocispec.Descriptor) (bool, error) {
	p, err := r.repo(repo)
	if err != nil {
		return false, err
	}
	ok, err := p.Exists(ctx, d)
	if err != nil {
		return false, fmt.Errorf("asking the registry for %s@%s: %w", repo, d.Digest, err)
	}
	return ok, nil
}

// Push stores a blob or manifest. The bytes are checked against d on the way; nothing is stored when they differ.
func (r *Registry) Push(ctx context.Context, repo string, d ocispec.Descriptor, content io.Reader) error {
	p, err := r.repo(repo)
	if err != nil {
		return err
	}
	v, err := bundle.VerifyReader(content, d)
	if err != nil {
		return err
	}
	guard := &firstError{r: v}
	if err := p.Push(ctx, d, guard); err != nil {
		if guard.err != nil { // the source broke: that is the cause, not what the registry made of it
			return guard.err
		}
		return fmt.Errorf("pushing %s to %s: %w", d.Digest, repo, err)
	}
	return nil
}

// firstError keeps the error that a reader gave, because an http client wraps it beyond recognition.
type firstError struct {
	r   io.Reader
	err error
}

func (f *firstError) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		f.err = err
	}
	return n, err
}

// Mount makes a blob of one repository appear in another without moving it. It reports false where the registry would not.
func (r *Registry) Mount(ctx context.Context, repo, from string, d ocispec.Descriptor) (bool, error) {
	p, err := r.repo(repo)
	if err != nil {
		return false, err
	}
	refused := errors.New("the registry does not mount")
	err = p.Mount(ctx, d, from, func() (io.ReadCloser, error) { return nil, refused })
	if errors.Is(err, refused) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("mounting %s from %s in %s: %w", d.Digest, from, repo, err)
	}
	return true, nil
}

// Open reads a blob or manifest. Its last read fails when the registry gave other bytes than d names.
func (r *Registry) Open(ctx context.Context, repo string, d ocispec.Descriptor) (io.ReadCloser, error) {
	p, err := r.repo(repo)
	if err != nil {
		return nil, err
	}
	rc, err := p.Fetch(ctx, d)
	if errors.Is(err, errdef.ErrNotFound) {
		return nil, fmt.Errorf("%s@%s: %w", repo, d.Digest, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s@%s: %w", repo, d.Digest, err)
	}
	v, err := bundle.VerifyReader(rc, d)
	if err != nil {
		rc.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{v, rc}, nil
}

// Fetch reads a small blob or manifest whole; more than max bytes are refused before any is read.
func (r *Registry) Fetch(ctx context.Context, repo string, d ocispec.Descriptor, max int64) ([]byte, error) {
	if d.Size > max {
		return nil, fmt.Errorf("%s@%s is %d bytes long, more than the %d that are allowed for it", repo, d.Digest, d.Size, max)
	}
	rc, err := r.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// Tag makes a tag point at a manifest that is there.
func (r *Registry) Tag(ctx context.Context, repo string, d ocispec.Descriptor, manifest []byte, tag string) error {
	p, err := r.repo(repo)
	if err != nil {
		return err
	}
	if err := p.PushReference(ctx, d, bytes.NewReader(manifest), tag); err != nil {
		return fmt.Errorf("tagging %s as %s:%s: %w", d.Digest, repo, tag, err)
	}
	return nil
}

// ErrNotFound is returned by Resolve for a tag or digest that the repository does not have.
var ErrNotFound = errors.New("not in the registry")

// Resolve looks a tag or a manifest's digest up.
func (r *Registry) Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	p, err := r.repo(repo)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := p.Resolve(ctx, ref)
	if errors.Is(err, errdef.ErrNotFound) {
		return d, fmt.Errorf("%s:%s: %w", repo, ref, ErrNotFound)
	}
	if err != nil {
		return d, fmt.Errorf("looking up %s in %s: %w", ref, repo, err)
	}
	if bundle.CheckDigest(digest.Digest(ref)) == nil && string(d.Digest) != ref {
		return ocispec.Descriptor{}, fmt.Errorf("the registry answered for %s@%s with %s", repo, ref, d.Digest)
	}
	return d, nil
}
