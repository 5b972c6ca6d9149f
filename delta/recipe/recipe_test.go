package recipe

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
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

// sourceTar is a tar of part of the Go source tree, about n bytes.
func sourceTar(t testing.TB, n int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	root := filepath.Join(goroot(t), "src")
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if err := w.WriteHeader(&tar.Header{Name: rel, Mode: 0o644, Size: int64(len(b)), ModTime: time.Unix(1700000000, 0)}); err != nil {
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

// mixed is about 2 MB: text, noise, zeros, text again.
var mixed = sync.OnceValue(func() []byte {
	src := sourceTar(&testing.T{}, 3<<19)
	b := append(bytes.Clone(src[:1<<20]), noise(300<<10, 7)...)
	b = append(b, make([]byte, 200<<10)...)
	return append(b, src[1<<20:3<<19]...)
})

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

// memory is a file in memory.
type memory struct{ *bytes.Reader }

func file(b []byte) memory { return memory{bytes.NewReader(b)} }

func trailerOf(p []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(p))
	return binary.LittleEndian.AppendUint32(b, uint32(len(p)))
}

// recorded is a recipe in memory.
type recorded struct {
	model Model
	lens  []int
	parts [][]byte
}

// size is that of all parts after zstd, as a caller compresses them.
func (r *recorded) size(t testing.TB) (n int) {
	t.Helper()
	e, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.parts {
		n += len(e.EncodeAll(p, nil))
	}
	return n
}

func record(src, plain []byte) (r recorded, err error) {
	r.model, err = Record(context.Background(), file(src), bytes.NewReader(plain), int64(len(plain)), func(n int, p []byte) error {
		r.lens, r.parts = append(r.lens, n), append(r.parts, bytes.Clone(p))
		return nil
	})
	return r, err
}

func (r *recorded) remake(plain []byte, piece int) ([]byte, error) {
	var out bytes.Buffer
	m, err := NewRemaker(r.model, &out, int64(len(plain)), pieces(plain, piece))
	if err != nil {
		return nil, err
	}
	for i, p := range r.parts {
		if err := m.Part(r.lens[i], p); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), m.Close()
}

// pieces hands out b in pieces of n bytes.
func pieces(b []byte, n int) func() ([]byte, error) {
	return func() ([]byte, error) {
		if len(b) == 0 {
			return nil, io.EOF
		}
		p := b[:min(n, len(b))]
		b = b[len(p):]
		return p, nil
	}
}

// rewrap takes a file apart and builds it again; it returns the recipe.
func rewrap(t testing.TB, src []byte) recorded {
	t.Helper()
	var plain bytes.Buffer
	n, err := Unwrap(context.Background(), &plain, file(src), 1<<40)
	if err != nil || n != int64(plain.Len()) {
		t.Fatalf("unwrap: %d bytes of %d, %v", plain.Len(), n, err)
	}
	r, err := record(src, plain.Bytes())
	if err != nil {
		t.Fatalf("record: %v", err)
	}
	sum := 0
	for i, n := range r.lens {
		if sum += n; n > MaxPart || len(r.parts[i]) > MaxRecipe {
			t.Fatalf("part of %d plain bytes and %d", n, len(r.parts[i]))
		}
	}
	if sum != plain.Len() {
		t.Fatalf("parts cover %d of %d plain bytes", sum, plain.Len())
	}
	got, err := r.remake(plain.Bytes(), 100_000)
	if err != nil || !bytes.Equal(got, src) {
		t.Fatalf("%s: remade %d bytes differ from the %d of the file, %v", r.model, len(got), len(src), err)
	}
	return r
}

func goGzip(t testing.TB, p []byte, level int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, level)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestUnwrapRefuses(t *testing.T) {
	p := mixed()[:100_000]
	gz := goGzip(t, p, 6)
	damaged := bytes.Clone(gz)
	damaged[len(damaged)-6] ^= 1
	for _, c := range []struct {
		name  string
		src   []byte
		limit int64
		want  error
	}{
		{"too long", gz, 99_999, ErrTooLong},
		{"checksum", damaged, 1 << 20, ErrCorrupt},
		{"cut short", gz[:len(gz)/2], 1 << 20, ErrCorrupt},
		{"no form", p, 1 << 20, ErrCorrupt},
		{"empty", nil, 1 << 20, ErrCorrupt},
	} {
		if _, err := Unwrap(context.Background(), io.Discard, file(c.src), c.limit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if n, err := Unwrap(context.Background(), io.Discard, file(gz), 100_000); n != 100_000 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Unwrap(done, io.Discard, file(gz), 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestRecordRefuses(t *testing.T) {
	p := mixed()[:200_000]
	gz := goGzip(t, p, 6)
	other := bytes.Clone(p)
	other[150_000] ^= 1
	if _, err := record(gz, other); !errors.Is(err, ErrCorrupt) {
		t.Errorf("other plain bytes: %v", err)
	}
	if _, err := record(gz, p[:len(p)-1]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("fewer plain bytes: %v", err)
	}
	if _, err := record(p, p); !errors.Is(err, ErrNoRecipe) {
		t.Errorf("no form: %v", err)
	}
	want := errors.New("full")
	_, err := Record(context.Background(), file(gz), bytes.NewReader(p), int64(len(p)), func(int, []byte) error { return want })
	if !errors.Is(err, want) {
		t.Errorf("emit: %v", err)
	}
}

func TestRemakerRefuses(t *testing.T) {
	p := mixed()[:200_000]
	r := rewrap(t, goGzip(t, p, 6))
	if _, err := r.remake(p[:len(p)-1], 1000); !errors.Is(err, ErrCorrupt) {
		t.Errorf("fewer plain bytes: %v", err)
	}
	if _, err := NewRemaker(7, io.Discard, 1, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("unknown model: %v", err)
	}
	for _, cut := range []int{0, 1, len(r.parts[0]) - 1} {
		bad := recorded{r.model, r.lens, [][]byte{r.parts[0][:cut]}}
		if _, err := bad.remake(p, 1000); !errors.Is(err, ErrCorrupt) {
			t.Errorf("part cut to %d: %v", cut, err)
		}
	}
	if _, err := (&recorded{model: r.model}).remake(p, 1000); !errors.Is(err, ErrCorrupt) {
		t.Errorf("parts missing: %v", err)
	}
}
