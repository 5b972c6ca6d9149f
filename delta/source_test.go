package delta

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// goroot is where the Go that runs the tests keeps its sources: input that nobody here made.
func goroot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// sourceTar is a tar of part of the Go source tree, about n bytes; edit changes some files' text and every mtime.
func sourceTar(t testing.TB, n int, edit bool) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	mtime := time.Unix(1700000000, 0)
	if edit {
		mtime = time.Unix(1710000000, 0)
	}
	k := 0
	root := filepath.Join(goroot(t), "src")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		k++
		if edit && k%37 == 0 {
			b = append(bytes.ReplaceAll(b, []byte("return"), []byte("RETURN now")), "// changed\n"...)
		}
		rel, _ := filepath.Rel(root, p)
		if err := w.WriteHeader(&tar.Header{Name: rel, Mode: 0o644, Size: int64(len(b)), ModTime: mtime}); err != nil {
			return err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		if buf.Len() > n {
			return fs.SkipAll
		}
		return nil
	})
	if err != nil || buf.Len() < n {
		t.Fatalf("tar of the Go source: %d bytes, %v", buf.Len(), err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

var smallSource = sync.OnceValue(func() []byte { return sourceTar(&testing.T{}, 6<<20, false) })

// noise is deterministic bytes that do not compress.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	for i := range b {
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		b[i] = byte(seed >> 32)
	}
	return b
}

func goGzip(t testing.TB, p []byte, level, chunk int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, level)
	if err != nil {
		t.Fatal(err)
	}
	for len(p) > 0 {
		k := min(chunk, len(p))
		if _, err := w.Write(p[:k]); err != nil {
			t.Fatal(err)
		}
		p = p[k:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// pipe runs p through a command of this machine.
func pipe(t testing.TB, p []byte, name string, arg ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s on the machine: its output is the input of this test", name)
	}
	c := exec.Command(name, arg...)
	c.Stdin = bytes.NewReader(p)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}
