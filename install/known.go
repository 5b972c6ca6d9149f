package install

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

// TagError says that a tag in the registry points at a manifest that no load of this site has put there.
type TagError struct {
	Tag      string // repository:tag
	Has      digest.Digest
	Want     digest.Digest
	Registry string
}

func (e *TagError) Error() string {
	return fmt.Sprintf("%s in registry %s points at %s, which this site has not loaded; the release wants %s", e.Tag, e.Registry, e.Has, e.Want)
}

// SpoiledError says that the registry's copy of a base blob is damaged.
type SpoiledError struct {
	Repo    string
	Version string // a release that has the blob
	Err     *bundle.DigestError
}

func (e *SpoiledError) Error() string {
	return fmt.Sprintf("the registry's copy of base %s of release %s in %s is damaged", e.Err.Want.Digest, e.Version, e.Repo)
}

// known are the blobs of the releases that the record says are loaded: they were hashed when they were, and need not be again. A
// release that cannot be read vouches for nothing, nor does one that was loaded into another registry than the site has now.
func known(ctx context.Context, opt LoadOptions) map[digest.Digest]bool {
	out := map[digest.Digest]bool{}
	for _, l := range opt.Record.Loads {
		if !opt.Record.Registry.had(l) {
			continue
		}
		r, err := fetchRelease(ctx, opt, opt.Record.Product, l.Head)
		if err != nil {
			continue
		}
		out[l.Head.Digest] = true
		for _, b := range r.Closure {
			out[b.Digest] = true
		}
	}
	return out
}

// proveThere hashes a blob that the registry says it has, unless a load of this site vouches for it, or an earlier run of this one.
func (l *transfer) proveThere(ctx context.Context, repo string, d ocispec.Descriptor) error {
	if !l.opt.Rehash && (l.known[d.Digest] || l.journal.Has(d.Digest)) {
		return nil
	}
	return l.hashThere(ctx, repo, d)
}

func (l *transfer) hashThere(ctx context.Context, repo string, d ocispec.Descriptor) error {
	r, err := l.opt.Registry.Open(ctx, repo, d)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("registry %s has something else under %s@%s: %w", l.opt.Registry.Host(), repo, d.Digest, err)
	}
	return nil
}

// checkTags looks, before anything is changed, where the release's tags point now.
func (l *transfer) checkTags(ctx context.Context) error {
	rel := l.v.Release()
	for _, i := range rel.Images {
		if err := l.checkTag(ctx, i.Ref, i.Manifest.Digest); err != nil {
			return err
		}
	}
	for _, m := range rel.Models {
		if err := l.checkTag(ctx, m.Ref, m.Manifest.Digest); err != nil {
			return err
		}
	}
	return nil
}

func (l *transfer) checkTag(ctx context.Context, ref string, want digest.Digest) error {
	repo, err := bundle.RepoOf(ref)
	if err != nil {
		return err
	}
	tag := bundle.TagOf(ref)
	if tag == "" || l.opt.MoveTags {
		return nil
	}
	have, err := l.opt.Registry.Resolve(ctx, repo, tag)
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return nil
	case err != nil:
		return err
	case have.Digest == want, l.known[have.Digest]:
		return nil
	}
	return &TagError{Tag: repo + ":" + tag, Has: have.Digest, Want: want, Registry: l.opt.Registry.Host()}
}
