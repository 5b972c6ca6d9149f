package registry

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/opencontainers/go-digest"

	"github.com/wordcab/wcbundle/bundle"
)

// sweepPath is where the embedded registry takes the order to free what nothing names. Distribution itself frees bytes only in a
// command that must run while the registry is down.
const sweepPath = "/wcbundle/v1/sweep"

const (
	young       = 24 * time.Hour   // what came later may belong to a load that has not pushed its manifests yet
	sweepWait   = 30 * time.Second // for requests that write to end
	maxSweep    = 64 << 20         // bytes of an order
	uploadsName = "_uploads"
)

// SweepOrder says what a sweep may free although it is young, and what it must not although nothing names it. What a manifest names
// is never freed.
type SweepOrder struct {
	Free []digest.Digest
	Keep []digest.Digest
}

// Swept is what a sweep has freed.
type Swept struct {
	Blobs   int   `json:"blobs"`
	Uploads int   `json:"uploads"` // that were broken off
	Bytes   int64 `json:"bytes"`
}

// encode writes an order: a line each, free DIGEST or keep DIGEST.
func (o SweepOrder) encode() []byte {
	var b bytes.Buffer
	for _, d := range o.Free {
		fmt.Fprintf(&b, "free %s\n", d)
	}
	for _, d := range o.Keep {
		fmt.Fprintf(&b, "keep %s\n", d)
	}
	return b.Bytes()
}

// parseSweep is the inverse of encode.
func parseSweep(r io.Reader) (SweepOrder, error) {
	var o SweepOrder
	lines := bufio.NewScanner(io.LimitReader(r, maxSweep))
	lines.Buffer(nil, 128)
	for lines.Scan() {
		verb, d, _ := strings.Cut(lines.Text(), " ")
		if err := bundle.CheckDigest(digest.Digest(d)); err != nil {
			return SweepOrder{}, fmt.Errorf("sweep order: %w", err)
		}
		switch verb {
		case "free":
			o.Free = append(o.Free, digest.Digest(d))
		case "keep":
			o.Keep = append(o.Keep, digest.Digest(d))
		default:
			return SweepOrder{}, fmt.Errorf("sweep order: %.20q is neither free nor keep", verb)
		}
	}
	if err := lines.Err(); err != nil {
		return SweepOrder{}, fmt.Errorf("sweep order: %w", err)
	}
	return o, nil
}

// sweeper lets requests that write wait outside while a sweep runs: what they commit must not be judged by marks that were made before.
type sweeper struct {
	next http.Handler
	dir  string

	mu       sync.Mutex
	writing  int
	sweeping bool
	idle     chan struct{} // closed when the last writer leaves, while a sweep waits
}

func (s *sweeper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == sweepPath:
		s.serveSweep(w, r)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		s.next.ServeHTTP(w, r)
	case !s.enter():
		busy(w, "the registry is freeing what nothing names")
	default:
		defer s.leave()
		s.next.ServeHTTP(w, r)
	}
}

func busy(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "2")
	http.Error(w, why+": try again", http.StatusServiceUnavailable)
}

func (s *sweeper) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sweeping {
		return false
	}
	s.writing++
	return true
}

func (s *sweeper) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writing--; s.writing == 0 && s.sweeping {
		close(s.idle)
	}
}

var errUploading = errors.New("others are writing to the registry")

// begin keeps writers out and waits until those that are inside have ended.
func (s *sweeper) begin(ctx context.Context) error {
	s.mu.Lock()
	if s.sweeping {
		s.mu.Unlock()
		return errUploading
	}
	s.sweeping, s.idle = true, make(chan struct{})
	if s.writing == 0 {
		close(s.idle)
	}
	idle := s.idle
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, sweepWait)
	defer cancel()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		s.end()
		return errUploading
	}
}

func (s *sweeper) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweeping = false
}

func (s *sweeper) serveSweep(w http.ResponseWriter, r *http.Request) {
	if !s.admitted(w, r) {
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "POST an order", http.StatusMethodNotAllowed)
		return
	}
	o, err := parseSweep(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.begin(r.Context()); err != nil {
		busy(w, err.Error())
		return
	}
	defer s.end()
	got, err := sweep(context.WithoutCancel(r.Context()), s.dir, o, time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(got)
}

// admitted asks the registry behind whether it would let this caller in, and hands its refusal on: who may use the registry is
// configured there, once.
func (s *sweeper) admitted(w http.ResponseWriter, r *http.Request) bool {
	ask := r.Clone(r.Context())
	ask.Method, ask.Body, ask.ContentLength = http.MethodGet, http.NoBody, 0
	ask.URL.Path, ask.URL.RawPath, ask.RequestURI = "/v2/", "", "/v2/"
	late := &lateAnswer{ResponseWriter: headersOf{w, http.Header{}}}
	s.next.ServeHTTP(late, ask)
	if late.status == http.StatusOK || late.status == 0 {
		return true
	}
	for name, values := range late.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(late.status)
	w.Write(late.body)
	return false
}

// headersOf is an answer with headers of its own.
type headersOf struct {
	http.ResponseWriter
	header http.Header
}

func (h headersOf) Header() http.Header { return h.header }

// sweep marks what manifests name and frees the rest, as far as the order and its age allow. It writes nothing: it works on a full disk.
func sweep(ctx context.Context, dir string, o SweepOrder, now time.Time) (Swept, error) {
	d, err := filesystem.FromParameters(map[string]any{"rootdirectory": dir})
	if err != nil {
		return Swept{}, err
	}
	s := &sparing{StorageDriver: d, free: setOf(o.Free), keep: setOf(o.Keep), since: now.Add(-young)}
	if err := s.findYoung(dir); err != nil {
		return s.got, fmt.Errorf("sweeping the registry: %w", err)
	}
	ns, err := storage.NewRegistry(ctx, s)
	if err != nil {
		return s.got, err
	}
	err = storage.MarkAndSweep(ctx, s, ns, storage.GCOpts{Quiet: true})
	if err != nil && s.any { // an empty storage has no folders to look into
		return s.got, fmt.Errorf("sweeping the registry: %w", err)
	}
	return s.got, s.dropUploads(dir)
}

func setOf(digests []digest.Digest) map[string]bool {
	out := map[string]bool{}
	for _, d := range digests {
		out[d.Encoded()] = true
	}
	return out
}

// sparing is a storage that deletes no blob that is to stay, and counts what it deletes.
type sparing struct {
	driver.StorageDriver
	free, keep map[string]bool
	since      time.Time
	fresh      map[string]bool // came, or became part of a repository, after since
	any        bool            // there are blobs at all
	got        Swept
}

// findYoung looks for blobs that came lately, or that a repository has taken in lately.
func (s *sparing) findYoung(dir string) error {
	s.fresh = map[string]bool{}
	return walkFiles(dir, func(name string, info fs.FileInfo) error {
		parent := path.Dir(name)
		isBlob := path.Base(name) == "data" && path.Base(path.Dir(path.Dir(path.Dir(parent)))) == "blobs"
		s.any = s.any || isBlob
		isLink := path.Base(name) == "link" && strings.Contains(name, "/_layers/")
		if (isBlob || isLink) && info.ModTime().After(s.since) {
			s.fresh[path.Base(parent)] = true
		}
		return nil
	})
}

// walkFiles gives every file below dir by its slash-separated path.
func walkFiles(dir string, see func(name string, info fs.FileInfo) error) error {
	return filepath.WalkDir(filepath.Join(dir, "docker/registry/v2"), func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return see(filepath.ToSlash(p), info)
	})
}

func (s *sparing) stays(hex string) bool { return s.keep[hex] || s.fresh[hex] && !s.free[hex] }

// Delete is called by the sweep with a blob's folder or a repository's link to a blob.
func (s *sparing) Delete(ctx context.Context, name string) error {
	hex := path.Base(name)
	link := hex == "link"
	if link {
		hex = path.Base(path.Dir(name))
	}
	if s.stays(hex) {
		return nil
	}
	if !link {
		if info, err := s.Stat(ctx, name+"/data"); err == nil {
			s.got.Blobs, s.got.Bytes = s.got.Blobs+1, s.got.Bytes+info.Size()
		}
	}
	return s.StorageDriver.Delete(ctx, name)
}

// dropUploads removes uploads that were broken off: nothing has come for a long time.
func (s *sparing) dropUploads(dir string) error {
	type upload struct {
		last time.Time
		size int64
	}
	uploads := map[string]upload{}
	err := walkFiles(dir, func(name string, info fs.FileInfo) error {
		before, after, ok := strings.Cut(name, "/"+uploadsName+"/")
		id, _, inside := strings.Cut(after, "/")
		if !ok || !inside {
			return nil
		}
		folder := before + "/" + uploadsName + "/" + id
		u := uploads[folder]
		if u.size += info.Size(); info.ModTime().After(u.last) {
			u.last = info.ModTime()
		}
		uploads[folder] = u
		return nil
	})
	for folder, u := range uploads {
		if err == nil && u.last.Before(s.since) {
			err = os.RemoveAll(filepath.FromSlash(folder))
			s.got.Uploads, s.got.Bytes = s.got.Uploads+1, s.got.Bytes+u.size
		}
	}
	return err
}
