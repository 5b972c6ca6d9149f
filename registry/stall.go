package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

// DefaultStall is how long a registry may move no byte before a request is given up. Registries that keep blobs in an object store copy a
// large one for minutes before they answer.
const DefaultStall = 5 * time.Minute

// StalledError says that a registry moved no byte for a while, in either direction. A request that makes progress is never given
// up, however long it takes.
type StalledError struct {
	Host  string
	After time.Duration
}

func (e *StalledError) Error() string {
	return fmt.Sprintf("registry %s has moved no byte for %s", e.Host, e.After)
}

// Timeout tells net/http and the retry policy that trying again may help.
func (e *StalledError) Timeout() bool { return true }

// Temporary is part of net.Error.
func (e *StalledError) Temporary() bool { return true }

var _ net.Error = (*StalledError)(nil)

// stallGuard gives a request up when the registry has neither taken nor given a byte for a while. Time that our own side takes, to
// make the next bytes or to use those that came, does not count.
type stallGuard struct {
	limit time.Duration
	next  http.RoundTripper
}

// RoundTrip sends the request under watch. The watch ends when the answer's body is closed.
func (s stallGuard) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	w := &watch{limit: s.limit}
	w.timer = time.AfterFunc(s.limit, func() { cancel(&StalledError{Host: r.URL.Host, After: s.limit}) })
	watched := r.Clone(ctx)
	if r.Body != nil && r.Body != http.NoBody {
		watched.Body = outgoing{r.Body, w}
	}
	resp, err := s.next.RoundTrip(watched)
	if err != nil {
		w.stop()
		cause := stalled(ctx, err)
		cancel(nil)
		return nil, cause
	}
	w.pause()
	resp.Body = incoming{resp.Body, w, ctx, func() { w.stop(); cancel(nil) }}
	return resp, nil
}

// stalled is the cause of an error, where it is that nothing moved.
func stalled(ctx context.Context, err error) error {
	var s *StalledError
	if errors.As(context.Cause(ctx), &s) {
		return s
	}
	return err
}

// watch is the clock of one request.
type watch struct {
	limit time.Duration
	timer *time.Timer
	mu    sync.Mutex
	over  bool
}

// run lets the clock run from its beginning: the registry is to move.
func (w *watch) run() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.timer.Reset(w.limit)
	}
}

// pause stops the clock: our side is to move.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer.Stop()
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	w.timer.Stop()
}

// outgoing is a request's body: what lies between two reads is the registry's time.
type outgoing struct {
	io.ReadCloser
	w *watch
}

func (o outgoing) Read(p []byte) (int, error) {
	o.w.pause()
	defer o.w.run()
	return o.ReadCloser.Read(p)
}

// incoming is an answer's body: a read is the registry's time.
type incoming struct {
	io.ReadCloser
	w     *watch
	ctx   context.Context
	ended func()
}

func (i incoming) Read(p []byte) (int, error) {
	i.w.run()
	defer i.w.pause()
	n, err := i.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = stalled(i.ctx, err)
	}
	return n, err
}

func (i incoming) Close() error {
	i.ended()
	return i.ReadCloser.Close()
}

// spoiledOnTheWay tells that a registry got other bytes than the digest names. Whoever sends knows that its own were right.
func spoiledOnTheWay(answer *errcode.ErrorResponse) bool {
	return slices.ContainsFunc(answer.Errors, func(e errcode.Error) bool { return e.Code == errcode.ErrorCodeDigestInvalid })
}

// Transient tells errors after which the same request may succeed: a connection that broke or stalled, and answers with which a
// registry says that it is not able to just now, has forgotten an upload, got other bytes than were sent, or takes a token for too old.
func Transient(err error) bool {
	var denied *DeniedError
	if errors.As(err, &denied) {
		return denied.Again
	}
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
			return true
		case http.StatusBadRequest:
			return answer.Method == http.MethodPut && spoiledOnTheWay(answer)
		case http.StatusNotFound:
			return answer.Method == http.MethodPut || answer.Method == http.MethodPatch || answer.Method == http.MethodPost
		}
		return answer.StatusCode >= 500
	}
	var network net.Error
	return errors.As(err, &network) && network.Timeout() || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, io.EOF)
}
