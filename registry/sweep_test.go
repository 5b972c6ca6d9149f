package registry

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// age makes every file of a registry look as old as that.
func age(t *testing.T, dir string, old time.Duration) {
	t.Helper()
	then := time.Now().Add(-old)
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(p, then, then)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSweep: what no manifest names goes once it is old or was named; what a manifest names, what came lately, what a repository has
// taken in lately and what the order keeps stays.
func TestSweep(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	r, _ := embedded(t, dir)
	if got, err := r.Sweep(ctx, SweepOrder{}); err != nil || got != (Swept{}) {
		t.Fatalf("an empty registry: %+v, %v", got, err)
	}
	if ok, err := r.Sweeps(ctx); !ok || err != nil {
		t.Fatalf("it does not say that it sweeps: %v", err)
	}
	blob := func(text string) ocispec.Descriptor { return descriptorOf(ocispec.MediaTypeImageLayer, []byte(text)) }
	imageOf(t, r, "shop/app", []byte("named"))
	gone, _ := imageOf(t, r, "shop/old", []byte("unnamed"))
	for _, text := range []string{"kept", "mounted", "loose"} {
		push(t, r, "shop/loose", blob(text), []byte(text))
	}
	if err := r.Delete(ctx, "shop/old", gone); err != nil {
		t.Fatal(err)
	}
	sweep := func(o SweepOrder, want int) {
		t.Helper()
		got, err := r.Sweep(ctx, o)
		if err != nil || got.Blobs != want {
			t.Fatalf("%+v, %v; want %d blobs", got, err, want)
		}
	}
	sweep(SweepOrder{}, 0) // all of it is young
	sweep(SweepOrder{Free: []digest.Digest{blob("loose").Digest, blob("named").Digest}}, 1)
	age(t, dir, 25*time.Hour)
	if ok, err := r.Mount(ctx, "shop/new", "shop/loose", blob("mounted")); !ok || err != nil {
		t.Fatal(err)
	}
	sweep(SweepOrder{Keep: []digest.Digest{blob("kept").Digest}}, 2) // unnamed and the manifest
	for text, want := range map[string]bool{"named": true, "kept": true, "mounted": true, "unnamed": false, "loose": false} {
		_, err := os.Stat(blobData(dir, blob(text).Digest.Encoded()))
		if (err == nil) != want {
			t.Errorf("%s: there is not %v: %v", text, want, err)
		}
	}
	for repo, text := range map[string]string{"shop/app": "named", "shop/new": "mounted", "shop/loose": "kept"} {
		if got, err := readAll(ctx, r, repo, blob(text)); err != nil || string(got) != text {
			t.Errorf("%s: %q, %v", repo, got, err)
		}
	}
	// What was freed can be pushed again.
	push(t, r, "shop/loose", blob("loose"), []byte("loose"))
	if got, err := readAll(ctx, r, "shop/loose", blob("loose")); err != nil || string(got) != "loose" {
		t.Errorf("pushed again: %q, %v", got, err)
	}
}

// TestSweepUploads: an upload that goes on stays, one that was broken off goes once it is old.
func TestSweepUploads(t *testing.T) {
	dir := t.TempDir()
	r, srv := embedded(t, dir)
	begin := func(text string) string {
		t.Helper()
		resp, err := http.Post(srv.URL+"/v2/shop/app/blobs/uploads/", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		req, err := http.NewRequest(http.MethodPatch, resp.Header.Get("Location"), strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if resp, err = http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusAccepted {
			t.Fatalf("%v, %v", resp, err)
		}
		resp.Body.Close()
		return resp.Header.Get("Location")
	}
	begin("broken off")
	age(t, dir, 25*time.Hour)
	on := begin("goes on")
	got, err := r.Sweep(t.Context(), SweepOrder{})
	if err != nil || got.Uploads != 1 || got.Bytes < int64(len("broken off")) {
		t.Fatalf("%+v, %v", got, err)
	}
	req, err := http.NewRequest(http.MethodPut, on+"&digest="+string(digest.FromString("goes on")), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("the upload that went on: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// TestSweepKeepsWritersOut: while a sweep runs nothing is written, and it does not begin before what is being written has ended.
func TestSweepKeepsWritersOut(t *testing.T) {
	inside, goOn := make(chan struct{}), make(chan struct{})
	s := &sweeper{dir: t.TempDir(), next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			close(inside)
			<-goOn
		}
	})}
	put := func() int {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/v2/a/blobs/uploads/1", nil))
		return w.Code
	}
	done := make(chan int, 1)
	go func() { done <- put() }()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.begin(ctx); !errors.Is(err, errUploading) {
		t.Fatalf("a sweep begins while an upload is being committed: %v", err)
	}
	close(goOn)
	if code := <-done; code != http.StatusOK {
		t.Fatal(code)
	}
	if err := s.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/v2/a/manifests/x", nil))
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Fatalf("a manifest was let in during a sweep: %d", w.Code)
	}
	w = httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v2/a/manifests/x", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("reading waits for a sweep: %d", w.Code)
	}
	s.end()
}

// TestSweepAdmitsWhomTheRegistryAdmits: the order is taken from nobody whom the registry refuses, and the refusal is the registry's.
func TestSweepAdmitsWhomTheRegistryAdmits(t *testing.T) {
	s := &sweeper{dir: t.TempDir(), next: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, pass, _ := r.BasicAuth(); user != "site" || pass != "right" || r.URL.Path != "/v2/" {
			w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	})}
	srv := httptest.NewServer(s)
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	for pass, admitted := range map[string]bool{"right": true, "wrong": false} {
		r, err := New(Options{Host: host, Login: Login{Username: "site", Password: pass}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Sweep(t.Context(), SweepOrder{}); (err == nil) != admitted {
			t.Errorf("password %s: %v", pass, err)
		}
	}
	resp, err := http.Post(srv.URL+sweepPath, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") == "" {
		t.Errorf("nobody: %s", resp.Status)
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	r, err := New(Options{Host: strings.TrimPrefix(other.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Sweep(t.Context(), SweepOrder{}); !errors.Is(err, ErrNoSweep) {
		t.Errorf("another registry: %v", err)
	}
	if ok, err := r.Sweeps(t.Context()); ok || err != nil {
		t.Errorf("another registry: %v, %v", ok, err)
	}
}

func TestUntagAndLists(t *testing.T) {
	ctx := t.Context()
	r, _ := embedded(t, t.TempDir())
	m, raw := imageOf(t, r, "shop/app", []byte("blob"))
	if err := r.Tag(ctx, "shop/app", m, raw, "1.0.0"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Untag(ctx, "shop/app", "1.0.0"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Resolve(ctx, "shop/app", "1.0.0"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the tag is there: %v", err)
	}
	if ok, err := r.Has(ctx, "shop/app", m); !ok || err != nil {
		t.Errorf("the manifest went with its tag: %v", err)
	}
	about := []byte(strings.Replace(string(raw), `"schemaVersion":2,`, `"schemaVersion":2,"artifactType":"application/x","subject":{"mediaType":"`+m.MediaType+
		`","digest":"`+string(m.Digest)+`","size":`+"1"+`},`, 1))
	d := descriptorOf(ocispec.MediaTypeImageManifest, about)
	push(t, r, "shop/app", d, about)
	if got, err := r.Referrers(ctx, "shop/app", m); err != nil || len(got) != 1 || got[0].Digest != d.Digest {
		t.Errorf("referrers: %v, %v", got, err)
	}
	if got, err := r.Repositories(ctx); err != nil || !slices.Equal(got, []string{"shop/app"}) {
		t.Errorf("repositories: %v, %v", got, err)
	}
}

func FuzzSweepOrder(f *testing.F) {
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := parseSweep(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := parseSweep(bytes.NewReader(o.encode()))
		if err != nil || !slices.Equal(o.Free, again.Free) || !slices.Equal(o.Keep, again.Keep) {
			t.Fatalf("%v, then %v, %v", o, again, err)
		}
	})
}
