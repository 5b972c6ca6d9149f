package recipe

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os/exec"
	"testing"

	kflate "github.com/klauspost/compress/flate"
	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// A writer makes a file from plain bytes, with what this machine has.
type writer func(t testing.TB, p []byte) []byte

// command is a program that reads plain bytes and writes a file.
func command(name string, arg ...string) writer {
	return func(t testing.TB, p []byte) []byte {
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
}

const pyZlib = `import sys,zlib
l=int(sys.argv[1]);m=int(sys.argv[2])
c=zlib.compressobj(l,zlib.DEFLATED,31,m)
d=sys.stdin.buffer.read()
sys.stdout.buffer.write(c.compress(d)+c.flush())`

const nodeZlib = `process.stdout.write(require("zlib").gzipSync(require("fs").readFileSync(0),{level:+process.argv[1]}))`

func python(level, mem int) writer {
	return command("python3", "-c", pyZlib, fmt.Sprint(level), fmt.Sprint(mem))
}

func node(level int) writer { return command("node", "-e", nodeZlib, fmt.Sprint(level)) }

func kpGzip(level int) writer {
	return func(t testing.TB, p []byte) []byte {
		t.Helper()
		var buf bytes.Buffer
		w, err := kgzip.NewWriterLevel(&buf, level)
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
}

// asPgzip writes what pgzip does: blocks of 1 MiB that may look 16 KiB back, each flushed, the last also closed.
func asPgzip(level int) writer {
	return func(t testing.TB, p []byte) []byte {
		t.Helper()
		const size, tail = 1 << 20, 16 << 10
		out := bytes.NewBuffer([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255})
		sum := trailerOf(p)
		var dict []byte
		for last := false; !last; {
			b := p[:min(len(p), size)]
			p = p[len(b):]
			last = len(b) < size
			w, err := kflate.NewWriterDict(out, level, dict)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(b)
			if ferr := w.Flush(); err == nil {
				err = ferr
			}
			if last && err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			if dict = nil; len(b) > tail {
				dict = b[len(b)-tail:]
			}
		}
		return append(out.Bytes(), sum...)
	}
}

func goLevel(level int) writer {
	return func(t testing.TB, p []byte) []byte { return goGzip(t, p, level) }
}

// asEstargz writes one member per stretch of 4 to 40 KB, and one at the end that has an extra field and no bytes.
func asEstargz(t testing.TB, p []byte) []byte {
	var out []byte
	for i := 0; len(p) > 0; i++ {
		n := min(len(p), 4000+i*7919%36000)
		out = append(out, goGzip(t, p[:n], 9)...)
		p = p[n:]
	}
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.NoCompression)
	if err != nil {
		t.Fatal(err)
	}
	w.Extra = []byte("SG\x16\x000000000000000000STARGZ")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return append(out, buf.Bytes()...)
}

// withFields is a member with all optional fields of a header, an empty one, and bytes that belong to none.
func withFields(t testing.TB, p []byte) []byte {
	gz := goGzip(t, p, 6)
	h := append([]byte{0x1f, 0x8b, 8, 31, 1, 2, 3, 4, 2, 3}, 4, 0, 'e', 'x', 't', 'r')
	h = append(h, "name\x00comment\x00"...)
	crc := trailerOf(h)
	out := append(append(h, crc[0], crc[1]), gz[10:]...)
	out = append(out, goGzip(t, nil, 6)...)
	return append(out, make([]byte, 1000)...)
}

func kpZstd(level zstd.EncoderLevel) writer {
	return func(t testing.TB, p []byte) []byte {
		t.Helper()
		var buf bytes.Buffer
		w, err := zstd.NewWriter(&buf, zstd.WithEncoderLevel(level))
		if err != nil {
			t.Fatal(err)
		}
		for k := 0; len(p) > 0; p = p[k:] {
			k = min(len(p), 10_000)
			if _, err := w.Write(p[:k]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
}

// asChunked is three frames with skippable ones between and behind, as zstd:chunked has it.
func asChunked(t testing.TB, p []byte) []byte {
	w := kpZstd(zstd.SpeedDefault)
	skip := []byte("\x50\x2a\x4d\x18\x05\x00\x00\x00hello")
	out := append(w(t, p[:100_000]), skip...)
	out = append(out, w(t, p[100_000:100_300])...)
	out = append(append(out, w(t, p[100_300:])...), skip...)
	return append(out, skip...)
}

// TestWriters: every writer's file is restored bit for bit, with a recipe of at most so many thousandths of the file.
func TestWriters(t *testing.T) {
	cases := []struct {
		name  string
		w     writer
		model string // expected, if that is certain
		limit float64
	}{
		{"go 1", goLevel(1), "", 1}, {"go 6", goLevel(6), "", 1}, {"go 9", goLevel(9), "", 1},
		{"go 0", goLevel(0), "", 1}, {"go huffman", goLevel(-2), "", 1},
		{"klauspost 1", kpGzip(1), "klauspost-1", 1}, {"klauspost 4", kpGzip(4), "klauspost-4", 1},
		{"klauspost 5", kpGzip(5), "klauspost-5", 1}, {"klauspost 6", kpGzip(6), "klauspost-6", 1},
		{"klauspost 9", kpGzip(9), "klauspost-9", 1},
		{"klauspost huffman", kpGzip(-2), "", 1},
		{"pgzip default", asPgzip(-1), "pgzip-5", 1}, {"pgzip 1", asPgzip(1), "pgzip-1", 1}, {"pgzip 8", asPgzip(8), "pgzip-8", 1},
		{"python 1", python(1, 8), "zlib-1", 1}, {"python 6", python(6, 8), "zlib-6", 1},
		{"python 9", python(9, 8), "", 1},
		{"gzip 1", command("gzip", "-nc1"), "", 1}, {"gzip 6", command("gzip", "-c6"), "", 1}, {"gzip 9", command("gzip", "-nc9"), "", 1},
		{"pigz 6", command("pigz", "-nc6"), "pigz-6", 1}, {"pigz 9, one thread", command("pigz", "-nc9", "-p1"), "", 1},
		{"pigz rsyncable", command("pigz", "-ncR6"), "pigz-rsyncable-6", 1},
		{"node 1", node(1), "", 1}, {"node 6", node(6), "zlib-rabin-6", 1}, {"node 9", node(9), "", 1},
		{"estargz", asEstargz, "go-9", 2}, {"fields", withFields, "go-6", 1},
		{"zstd fastest", kpZstd(zstd.SpeedFastest), "klauspost-zstd-1.20-fastest", 1},
		{"zstd default", kpZstd(zstd.SpeedDefault), "klauspost-zstd-1.20-default", 1},
		{"zstd chunked", asChunked, "klauspost-zstd-1.20-default", 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			src := c.w(t, mixed())
			r := rewrap(t, src)
			share := 1000 * float64(r.size(t)) / float64(len(src))
			t.Logf("%s, recipe %d of %d, %.3f in a thousand", r.model, r.size(t), len(src), share)
			if c.model != "" && r.model.String() != c.model {
				t.Errorf("model %s, want %s", r.model, c.model)
			}
			if share > c.limit {
				t.Errorf("recipe is %.3f thousandths of the file, want at most %.1f", share, c.limit)
			}
		})
	}
}

// TestForeign: what no model knows is restored where that pays, and else refused.
func TestForeign(t *testing.T) {
	for _, c := range []struct {
		name string
		w    writer
		pays bool
	}{
		{"libdeflate 1", command("libdeflate-gzip", "-nc1"), true}, {"libdeflate 6", command("libdeflate-gzip", "-nc6"), true},
		{"libdeflate 9", command("libdeflate-gzip", "-nc9"), true}, {"libdeflate 12", command("libdeflate-gzip", "-nc12"), false},
		{"zopfli", command("pigz", "-nc11"), false}, {"libzstd", command("zstd", "-qc3"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := mixed()[:300_000]
			src := c.w(t, p)
			r, err := record(src, p)
			if err != nil && !c.pays && errors.Is(err, ErrNoRecipe) {
				t.Log(err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, recipe %d of %d", r.model, r.size(t), len(src))
			if got, err := r.remake(p, 100_000); err != nil || !bytes.Equal(got, src) {
				t.Errorf("%s: %v", r.model, err)
			}
		})
	}
}
