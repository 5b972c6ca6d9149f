package main

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// between puts a hostile proxy between the site and its registry, as $PROXY: proxy MODE [ARGUMENTS]
//
//	flip            manifests come back with other bytes
//	blobs           blobs come back with other bytes
//	redirect        blobs are said to be at $ELSEWHERE
//	realm           the token service is said to be at $ELSEWHERE
//	upload          uploads are said to go to $ELSEWHERE
//	referrers       the list of referrers is 8 MiB of nonsense
//	busy N          the first N uploads are answered with 503, and then with 429
//	cut N           the connection breaks in the middle of the first N uploads
//	corrupt N       a bit is turned on the way in the first N uploads
//	stall N         the first N uploads are taken and never answered
//	nodelete        nothing can be deleted
//	swap FILE WITH  at the first upload the file on the medium is overwritten with another
//
// lied fails unless somebody has asked for the list of referrers. elsewhere N fails unless N requests have come to $ELSEWHERE.
func between(ts *testscript.TestScript, _ bool, args []string) {
	target, err := url.Parse("http://" + ts.Getenv("REGISTRY"))
	ts.Check(err)
	var visits atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		visits.Add(1)
		w.WriteHeader(http.StatusTeapot)
	}))
	ts.Defer(elsewhere.Close)
	ts.Setenv("ELSEWHERE", strings.TrimPrefix(elsewhere.URL, "http://"))
	visitors.Store(ts.Getenv("WORK"), &visits)
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.Out.Host = r.In.Host }}
	var told atomic.Int64
	lies.Store(ts.Getenv("WORK"), &told)
	p.ModifyResponse = hostileAnswer(args[0], elsewhere.URL, &told)
	var handler http.Handler = p
	switch args[0] {
	case "swap":
		handler = swapper(ts, p, args[1], args[2])
	case "nodelete":
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			p.ServeHTTP(w, r)
		})
	case "busy", "cut", "stall", "corrupt":
		n, err := strconv.ParseInt(args[1], 10, 64)
		ts.Check(err)
		handler = &faulty{next: p, mode: args[0], times: n}
	}
	srv := httptest.NewUnstartedServer(handler)
	srv.Listener.Close()
	if srv.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		ts.Fatalf("%v", err)
	}
	srv.Start()
	ts.Defer(srv.Close)
	ts.Setenv("PROXY", strings.TrimPrefix(srv.URL, "http://"))
}

// lies counts, per session, the answers that the newest proxy changed.
var lies sync.Map

// checkLied is the command lied: the proxy was asked for what it lies about.
func checkLied(ts *testscript.TestScript, neg bool, _ []string) {
	v, ok := lies.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("there is no proxy")
	}
	if n := v.(*atomic.Int64).Load(); (n > 0) == neg {
		ts.Fatalf("the proxy was asked %d times for what it lies about (negated: %v)", n, neg)
	}
}

// visitors counts, per session, the requests that came to $ELSEWHERE.
var visitors sync.Map

// checkElsewhere is the command elsewhere.
func checkElsewhere(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	v, ok := visitors.Load(ts.Getenv("WORK"))
	if !ok {
		ts.Fatalf("there is no proxy")
	}
	if got := v.(*atomic.Int64).Load(); got != want {
		ts.Fatalf("%d requests came elsewhere, want %d", got, want)
	}
}

func hostileAnswer(mode, elsewhere string, told *atomic.Int64) func(*http.Response) error {
	other := func(r *http.Response) error {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		if len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		return nil
	}
	is := func(r *http.Response, method, part string) bool {
		return r.Request.Method == method && strings.Contains(r.Request.URL.Path, part)
	}
	return func(r *http.Response) error {
		switch {
		case mode == "flip" && is(r, "GET", "/manifests/") && r.StatusCode == 200, mode == "blobs" && is(r, "GET", "/blobs/") && r.StatusCode == 200:
			return other(r)
		case mode == "redirect" && is(r, "GET", "/blobs/"):
			r.StatusCode = http.StatusTemporaryRedirect
			r.Header.Set("Location", elsewhere+r.Request.URL.Path)
		case mode == "realm" && strings.HasPrefix(r.Request.URL.Path, "/v2/"):
			r.StatusCode = http.StatusUnauthorized
			r.Header.Set("WWW-Authenticate", `Bearer realm="`+elsewhere+`/token",service="registry"`)
		case mode == "upload" && is(r, "POST", "/uploads/"):
			r.Header.Set("Location", elsewhere+r.Request.URL.Path)
		case mode == "referrers" && strings.Contains(r.Request.URL.Path, "/referrers/"):
			told.Add(1)
			r.StatusCode = http.StatusOK
			r.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
			r.Header.Del("Content-Length")
			r.ContentLength = -1
			r.Body = io.NopCloser(io.LimitReader(nonsense{}, 8<<20))
		}
		return nil
	}
}

// nonsense is an endless index of nothing.
type nonsense struct{}

func (nonsense) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = `{"manifests":[`[i%14]
	}
	return len(p), nil
}

// swapper overwrites a file in place when the first blob is about to go up.
func swapper(ts *testscript.TestScript, next http.Handler, file, with string) http.Handler {
	path, raw := ts.MkAbs(file), []byte(ts.ReadFile(with))
	var done atomic.Bool
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && !done.Swap(true) {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt(raw, 0)
				f.Close()
			}
			if err != nil {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// faulty fails the first uploads of blobs.
type faulty struct {
	next  http.Handler
	mode  string
	times int64
	seen  atomic.Int64
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/uploads/") {
		f.next.ServeHTTP(w, r)
		return
	}
	n := f.seen.Add(1)
	if n > f.times {
		f.next.ServeHTTP(w, r)
		return
	}
	switch f.mode {
	case "corrupt":
		b, err := io.ReadAll(r.Body)
		if err == nil && len(b) > 0 {
			b[len(b)/2] ^= 1
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		f.next.ServeHTTP(w, r)
	case "busy":
		code := http.StatusServiceUnavailable
		if n%2 == 0 {
			code = http.StatusTooManyRequests
		}
		w.WriteHeader(code)
	case "cut":
		io.CopyN(io.Discard, r.Body, 100)
		panic(http.ErrAbortHandler)
	case "stall": // the body is read to its end, else the server would not notice that the client has gone
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
}
