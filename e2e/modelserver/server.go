package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Options is what a server serves. All but NeverReady are needed.
type Options struct {
	ModelID    string
	ModelDir   string
	ConfigFile string
	NeverReady bool          // as a release whose model does not come up
	DrainWork  time.Duration // how long work that is in hand takes when /drain is asked
	Log        *slog.Logger
}

// Model is what was really loaded, in the form of /v1/models.
type Model struct {
	ID     string `json:"id"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
	Files  []File `json:"files"`
}

// File is one file of a model; its name is relative to the model's directory.
type File struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Bytes  int64  `json:"bytes"`
}

// server is not ready until Load has succeeded and never again after Drain.
type server struct {
	opt Options

	mu      sync.Mutex
	model   *Model   // nil until loaded
	weights [][]byte // kept, as a real server keeps them
	notOK   string   // why not ready; "" = ready

	drainedAt time.Time // when the work in hand is done; zero: not asked to drain
}

func newServer(opt Options) *server {
	return &server{opt: opt, notOK: "loading the model"}
}

// Load reads and hashes every file of the model and makes the server ready, unless it may never be.
func (s *server) Load() error {
	model, weights, err := load(s.opt.ModelID, s.opt.ModelDir)
	if err != nil {
		return fmt.Errorf("loading model %q from %s: %w", s.opt.ModelID, s.opt.ModelDir, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model, s.weights = model, weights
	s.opt.Log.Info("model loaded", "id", model.ID, "sha256", model.SHA256, "bytes", model.Bytes)
	switch {
	case s.opt.NeverReady:
		s.notOK = "READY=never: this build does not become ready"
		s.opt.Log.Error("not ready and will not be", "reason", s.notOK)
	case s.notOK == draining:
	default:
		s.notOK = ""
	}
	return nil
}

const draining = "shutting down"

// Drain makes the server not ready for good.
func (s *server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notOK = draining
}

// Handler serves the paths named in the package comment.
func (s *server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { s.write(w, []byte("ok\n")) })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("GET /v1/config", s.config)
	mux.HandleFunc("POST /v1/transcribe", s.transcribe)
	mux.HandleFunc("POST /drain", s.askedToDrain)
	mux.HandleFunc("GET /inflight", s.inflight)
	return mux
}

// transcribe is the model's work: here it hears what is sent.
func (s *server) transcribe(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	loaded := s.model != nil
	s.mu.Unlock()
	if !loaded {
		http.Error(w, "loading the model", http.StatusServiceUnavailable)
		return
	}
	heard, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	answer, err := json.Marshal(map[string]string{"text": string(heard)})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(w, answer)
}

// askedToDrain takes no new work; what is in hand takes DrainWork.
func (s *server) askedToDrain(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	if s.drainedAt.IsZero() {
		s.drainedAt = time.Now().Add(s.opt.DrainWork)
	}
	s.notOK = draining
	s.mu.Unlock()
	s.opt.Log.Info("asked to drain", "for", s.opt.DrainWork.String())
	s.write(w, []byte("ok\n"))
}

// inflight is how much work is in hand.
func (s *server) inflight(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	n := 0
	if !s.drainedAt.IsZero() && time.Now().Before(s.drainedAt) {
		n = 1
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	s.write(w, fmt.Appendf(nil, `{"inflight":%d}`, n))
}

func (s *server) ready(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	reason := s.notOK
	s.mu.Unlock()
	if reason != "" {
		http.Error(w, reason, http.StatusServiceUnavailable)
		return
	}
	s.write(w, []byte("ok\n"))
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) {
	answer := struct {
		Data []Model `json:"data"`
	}{Data: []Model{}}
	s.mu.Lock()
	if s.model != nil {
		answer.Data = append(answer.Data, *s.model)
	}
	s.mu.Unlock()
	body, err := json.Marshal(answer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	s.write(w, body)
}

func (s *server) config(w http.ResponseWriter, _ *http.Request) {
	body, err := os.ReadFile(s.opt.ConfigFile)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	s.write(w, body)
}

func (s *server) write(w http.ResponseWriter, body []byte) {
	if _, err := w.Write(body); err != nil {
		s.opt.Log.Warn("answering", "error", err)
	}
}

// errNoWeights is the error of a model's directory that holds no file: an empty mount is not a model.
var errNoWeights = errors.New("no files")

// load reads every file below dir, in the order of their names.
func load(id, dir string) (*Model, [][]byte, error) {
	if id == "" {
		return nil, nil, errors.New("MODEL_ID is not set")
	}
	model := &Model{ID: id}
	var weights [][]byte
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(b)
		weights = append(weights, b)
		model.Bytes += int64(len(b))
		model.Files = append(model.Files, File{Name: filepath.ToSlash(name), SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(b))})
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if len(model.Files) == 0 {
		return nil, nil, errNoWeights
	}
	model.SHA256 = total(model.Files)
	return model, weights, nil
}

// total is the model's own hash, see the package comment.
func total(files []File) string {
	if len(files) == 1 {
		return files[0].SHA256
	}
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%s  %s\n", f.SHA256, f.Name)
	}
	return hex.EncodeToString(h.Sum(nil))
}
