package main

import (
	"bytes"
	"context"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

// shop is a site of its own for tests that are more than a session: the files of the made command, a record and a registry.
type shop struct {
	t   *testing.T
	dir string
}

// call runs wcbundle in this process.
func (s shop) call(args ...string) (int, string) {
	s.t.Helper()
	var out bytes.Buffer
	code := run(context.Background(), append([]string{"wcbundle"}, args...), strings.NewReader(""), &out, &out)
	return code, out.String()
}

func (s shop) must(args ...string) string {
	s.t.Helper()
	code, out := s.call(args...)
	if code != 0 {
		s.t.Fatalf("wcbundle %v: exit code %d\n%s", args, code, out)
	}
	return out
}

func (s shop) path(name string) string { return filepath.Join(s.dir, name) }

// shopFiles are what newShop has made once: keys are slow.
var shopFiles = map[string][]byte{}

// newShop makes two signed releases and the patch between them.
func newShop(t *testing.T) shop {
	t.Helper()
	s := shop{t, t.TempDir()}
	t.Setenv("WCBUNDLE_PASSWORD", "test")
	t.Setenv("WCBUNDLE_STATE_DIR", s.path("state"))
	for name, b := range shopFiles {
		if err := os.WriteFile(s.path(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if len(shopFiles) > 0 {
		return s
	}
	if err := writeProduct(s.dir); err != nil {
		t.Fatal(err)
	}
	s.must("keys", "generate", "--prefix", s.path("release"))
	s.must("trust", "init", "--product", "shop", "--release-key", s.path("release.pub"), "--out", s.path("trust.json"))
	for _, r := range []string{"r1", "r2"} {
		s.must("build", "-f", s.path(r+"/bundle.yaml"), "--out", s.path(r+".wcb"))
		s.must("sign", "--key", s.path("release.key"), s.path(r+".wcb"))
	}
	s.must("patch", "--from", s.path("r1.wcb"), "--to", s.path("r2.wcb"), "--out", s.path("p.wcp"))
	s.must("sign", "--key", s.path("release.key"), s.path("p.wcp"))
	for _, name := range []string{"release.key", "release.pub", "trust.json", "r1.wcb", "r2.wcb", "p.wcp"} {
		b, err := os.ReadFile(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		shopFiles[name] = b
	}
	return s
}

// serveRegistry runs a registry on a folder until stop is called.
func serveRegistry(t *testing.T, dir string) (addr string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	go func() {
		done <- registry.Serve(ctx, registry.ServeOptions{Addr: "127.0.0.1:0", Dir: dir, Ready: func(addr string) { ready <- addr }})
	}()
	select {
	case addr := <-ready:
		return addr, func() { cancel(); <-done }
	case err := <-done:
		cancel()
		t.Fatal(err)
		return "", nil
	}
}

// TestT48KilledAtEveryRequest kills load at each request that it makes of the registry, as kill -9 does. Each time the record is the
// old one or the new one, no tag of the new release points at what is not whole, and running it again finishes.
func TestT48KilledAtEveryRequest(t *testing.T) {
	s := newShop(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := s.path("wcbundle")
	if err := os.Symlink(self, binary); err != nil {
		t.Fatal(err)
	}
	front := &killer{}
	srv := httptest.NewServer(front)
	defer srv.Close()
	addr, stop := serveRegistry(t, s.path("registry"))
	front.to(t, addr)
	s.must("trust", "accept", "--site", "t", "--registry", strings.TrimPrefix(srv.URL, "http://"), "--yes", s.path("trust.json"))
	s.must("load", s.path("r1.wcb"))
	stop()
	before, err := os.ReadFile(s.path("state/wordcab/site.json"))
	if err != nil {
		t.Fatal(err)
	}
	keep(t, s.path("registry"), s.path("kept"))
	step := 6 // about twelve points; all of them take minutes
	if os.Getenv("WCBUNDLE_TEST_ALL") != "" {
		step = 1
	}
	kills := 0
	for at := 1; ; at += step {
		keep(t, s.path("kept"), s.path("registry"))
		if err := os.WriteFile(s.path("state/wordcab/site.json"), before, 0o600); err != nil {
			t.Fatal(err)
		}
		addr, stop := serveRegistry(t, s.path("registry"))
		front.to(t, addr)
		killed := front.kill(t, int64(at), exec.Command(binary, "load", "--scratch", t.TempDir(), s.path("p.wcp")))
		after, err := os.ReadFile(s.path("state/wordcab/site.json"))
		if err != nil {
			t.Fatal(err)
		}
		if killed && !bytes.Equal(after, before) {
			t.Fatalf("killed at request %d: the record changed before everything was read back", at)
		}
		if out := s.must("load", s.path("p.wcp")); !strings.Contains(out, "1.1.0") {
			t.Fatalf("killed at request %d: run again it says %s", at, out)
		}
		if out := s.must("load", s.path("r2.wcb")); !strings.Contains(out, " 0 B pushed, 0 B rebuilt") {
			t.Fatalf("killed at request %d: the next run left something out:\n%s", at, out)
		}
		if err := wholeRegistry(s.path("registry")); err != nil {
			t.Fatal(err)
		}
		stop()
		if !killed {
			break
		}
		kills++
	}
	if kills < 48/step {
		t.Fatalf("only %d requests: the test does not see what load does", kills)
	}
	t.Logf("killed at %d points", kills)
}

// keep makes to a copy of from.
func keep(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// killer hands requests on to a registry, and kills a process at one of them.
type killer struct {
	next  atomic.Pointer[httputil.ReverseProxy]
	count atomic.Int64
	at    atomic.Int64
	proc  atomic.Pointer[os.Process]
}

func (k *killer) to(t *testing.T, addr string) {
	t.Helper()
	u, err := url.Parse("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	k.next.Store(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u); r.Out.Host = r.In.Host }, ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
		w.WriteHeader(http.StatusBadGateway)
	}})
}

// kill runs a command and kills it at its nth request. It tells whether it came to that.
func (k *killer) kill(t *testing.T, n int64, c *exec.Cmd) bool {
	t.Helper()
	k.count.Store(0)
	k.at.Store(n)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	k.proc.Store(c.Process)
	err := c.Wait()
	k.proc.Store(nil)
	k.at.Store(0)
	if err == nil {
		return false
	}
	if c.ProcessState.ExitCode() >= 0 {
		t.Fatalf("it was not killed, and ended with %d", c.ProcessState.ExitCode())
	}
	return true
}

func (k *killer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if n := k.count.Add(1); n == k.at.Load() {
		for k.proc.Load() == nil { // it asks before Start has returned
			continue
		}
		k.proc.Load().Kill()
		return
	}
	k.next.Load().ServeHTTP(w, r)
}

// TestT47AnyByteChanged changes bytes at random in a bundle and a patch, anywhere, alone and many at once: what comes of it is an
// exit code and a message, never a crash, and the site takes in nothing but the release itself.
func TestT47AnyByteChanged(t *testing.T) {
	s := newShop(t)
	addr, stop := serveRegistry(t, s.path("registry"))
	defer stop()
	s.must("trust", "accept", "--site", "t", "--registry", addr, "--yes", s.path("trust.json"))
	s.must("load", s.path("r1.wcb"))
	f, err := bundle.OpenFile(s.path("r2.wcb"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, err := f.HeadOf()
	if err != nil {
		t.Fatal(err)
	}
	head, seen := string(root.Digest), map[int]int{}
	r := rand.New(rand.NewSource(48))
	for _, name := range []string{"r2.wcb", "p.wcp"} {
		good, err := os.ReadFile(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		for range 150 {
			bad := mutate(r, good)
			if err := os.WriteFile(s.path("bad"), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			code, out := s.call("verify", s.path("bad"))
			seen[code]++
			if code == 0 && !padding(good, bad) || code == exitError || strings.Contains(out, "panic") {
				t.Fatalf("%s: exit code %d\n%s", name, code, out)
			}
			if code == 0 {
				continue
			}
			// A blob that is damaged in the file may be whole in the registry, from a load that was refused before: then load does not
			// read it from the file, and what it takes in is the release that was signed, every blob of it.
			if again, out := s.call("load", s.path("bad")); again == 0 {
				if !strings.Contains(out, head) {
					t.Fatalf("%s: verify refuses it with %d, load takes in another release:\n%s", name, code, out)
				}
				if err := wholeRegistry(s.path("registry")); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
	}
	if err := wholeRegistry(s.path("registry")); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(s.must("status"), "\n") {
		if strings.HasPrefix(line, "loaded") && !strings.Contains(line, " 1.0.0 ") && !strings.Contains(line, " 1.1.0 ") {
			t.Fatalf("the site took in what nobody signed: %s", line)
		}
	}
	t.Logf("exit codes: %v", seen)
}

func mutate(r *rand.Rand, good []byte) []byte {
	bad := bytes.Clone(good)
	head := min(len(bad), 40_000) // where the forms are
	switch r.Intn(5) {
	case 0:
		bad[r.Intn(len(bad))] ^= byte(1 + r.Intn(255))
	case 1:
		bad[r.Intn(head)] ^= byte(1 + r.Intn(255))
	case 2:
		for range 1 + r.Intn(30) {
			bad[r.Intn(head)] = byte(r.Intn(256))
		}
	case 3:
		bad = bad[:r.Intn(len(bad))]
	case 4:
		i, j := r.Intn(head), r.Intn(head)
		bad = slices.Concat(bad[:min(i, j)], bad[max(i, j):])
	}
	return bad
}

// padding tells that two files differ in nothing that is signed or signs: in the filling of tar's blocks, in fields of its headers
// that no reader of ours looks at, or in index.json, which is no authority.
func padding(good, bad []byte) bool {
	a, errA := mediumOf(good)
	b, errB := mediumOf(bad)
	if errA != nil || errB != nil || len(a.names) != len(b.names) {
		return false
	}
	for _, n := range a.names {
		if isBlob(n) && !bytes.Equal(a.data[n], b.data[n]) {
			return false
		}
	}
	return true
}

// TestT49TwoLoadsAtOnce lets two operators load at once: one of them may be told to run it again, and the record is that of one load.
// (Two applies at once: the story in e2e.)
func TestT49TwoLoadsAtOnce(t *testing.T) {
	s := newShop(t)
	addr, stop := serveRegistry(t, s.path("registry"))
	defer stop()
	s.must("trust", "accept", "--site", "t", "--registry", addr, "--yes", s.path("trust.json"))
	type end struct {
		code int
		out  string
	}
	ends := make(chan end, 2)
	for range 2 {
		go func() {
			code, out := s.call("load", s.path("r1.wcb"))
			ends <- end{code, out}
		}()
	}
	done := 0
	for range 2 {
		e := <-ends
		switch {
		case e.code == 0:
			done++
		case e.code != exitLocked && !strings.Contains(e.out, "was written by someone else meanwhile"):
			t.Fatalf("exit code %d\n%s", e.code, e.out)
		}
	}
	if done == 0 {
		t.Fatal("none of two loads came to its end")
	}
	if out := s.must("status"); strings.Count(out, "loaded ") != 1 {
		t.Fatalf("the record has not one load:\n%s", out)
	}
	if err := wholeRegistry(s.path("registry")); err != nil {
		t.Fatal(err)
	}
}
