package recipe

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(0, &u)
	return float64(u.Utime.Sec) + float64(u.Utime.Usec)/1e6 + float64(u.Stime.Sec) + float64(u.Stime.Usec)/1e6
}

func TestDir(t *testing.T) {
	fs, _ := filepath.Glob(os.Getenv("RW"))
	enc, _ := zstd.NewWriter(nil)
	for _, f := range fs {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		name := filepath.Base(f)
		var plain bytes.Buffer
		c0 := cpu()
		if _, err := Unwrap(context.Background(), &plain, file(b), 1<<40); err != nil {
			t.Log(name, err)
			continue
		}
		var parts [][]byte
		var lens []int
		raw, z := 0, 0
		c1 := cpu()
		m, err := Record(context.Background(), file(b), bytes.NewReader(plain.Bytes()), int64(plain.Len()), func(n int, p []byte) error {
			parts, lens = append(parts, p), append(lens, n)
			raw += len(p)
			z += len(enc.EncodeAll(p, nil))
			return nil
		})
		c2 := cpu()
		mb := float64(plain.Len()) / 1e6
		if err != nil {
			t.Logf("%-16s %9d none: %v, unwrap %.0f MB/s record %.1f MB/s", name, len(b), err, mb/(c1-c0), mb/(c2-c1))
			continue
		}
		got, err := (&recorded{m, lens, parts}).remake(plain.Bytes(), 100000)
		if err != nil {
			t.Log(name, err)
		}
		c3 := cpu()
		ok := bytes.Equal(got, b)
		t.Logf("%-16s %9d %-14s ok=%v raw %7d zstd %7d = %.4f %%  MB/s: unwrap %.0f record %.1f remake %.1f", name, len(b), m, ok, raw, z, 100*float64(z)/float64(len(b)), mb/(c1-c0), mb/(c2-c1), mb/(c3-c2))
		if !ok {
			t.Error(name)
		}
	}
}
