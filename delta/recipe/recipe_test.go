package recipe

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"fmt"
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

const pyZlib = `import sys,zlib
l=int(sys.argv[1]);m=int(sys.argv[2])
c=zlib.compressobj(l,zlib.DEFLATED,31,m)
d=sys.stdin.buffer.read()
sys.stdout.buffer.write(c.compress(d)+c.flush())`

// memory is a file in memory.
type memory struct{ *bytes.Reader }

func file(b []byte) memory { return memory{bytes.NewReader(b)} }

// rewrap takes a file apart and builds it again; it returns the model and the size of the recipe.
func rewrap(t testing.TB, src []byte) (Model, int) {
	t.Helper()
	ctx := context.Background()
	var plain bytes.Buffer
	if _, err := Unwrap(ctx, &plain, file(src), 1<<40); err != nil {
		t.Fatalf("unwrap: %v", err)
	}
	size := 0
	var parts [][]byte
	var lens []int
	m, err := Record(ctx, file(src), bytes.NewReader(plain.Bytes()), int64(plain.Len()), func(n int, p []byte) error {
		parts, lens, size = append(parts, p), append(lens, n), size+len(p)
		return nil
	})
	if err != nil {
		t.Fatalf("record: %v", err)
	}
	if got := remake(t, m, plain.Bytes(), lens, parts); !bytes.Equal(got, src) {
		t.Fatalf("%s: remade %d bytes differ from the %d of the file", m, len(got), len(src))
	}
	return m, size
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

func remake(t testing.TB, m Model, plain []byte, lens []int, parts [][]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	r, err := NewRemaker(m, &out, int64(len(plain)), pieces(plain, 100_000))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range parts {
		if err := r.Part(lens[i], p); err != nil {
			t.Fatalf("remake part %d of %d: %v", i, len(parts), err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRecipeIsExactAndSmall(t *testing.T) {
	src := smallSource()
	mixed := append(append(append([]byte(nil), src[:1<<20]...), noise(300<<10, 7)...), make([]byte, 400<<10)...)
	mixed = append(mixed, src[1<<20:3<<19]...)
	type input struct {
		name  string
		gz    []byte
		limit float64 // of the gzip file, in percent
	}
	var in []input
	for l := 1; l <= 9; l++ {
		in = append(in, input{fmt.Sprintf("go-%d", l), goGzip(t, mixed, l, 32<<10), 0.1})
		if l%2 == 0 || l == 1 || l == 9 {
			in = append(in, input{fmt.Sprintf("gzip -%d", l), pipe(t, mixed, "gzip", "-nc", fmt.Sprintf("-%d", l)), 0.1})
			in = append(in, input{fmt.Sprintf("zlib -%d", l), pipe(t, mixed, "python3", "-c", pyZlib, fmt.Sprint(l), "8"), 0.1})
		}
	}
	in = append(in, input{"zlib -6 mem 9", pipe(t, mixed, "python3", "-c", pyZlib, "6", "9"), 0.1})
	in = append(in, input{"go-6 all", goGzip(t, src, 6, 32<<10), 0.1}, input{"go-1 all", goGzip(t, src, 1, 32<<10), 0.1})
	in = append(in, input{"gzip -6 all", pipe(t, src, "gzip", "-nc6"), 0.1})
	for _, c := range in {
		m, n := rewrap(t, c.gz)
		pc := 100 * float64(n) / float64(len(c.gz))
		t.Logf("%-18s model %-10s recipe %6d of %8d = %.3f %%", c.name, m, n, len(c.gz), pc)
		if pc > c.limit {
			t.Errorf("%s: recipe is %.3f %% of the file, want at most %.2f", c.name, pc, c.limit)
		}
	}
}

func trailerOf(p []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(p))
	return binary.LittleEndian.AppendUint32(b, uint32(len(p)))
}
