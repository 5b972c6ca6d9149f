package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	oci "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/wordcab/wcbundle/bundle"
)

// Upload is one blob on its way into one repository. It may be run again after an error, and goes on from what the registry has;
// with Place kept, another process goes on with it too. It is for one goroutine at a time.
//
// The protocol is that of the OCI distribution specification 1.1, "Pushing a blob in chunks": a session is opened, what is left is
// sent in one request, and where that breaks off the registry is asked how far it came. Where a registry takes no chunks the blob is sent
// whole; where it refuses long requests, in pieces.
type Upload struct {
	Repo     string
	Blob     ocispec.Descriptor
	Open     func(context.Context) (io.ReadCloser, error) // the blob from its beginning; an io.Seeker is not read twice
	Place    string                                       // where the registry takes the upload up again; "" = not begun
	Moved    func(place string) error                     // told each new place before bytes are sent there; nil = nobody
	Progress func(sent int64)                             // told how far the blob is, now and then; nil = nobody

	url   *url.URL
	at    int64 // bytes that the registry has taken
	hash  *marked
	alive bool // the session is known to be there
}

// Taken is how many bytes the registry had when it last said so.
func (u *Upload) Taken() int64 { return u.at }

const (
	wholeBelow    = 4 << 20  // bytes of a blob that is sent in one request: sending it again costs less than asking
	firstPiece    = 64 << 20 // bytes of a request where a registry has refused a longer one
	smallestPiece = 1 << 20
)

// Upload brings the blob in. Nothing is stored that has another digest: the registry hashes what it gets, which it has shown before (see
// compares), or we do on the way.
func (r *Registry) Upload(ctx context.Context, u *Upload) error {
	ctx = r.pushing(ctx, u.Repo)
	err := r.upload(ctx, u)
	if err == nil {
		return nil
	}
	if isSourceError(err) {
		err = unwrapSource(err)
		if errors.As(err, new(*bundle.DigestError)) {
			r.cancel(ctx, u)
		}
		return err
	}
	return fmt.Errorf("pushing %s to %s: %w", u.Blob.Digest, u.Repo, err)
}

func (r *Registry) upload(ctx context.Context, u *Upload) error {
	if err := bundle.CheckDigest(u.Blob.Digest); err != nil {
		return err
	}
	if r.wholeOnly.Load() || u.Blob.Size <= wholeBelow {
		return r.sendWhole(ctx, u)
	}
	old := u.Place != "" && u.hash == nil // begun by another process
	err := r.sendChunks(ctx, u)
	if old && answerOf(err) == http.StatusBadRequest { // what that one sent were other bytes
		err = r.sendChunks(ctx, u)
	}
	return err
}

func (r *Registry) sendChunks(ctx context.Context, u *Upload) error {
	if u.hash == nil {
		u.hash = newMarked()
		u.hash.off = r.compares(ctx, u.Repo)
	}
	if err := r.begin(ctx, u); err != nil {
		return err
	}
	err := r.sendRest(ctx, u)
	if errors.Is(err, errWhole) {
		return r.sendWhole(ctx, u)
	}
	if err != nil {
		return err
	}
	if err := u.finish(ctx); err != nil {
		return err
	}
	err = r.commit(ctx, u)
	if u.hash.off && answerOf(err) == http.StatusBadRequest {
		if whose := u.blame(ctx); whose != nil {
			return whose
		}
	}
	return err
}

// begin opens a session, or takes up the one that is there.
func (r *Registry) begin(ctx context.Context, u *Upload) error {
	if u.Place != "" && !u.alive {
		if err := r.status(ctx, u); err == nil {
			return nil
		} else if !gone(err) {
			return err
		}
	}
	if u.alive {
		return nil
	}
	return r.newSession(ctx, u)
}

func (r *Registry) newSession(ctx context.Context, u *Upload) error {
	if err := r.openSession(ctx, u); err != nil {
		return err
	}
	u.alive = true
	return u.keep()
}

func (r *Registry) openSession(ctx context.Context, u *Upload) error {
	resp, err := r.request(ctx, http.MethodPost, r.base(u.Repo)+"/blobs/uploads/")
	if err != nil {
		return err
	}
	if err := answered(resp, http.StatusAccepted); err != nil {
		return err
	}
	u.at = 0
	return u.follow(resp)
}

// follow takes over where the registry wants the rest.
func (u *Upload) follow(resp *http.Response) error {
	to, err := resp.Location()
	if errors.Is(err, http.ErrNoLocation) && u.url != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the registry does not say where it wants %s: %w", u.Blob.Digest, err)
	}
	u.url = to
	return nil
}

// keep tells the caller where the upload can be taken up again.
func (u *Upload) keep() error {
	if u.Place == u.url.String() {
		return nil
	}
	u.Place = u.url.String()
	if u.Moved == nil {
		return nil
	}
	return u.Moved(u.Place)
}

// status asks how far the upload came.
func (r *Registry) status(ctx context.Context, u *Upload) error {
	at, err := url.Parse(u.Place)
	if err != nil {
		return fmt.Errorf("%w: its place is %.80q", errSession, u.Place)
	}
	resp, err := r.request(ctx, http.MethodGet, u.Place)
	if err != nil {
		return err
	}
	if err := answered(resp, http.StatusNoContent, http.StatusAccepted); err != nil {
		return err
	}
	n, err := taken(resp, u.Blob.Size)
	if err != nil {
		return err
	}
	u.url, u.at, u.alive = at, n, true
	if err := u.follow(resp); err != nil {
		return err
	}
	return u.keep()
}

// taken reads how many bytes a registry has: the header Range, whose end is the last byte's index. "0-0" is what an empty upload has.
func taken(resp *http.Response, size int64) (int64, error) {
	text := strings.TrimPrefix(resp.Header.Get("Range"), "bytes=")
	if text == "" {
		return 0, nil
	}
	from, to, ok := strings.Cut(text, "-")
	last, err := strconv.ParseInt(to, 10, 64)
	if !ok || err != nil || from != "0" || last < 0 || last >= max(size, 1) {
		return 0, fmt.Errorf("%w: it says that it has the bytes %.40q of %d", errSession, text, size)
	}
	if last == 0 {
		return 0, nil
	}
	return last + 1, nil
}

// errSession says that a session cannot be gone on with.
var errSession = errors.New("the registry has lost the upload")

// gone tells that a session is there no more, or never was.
func gone(err error) bool {
	var answer *errcode.ErrorResponse
	return errors.Is(err, errSession) || errors.As(err, &answer) && answer.StatusCode >= 400 && answer.StatusCode < 500 &&
		answer.StatusCode != http.StatusUnauthorized && answer.StatusCode != http.StatusForbidden && answer.StatusCode != http.StatusTooManyRequests
}

// errWhole says that the registry takes blobs only whole.
var errWhole = errors.New("the registry takes no chunks")

// sendRest sends what the registry does not have. After a request that broke it asks how far it came, and goes on at once where that
// is further than before.
func (r *Registry) sendRest(ctx context.Context, u *Upload) error {
	for renewed := false; u.at < u.Blob.Size; {
		before := u.at
		err := r.sendPiece(ctx, u)
		if err == nil {
			continue
		}
		u.alive = false
		if isSourceError(err) || ctx.Err() != nil {
			return err
		}
		var denied *DeniedError
		again := errors.As(err, &denied) && denied.Again // a token that has expired meanwhile
		switch {
		case answerOf(err) == http.StatusRequestEntityTooLarge:
			if again = r.shorten(u.Blob.Size - before); !again {
				return err
			}
		case before == 0 && noChunks(answerOf(err)):
			r.wholeOnly.Store(true)
			return errWhole
		}
		asked := r.status(ctx, u)
		if asked != nil && gone(asked) && !renewed {
			renewed, again = true, true
			asked = r.newSession(ctx, u)
		}
		if asked != nil || u.at <= before && !again {
			return err
		}
	}
	return nil
}

// noChunks tells the answers of registries that take a blob only whole.
func noChunks(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusNotImplemented, http.StatusLengthRequired:
		return true
	}
	return false
}

// shorten makes pieces smaller after a registry, or what stands before it, has refused one. It reports false where they are small.
func (r *Registry) shorten(refused int64) bool {
	was := r.piece.Load()
	next := was / 4
	if was == 0 {
		next = min(firstPiece, refused/2)
	}
	if next < smallestPiece {
		return false
	}
	r.piece.CompareAndSwap(was, next)
	return true
}

// sendPiece sends one request with what is left, or as much of it as the registry takes at once.
func (r *Registry) sendPiece(ctx context.Context, u *Upload) error {
	n := u.Blob.Size - u.at
	if piece := r.piece.Load(); piece > 0 {
		n = min(n, piece)
	}
	body, err := u.body(ctx, n)
	if err != nil {
		return err
	}
	resp, err := r.send(ctx, http.MethodPatch, u.url.String(), body, func(h http.Header) {
		h.Set("Content-Range", fmt.Sprintf("%d-%d", u.at, u.at+n-1))
	})
	if err != nil {
		return err
	}
	if err := answered(resp, http.StatusAccepted, http.StatusNoContent); err != nil {
		return err
	}
	at, err := taken(resp, u.Blob.Size)
	if err != nil {
		return err
	}
	if resp.Header.Get("Range") == "" || at == 0 && n == 1 {
		at = u.at + n
	}
	if at != u.at+n {
		return fmt.Errorf("%w: it took %d of %d bytes", errSession, at-u.at, n)
	}
	u.at = at
	if err := u.follow(resp); err != nil {
		return err
	}
	return u.keep()
}

// commit closes the session: the registry compares the digest and stores the blob.
func (r *Registry) commit(ctx context.Context, u *Upload) error {
	u.alive = false
	resp, err := r.request(ctx, http.MethodPut, withDigest(u.url, u.Blob))
	if err != nil {
		return err
	}
	err = answered(resp, http.StatusCreated)
	if err != nil && answerOf(err) < 500 {
		u.Place, u.at = "", 0 // what it has is not what was sent
	}
	return err
}

// cancel takes an upload back whose bytes are wrong. A registry that does not forget it now does so later by itself.
func (r *Registry) cancel(ctx context.Context, u *Upload) {
	if u.url == nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, u.url.String(), nil)
	if err != nil {
		return
	}
	if resp, err := r.client.Do(req); err == nil {
		resp.Body.Close()
	}
	u.Place, u.url, u.alive, u.at = "", nil, false, 0
}

// sendWhole sends a blob in one request: a short one, and any to a registry that takes no chunks.
func (r *Registry) sendWhole(ctx context.Context, u *Upload) error {
	u.Place, u.alive, u.hash = "", false, newMarked()
	if err := r.openSession(ctx, u); err != nil {
		return err
	}
	body, err := u.body(ctx, u.Blob.Size)
	if err != nil {
		return err
	}
	resp, err := r.send(ctx, http.MethodPut, withDigest(u.url, u.Blob), body, nil)
	if err != nil {
		return err
	}
	return answered(resp, http.StatusCreated)
}

func withDigest(at *url.URL, d ocispec.Descriptor) string {
	to := *at
	q := to.Query()
	q.Set("digest", string(d.Digest))
	to.RawQuery = q.Encode()
	return to.String()
}

// pushing names what the requests of an upload need, so that a token is asked for once.
func (r *Registry) pushing(ctx context.Context, repo string) context.Context {
	return auth.AppendRepositoryScope(ctx, oci.Reference{Registry: r.host, Repository: repo}, auth.ActionPull, auth.ActionPush)
}

// base is the URL of a repository.
func (r *Registry) base(repo string) string {
	scheme := "https"
	if r.plain {
		scheme = "http"
	}
	return scheme + "://" + r.host + "/v2/" + repo
}

// request sends a request without a body.
func (r *Registry) request(ctx context.Context, method, to string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, nil)
	if err != nil {
		return nil, err
	}
	return r.client.Do(req)
}

// send sends a body, and waits until nothing reads from it any more.
func (r *Registry) send(ctx context.Context, method, to string, body *sending, set func(http.Header)) (*http.Response, error) {
	defer body.Close()
	req, err := http.NewRequestWithContext(ctx, method, to, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = body.left
	if req.ContentLength == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if set != nil {
		set(req.Header)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if broke := body.Close(); broke != nil { // the source is the cause, not what became of the request
			return nil, broke
		}
		return nil, err
	}
	return resp, nil
}
