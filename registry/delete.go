package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/wordcab/wcbundle/bundle"
)

// ErrNoDelete is returned by Delete where the registry lets nobody delete.
var ErrNoDelete = errors.New("the registry does not allow deletion")

const mediaDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"

// manifestTypes are the media types of what lies under /manifests/; all else is a blob.
var manifestTypes = []string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, mediaDockerManifest,
	"application/vnd.docker.distribution.manifest.list.v2+json"}

// Delete takes a blob or a manifest out of a repository, with the tags that point at it. What is not there is gone already, which is no
// error. The bytes are freed when the registry collects its garbage; the embedded one forgets at once what is damaged.
func (r *Registry) Delete(ctx context.Context, repo string, d ocispec.Descriptor) error {
	p, err := r.repo(repo)
	if err != nil {
		return err
	}
	err = p.Delete(ctx, d)
	if err != nil && slices.Contains(manifestTypes, d.MediaType) && unreadable(err) {
		// Deleting a manifest reads it first, to look for its subject. One that is damaged must go all the same.
		d.MediaType = mediaDockerManifest
		err = p.Delete(ctx, d)
	}
	var answer *errcode.ErrorResponse
	switch {
	case err == nil, errors.Is(err, errdef.ErrNotFound):
		return nil
	case notFound(err): // some answer so for a repository that is gone
		return nil
	case errors.As(err, &answer) && answer.StatusCode == http.StatusMethodNotAllowed:
		return fmt.Errorf("deleting %s@%s: %w: %w", repo, d.Digest, ErrNoDelete, err)
	}
	return fmt.Errorf("deleting %s@%s: %w", repo, d.Digest, err)
}

// unreadable tells that a registry answered with something else than what was asked for, and not that it refused.
func unreadable(err error) bool {
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) { // the embedded registry reads a manifest to serve it, and fails
		return answer.Method != http.MethodDelete && answer.StatusCode >= 500
	}
	var network interface{ Timeout() bool }
	return !errors.As(err, &network) && !errors.Is(err, errdef.ErrNotFound) && !errors.Is(err, context.Canceled)
}

// Damaged tells that a registry has answered, with other bytes than those that were asked for, or another number of them.
func Damaged(err error) bool {
	if errors.As(err, new(*bundle.DigestError)) {
		return true
	}
	return err != nil && !errors.As(err, new(*errcode.ErrorResponse)) && !errors.Is(err, ErrNotFound) && !Transient(err) && unreadable(err)
}
