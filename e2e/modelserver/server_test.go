package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestReadiness(t *testing.T) {
	for name, tc := range map[string]struct {
		never bool
		drain bool
		want  int
	}{
		"loaded":            {want: 200},
		"never":             {never: true, want: 503},
		"drained":           {drain: true, want: 503},
		"drained and never": {never: true, drain: true, want: 503},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "w.bin"), "weights")
			s := newServer(Options{ModelID: "m", ModelDir: dir, NeverReady: tc.never, Log: quiet()})
			if code, _ := get(t, s.Handler(), "/readyz"); code != 503 {
				t.Errorf("before loading: got %d, want 503", code)
			}
			if tc.drain {
				s.Drain()
			}
			if err := s.Load(); err != nil {
				t.Fatal(err)
			}
			if code, _ := get(t, s.Handler(), "/readyz"); code != tc.want {
				t.Errorf("after loading: got %d, want %d", code, tc.want)
			}
			if code, _ := get(t, s.Handler(), "/healthz"); code != 200 {
				t.Errorf("alive: got %d, want 200", code)
			}
		})
	}
}

func TestModelsAreWhatWasLoaded(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "model.safetensors"), "weights")
	write(t, filepath.Join(dir, "sub", "vocab.json"), "{}")
	s := newServer(Options{ModelID: "asr", ModelDir: dir, Log: quiet()})
	if _, body := get(t, s.Handler(), "/v1/models"); body != `{"data":[]}` {
		t.Errorf("before loading: %s", body)
	}
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	_, body := get(t, s.Handler(), "/v1/models")
	var got struct{ Data []Model }
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Data) != 1 || got.Data[0].ID != "asr" || got.Data[0].Bytes != 9 || len(got.Data[0].Files) != 2 {
		t.Fatalf("got %s", body)
	}
	hash := func(s string) string {
		sum := sha256.Sum256([]byte(s))
		return hex.EncodeToString(sum[:])
	}
	want := hash(hash("weights") + "  model.safetensors\n" + hash("{}") + "  sub/vocab.json\n")
	if got.Data[0].SHA256 != want {
		t.Errorf("sha256: got %s, want %s", got.Data[0].SHA256, want)
	}
}

func TestLoadRefuses(t *testing.T) {
	s := newServer(Options{ModelID: "m", ModelDir: t.TempDir(), Log: quiet()})
	if err := s.Load(); !errors.Is(err, errNoWeights) {
		t.Errorf("empty directory: got %v", err)
	}
	if code, _ := get(t, s.Handler(), "/readyz"); code != 503 {
		t.Errorf("ready without weights: %d", code)
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "w"), "x")
	if err := newServer(Options{ModelDir: dir, Log: quiet()}).Load(); err == nil {
		t.Error("a model without an id was loaded")
	}
}

func TestConfigIsReadAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	s := newServer(Options{ConfigFile: file, Log: quiet()})
	for _, want := range []string{"beam: 4\n", "beam: 8\n"} {
		write(t, file, want)
		if _, got := get(t, s.Handler(), "/v1/config"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// lockedBuffer may be read while the loading goroutine still logs.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestRunLogsPasswordOnceAndEnds(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "w"), "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as SIGTERM does; the server has been listening by then
	env := map[string]string{"MODEL_ID": "m", "MODEL_DIR": dir, "LISTEN": "127.0.0.1:0", "DRAIN": "1ms", "UPSTREAM_PASSWORD": "not-a-secret"}
	var out lockedBuffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	if err := run(ctx, func(k string) string { return env[k] }, log); err != nil && !errors.Is(err, http.ErrServerClosed) {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "not-a-secret"); n != 1 {
		t.Errorf("password logged %d times, want 1:\n%s", n, out.String())
	}
}
