package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/sign"
)

const (
	largeModel = 512 << 20 // bytes
	verifyPeak = 200 << 10 // KiB that verify may have resident at most, whatever the size of a blob
)

var peakLine = regexp.MustCompile(`(?m)^VmHWM:\s*(\d+) kB$`)

// runAndTellPeak is wcbundle, and prints the process's largest resident size behind its output. What wait4 reports would have
// the size of the test's own process in it.
func runAndTellPeak() {
	code := run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	fmt.Printf("%s\n", peakLine.Find(status))
	os.Exit(code)
}

// TestT23VerifyStreams verifies a bundle with a blob several times as large as the memory that verify may use.
func TestT23VerifyStreams(t *testing.T) {
	dir := t.TempDir()
	path, key := filepath.Join(dir, "large.wcb"), filepath.Join(dir, "key.pub")
	writeSparseBundle(t, dir, path, key)
	out, err := exec.Command("wcbundle-peak", "verify", "--key", key, path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m := peakLine.FindSubmatch(out)
	if m == nil || !strings.Contains(string(out), ": 512.") {
		t.Fatalf("no peak, or not of the whole file, in %s", out)
	}
	peak, err := strconv.Atoi(string(m[1]))
	if err != nil || peak > verifyPeak {
		t.Errorf("verify had %d KiB resident, more than %d (%v)", peak, verifyPeak, err)
	}
}

// writeSparseBundle writes a signed bundle with a large model of zeros, which take no room on the disk, and its public key.
func writeSparseBundle(t *testing.T, dir, path, key string) {
	t.Helper()
	ctx := t.Context()
	if err := writeProduct(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "r1", "model", "weights.bin"), largeModel); err != nil {
		t.Fatal(err)
	}
	def, err := bundle.LoadDefinition(filepath.Join(dir, "r1", "bundle.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	l, _, err := bundle.Build(ctx, def, bundle.BuildOptions{Dir: filepath.Join(dir, "r1"), Charts: install.Charts{}, Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	// The statement is made of a file, so there is one without an envelope first.
	bare := filepath.Join(dir, "bare.wcb")
	writeSparse(t, l, bare)
	f, err := bundle.OpenFile(bare)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	root, st, err := bundle.StatementOf(ctx, f, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	private, public, err := sign.GenerateKey(sign.ECDSAP256, nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sign.LoadSigner(private, nil)
	if err != nil {
		t.Fatal(err)
	}
	env, err := sign.Seal(root, st, signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AddEnvelope(root, env); err != nil {
		t.Fatal(err)
	}
	writeSparse(t, l, path)
	if err := os.WriteFile(key, public, 0o644); err != nil {
		t.Fatal(err)
	}
}

func writeSparse(t *testing.T, l *bundle.Layout, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &holeWriter{f: f}
	if err := l.WriteTar(t.Context(), w, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(w.n); err != nil {
		t.Fatal(err)
	}
}

// holeWriter writes a file and leaves holes where zeros are written.
type holeWriter struct {
	f *os.File
	n int64
}

var zeros [64 << 10]byte

func (h *holeWriter) Write(p []byte) (int, error) {
	at := h.n
	h.n += int64(len(p))
	if len(p) <= len(zeros) && bytes.Equal(p, zeros[:len(p)]) {
		return len(p), nil
	}
	return h.f.WriteAt(p, at)
}
