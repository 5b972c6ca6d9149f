package main

import (
	"io"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// largeShop is a shop whose model is one blob of some size.
func largeShop(t *testing.T, bytes int) shop {
	t.Helper()
	s := newShop(t)
	if err := writeProduct(s.dir); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, bytes)
	rand.New(rand.NewSource(3)).Read(b)
	if err := os.WriteFile(s.path("r1/model/weights.bin"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	s.must("build", "-f", s.path("r1/bundle.yaml"), "--out", s.path("large.wcb"))
	s.must("sign", "--key", s.path("release.key"), s.path("large.wcb"))
	return s
}

// meterFront counts the bytes of uploads on their way to a registry and kills a process when some of them have passed.
type meterFront struct {
	killer
	sent atomic.Int64
	stop atomic.Int64 // bytes; 0 = never
}

func (m *meterFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = &metered{r.Body, m}
	m.next.Load().ServeHTTP(w, r)
}

type metered struct {
	io.ReadCloser
	m *meterFront
}

func (b *metered) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if sent := b.m.sent.Add(int64(n)); sent >= b.m.stop.Load() && b.m.stop.Load() > 0 {
		if proc := b.m.proc.Load(); proc != nil {
			proc.Kill()
		}
	}
	return n, err
}

// TestT48KilledInsideABlob kills a load again and again in the middle of one blob, and its registry with it. Each run goes on where
// the one before was: what went over the wire in all is the blob and little more.
func TestT48KilledInsideABlob(t *testing.T) {
	const size, every = 48 << 20, 9 << 20
	s := largeShop(t, size)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := s.path("wcbundle")
	if err := os.Symlink(self, binary); err != nil {
		t.Fatal(err)
	}
	front := &meterFront{}
	srv := httptest.NewServer(front)
	defer srv.Close()
	addr, stop := serveRegistry(t, s.path("registry"))
	front.to(t, addr)
	s.must("trust", "accept", "--site", "t", "--registry", strings.TrimPrefix(srv.URL, "http://"), "--yes", s.path("trust.json"))
	kills := 0
	for {
		front.stop.Store(front.sent.Load() + every)
		killed := front.kill(t, -1, exec.Command(binary, "load", s.path("large.wcb")))
		stop()
		if !killed {
			break
		}
		if kills++; kills > 2*size/every {
			t.Fatalf("%d kills and %d MiB sent, and the load is not done", kills, front.sent.Load()>>20)
		}
		if addr, stop = serveRegistry(t, s.path("registry")); kills > 0 {
			front.to(t, addr)
		}
	}
	if kills < 3 {
		t.Fatalf("killed %d times: the test does not see what load sends", kills)
	}
	if most := int64(size + kills*(2<<20)); front.sent.Load() > most {
		t.Errorf("%d bytes were sent in %d runs, the blob has %d", front.sent.Load(), kills+1, size)
	}
	if err := wholeRegistry(s.path("registry")); err != nil {
		t.Fatal(err)
	}
	t.Logf("killed %d times, %.1f MiB sent for a blob of %d MiB", kills, float64(front.sent.Load())/(1<<20), size>>20)
}

// TestRegistryRestarts ends the registry in the middle of a blob and starts it again: the load that waits for it goes on by itself.
func TestRegistryRestarts(t *testing.T) {
	const size = 40 << 20
	s := largeShop(t, size)
	front := &meterFront{}
	restarts := make(chan bool, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			select {
			case restarts <- true:
				r.Body = struct {
					io.Reader
					io.Closer
				}{io.LimitReader(r.Body, 15<<20), r.Body}
			default:
			}
		}
		front.ServeHTTP(w, r)
	}))
	defer srv.Close()
	addr, stop := serveRegistry(t, s.path("registry"))
	front.to(t, addr)
	s.must("trust", "accept", "--site", "t", "--registry", strings.TrimPrefix(srv.URL, "http://"), "--yes", s.path("trust.json"))
	type end struct {
		code int
		out  string
	}
	done := make(chan end, 1)
	go func() {
		code, out := s.call("load", s.path("large.wcb"))
		done <- end{code, out}
	}()
	<-restarts
	stop()
	addr, stop = serveRegistry(t, s.path("registry"))
	defer stop()
	front.to(t, addr)
	e := <-done
	if e.code != 0 {
		t.Fatalf("exit code %d\n%s", e.code, e.out)
	}
	if sent := front.sent.Load(); sent > size+(20<<20) {
		t.Errorf("%d bytes were sent for a blob of %d", sent, size)
	}
	if err := wholeRegistry(s.path("registry")); err != nil {
		t.Fatal(err)
	}
}
