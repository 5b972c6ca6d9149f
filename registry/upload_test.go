package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
)

// front stands before a registry and may answer in its place. It counts the bytes of bodies that reach the registry.
type front struct {
	next http.Handler
	mu   sync.Mutex
	sent int64
	log  []string
	hook func(w http.ResponseWriter, r *http.Request) bool // true: it has answered
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.log = append(f.log, r.Method)
	hook := f.hook
	f.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	r.Body = &counted{r.Body, f}
	f.next.ServeHTTP(w, r)
}

type counted struct {
	io.ReadCloser
	f *front
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.f.mu.Lock()
	c.f.sent += int64(n)
	c.f.mu.Unlock()
	return n, err
}

func (f *front) methods() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.Join(f.log, " ")
}

// behind starts the embedded registry behind a front.
func behind(t *testing.T) (*front, *Registry) {
	t.Helper()
	app, err := Handler(t.Context(), ServeOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	f := &front{next: app}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	r, err := New(Options{Host: strings.TrimPrefix(srv.URL, "http://"), Stall: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return f, r
}

func randomBlob(n int) ([]byte, ocispec.Descriptor) {
	b := make([]byte, n)
	rand.New(rand.NewSource(int64(n))).Read(b)
	return b, ocispec.Descriptor{MediaType: "application/octet-stream", Size: int64(n), Digest: digest.FromBytes(b)}
}

// seekable is a source that counts how often it was opened, and what was read.
type seekable struct {
	b      []byte
	opened int
	read   int64
}

func (s *seekable) open(context.Context) (io.ReadCloser, error) {
	s.opened++
	return &seekableReader{bytes.NewReader(s.b), s}, nil
}

type seekableReader struct {
	*bytes.Reader
	s *seekable
}

func (r *seekableReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.s.read += int64(n)
	return n, err
}
func (r *seekableReader) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{r})
}
func (r *seekableReader) Close() error { return nil }

func wantBlob(t *testing.T, r *Registry, repo string, d ocispec.Descriptor) {
	t.Helper()
	rc, err := r.Open(t.Context(), repo, d)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.Copy(io.Discard, rc); err != nil {
		t.Fatal(err)
	}
}

const mib = 1 << 20

func TestUploadInOneRequest(t *testing.T) {
	for _, n := range []int{0, 1, wholeBelow, wholeBelow + 1, 40 * mib} {
		f, r := behind(t)
		b, d := randomBlob(n)
		src := &seekable{b: b}
		if err := r.Upload(t.Context(), &Upload{Repo: "a/b", Blob: d, Open: src.open}); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, r, "a/b", d)
		want := "POST PATCH PUT POST PATCH PUT GET" // the first three ask whether it compares digests
		if n <= wholeBelow {
			want = "POST PUT GET"
		}
		if got := f.methods(); got != want || src.read != int64(n) || src.opened != 1 {
			t.Errorf("%d bytes: requests %s, want %s; %d bytes read in %d openings", n, got, want, src.read, src.opened)
		}
	}
}

// TestUploadGoesOn breaks connections in the middle of a blob: nothing that the registry took is sent again.
func TestUploadGoesOn(t *testing.T) {
	f, r := behind(t)
	b, d := randomBlob(60 * mib)
	src := &seekable{b: b}
	cuts := 0
	f.hook = func(w http.ResponseWriter, q *http.Request) bool {
		if q.Method == http.MethodPatch && q.ContentLength > mib && cuts < 3 {
			cuts++
			q.Body = io.NopCloser(io.LimitReader(q.Body, 17*mib)) // then the connection ends
			f.next.ServeHTTP(httptest.NewRecorder(), q)
			f.mu.Lock()
			f.sent += 17 * mib
			f.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		return false
	}
	if err := r.Upload(t.Context(), &Upload{Repo: "a/b", Blob: d, Open: src.open}); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, r, "a/b", d)
	if f.sent != d.Size+64 || cuts != 3 { // 64 are the probe's
		t.Errorf("%d bytes went to the registry in spite of %d cuts, the blob has %d", f.sent, cuts, d.Size)
	}
	if extra := src.read - d.Size; extra > 4*3*markEvery {
		t.Errorf("%d bytes were read more than once", extra)
	}
}

// TestUploadByAnotherProcess goes on with what a process had begun that was killed.
func TestUploadByAnotherProcess(t *testing.T) {
	for _, spoil := range []bool{false, true} {
		f, r := behind(t)
		b, d := randomBlob(30 * mib)
		first := bytes.Clone(b)
		if spoil { // what the first process sent were other bytes
			first[5] ^= 1
		}
		src := &seekable{b: first}
		var place string
		f.hook = func(w http.ResponseWriter, q *http.Request) bool {
			if q.Method == http.MethodPatch && q.ContentLength > mib {
				q.Body = io.NopCloser(io.LimitReader(q.Body, 20*mib))
				f.next.ServeHTTP(httptest.NewRecorder(), q)
				panic(http.ErrAbortHandler)
			}
			return q.Method == http.MethodGet && refuse(w, http.StatusServiceUnavailable)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		err := r.Upload(ctx, &Upload{Repo: "a/b", Blob: d, Open: src.open, Moved: func(p string) error { place = p; return nil }})
		cancel()
		if err == nil || place == "" {
			t.Fatalf("the first process ended with %v and the place %q", err, place)
		}
		f.hook, f.sent = nil, 0
		again := &seekable{b: b}
		if err := r.Upload(t.Context(), &Upload{Repo: "a/b", Blob: d, Open: again.open, Place: place}); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, r, "a/b", d)
		if spoil {
			continue
		}
		if f.sent != d.Size-20*mib { // this client has asked before
			t.Errorf("%d bytes were sent, want those that were left, %d", f.sent, d.Size-20*mib)
		}
	}
}

func refuse(w http.ResponseWriter, status int) bool {
	w.WriteHeader(status)
	return true
}

// TestUploadToOthers runs against registries that do not do what distribution does.
func TestUploadToOthers(t *testing.T) {
	for name, c := range map[string]struct {
		hook func(f *front, w http.ResponseWriter, q *http.Request) bool
		want string
	}{
		"takes no chunks": {func(_ *front, w http.ResponseWriter, q *http.Request) bool {
			return q.Method == http.MethodPatch && refuse(w, http.StatusMethodNotAllowed)
		}, "POST PATCH POST PATCH POST PUT GET"},
		"refuses long requests": {func(_ *front, w http.ResponseWriter, q *http.Request) bool {
			return q.ContentLength > 9*mib && refuse(w, http.StatusRequestEntityTooLarge)
		}, ""},
		"forgets the session once": {func(f *front, w http.ResponseWriter, q *http.Request) bool {
			n := strings.Count(f.methods(), "PATCH")
			return n == 2 && q.Method != http.MethodPost && refuse(w, http.StatusNotFound)
		}, "POST PATCH PUT POST PATCH GET POST PATCH PUT GET"},
		"says nothing of ranges": {func(f *front, w http.ResponseWriter, q *http.Request) bool {
			if q.Method != http.MethodPatch {
				return false
			}
			rec := httptest.NewRecorder()
			f.next.ServeHTTP(rec, q)
			w.Header().Set("Location", rec.Header().Get("Location"))
			return refuse(w, http.StatusNoContent)
		}, "POST PATCH PUT POST PATCH PUT GET"},
		"gives relative places": {func(f *front, w http.ResponseWriter, q *http.Request) bool {
			if q.Method != http.MethodPatch && q.Method != http.MethodPost {
				return false
			}
			rec := httptest.NewRecorder()
			f.next.ServeHTTP(rec, q)
			at, _ := rec.Result().Location()
			w.Header().Set("Location", at.RequestURI())
			w.Header().Set("Range", rec.Header().Get("Range"))
			return refuse(w, rec.Code)
		}, "POST PATCH PUT POST PATCH PUT GET"},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := behind(t)
			f.hook = func(w http.ResponseWriter, q *http.Request) bool { return c.hook(f, w, q) }
			b, d := randomBlob(30*mib + 7)
			if err := r.Upload(t.Context(), &Upload{Repo: "a/b", Blob: d, Open: (&seekable{b: b}).open}); err != nil {
				t.Fatal(err)
			}
			wantBlob(t, r, "a/b", d)
			if got := f.methods(); c.want != "" && got != c.want {
				t.Errorf("requests %s, want %s", got, c.want)
			}
		})
	}
}

// TestUploadHostile meets registries that lie about what they have, and sources that are not what they should be.
func TestUploadHostile(t *testing.T) {
	b, d := randomBlob(9 * mib)
	flipped := bytes.Clone(b)
	flipped[len(b)-1] ^= 1
	for name, src := range map[string][]byte{"flipped": flipped, "short": b[:len(b)-1], "long": append(bytes.Clone(b), 0), "empty": nil} {
		t.Run(name, func(t *testing.T) {
			f, r := behind(t)
			err := r.Upload(t.Context(), &Upload{Repo: "a/b", Blob: d, Open: (&seekable{b: src}).open})
			if !errors.As(err, new(*bundle.DigestError)) {
				t.Fatalf("got %v", err)
			}
			if ok, err := r.Has(t.Context(), "a/b", d); ok || err != nil {
				t.Fatalf("the registry has it: %v, %v", ok, err)
			}
			if !strings.Contains(f.methods(), "DELETE") {
				t.Error("the upload was left behind")
			}
		})
	}
	for name, says := range map[string]string{"more": "0-999999999999", "negative": "0--5", "from the middle": "7-8", "words": "all of it", "overflow": "0-99999999999999999999999"} {
		t.Run("has "+name, func(t *testing.T) {
			f, r := behind(t)
			f.hook = func(w http.ResponseWriter, q *http.Request) bool {
				if q.Method != http.MethodPatch && q.Method != http.MethodGet {
					return false
				}
				w.Header().Set("Range", says)
				return refuse(w, map[string]int{http.MethodPatch: 202, http.MethodGet: 204}[q.Method])
			}
			if err := r.Upload(t.Context(), &Upload{Repo: "a/b", Blob: d, Open: (&seekable{b: b}).open}); err == nil {
				t.Fatal("it was believed")
			}
			if n := len(strings.Fields(f.methods())); n > 12 {
				t.Errorf("%d requests before it was given up", n)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-3": 0, "soon": 0, "999999999": longestWait,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): 0} {
		if got := retryAfter(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	resp := &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {"4"}}, Body: io.NopCloser(strings.NewReader(`{"errors":[{"code":"TOOMANYREQUESTS","message":"later"}]}`)),
		Request: httptest.NewRequest("PATCH", "http://r/v2/a/b?_state=secret", nil)}
	err := answered(resp, 202)
	var busy *BusyError
	if !errors.As(err, &busy) || busy.After != 4*time.Second || !Transient(err) || !strings.Contains(err.Error(), "later") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

// TestNoStateInErrors: a connection that breaks is told without what the registry put into the address of the upload.
func TestNoStateInErrors(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodHead:
			w.WriteHeader(http.StatusNotFound)
		case http.MethodPost:
			w.Header().Set("Location", r.URL.Path+"1?_state=topsecret")
			w.WriteHeader(http.StatusAccepted)
		default:
			panic(http.ErrAbortHandler)
		}
	}))
	defer srv.Close()
	r, err := New(Options{Host: strings.TrimPrefix(srv.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	b, d := randomBlob(1000)
	err = r.Upload(t.Context(), &Upload{Repo: "a/b", Blob: d, Open: (&seekable{b: b}).open})
	if err == nil || strings.Contains(err.Error(), "topsecret") || !strings.Contains(err.Error(), "/v2/a/b") {
		t.Errorf("got %v", err)
	}
}

// TestMarked takes a hash back to many places, and wants what a hash of the bytes up to there gives.
func TestMarked(t *testing.T) {
	b, _ := randomBlob(3*markEvery + 5)
	m := newMarked()
	for i := 0; i < len(b); i += mib {
		m.Write(b[i:min(i+mib, len(b))])
	}
	for _, at := range []int64{int64(len(b)), 3*markEvery - 1, markEvery + 1, markEvery, 5, 0} {
		if err := m.back(at); err != nil || m.at > at || at-m.at > markEvery+mib {
			t.Fatalf("back to %d is at %d: %v", at, m.at, err)
		}
		m.Write(b[m.at:at])
		if got, want := fmt.Sprintf("%x", m.h.Sum(nil)), fmt.Sprintf("%x", sha256.Sum256(b[:at])); got != want {
			t.Fatalf("the hash at %d is %s, want %s", at, got, want)
		}
	}
}

// TestUploadHashesOnce: a registry that refuses wrong digests hashes for us; one that takes them, or takes no chunks, does not.
func TestUploadHashesOnce(t *testing.T) {
	b, d := randomBlob(9 * mib)
	flipped := bytes.Clone(b)
	flipped[7] ^= 1
	for name, hook := range map[string]func(f *front, w http.ResponseWriter, q *http.Request) bool{
		"compares": nil,
		"takes anything": func(f *front, w http.ResponseWriter, q *http.Request) bool {
			if q.Method == http.MethodPut && q.URL.Query().Get("digest") != "" {
				return refuse(w, http.StatusCreated)
			}
			return q.Method == http.MethodDelete && refuse(w, http.StatusAccepted)
		},
		"takes no chunks": func(f *front, w http.ResponseWriter, q *http.Request) bool {
			return q.Method == http.MethodPatch && refuse(w, http.StatusMethodNotAllowed)
		},
		"refuses for another reason": func(f *front, w http.ResponseWriter, q *http.Request) bool {
			return q.Method == http.MethodPut && refuse(w, http.StatusBadRequest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f, r := behind(t)
			if hook != nil {
				f.hook = func(w http.ResponseWriter, q *http.Request) bool { return hook(f, w, q) }
			}
			err := r.Upload(t.Context(), &Upload{Repo: "a/b", Blob: d, Open: (&seekable{b: flipped}).open})
			var damaged *bundle.DigestError
			if !errors.As(err, &damaged) || damaged.Got != digest.FromBytes(flipped) {
				t.Fatalf("a damaged blob: %v", err)
			}
			if want := name == "compares"; r.comparing.does != want {
				t.Errorf("the registry is thought to compare: %v, want %v", r.comparing.does, want)
			}
		})
	}
}

// TestUploadCorruptedOnTheWay: a bit is turned between us and the registry. The registry notices, our file is known to be right, and the
// error says that trying again may help.
func TestUploadCorruptedOnTheWay(t *testing.T) {
	for _, n := range []int{1000, 9 * mib} {
		f, r := behind(t)
		b, d := randomBlob(n)
		var turned bool
		f.hook = func(w http.ResponseWriter, q *http.Request) bool {
			if q.ContentLength == int64(n) && !turned {
				turned = true
				body, err := io.ReadAll(q.Body)
				if err != nil {
					return refuse(w, http.StatusInternalServerError)
				}
				body[n/2] ^= 1
				q.Body = io.NopCloser(bytes.NewReader(body))
			}
			return false
		}
		u := &Upload{Repo: "a/b", Blob: d, Open: (&seekable{b: b}).open}
		if err := r.Upload(t.Context(), u); !Transient(err) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if err := r.Upload(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		wantBlob(t, r, "a/b", d)
	}
}

// FuzzUploadAnswers lets an enemy's registry answer everything about an upload: it ends, in a bounded number of requests, and is not
// believed to be done unless the registry has said so to the request that closes it.
func FuzzUploadAnswers(f *testing.F) {
	f.Add(uint16(202), uint16(201), "0-5000000", "/v2/a/b/blobs/uploads/1", "3")
	f.Add(uint16(202), uint16(400), "0-0", "../../x", "")
	f.Add(uint16(413), uint16(500), "bytes=0-99999999999", "", "Wed, 21 Oct 2099 07:28:00 GMT")
	b, d := randomBlob(wholeBelow + 10)
	f.Fuzz(func(t *testing.T, patch, put uint16, ranges, place, after string) {
		requests, closed := 0, false
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			requests++
			for name, value := range map[string]string{"Range": ranges, "Location": place, "Retry-After": after} {
				if value != "" && !strings.ContainsAny(value, "\r\n\x00") {
					w.Header().Set(name, value)
				}
			}
			switch q.Method {
			case http.MethodPost:
				w.WriteHeader(http.StatusAccepted)
			case http.MethodPut:
				code := 200 + int(put)%400
				closed = closed || code == http.StatusCreated
				w.WriteHeader(code)
			default:
				w.WriteHeader(200 + int(patch)%400)
			}
		}))
		defer func() { srv.CloseClientConnections(); srv.Close() }()
		r, err := New(Options{Host: strings.TrimPrefix(srv.URL, "http://"), Stall: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		u := &Upload{Repo: "a/b", Blob: d, Open: (&seekable{b: b}).open}
		if err := r.Upload(ctx, u); err == nil && !closed {
			t.Fatal("the blob is said to be in a registry that never took it")
		}
		if requests > 200 || u.Taken() < 0 || u.Taken() > d.Size {
			t.Fatalf("%d requests, %d bytes said to be taken", requests, u.Taken())
		}
	})
}
