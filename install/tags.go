package install

import (
	"bytes"
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

// checkAttachments hashes the signatures that travel with the file, before anything is changed. None of them is kept in memory.
func (l *transfer) checkAttachments(ctx context.Context) error {
	atts, err := l.file.Attachments(ctx, l.v.Head().Digest)
	if err != nil {
		return err
	}
	for _, a := range atts {
		for _, b := range a.Blobs {
			if _, err := l.file.Fetch(ctx, b, bundle.MaxEnvelope); err != nil {
				return err
			}
		}
	}
	return nil
}

// tags come last: a tag never points at content that is not all there.
func (l *transfer) tags(ctx context.Context, raw map[digest.Digest][]byte) error {
	rel := l.v.Release()
	for _, i := range rel.Images {
		if err := l.tagRef(ctx, i.Ref, i.Manifest, raw); err != nil {
			return err
		}
		if err := l.tagReferrers(ctx, i, raw); err != nil {
			return err
		}
	}
	for _, m := range rel.Models {
		if err := l.tagRef(ctx, m.Ref, m.Manifest, raw); err != nil {
			return err
		}
	}
	for _, c := range rel.Charts {
		repo := rel.Line(c.Manifest.Digest).Repos[0]
		if err := l.tag(ctx, repo, c.Manifest, raw[c.Manifest.Digest], c.Version); err != nil {
			return err
		}
	}
	if err := l.attachments(ctx); err != nil {
		return err
	}
	return l.tag(ctx, bundle.ReleaseRepo(rel.Name), l.v.Head(), l.v.HeadBytes(), rel.Version)
}

// tag makes a tag point at the release. An older release whose content is put in again does not take back what a newer one has moved.
func (l *transfer) tag(ctx context.Context, repo string, d ocispec.Descriptor, raw []byte, tag string) error {
	if now := l.opt.Record.Latest(); now != nil && now.Head.Digest != l.v.Head().Digest && l.opt.Record.Has(l.v.Head()) {
		_, err := l.opt.Registry.Resolve(ctx, repo, tag)
		if !errors.Is(err, registry.ErrNotFound) {
			return err
		}
	}
	return l.opt.Registry.Tag(ctx, repo, d, raw, tag)
}

func (l *transfer) tagRef(ctx context.Context, ref string, d ocispec.Descriptor, raw map[digest.Digest][]byte) error {
	repo, err := bundle.RepoOf(ref)
	if err != nil {
		return err
	}
	tag := bundle.TagOf(ref)
	if tag == "" {
		return nil
	}
	return l.tag(ctx, repo, d, raw[d.Digest], tag)
}

// tagReferrers gives an image's signatures the tags under which cosign looks for them.
func (l *transfer) tagReferrers(ctx context.Context, i bundle.Image, raw map[digest.Digest][]byte) error {
	repo, err := bundle.RepoOf(i.Ref)
	if err != nil {
		return err
	}
	for _, r := range i.Referrers {
		if r.Tag == "" {
			continue
		}
		if err := l.tag(ctx, repo, r.Manifest, raw[r.Manifest.Digest], r.Tag); err != nil {
			return err
		}
	}
	return nil
}

// attachments bring the signatures along, so that anyone at the site can check the head again.
func (l *transfer) attachments(ctx context.Context) error {
	repo := bundle.ReleaseRepo(l.v.Release().Name)
	atts, err := l.file.Attachments(ctx, l.v.Head().Digest)
	if err != nil {
		return err
	}
	for _, a := range atts {
		for _, b := range a.Blobs {
			ok, err := l.opt.Registry.Has(ctx, repo, b)
			if err != nil {
				return err
			}
			if ok {
				continue
			}
			raw, err := l.file.Fetch(ctx, b, bundle.MaxEnvelope)
			if err != nil {
				return err
			}
			if err := l.opt.Registry.Push(ctx, repo, b, bytes.NewReader(raw)); err != nil {
				return err
			}
		}
		raw, err := l.file.Fetch(ctx, a.Manifest, bundle.MaxManifest)
		if err != nil {
			return err
		}
		if a.Tag == "" {
			err = l.opt.Registry.Push(ctx, repo, a.Manifest, bytes.NewReader(raw))
		} else {
			err = l.tag(ctx, repo, a.Manifest, raw, a.Tag)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
