package registry

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// comparing remembers whether a registry compares what it gets with the digest that it is told.
type comparing struct {
	mu    sync.Mutex
	asked bool
	does  bool
}

// compares tells whether the registry refuses bytes of another digest, as it should. It is asked once, in the same way in which blobs are
// sent: a few random bytes in a chunk, and a digest that is not theirs. Where it refuses them, it is the one that hashes a blob, and we need
// not do so too: every byte is hashed once. Where it takes them, or anything else happens, we hash ourselves.
func (r *Registry) compares(ctx context.Context, repo string) bool {
	c := &r.comparing
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked {
		return c.does
	}
	refused, err := r.refusesWrong(ctx, repo)
	if err != nil {
		return false // asked again for the next blob
	}
	c.asked, c.does = true, refused
	return c.does
}

// refusesWrong sends a blob with a wrong digest. Only the answer that says that it is the digest counts as a refusal of it.
func (r *Registry) refusesWrong(ctx context.Context, repo string) (bool, error) {
	b := make([]byte, 64)
	if _, err := rand.Read(b); err != nil {
		return false, err
	}
	wrong := ocispec.Descriptor{Digest: digest.FromBytes(append(bytes.Clone(b), 0)), Size: int64(len(b))}
	u := &Upload{Repo: repo, Blob: wrong, hash: newMarked(), Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }}
	u.hash.off = true
	if err := r.openSession(ctx, u); err != nil {
		return false, err
	}
	err := r.sendPiece(ctx, u)
	if err != nil && noChunks(answerOf(err)) {
		return false, nil // not in this way, which then is not that of blobs either
	}
	if err != nil {
		return false, err
	}
	err = r.commit(ctx, u)
	if err == nil { // it has stored them under a name that is not theirs
		if err := r.Delete(ctx, repo, wrong); err != nil && !errors.Is(err, ErrNoDelete) {
			return false, err
		}
		return false, nil
	}
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode < 500 {
		return answer.StatusCode == http.StatusBadRequest && spoiledOnTheWay(answer), nil
	}
	return false, err
}
