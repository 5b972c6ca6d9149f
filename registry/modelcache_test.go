package registry

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
)

// modelShop is a real registry with models, behind a handler that counts and cuts.
type modelShop struct {
	t     *testing.T
	reg   *Registry
	proxy *httptest.Server

	mu     sync.Mutex
	reads  map[digest.Digest][]string // Range headers of the GETs of each blob
	served atomic.Int64               // bytes of blobs
	cut    atomic.Int64               // bytes after which an answer breaks off; 0 = never
	hold   chan struct{}              // with one, an answer stands still where it would break off
	held   chan struct{}              // told then
}

func newModelShop(t *testing.T) *modelShop {
	t.Helper()
	addr, _ := start(t, ServeOptions{})
	reg, err := New(Options{Host: addr})
	if err != nil {
		t.Fatal(err)
	}
	s := &modelShop{t: t, reg: reg, reads: map[digest.Digest][]string{}, held: make(chan struct{}, 16)}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	to.ModifyResponse = func(r *http.Response) error {
		if !strings.Contains(r.Request.URL.Path, "/blobs/") || r.Request.Method != http.MethodGet {
			return nil
		}
		s.mu.Lock()
		d := digest.Digest(filepath.Base(r.Request.URL.Path))
		s.reads[d] = append(s.reads[d], r.Request.Header.Get("Range"))
		s.mu.Unlock()
		r.Body = &cutBody{ReadCloser: r.Body, s: s}
		return nil
	}
	to.ErrorLog, to.FlushInterval = log.New(io.Discard, "", 0), -1
	s.proxy = httptest.NewServer(to)
	s.proxy.Config.ErrorLog = to.ErrorLog
	t.Cleanup(s.proxy.Close)
	return s
}

type cutBody struct {
	io.ReadCloser
	s *modelShop
	n int64
}

func (c *cutBody) Read(p []byte) (int, error) {
	if most := c.s.cut.Load(); most > 0 {
		if c.n >= most {
			if c.s.hold != nil {
				c.s.held <- struct{}{}
				<-c.s.hold
			}
			return 0, errors.New("cut")
		}
		p = p[:min(int64(len(p)), most-c.n)]
	}
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	c.s.served.Add(int64(n))
	return n, err
}

// model pushes a model of these files and gives its reference.
func (s *modelShop) model(files map[string][]byte) string {
	s.t.Helper()
	m := ocispec.Manifest{ArtifactType: bundle.ArtifactModel, MediaType: ocispec.MediaTypeImageManifest}
	m.SchemaVersion = 2
	for name, b := range files {
		layer := tarOf(s.t, name, b)
		d := blobOf(layer)
		push(s.t, s.reg, "shop/model", d, layer)
		d.MediaType, d.Annotations = bundle.MediaModelWeight, map[string]string{bundle.AnnotationModelPath: name}
		m.Layers = append(m.Layers, d)
	}
	m.Config = blobOf([]byte("{}"))
	push(s.t, s.reg, "shop/model", m.Config, []byte("{}"))
	raw, err := json.Marshal(m)
	if err != nil {
		s.t.Fatal(err)
	}
	d := blobOf(raw)
	d.MediaType = ocispec.MediaTypeImageManifest
	push(s.t, s.reg, "shop/model", d, raw)
	return strings.TrimPrefix(s.proxy.URL, "http://") + "/shop/model@" + string(d.Digest)
}

func tarOf(t *testing.T, name string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
		t.Fatal(err)
	}
	if _, err := tw.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func weights(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*i>>8) ^ byte(i) ^ seed
	}
	return b
}

// fetched is how many GETs of blobs there were.
func (s *modelShop) fetched() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.reads {
		n += len(r)
	}
	return n
}

func wantFiles(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(p string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil || n != len(files) {
		t.Errorf("%s has %d files, want %d (%v)", dir, n, len(files), err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s has other bytes than the model (%v)", name, err)
		}
	}
}

func cached(dir string) PullOptions { return PullOptions{Cache: ModelCache{Dir: dir, Limit: 1 << 40}} }

func mustPull(t *testing.T, ref string, files map[string][]byte, opt PullOptions) Fetched {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "models")
	got, err := PullModel(t.Context(), ref, dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, files)
	return got
}

func TestCacheShares(t *testing.T) {
	s := newModelShop(t)
	files := map[string][]byte{"a/weights.bin": weights(300_001, 1), "config.json": []byte("{}"), "empty": {}}
	ref, cache := s.model(files), t.TempDir()
	opt := cached(cache)
	if got := mustPull(t, ref, files, opt); got.Shared != 0 || s.fetched() != 3 {
		t.Errorf("first: %+v, %d blobs fetched", got, s.fetched())
	}
	if got := mustPull(t, ref, files, opt); got.Shared != got.Bytes || s.fetched() != 3 {
		t.Errorf("second: %+v, %d blobs fetched", got, s.fetched())
	}
	next := map[string][]byte{"weights.bin": weights(300_001, 2), "config.json": []byte("{}")}
	mustPull(t, s.model(next), next, opt)
	if s.fetched() != 4 {
		t.Errorf("a model that shares a file: %d blobs fetched, want one more", s.fetched())
	}
	only := opt
	only.CacheOnly = true
	dir := filepath.Join(t.TempDir(), "models")
	if got, err := PullModel(t.Context(), ref, dir, only); err != nil || got.Shared != got.Bytes {
		t.Errorf("cache only: %+v, %v", got, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("cache only wrote into the folder")
	}
}

// TestCacheDamaged: whatever is done to an entry, the pod gets the right bytes.
func TestCacheDamaged(t *testing.T) {
	files := map[string][]byte{"weights.bin": weights(200_000, 3)}
	change := func(t *testing.T, path string, f func([]byte) []byte) {
		b, err := os.ReadFile(path)
		if err == nil {
			err = errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, f(b), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, damage := range map[string]func(t *testing.T, entry, pod string){
		"a bit":            func(t *testing.T, e, _ string) { change(t, e, func(b []byte) []byte { b[777] ^= 1; return b }) },
		"cut":              func(t *testing.T, e, _ string) { change(t, e, func(b []byte) []byte { return b[:1000] }) },
		"gone":             func(t *testing.T, e, _ string) { os.Remove(e) },
		"a link elsewhere": func(t *testing.T, e, _ string) { os.Remove(e); os.Symlink("/etc/passwd", e) },
		"the marker":       func(t *testing.T, e, _ string) { change(t, e+".json", func(b []byte) []byte { return b[:len(b)/2] }) },
		"through the pod":  func(t *testing.T, _, pod string) { change(t, pod, func(b []byte) []byte { b[5] ^= 1; return b }) },
		"an old, bad part": func(t *testing.T, e, _ string) { os.Remove(e + ".json"); badPart(t, e) },
		"a marker's header": func(t *testing.T, e, _ string) {
			change(t, e+".json", func([]byte) []byte { return []byte(`{"frame":{"head":"AAAA","size":1}}`) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newModelShop(t)
			ref, cache := s.model(files), t.TempDir()
			pod := filepath.Join(t.TempDir(), "models")
			if _, err := PullModel(t.Context(), ref, pod, cached(cache)); err != nil {
				t.Fatal(err)
			}
			damage(t, filepath.Join(cache, digest.FromBytes(tarOf(t, "weights.bin", files["weights.bin"])).Encoded()), filepath.Join(pod, "weights.bin"))
			mustPull(t, ref, files, cached(cache))
			before := s.fetched()
			if got := mustPull(t, ref, files, cached(cache)); got.Shared == 0 || s.fetched() != before {
				t.Error("the entry was not made whole again")
			}
		})
	}
}

// badPart leaves what a killed pull may have left on a disk that went bad.
func badPart(t *testing.T, entry string) {
	t.Helper()
	layer := tarOf(t, "weights.bin", weights(200_000, 3))
	part := bytes.Clone(layer[512:100_000])
	part[3] ^= 1
	if err := errors.Join(os.WriteFile(entry+".head", layer[:512], 0o644), os.WriteFile(entry+".part", part, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestCacheManyPods(t *testing.T) {
	s := newModelShop(t)
	files := map[string][]byte{"a": weights(2_000_000, 4), "b": weights(1_000_000, 5)}
	ref, cache := s.model(files), t.TempDir()
	var pods sync.WaitGroup
	for range 8 {
		dir := filepath.Join(t.TempDir(), "models")
		pods.Go(func() {
			if _, err := PullModel(t.Context(), ref, dir, cached(cache)); err != nil {
				t.Error(err)
				return
			}
			wantFiles(t, dir, files)
		})
	}
	pods.Wait()
	if s.fetched() != 2 {
		t.Errorf("8 pods fetched %d blobs, want each of the 2 once", s.fetched())
	}
}

// TestPullGoesOn: answers that break off are gone on with, not begun again; with the cache and without.
func TestPullGoesOn(t *testing.T) {
	for _, cache := range []string{"", t.TempDir()} {
		s := newModelShop(t)
		files := map[string][]byte{"a": weights(1_000_000, 6)}
		ref := s.model(files)
		s.cut.Store(150_000)
		opt := cached(cache)
		mustPull(t, ref, files, opt)
		if n := s.served.Load(); n > 1_100_000 || s.fetched() < 7 {
			t.Errorf("cache %q: %d bytes in %d answers for a layer of a million", cache, n, s.fetched())
		}
	}
}

// TestPullChild is the process that TestPullKilled kills.
func TestPullChild(t *testing.T) {
	ref := os.Getenv("PULL_REF")
	if ref == "" {
		t.Skip("runs as a child only")
	}
	_, err := PullModel(t.Context(), ref, os.Getenv("PULL_TO"), cached(os.Getenv("PULL_CACHE")))
	t.Fatal("not killed", err)
}

func TestPullKilled(t *testing.T) {
	for _, cache := range []string{"", t.TempDir()} {
		s := newModelShop(t)
		files := map[string][]byte{"w": weights(1_000_000, 7)}
		ref, dir := s.model(files), filepath.Join(t.TempDir(), "models")
		s.hold = make(chan struct{})
		s.cut.Store(600_000)
		child := exec.Command(os.Args[0], "-test.run=^TestPullChild$")
		child.Env = append(os.Environ(), "PULL_REF="+ref, "PULL_TO="+dir, "PULL_CACHE="+cache)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		<-s.held
		part := filepath.Join(dir, partsDir, digest.FromBytes(tarOf(t, "w", files["w"])).Encoded()+".part")
		if cache != "" {
			part = filepath.Join(cache, filepath.Base(part))
		}
		for range 500 { // what was sent is on its way through the child
			if st, err := os.Stat(part); err == nil && st.Size() > 500_000 {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		child.Wait()
		s.cut.Store(0)
		close(s.hold)
		if _, err := PullModel(t.Context(), ref, dir, cached(cache)); err != nil {
			t.Fatal(err)
		}
		wantFiles(t, dir, files)
		for _, ranges := range s.reads {
			if len(ranges) != 2 || !strings.HasPrefix(ranges[1], "bytes=5") && !strings.HasPrefix(ranges[1], "bytes=6") {
				t.Errorf("cache %q: the layer was read by ranges %q", cache, ranges)
			}
		}
	}
}

func TestCacheFull(t *testing.T) {
	s := newModelShop(t)
	files := map[string][]byte{"w": weights(500_000, 8)}
	ref := s.model(files)
	var notes []error
	note := func(err error) { notes = append(notes, err) }
	full := func(string) (int64, int64, error) { return 1 << 20, 1 << 30, nil } // less than 15 %
	for name, opt := range map[string]PullOptions{
		"the disk":   {Cache: ModelCache{Dir: t.TempDir(), Free: full}, Note: note},
		"the limit":  {Cache: ModelCache{Dir: t.TempDir(), Limit: 400_000}, Note: note},
		"not a room": {Cache: ModelCache{Dir: "/dev/null/cache"}, Note: note},
	} {
		notes = nil
		mustPull(t, ref, files, opt)
		if len(notes) != 1 {
			t.Errorf("%s: told %v", name, notes)
		}
		opt.CacheOnly = true
		if _, err := PullModel(t.Context(), ref, t.TempDir(), opt); err == nil {
			t.Errorf("%s: the cache is said to be filled", name)
		}
	}
}

// TestCacheDiskFull lets a real disk run full while a layer is written.
func TestCacheDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("no tmpfs here: %v", err)
	}
	defer syscall.Unmount(disk, 0)
	s := newModelShop(t)
	files := map[string][]byte{"w": weights(500_000, 9)}
	var notes []error
	opt := PullOptions{Cache: ModelCache{Dir: disk, Free: func(string) (int64, int64, error) { return 1 << 40, 1 << 40, nil }}, Note: func(err error) { notes = append(notes, err) }}
	mustPull(t, s.model(files), files, opt)
	if len(notes) != 1 || !errors.Is(notes[0], syscall.ENOSPC) {
		t.Errorf("told %v", notes)
	}
	if free, total, err := diskOf(disk); err != nil || total-free > 16<<10 {
		t.Errorf("%d bytes of the full disk are left taken (%v)", total-free, err)
	}
}

func TestCacheLimit(t *testing.T) {
	s := newModelShop(t)
	cache := t.TempDir()
	opt := PullOptions{Cache: ModelCache{Dir: cache, Limit: 350_000}}
	models := map[string]map[string][]byte{}
	refs := map[string]string{}
	for i, name := range []string{"old", "used", "new", "last"} {
		models[name] = map[string][]byte{name: weights(100_000, byte(20+i))}
		refs[name] = s.model(models[name])
	}
	age := func(name string, hours int) {
		at := time.Now().Add(-time.Duration(hours) * time.Hour)
		base := filepath.Join(cache, digest.FromBytes(tarOf(t, name, models[name][name])).Encoded())
		if err := errors.Join(os.Chtimes(base, at, at), os.Chtimes(base+".json", at, at)); err != nil {
			t.Fatal(err)
		}
	}
	strange := filepath.Join(cache, "not-ours.bin")
	write(t, strange, weights(1_000_000, 0))
	for i, name := range []string{"old", "used", "new"} {
		mustPull(t, refs[name], models[name], opt)
		age(name, 30-10*i)
	}
	age("used", 40) // the oldest, and then used again
	mustPull(t, refs["used"], models["used"], opt)
	mustPull(t, refs["last"], models["last"], opt)
	before := s.fetched()
	for _, name := range []string{"used", "new", "last"} {
		if got := mustPull(t, refs[name], models[name], opt); got.Shared == 0 {
			t.Errorf("%s was thrown out", name)
		}
	}
	if s.fetched() != before {
		t.Error("what was to stay was fetched again")
	}
	if got := mustPull(t, refs["old"], models["old"], PullOptions{Cache: ModelCache{Dir: cache, Limit: 1 << 30}}); got.Shared != 0 {
		t.Error("the longest unused was not thrown out")
	}
	if _, err := os.Stat(strange); err != nil {
		t.Error("a file that is not the cache's was thrown out")
	}
	// One that is locked stays, although it is the oldest.
	root, err := os.OpenRoot(cache)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	base := digest.FromBytes(tarOf(t, "old", models["old"]["old"])).Encoded()
	lock, err := tryLock(root, base+".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	age("old", 100)
	fresh := map[string][]byte{"fresh": weights(100_000, 99)}
	mustPull(t, s.model(fresh), fresh, opt)
	if _, err := os.Stat(filepath.Join(cache, base)); err != nil {
		t.Error("what is in use was thrown out")
	}
}

// TestModelNames: names that lead elsewhere, or into each other, are refused before a byte is fetched.
func TestModelNames(t *testing.T) {
	layer := func(name string) ocispec.Descriptor {
		d := blobOf([]byte(name))
		d.Annotations = map[string]string{bundle.AnnotationModelPath: name}
		return d
	}
	for _, names := range [][]string{{""}, {"."}, {".."}, {"../x"}, {"/etc/x"}, {"a/../b"}, {"a//b"}, {"a/"}, {"./a"}, {`a\b`}, {"a\x00b"}, {strings.Repeat("a/", 600) + "b"},
		{partsDir}, {partsDir + "/x"}, {"a", "a"}} {
		var layers []ocispec.Descriptor
		for _, n := range names {
			layers = append(layers, layer(n))
		}
		if _, err := modelLayers("shop/model", layers); err == nil {
			t.Errorf("%.40q is taken", names)
		}
	}
	if got, err := modelLayers("shop/model", []ocispec.Descriptor{layer("a"), layer("a.part"), layer("b/a"), layer("..a")}); err != nil || len(got) != 4 {
		t.Errorf("%v, %v", got, err)
	}
}

// TestCacheWaits: who waits for a lock ends with its context.
func TestCacheWaits(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	first, err := lockFile(t.Context(), root, "x.lock")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lockFile(ctx, root, "x.lock"); !errors.Is(err, context.Canceled) {
		t.Errorf("two have one lock: %v", err)
	}
	first.Close()
	again, err := lockFile(t.Context(), root, "x.lock")
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
