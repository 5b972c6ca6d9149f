package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"sync"
)

var deletePath = regexp.MustCompile(`^/v2/.+/(?:blobs|manifests)/sha256:([0-9a-f]{64})$`)

// healer lets the embedded registry forget damaged data. Distribution keeps a blob's data once for all repositories and takes an upload
// of a digest that it has for done, so that a file that a disk has spoiled would stay for ever. A client that finds one deletes the blob
// and pushes it again: upon the deletion the data are hashed, and removed where they are not what their name says.
type healer struct {
	next http.Handler
	dir  string
	mu   sync.Mutex // one at a time: what a second removes must not be what came after the first
}

func (h *healer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m := deletePath.FindStringSubmatch(r.URL.Path)
	if r.Method != http.MethodDelete || m == nil {
		h.next.ServeHTTP(w, r)
		return
	}
	late := &lateAnswer{ResponseWriter: w}
	h.next.ServeHTTP(late, r)
	// Not found: in this repository it was deleted before, by a run that was killed then. Refused: nothing is done.
	if late.status == http.StatusAccepted || late.status == http.StatusNotFound {
		if err := h.heal(m[1]); err != nil {
			http.Error(w, "forgetting damaged data: "+err.Error(), http.StatusInternalServerError)
			return
		}
	}
	late.send()
}

// heal removes the data under a digest that are not what it says, or cannot be read.
func (h *healer) heal(digest string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	path := blobData(h.dir, digest)
	whole, err := isBlob(path, digest)
	if whole || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("blob sha256:%s: %w", digest, err)
	}
	return nil
}

// blobData is where distribution's file system storage keeps a blob's bytes.
func blobData(dir, digest string) string {
	return filepath.Join(dir, "docker/registry/v2/blobs/sha256", digest[:2], digest, "data")
}

func isBlob(path, digest string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return false, err
	}
	return hex.EncodeToString(sum.Sum(nil)) == digest, nil
}

// lateAnswer holds an answer back until it is sent.
type lateAnswer struct {
	http.ResponseWriter
	status int
	body   []byte
}

func (l *lateAnswer) WriteHeader(status int) {
	if l.status == 0 {
		l.status = status
	}
}

func (l *lateAnswer) Write(p []byte) (int, error) {
	l.WriteHeader(http.StatusOK)
	l.body = append(l.body, p...)
	return len(p), nil
}

func (l *lateAnswer) send() {
	l.ResponseWriter.WriteHeader(l.status)
	l.ResponseWriter.Write(l.body)
}
