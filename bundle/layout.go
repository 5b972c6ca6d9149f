package bundle

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Content is bytes with their identity. Open may be called more than once and gives the same bytes each time.
type Content struct {
	ocispec.Descriptor
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Layout is an OCI image layout about to be written: its index.json and its blobs.
type Layout struct {
	Index    ocispec.Index
	contents map[digest.Digest]Content
	first    []digest.Digest // written before all others, in this order
}

// NewLayout returns an empty layout.
func NewLayout() *Layout {
	return &Layout{
		Index: ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex,
		},
		contents: map[digest.Digest]Content{},
	}
}

// Add puts a blob into the layout once.
func (l *Layout) Add(c Content) {
	if _, ok := l.contents[c.Digest]; !ok {
		l.contents[c.Digest] = c
	}
}

// AddBytes puts small bytes into the layout and returns their descriptor.
func (l *Layout) AddBytes(mediaType string, b []byte) ocispec.Descriptor {
	c := bytesContent(mediaType, b)
	l.Add(c)
	return c.Descriptor
}

// AddFirst is AddBytes for what a reader needs before all else.
func (l *Layout) AddFirst(mediaType string, b []byte) ocispec.Descriptor {
	d := l.AddBytes(mediaType, b)
	for _, f := range l.first {
		if f == d.Digest {
			return d
		}
	}
	l.first = append(l.first, d.Digest)
	return d
}

// open gives the bytes of a content, unchecked.
func (l *Layout) open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	c, ok := l.contents[d.Digest]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoBlob, d.Digest)
	}
	return c.Open(ctx)
}

// Size is the sum of the blobs' sizes in bytes.
func (l *Layout) Size() int64 {
	var n int64
	for _, c := range l.contents {
		n += c.Size
	}
	return n
}

// ordered lists the blobs as they are written: first the named ones, then the small, then the large, by digest.
func (l *Layout) ordered() []Content {
	rank := map[digest.Digest]int{}
	for i, d := range l.first {
		rank[d] = i - len(l.first)
	}
	out := make([]Content, 0, len(l.contents))
	for _, c := range l.contents {
		if _, ok := rank[c.Digest]; !ok && c.Size > smallBlob {
			rank[c.Digest] = 1
		}
		out = append(out, c)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := out[i], out[j]
		if rank[a.Digest] != rank[b.Digest] {
			return rank[a.Digest] < rank[b.Digest]
		}
		return a.Digest < b.Digest
	})
	return out
}

// smallBlob is the size up to which a blob counts as metadata: it is written early and never travels as a delta.
const smallBlob = 64 << 10

// Progress is told how many bytes of what were done. Nil is allowed.
type Progress func(what string, done, total int64)

// WriteTar writes the layout as one deterministic tar: no names, modes or times of the machine that wrote it. Each
// blob is hashed on its way; one that is not what its descriptor says stops the writing.
func (l *Layout) WriteTar(ctx context.Context, w io.Writer, p Progress) error {
	tw := tar.NewWriter(w)
	index, err := json.Marshal(l.Index)
	if err != nil {
		return fmt.Errorf("encoding index.json: %w", err)
	}
	marker, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return fmt.Errorf("encoding oci-layout: %w", err)
	}
	if err := writeEntry(tw, ocispec.ImageLayoutFile, marker); err != nil {
		return err
	}
	if err := writeEntry(tw, ocispec.ImageIndexFile, index); err != nil {
		return err
	}
	var done int64
	total := l.Size()
	for _, c := range l.ordered() {
		if err := writeContent(ctx, tw, c); err != nil {
			return err
		}
		if done += c.Size; p != nil {
			p(string(c.Digest), done, total)
		}
	}
	return tw.Close()
}

func writeEntry(tw *tar.Writer, name string, b []byte) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if _, err := tw.Write(b); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

func writeContent(ctx context.Context, tw *tar.Writer, c Content) error {
	name := blobPath(c.Digest)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: c.Size}); err != nil {
		return fmt.Errorf("writing %s: %w", c.Digest, err)
	}
	r, err := c.OpenVerified(ctx)
	if err != nil {
		return fmt.Errorf("opening %s: %w", c.Digest, err)
	}
	defer r.Close()
	if _, err := io.Copy(tw, &ctxReader{ctx, r}); err != nil {
		return fmt.Errorf("writing %s: %w", c.Digest, err)
	}
	return nil
}

// WriteFile writes the layout to path so that a reader finds the old file or the whole new one, never a part.
func (l *Layout) WriteFile(ctx context.Context, path string, p Progress) error {
	return writeDurably(path, func(w io.Writer) error { return l.WriteTar(ctx, w, p) })
}

// writeDurably fills a temporary file beside path, syncs it, renames it and syncs the folder.
func writeDurably(path string, fill func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("creating a temporary file beside %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err = fill(f); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return fmt.Errorf("setting the mode of %s: %w", path, err)
	}
	if err = f.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", path, err)
	}
	if err = f.Close(); err != nil {
		return fmt.Errorf("closing %s: %w", path, err)
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("renaming to %s: %w", path, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening %s to sync it: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

func blobPath(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }
