package registry

import (
	"context"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
)

// marked is a SHA-256 that can be taken back to a place some way before where it is. One that is off only counts.
type marked struct {
	off   bool
	h     hash.Hash
	at    int64
	marks []mark // ascending, the first at 0
}

type mark struct {
	at    int64
	state []byte
}

// markEvery is the distance of marks, in bytes.
const markEvery = 16 << 20

func newMarked() *marked {
	m := &marked{h: sha256.New()}
	m.keep()
	return m
}

func (m *marked) keep() {
	state, err := m.h.(encoding.BinaryMarshaler).MarshalBinary()
	if err == nil { // crypto/sha256 gives none
		m.marks = append(m.marks, mark{m.at, state})
	}
}

func (m *marked) Write(p []byte) {
	m.at += int64(len(p))
	if m.off {
		return
	}
	m.h.Write(p)
	if m.at >= m.marks[len(m.marks)-1].at+markEvery {
		m.keep()
	}
}

// back goes to the last mark that is not behind at.
func (m *marked) back(at int64) error {
	if m.off {
		m.at = at
	}
	if m.at == at {
		return nil
	}
	for m.marks[len(m.marks)-1].at > at {
		m.marks = m.marks[:len(m.marks)-1]
	}
	last := m.marks[len(m.marks)-1]
	if m.at <= at && m.at >= last.at {
		return nil
	}
	m.at = last.at
	return m.h.(encoding.BinaryUnmarshaler).UnmarshalBinary(last.state)
}

// wrong compares the digest with the one that is wanted.
func (m *marked) wrong(want ocispec.Descriptor) error {
	if m.off {
		return nil
	}
	if got := digest.NewDigest(digest.SHA256, m.h); got != want.Digest {
		return &sourceError{&bundle.DigestError{Want: want, Got: got, Size: m.at}}
	}
	return nil
}

// sourceError says that what an upload reads from broke, not the registry.
type sourceError struct{ err error }

func (e *sourceError) Error() string { return e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

func isSourceError(err error) bool { return errors.As(err, new(*sourceError)) }

func unwrapSource(err error) error {
	var s *sourceError
	if errors.As(err, &s) {
		return s.err
	}
	return err
}

// sending is a piece of a blob as the body of a request. It hashes what is read from it.
type sending struct {
	u    *Upload
	src  io.ReadCloser
	left int64

	mu    sync.Mutex
	ended bool
	err   error
	told  int64
}

// body opens the blob where the registry wants it to go on, n bytes of it. What the hash has not seen is read.
func (u *Upload) body(ctx context.Context, n int64) (*sending, error) {
	if err := u.hash.back(u.at); err != nil {
		return nil, err
	}
	src, err := u.Open(ctx)
	if err != nil {
		return nil, &sourceError{err}
	}
	if err := u.skip(ctx, src); err != nil {
		return nil, errors.Join(&sourceError{err}, src.Close())
	}
	return &sending{u: u, src: src, left: n, told: u.at}, nil
}

// skip brings a source, and the hash with it, to where the upload stands.
func (u *Upload) skip(ctx context.Context, src io.Reader) error {
	if s, ok := src.(io.Seeker); ok {
		if _, err := s.Seek(u.hash.at, io.SeekStart); err != nil {
			return err
		}
	} else if err := u.pass(ctx, src, u.hash.at, func([]byte) {}); err != nil {
		return err
	}
	return u.pass(ctx, src, u.at-u.hash.at, u.hash.Write)
}

// pass reads n bytes and gives them to to.
func (u *Upload) pass(ctx context.Context, src io.Reader, n int64, to func([]byte)) error {
	if n == 0 {
		return nil
	}
	for buf := make([]byte, 1<<20); n > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		k, err := io.ReadFull(src, buf[:min(n, int64(len(buf)))])
		to(buf[:k])
		n -= int64(k)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return &bundle.DigestError{Want: u.Blob, Size: u.at - n}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish checks, when everything is sent, that the blob ends where it should and has its digest.
func (u *Upload) finish(ctx context.Context) error {
	if u.hash.at != u.at { // the registry had it all when the upload was taken up again
		b, err := u.body(ctx, 0)
		if err != nil {
			return err
		}
		if err := b.Close(); err != nil {
			return err
		}
	}
	return u.hash.wrong(u.Blob)
}

// blame hashes the source after the registry has said that it got other bytes. Nil means that the source is as it should be.
func (u *Upload) blame(ctx context.Context) error {
	src, err := u.Open(ctx)
	if err != nil {
		return &sourceError{err}
	}
	defer src.Close()
	v, err := bundle.VerifyReader(src, u.Blob)
	if err == nil {
		_, err = io.Copy(io.Discard, v)
	}
	if err != nil {
		return &sourceError{err}
	}
	return nil
}

// Read gives the next bytes of the piece. It fails before the last byte of a blob is given out that is not the one that was meant.
func (s *sending) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return 0, s.err
	case s.ended:
		return 0, errors.New("the request is over")
	case s.left == 0:
		return 0, io.EOF
	}
	if int64(len(p)) > s.left {
		p = p[:s.left]
	}
	n, err := s.src.Read(p)
	s.u.hash.Write(p[:n])
	s.left -= int64(n)
	if s.err = s.judge(err); s.err != nil {
		return 0, s.err
	}
	s.tell()
	return n, nil
}

// judge says what is wrong with the source after a read that gave err.
func (s *sending) judge(err error) error {
	want := s.u.Blob
	if err != nil && err != io.EOF {
		return &sourceError{err}
	}
	if err == io.EOF && s.left > 0 {
		return &sourceError{&bundle.DigestError{Want: want, Size: s.u.hash.at}}
	}
	if s.u.hash.at < want.Size {
		return nil
	}
	if err == nil {
		var more [1]byte
		k, e := io.ReadFull(s.src, more[:])
		switch {
		case k > 0:
			return &sourceError{&bundle.DigestError{Want: want, Size: want.Size + 1}}
		case e != io.EOF:
			return &sourceError{e}
		}
	}
	return s.u.hash.wrong(want)
}

// tellEvery is how many bytes lie between two calls of Progress.
const tellEvery = 4 << 20

func (s *sending) tell() {
	if at := s.u.hash.at; s.u.Progress != nil && (at >= s.told+tellEvery || at == s.u.Blob.Size) {
		s.told = at
		s.u.Progress(at)
	}
}

// Close ends the reading. It returns what was wrong with the source, if that is why; when it returns nothing is read any more.
func (s *sending) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var closed error
	if !s.ended {
		s.ended = true
		closed = s.src.Close()
	}
	if s.err != nil {
		return s.err
	}
	if closed != nil {
		return fmt.Errorf("closing the blob that is pushed: %w", closed)
	}
	return nil
}
