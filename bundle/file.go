package bundle

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// ErrTruncated is returned for a file that ends before its last blob does, as a broken copy does.
var ErrTruncated = errors.New("the file ends too early")

// FormError says that a file is not a bundle or patch, or not a well-formed one.
type FormError struct {
	Path   string
	Reason string
	Err    error // ErrTruncated or nil
}

func (e *FormError) Error() string { return e.Path + ": " + e.Reason }
func (e *FormError) Unwrap() error { return e.Err }

// File is a bundle or patch on disk: an OCI layout in a folder or in one tar. Opening it reads only names, sizes and
// index.json; nothing in it is believed until sign.Open has seen its root and envelope.
type File struct {
	Path  string
	Index ocispec.Index
	f     *os.File                 // tar
	root  *os.Root                 // folder
	at    map[digest.Digest]extent // tar
}

type extent struct{ offset, size int64 }

var blobName = regexp.MustCompile(`^blobs/sha256/[0-9a-f]{64}$`)

// OpenFile opens the bundle or patch at path.
func OpenFile(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	f := &File{Path: path}
	if st.IsDir() {
		err = f.openDir()
	} else {
		err = f.openTar(st.Size())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Close gives the file back.
func (f *File) Close() error {
	if f.root != nil {
		return f.root.Close()
	}
	if f.f != nil {
		return f.f.Close()
	}
	return nil
}

func (f *File) fail(format string, a ...any) error {
	return &FormError{Path: f.Path, Reason: fmt.Sprintf(format, a...)}
}

func (f *File) openDir() (err error) {
	if f.root, err = os.OpenRoot(f.Path); err != nil {
		return err
	}
	b, err := f.readRooted(ocispec.ImageIndexFile)
	if err != nil {
		return f.fail("no index.json that can be read: not a bundle (%v)", err)
	}
	return f.parseIndex(b)
}

func (f *File) readRooted(name string) ([]byte, error) {
	st, err := f.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > MaxManifest {
		return nil, fmt.Errorf("%s is not a regular file of at most %d bytes", name, MaxManifest)
	}
	return f.root.ReadFile(name)
}

func (f *File) openTar(size int64) (err error) {
	if f.f, err = os.Open(f.Path); err != nil {
		return err
	}
	f.at = map[digest.Digest]extent{}
	var index []byte
	tr := tar.NewReader(f.f)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil && n == 0 {
			return f.fail("not a bundle: it is not a tar file (%v)", err)
		}
		if err != nil {
			return &FormError{Path: f.Path, Reason: "the file ends too early or is damaged: copy it again", Err: ErrTruncated}
		}
		if n > MaxBlobs {
			return f.fail("more than %d entries", MaxBlobs)
		}
		if index, err = f.entry(tr, h, size, index); err != nil {
			return err
		}
	}
	if index == nil {
		return f.fail("no index.json in it: not a bundle")
	}
	return f.parseIndex(index)
}

// entry takes in one tar header. The data of blobs is not read, only its place is kept.
func (f *File) entry(tr io.Reader, h *tar.Header, size int64, index []byte) ([]byte, error) {
	if h.Typeflag != tar.TypeReg || sparse(h) {
		return nil, f.fail("entry %.80q is not a regular file", h.Name)
	}
	offset, err := f.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", f.Path, err)
	}
	if h.Size < 0 || h.Size > size-offset {
		return nil, &FormError{Path: f.Path, Err: ErrTruncated,
			Reason: fmt.Sprintf("the file ends in the middle of %.80q: copy it again", h.Name)}
	}
	switch {
	case h.Name == ocispec.ImageLayoutFile && h.Size < 1024:
		return index, nil
	case h.Name == ocispec.ImageIndexFile && index == nil && h.Size <= MaxManifest:
		return io.ReadAll(io.LimitReader(tr, MaxManifest))
	case blobName.MatchString(h.Name):
		d := digest.Digest("sha256:" + h.Name[len("blobs/sha256/"):])
		if _, twice := f.at[d]; twice {
			return nil, f.fail("blob %s is in it twice", d)
		}
		f.at[d] = extent{offset, h.Size}
		return index, nil
	}
	return nil, f.fail("entry %.80q has no place in a bundle", h.Name)
}

func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse") {
			return true
		}
	}
	return false
}

func (f *File) parseIndex(b []byte) error {
	if err := json.Unmarshal(b, &f.Index); err != nil {
		return f.fail("index.json cannot be read: %v", err)
	}
	for _, d := range f.Index.Manifests {
		if err := CheckDigest(d.Digest); err != nil {
			return f.fail("index.json: %v", err)
		}
	}
	return nil
}

// Has tells whether the file carries a blob of that digest. It says nothing about its bytes.
func (f *File) Has(d digest.Digest) bool {
	if f.at != nil {
		_, ok := f.at[d]
		return ok
	}
	st, err := f.root.Lstat(filepath.FromSlash(blobPath(d)))
	return err == nil && st.Mode().IsRegular()
}

// Blobs lists the digests that the file carries.
func (f *File) Blobs() ([]digest.Digest, error) {
	var out []digest.Digest
	if f.at != nil {
		for d := range f.at {
			out = append(out, d)
		}
		return out, nil
	}
	dir, err := f.root.Open("blobs/sha256")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(MaxBlobs)
	if err != nil && err != io.EOF {
		return nil, err
	}
	for _, n := range names {
		out = append(out, digest.Digest("sha256:"+n))
	}
	return out, nil
}

// Content is the blob that d names, unverified until it is read to its end through OpenVerified or ReadBytes.
func (f *File) Content(d ocispec.Descriptor) Content {
	return Content{Descriptor: d, Open: func(context.Context) (io.ReadCloser, error) {
		s, err := f.Section(d)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{s, s}, nil
	}}
}

// Section is a blob's bytes with random access.
type Section struct {
	*io.SectionReader
	c io.Closer
}

// Close gives the section back.
func (s *Section) Close() error {
	if s.c == nil {
		return nil
	}
	return s.c.Close()
}

// ErrNoBlob is returned for a blob that the file does not carry.
var ErrNoBlob = errors.New("blob is not in the file")

// Section opens the blob that d names. Its length must be the one that d says.
func (f *File) Section(d ocispec.Descriptor) (*Section, error) {
	if err := CheckDigest(d.Digest); err != nil {
		return nil, err
	}
	if f.at != nil {
		e, ok := f.at[d.Digest]
		if !ok {
			return nil, fmt.Errorf("%s: %w: %s", f.Path, ErrNoBlob, d.Digest)
		}
		if e.size != d.Size {
			return nil, &DigestError{Want: d, Size: e.size}
		}
		return &Section{SectionReader: io.NewSectionReader(f.f, e.offset, e.size)}, nil
	}
	return f.sectionOfDir(d)
}

func (f *File) sectionOfDir(d ocispec.Descriptor) (*Section, error) {
	name := filepath.FromSlash(blobPath(d.Digest))
	st, err := f.root.Lstat(name)
	if err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: %s", f.Path, ErrNoBlob, d.Digest)
	}
	if st.Size() != d.Size {
		return nil, &DigestError{Want: d, Size: st.Size()}
	}
	b, err := f.root.Open(name)
	if err != nil {
		return nil, err
	}
	return &Section{SectionReader: io.NewSectionReader(b, 0, d.Size), c: b}, nil
}

// Layout is the file's content as a layout that can be added to and written again.
func (f *File) Layout(ctx context.Context) (*Layout, error) {
	l := NewLayout()
	l.Index = f.Index
	blobs, err := f.Blobs()
	if err != nil {
		return nil, err
	}
	for _, d := range blobs {
		size, err := f.sizeOf(d)
		if err != nil {
			return nil, err
		}
		l.Add(f.Content(ocispec.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}))
	}
	for _, m := range f.Index.Manifests {
		l.first = append(l.first, m.Digest)
		for _, c := range f.children(ctx, m) {
			l.first = append(l.first, c.Digest)
		}
	}
	return l, nil
}

// children are the small blobs that a root-level manifest names: what a reader of a stream wants next.
func (f *File) children(ctx context.Context, m ocispec.Descriptor) []ocispec.Descriptor {
	if !slices.Contains([]string{ArtifactRelease, ArtifactPatch, ArtifactEnvelope, ArtifactTrust}, m.ArtifactType) {
		return nil
	}
	b, err := f.Content(m).ReadBytes(ctx, MaxManifest)
	if err != nil {
		return nil
	}
	var man ocispec.Manifest
	if json.Unmarshal(b, &man) != nil {
		return nil
	}
	var out []ocispec.Descriptor
	for _, d := range append([]ocispec.Descriptor{man.Config}, man.Layers...) {
		if slices.Contains([]string{MediaRelease, MediaPatch, MediaEnvelope, MediaTrust}, d.MediaType) {
			out = append(out, d)
		}
	}
	return out
}

func (f *File) sizeOf(d digest.Digest) (int64, error) {
	if f.at != nil {
		return f.at[d].size, nil
	}
	st, err := f.root.Lstat(filepath.FromSlash(blobPath(d)))
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
