package recipe

import (
	"bytes"
	"io"
	"testing"

	kflate "github.com/klauspost/compress/flate"
	kgzip "github.com/klauspost/compress/gzip"
)

func kpGzip(t testing.TB, p []byte, level int) []byte {
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

// asPgzip writes what pgzip does: blocks of 1 MiB that may look 16 KiB back, each flushed, the last also closed.
func asPgzip(t testing.TB, p []byte, level int) []byte {
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
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if last {
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		}
		dict = nil
		if len(b) > tail {
			dict = b[len(b)-tail:]
		}
	}
	out.Write(sum)
	return out.Bytes()
}

func TestKp(t *testing.T) {
	src := smallSource()
	mixed := append(append(append([]byte(nil), src[:1<<20]...), noise(300<<10, 7)...), make([]byte, 400<<10)...)
	mixed = append(mixed, src[1<<20:3<<19]...)
	for l := -2; l <= 9; l++ {
		if l == -1 {
			continue
		}
		for name, p := range map[string][]byte{"src": src, "mixed": mixed} {
			for k, f := range []func(testing.TB, []byte, int) []byte{kpGzip, asPgzip} {
				gz := f(t, p, l)
				m, n := rewrap(t, gz)
				t.Logf("%d %d %s: %s %d of %d %.3f %%", k, l, name, m, n, len(gz), float64(n)*100/float64(len(gz)))
			}
		}
	}
}

var _ = io.EOF
