package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/registry"
)

// TestGCKilledAtEveryRequest kills registry gc at each request that it makes of the registry, as kill -9 does. Each time the release
// that stays can be read to its last byte, and running it again finishes: what was to go is gone, and no byte of it is left.
func TestGCKilledAtEveryRequest(t *testing.T) {
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
	host := strings.TrimPrefix(srv.URL, "http://")
	addr, stop := serveRegistry(t, s.path("registry"))
	front.to(t, addr)
	s.must("trust", "accept", "--site", "t", "--registry", host, "--yes", s.path("trust.json"))
	s.must("load", s.path("r1.wcb"))
	s.must("load", s.path("p.wcp"))
	stop()
	s.runs("1.1.0")
	record, err := os.ReadFile(s.path("state/wordcab/site.json"))
	if err != nil {
		t.Fatal(err)
	}
	keep(t, s.path("registry"), s.path("kept"))
	kills, step := 0, 3 // about twenty points
	if os.Getenv("WCBUNDLE_TEST_ALL") != "" {
		step = 1
	}
	for at := 1; ; at += step {
		keep(t, s.path("kept"), s.path("registry"))
		if err := os.WriteFile(s.path("state/wordcab/site.json"), record, 0o600); err != nil {
			t.Fatal(err)
		}
		addr, stop := serveRegistry(t, s.path("registry"))
		front.to(t, addr)
		gc := []string{"registry", "gc", "--yes", "--" + blindFlag}
		killed := front.kill(t, int64(at), exec.Command(binary, gc...))
		if err := wholeRelease(host, s.path("r2.wcb")); err != nil {
			t.Fatalf("killed at request %d: %v", at, err)
		}
		out := s.must(gc...)
		if err := wholeRelease(host, s.path("r2.wcb")); err != nil {
			t.Fatalf("killed at request %d, and run again: %v\n%s", at, err, out)
		}
		if out := s.must("loads"); !strings.Contains(out, "its content is gone") || strings.Contains(out, "is freed by") {
			t.Fatalf("killed at request %d, and run again:\n%s", at, out)
		}
		if left := leftOf(t, s); left != "" {
			t.Fatalf("killed at request %d, and run again: %s is still there", at, left)
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
	if kills < 50/step {
		t.Fatalf("only %d requests: the test does not see what gc does", kills)
	}
	t.Logf("killed at %d points", kills)
}

// runs writes into the site's record that a release runs, as apply does.
func (s shop) runs(version string) {
	s.t.Helper()
	store := install.FileStore{Path: s.path("state/wordcab/site.json")}
	r, err := store.Load(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range r.Loads {
		if l.Version == version {
			r.Installed = &install.Installed{Version: l.Version, Head: l.Head, Release: "shop", Namespace: "wordcab", Revision: 2, At: l.At}
		}
	}
	r.Generation++
	if err := store.Save(s.t.Context(), r); err != nil {
		s.t.Fatal(err)
	}
}

// wholeRelease reads every blob of a bundle's release from a registry, by its digest.
func wholeRelease(host, path string) error {
	reg, err := registry.New(registry.Options{Host: host})
	if err != nil {
		return err
	}
	f, err := bundle.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	rel, err := f.ReleaseUnverified(context.Background())
	if err != nil {
		return err
	}
	head, err := f.HeadOf()
	if err != nil {
		return err
	}
	lines := append([]bundle.Blob{{Descriptor: head, Repos: []string{bundle.ReleaseRepo(rel.Name)}}}, rel.Closure...)
	for _, b := range lines {
		for _, repo := range b.Repos {
			r, err := reg.Open(context.Background(), repo, b.Descriptor)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, r)
			if r.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// leftOf names a blob of the first release that the second does not have, and that still lies in the registry's folder.
func leftOf(t *testing.T, s shop) string {
	t.Helper()
	stay := map[string]bool{}
	for i, name := range []string{"r2.wcb", "r1.wcb"} {
		f, err := bundle.OpenFile(s.path(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		rel, err := f.ReleaseUnverified(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range rel.Closure {
			if i == 0 {
				stay[string(b.Digest)] = true
				continue
			}
			hex := b.Digest.Encoded()
			if _, err := os.Stat(s.path(fmt.Sprintf("registry/docker/registry/v2/blobs/sha256/%s/%s/data", hex[:2], hex))); err == nil && !stay[string(b.Digest)] {
				return string(b.Digest)
			}
		}
	}
	return ""
}

// TestLoadsShowsWhatWasKilled: a load that was killed is in the list, with its version, until it is finished.
func TestLoadsShowsWhatWasKilled(t *testing.T) {
	s := newShop(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, s.path("wcbundle")); err != nil {
		t.Fatal(err)
	}
	front := &killer{}
	srv := httptest.NewServer(front)
	defer srv.Close()
	addr, stop := serveRegistry(t, s.path("registry"))
	defer stop()
	front.to(t, addr)
	s.must("trust", "accept", "--site", "t", "--registry", strings.TrimPrefix(srv.URL, "http://"), "--yes", s.path("trust.json"))
	if !front.kill(t, 40, exec.Command(s.path("wcbundle"), "load", s.path("r1.wcb"))) {
		t.Fatal("it was not killed")
	}
	if out := s.must("loads"); !strings.Contains(out, "unfinished: load the same file again") || !strings.Contains(out, "1.0.0 ") {
		t.Errorf("the load that was killed does not show:\n%s", out)
	}
	before, err := os.ReadFile(s.path("state/wordcab/load.journal"))
	if err != nil {
		t.Fatal(err)
	}
	s.must("registry", "gc", "--yes") // does not touch it
	if after, err := os.ReadFile(s.path("state/wordcab/load.journal")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("gc changed the journal: %v", err)
	}
	s.must("load", s.path("r1.wcb"))
	if out := s.must("loads"); strings.Contains(out, "unfinished") {
		t.Errorf("it is finished:\n%s", out)
	}
}
