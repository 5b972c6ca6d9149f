package bundle

import (
	"bytes"
	"context"
	_ "crypto/sha256" // go-digest knows only the algorithms that are linked
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// CheckDigest accepts sha256 in its one spelling and nothing else, before the digest becomes a path.
func CheckDigest(d digest.Digest) error {
	if !digestForm.MatchString(string(d)) {
		return fmt.Errorf("digest %.80q is not sha256: and 64 lower-case hex digits", string(d))
	}
	return nil
}

// DigestError is returned for bytes that are not those which a descriptor names.
type DigestError struct {
	Want ocispec.Descriptor
	Got  digest.Digest // "" when the length already differs
	Size int64         // bytes seen
}

func (e *DigestError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("blob %s is damaged: it has %d bytes where %d were signed", e.Want.Digest, e.Size, e.Want.Size)
	}
	return fmt.Sprintf("blob %s is damaged: its bytes hash to %s", e.Want.Digest, e.Got)
}

// OpenVerified opens the content behind a check: the last read fails with a *DigestError when the bytes were not those
// of the descriptor.
func (c Content) OpenVerified(ctx context.Context) (io.ReadCloser, error) {
	r, err := c.Open(ctx)
	if err != nil {
		return nil, err
	}
	v, err := VerifyReader(r, c.Descriptor)
	if err != nil {
		r.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{v, r}, nil
}

// VerifyReader passes r through and checks length and digest against d at its end: it never reads more than d.Size+1
// bytes, and reports io.EOF only when both agree.
func VerifyReader(r io.Reader, d ocispec.Descriptor) (io.Reader, error) {
	if err := CheckDigest(d.Digest); err != nil {
		return nil, err
	}
	if d.Size < 0 {
		return nil, fmt.Errorf("blob %s has a negative size", d.Digest)
	}
	return &verifyReader{r: r, h: digest.SHA256.Hash(), d: d}, nil
}

type verifyReader struct {
	r   io.Reader
	h   hash.Hash
	d   ocispec.Descriptor
	n   int64
	err error
}

func (v *verifyReader) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if left := v.d.Size - v.n + 1; int64(len(p)) > left {
		p = p[:left]
	}
	n, err := v.r.Read(p)
	v.n += int64(n)
	v.h.Write(p[:n])
	switch {
	case v.n > v.d.Size:
		v.err = &DigestError{Want: v.d, Size: v.n}
		return 0, v.err
	case err == io.EOF && v.n < v.d.Size:
		v.err = &DigestError{Want: v.d, Size: v.n}
	case err == io.EOF:
		v.err = io.EOF
		if got := digest.NewDigest(digest.SHA256, v.h); got != v.d.Digest {
			v.err = &DigestError{Want: v.d, Got: got, Size: v.n}
		}
	default:
		v.err = err
	}
	return n, v.err
}

// ErrTooLong is returned for a blob that says that it is longer than its kind may be.
var ErrTooLong = errors.New("longer than what is allowed for it")

// ReadBytes reads a small content whole and checks it. It refuses more than max bytes before it reads any.
func (c Content) ReadBytes(ctx context.Context, max int64) ([]byte, error) {
	if c.Size > max {
		return nil, fmt.Errorf("%s is %d bytes long: %w: %d", c.Digest, c.Size, ErrTooLong, max)
	}
	r, err := c.OpenVerified(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func bytesContent(mediaType string, b []byte) Content {
	return Content{
		Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))},
		Open:       func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil },
	}
}

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c *ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
