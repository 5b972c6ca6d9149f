package registry

import (
	"errors"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// HealthPath answers probes, without a login.
const HealthPath = "/healthz"

// health answers whether the registry can take blobs. The folder is tried at most once a second, however many ask.
type health struct {
	dir  string
	mu   sync.Mutex
	at   time.Time
	last error
}

func (h *health) check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.at) >= time.Second {
		h.last, h.at = writable(h.dir), time.Now()
	}
	return h.last
}

// writable puts a byte into the folder and takes it away again. A full disk is no fault of the registry: nodes pull from it, and room is
// made through it, so that a probe must not take it out of service.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".health-*")
	if full(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err = f.Write([]byte{1}); full(err) {
		err = nil
	}
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

func full(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	if h.check() != nil { // what is wrong is not for everybody to read
		http.Error(w, "the folder of the blobs cannot be written", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusOK)
}
