package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	oci "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/wordcab/wcbundle/bundle"
)

const (
	maxFrame    = 1 << 20 // bytes of a layer's tar before, and after, the file in it
	takeRetries = 6       // in a row without a byte
)

// frame is what of a layer's tar is not the file: with it, the file proves the layer's digest.
type frame struct {
	Head []byte `json:"head"`
	Tail []byte `json:"tail"`
	Size int64  `json:"size"` // of the file
}

// taking fetches the one file of a layer into dir, under the layer's digest. It goes on where an earlier one, of this process or another,
// broke off: DIGEST.part has the file's bytes so far, DIGEST.head the tar's before them.
type taking struct {
	r     *Registry
	layer modelLayer
	dir   *os.Root

	sum  hash.Hash
	at   int64 // bytes of the layer that sum has seen
	head []byte
	size int64
	part *os.File
}

func (t *taking) base() string { return t.layer.Digest.Encoded() }

// take ends with the file whole, checked and durable, or with an error and what can be gone on with.
func (t *taking) take(ctx context.Context) (frame, error) {
	f, err := t.dir.OpenFile(t.base()+".part", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return frame{}, err
	}
	t.part = f
	fr, recalled, err := t.fill(ctx)
	var damaged *bundle.DigestError
	if recalled && errors.As(err, &damaged) { // what was left lay on a bad disk, or is another's
		if err = f.Truncate(0); err == nil {
			err = t.dir.Remove(t.base() + ".head")
		}
		if err == nil {
			fr, _, err = t.fill(ctx)
		}
	}
	if err != nil {
		err = errors.Join(err, f.Close())
		if errors.As(err, &damaged) || errors.As(err, new(*layerError)) { // nothing of it is worth keeping
			err = errors.Join(err, t.drop())
		}
		return fr, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fr, err
	}
	if err := t.dir.Rename(t.base()+".part", t.base()); err != nil {
		return fr, err
	}
	return fr, t.dir.Remove(t.base() + ".head")
}

func (t *taking) drop() error {
	var errs []error
	for _, name := range []string{t.base() + ".part", t.base() + ".head"} {
		if err := t.dir.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// layerError says that a layer, whatever its digest, is no tar of the file that the model names.
type layerError struct {
	layer modelLayer
	why   string
}

func (e *layerError) Error() string {
	return fmt.Sprintf("layer %s is not a tar of the one file %.120q: %s", e.layer.Digest, e.layer.name, e.why)
}

// fill reads the layer from where the part ends, and again from there when the registry breaks off. recalled says that there was a part.
func (t *taking) fill(ctx context.Context) (f frame, recalled bool, err error) {
	if err := t.recall(ctx); err != nil {
		return frame{}, false, err
	}
	recalled = t.at > 0
	f, err = t.insist(ctx)
	return f, recalled, err
}

func (t *taking) insist(ctx context.Context) (frame, error) {
	for fails := 0; ; {
		before := t.at
		tail, err := t.stream(ctx)
		if err == nil {
			return frame{Head: t.head, Tail: tail, Size: t.size}, nil
		}
		if ctx.Err() != nil || !Transient(err) {
			return frame{}, err
		}
		if t.at > before {
			fails = 0
		}
		if fails++; fails >= takeRetries {
			return frame{}, err
		}
		select {
		case <-ctx.Done():
			return frame{}, ctx.Err()
		case <-time.After(time.Second << (fails - 1) / 4):
		}
	}
}

// recall hashes what an earlier take has left, or forgets it.
func (t *taking) recall(ctx context.Context) error {
	t.sum, t.at, t.head, t.size = sha256.New(), 0, nil, 0
	if _, err := t.part.Seek(0, io.SeekStart); err != nil {
		return err
	}
	head, err := readInside(t.dir, t.base()+".head", maxFrame)
	if err == nil {
		t.size, err = headOf(t.layer, head)
	}
	if err != nil { // none, or not one of this layer
		t.size = 0
		return t.part.Truncate(0)
	}
	t.head = head
	t.sum.Write(head)
	n, err := io.Copy(t.sum, &ctxRead{ctx, io.LimitReader(t.part, t.size)})
	if err != nil {
		return err
	}
	t.at = int64(len(head)) + n
	if err := t.part.Truncate(n); err != nil {
		return err
	}
	_, err = t.part.Seek(n, io.SeekStart)
	return err
}

func readInside(dir *os.Root, name string, most int64) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is longer than %d bytes", name, most)
	}
	return b, err
}

// headOf reads the tar's headers and says how long the file is that follows them.
func headOf(l modelLayer, head []byte) (int64, error) {
	r := bytes.NewReader(head)
	h, err := tar.NewReader(r).Next()
	if err != nil || r.Len() != 0 {
		return 0, &layerError{l, "its header is not well-formed"}
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return 0, &layerError{l, "it is a sparse file"}
		}
	}
	if h.Typeflag != tar.TypeReg || h.Name != l.name || h.Size < 0 || h.Size > l.Size-int64(len(head)) {
		return 0, &layerError{l, fmt.Sprintf("it has %.120q of type %q with %d bytes", h.Name, h.Typeflag, h.Size)}
	}
	return h.Size, nil
}

// stream reads from t.at to the layer's end, and returns what follows the file.
func (t *taking) stream(ctx context.Context) ([]byte, error) {
	rc, at, err := t.r.openAt(ctx, t.layer.repo, t.layer.Descriptor, t.at)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	if at < t.at { // the registry gives blobs only whole
		if _, err := io.CopyN(io.Discard, rc, t.at-at); err != nil {
			return nil, brokenOff(err)
		}
	}
	if t.head == nil {
		if err := t.readHead(rc); err != nil {
			return nil, err
		}
	}
	end := int64(len(t.head)) + t.size
	n, err := io.CopyN(io.MultiWriter(t.part, t.sum), rc, end-t.at)
	t.at += n
	if err != nil {
		return nil, brokenOff(err)
	}
	tail, err := io.ReadAll(io.LimitReader(rc, min(maxFrame, t.layer.Size-end)+1))
	if err != nil {
		return nil, err
	}
	if int64(len(tail)) > maxFrame {
		return nil, &layerError{t.layer, "more follows the file than a tar needs"}
	}
	if int64(len(tail)) < t.layer.Size-end {
		return nil, brokenOff(io.EOF)
	}
	return tail, checkTail(t.layer, t.sum, end, tail)
}

// checkTail ends the hash.
func checkTail(l modelLayer, sum hash.Hash, at int64, tail []byte) error {
	sum.Write(tail)
	if got := digest.NewDigest(digest.SHA256, sum); got != l.Digest || at+int64(len(tail)) != l.Size {
		return &bundle.DigestError{Want: l.Descriptor, Got: got, Size: at + int64(len(tail))}
	}
	return nil
}

// readHead reads the tar's headers and keeps them before anything that belongs to them.
func (t *taking) readHead(rc io.Reader) error {
	var head bytes.Buffer
	// archive/tar reads headers by whole blocks and nothing beyond them.
	_, err := tar.NewReader(io.TeeReader(io.LimitReader(rc, min(maxFrame, t.layer.Size)), &head)).Next()
	if err != nil {
		if int64(head.Len()) < min(1024, t.layer.Size) {
			return brokenOff(err)
		}
		return &layerError{t.layer, err.Error()}
	}
	if t.size, err = headOf(t.layer, head.Bytes()); err != nil {
		return err
	}
	if err := writeDurable(t.dir, t.base()+".head", head.Bytes()); err != nil {
		return err
	}
	t.head = head.Bytes()
	t.sum.Write(t.head)
	t.at = int64(len(t.head))
	return nil
}

// brokenOff makes an end that came too early what it is.
func brokenOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// writeDurable writes a small file whole or not at all.
func writeDurable(dir *os.Root, name string, b []byte) error {
	f, err := dir.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, dir.Remove(name+".new"))
	}
	return dir.Rename(name+".new", name)
}

// ctxRead ends when its context does.
type ctxRead struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxRead) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// openAt reads a blob from a place on, and says from where: 0 when the registry gives it only whole. Nothing is checked here.
func (r *Registry) openAt(ctx context.Context, repo string, d ocispec.Descriptor, at int64) (io.ReadCloser, int64, error) {
	ctx = auth.AppendRepositoryScope(ctx, oci.Reference{Registry: r.host, Repository: repo}, auth.ActionPull)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base(repo)+"/blobs/"+string(d.Digest), nil)
	if err != nil {
		return nil, 0, err
	}
	if at >= d.Size && d.Size > 0 {
		return io.NopCloser(bytes.NewReader(nil)), at, nil
	}
	if at > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", at))
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("reading %s in %s: %w", d.Digest, repo, err)
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return resp.Body, 0, nil
	case resp.StatusCode == http.StatusPartialContent && at > 0 && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", at)):
		return resp.Body, at, nil
	case resp.StatusCode == http.StatusNotFound:
		err = errors.Join(ErrNotFound, answered(resp))
	case resp.StatusCode == http.StatusPartialContent:
		resp.Body.Close()
		err = fmt.Errorf("it gave the range %.60q", resp.Header.Get("Content-Range"))
	default:
		err = answered(resp, http.StatusOK, http.StatusPartialContent)
	}
	return nil, 0, fmt.Errorf("reading %s in %s: %w", d.Digest, repo, err)
}
