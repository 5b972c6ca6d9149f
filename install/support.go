package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/support"
)

// WriteSupport collects a support bundle into a new file. A file that is not whole and searched does not stay.
func WriteSupport(ctx context.Context, r support.Request, path string) (support.Manifest, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return support.Manifest{}, err
	}
	m, err := support.Collect(ctx, r, f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return m, errors.Join(err, os.Remove(path))
	}
	return m, nil
}

// FileDescriptor hashes a file.
func FileDescriptor(path string) (ocispec.Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close()
	h := digest.SHA256.Digester()
	n, err := io.Copy(h.Hash(), f)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return ocispec.Descriptor{MediaType: support.MediaType, Digest: h.Digest(), Size: n}, nil
}

// Altered is the error for a file that is not the one that was signed.
func Altered(path, signed string, got ocispec.Descriptor) error {
	return fmt.Errorf("%s: %w", path, &bundle.DigestError{Want: ocispec.Descriptor{Digest: digest.Digest(signed)}, Got: got.Digest, Size: got.Size})
}
