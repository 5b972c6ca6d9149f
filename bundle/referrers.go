package bundle

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxReferrerBytes bounds what the manifests about one image and their blobs come to.
const maxReferrerBytes = 256 << 20

var (
	referrerTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}\.(sig|att|sbom)$`)
	attachedTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.[a-z]+)?$`) // also the tag that lists referrers
)

// note keeps something that the release engineer should know and that stops nothing.
func (b *builder) note(format string, a ...any) { b.notes = append(b.notes, fmt.Sprintf(format, a...)) }

// collectReferrers adds what the source holds about an image: signatures, attestations and SBOMs under cosign's tags, and
// manifests with the image as their subject. They are about digests, so only those about a digest that travels are of use
// at a site. What cannot travel is noted; a source that has nothing is no fault.
func (b *builder) collectReferrers(ctx context.Context, s source, ref string, found, root ocispec.Descriptor) ([]Referrer, error) {
	src, ok := s.(attachedSource)
	if !ok {
		return nil, nil
	}
	c := &referrerCollector{b: b, src: src, ref: ref, seen: map[digest.Digest]bool{}}
	var err error
	if c.repo, err = RepoOf(ref); err != nil {
		return nil, err
	}
	for _, subject := range append([]ocispec.Descriptor{root}, b.children(root)...) {
		if err := c.collect(ctx, subject); err != nil {
			return nil, err
		}
	}
	if len(c.out) == 0 && found.Digest != root.Digest {
		return nil, c.noteIndex(ctx, found)
	}
	slices.SortFunc(c.out, func(x, y Referrer) int {
		return cmp.Or(cmp.Compare(x.Tag, y.Tag), cmp.Compare(x.Manifest.Digest, y.Manifest.Digest))
	})
	return c.out, nil
}

// children are the manifests of an index that travels; each may have signatures of its own.
func (b *builder) children(root ocispec.Descriptor) []ocispec.Descriptor {
	if !isIndex(root.MediaType) {
		return nil
	}
	raw, err := b.layout.contents[root.Digest].ReadBytes(context.Background(), MaxManifest)
	var ix ocispec.Index
	if err != nil || json.Unmarshal(raw, &ix) != nil {
		return nil
	}
	return ix.Manifests[:min(len(ix.Manifests), MaxReferrers)]
}

type referrerCollector struct {
	b         *builder
	src       attachedSource
	ref, repo string
	seen      map[digest.Digest]bool
	bytes     int64
	out       []Referrer
}

// candidate is a manifest that a source calls one about an image.
type candidate struct {
	desc ocispec.Descriptor
	tag  string
}

// find asks the source. An answer that is none is noted, because the lack of a signature is found late otherwise.
func (c *referrerCollector) find(ctx context.Context, subject ocispec.Descriptor) ([]candidate, error) {
	var out []candidate
	for _, end := range cosignTagEnds {
		d, ok, err := c.src.tagged(ctx, subject, end)
		if err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			c.b.note("image %s: its source does not tell whether there is a tag %s: %v", c.ref, cosignTag(subject, end), err)
			return out, nil
		}
		if ok {
			out = append(out, candidate{d, cosignTag(subject, end)})
		}
	}
	all, err := c.src.referrers(ctx, subject)
	if err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		c.b.note("image %s: what refers to %s in its source does not travel: %v", c.ref, subject.Digest, err)
	}
	for _, d := range all {
		out = append(out, candidate{desc: d})
	}
	return out, nil
}

func (c *referrerCollector) collect(ctx context.Context, subject ocispec.Descriptor) error {
	all, err := c.find(ctx, subject)
	if err != nil {
		return err
	}
	for _, x := range all {
		if c.seen[x.desc.Digest] {
			continue
		}
		c.seen[x.desc.Digest] = true
		if err := c.take(ctx, subject, x); err != nil {
			if ctx.Err() != nil {
				return err
			}
			c.b.note("image %s: a manifest about %s does not travel: %v", c.ref, subject.Digest, err)
		}
	}
	return nil
}

// take adds one manifest with its blobs, all of it or nothing.
func (c *referrerCollector) take(ctx context.Context, subject ocispec.Descriptor, x candidate) error {
	if len(c.out) >= MaxReferrers {
		return errManyReferrers
	}
	m, err := readAttached(ctx, c.src, x.desc)
	if err != nil {
		return err
	}
	if x.tag == "" && (m.manifest.Subject == nil || m.manifest.Subject.Digest != subject.Digest) {
		return fmt.Errorf("%s does not refer to it", x.desc.Digest)
	}
	if err := c.fits(ctx, m); err != nil {
		return err
	}
	c.b.add(bytesContent(m.desc.MediaType, m.raw), KindManifest, c.repo)
	for _, d := range blobsOf(m.manifest) {
		c.b.add(Content{Descriptor: plain(d), Open: func(ctx context.Context) (io.ReadCloser, error) { return c.src.Fetch(ctx, d) }}, KindBlob, c.repo)
	}
	c.out = append(c.out, Referrer{Manifest: m.desc, Tag: x.tag})
	return nil
}

// fits checks before anything is added that the blobs are there, as long as the manifest says, of no other kind in this
// release, and not too much.
func (c *referrerCollector) fits(ctx context.Context, m attachedManifest) error {
	if l, ok := c.b.lines[m.desc.Digest]; ok && l.Kind != KindManifest {
		return fmt.Errorf("%s is a blob elsewhere in the release", m.desc.Digest)
	}
	bytes := c.bytes + m.desc.Size
	for _, d := range blobsOf(m.manifest) {
		if l, ok := c.b.lines[d.Digest]; ok && (l.Kind != KindBlob || l.Size != d.Size) {
			return fmt.Errorf("its blob %s is something else in the release", d.Digest)
		}
		n, err := c.src.blobSize(ctx, d)
		if err != nil {
			return fmt.Errorf("its blob %s: %w", d.Digest, err)
		}
		if n != d.Size {
			return fmt.Errorf("its blob %s has %d bytes and not %d", d.Digest, n, d.Size)
		}
		if bytes += n; bytes > maxReferrerBytes {
			return fmt.Errorf("with it there would be more than %d MiB about the image", maxReferrerBytes>>20)
		}
	}
	c.bytes = bytes
	return nil
}

// noteIndex says that signatures of an index stay behind when only a platform's manifest of it travels.
func (c *referrerCollector) noteIndex(ctx context.Context, index ocispec.Descriptor) error {
	all, err := c.find(ctx, index)
	if err != nil || len(all) == 0 {
		return err
	}
	c.b.note("image %s: its signatures are about its index %s, of which only the manifest for %s travels: a site cannot verify them. "+
		"To keep them let the whole index travel: name the image as %s in the chart, or list more platforms", c.ref, index.Digest,
		c.b.release.Platforms[0], strings.SplitN(c.ref, "@", 2)[0]+"@"+string(index.Digest))
	return nil
}

// checkReferrers checks what a release says about the manifests that travel with its images.
func (r *Release) checkReferrers() error {
	kinds := map[digest.Digest]string{}
	for _, b := range r.Closure {
		kinds[b.Digest] = b.Kind
	}
	for _, i := range r.Images {
		if len(i.Referrers) > MaxReferrers {
			return fmt.Errorf("image %s: more than %d referrers", i.Ref, MaxReferrers)
		}
		for _, x := range i.Referrers {
			if kinds[x.Manifest.Digest] != KindManifest {
				return fmt.Errorf("image %s: referrer %s is no manifest of the closure", i.Ref, x.Manifest.Digest)
			}
			if x.Tag == "" {
				continue
			}
			if !referrerTag.MatchString(x.Tag) || kinds["sha256:"+digest.Digest(x.Tag[len("sha256-"):][:64])] != KindManifest {
				return fmt.Errorf("image %s: tag %.100q is not one that cosign gives to what is about a manifest of the closure", i.Ref, x.Tag)
			}
		}
	}
	return nil
}
