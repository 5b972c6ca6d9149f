package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/wordcab/wcbundle/delta/match"
	"github.com/wordcab/wcbundle/delta/recipe"
)

func base(b []byte) Base { return bytes.NewReader(b) }

func all(bases ...[]byte) []Base {
	var out []Base
	for _, b := range bases {
		out = append(out, base(b))
	}
	return out
}

func limits(t testing.TB) Limits {
	return Limits{MaxOutput: 1 << 30, ScratchDir: t.TempDir(), MaxScratch: 1 << 30, Parallel: 2}
}

// roundTrip makes and applies a delta and returns it with its header.
func roundTrip(t testing.TB, target []byte, level Level, bases ...[]byte) ([]byte, Header) {
	t.Helper()
	var d, out bytes.Buffer
	made, err := Make(context.Background(), &d, all(bases...), base(target), MakeOptions{ScratchDir: t.TempDir(), Level: level, Parallel: 2})
	if err != nil {
		t.Fatalf("Make: %v", err)
	}
	h, err := Apply(context.Background(), &out, bytes.NewReader(d.Bytes()), all(bases...), limits(t))
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	if !bytes.Equal(out.Bytes(), target) {
		t.Fatal("Apply returned no error and other bytes than the target's")
	}
	if !bytes.Equal(h.marshal(), made.marshal()) || h.Memory != made.Memory || h.Memory > DefaultMemory {
		t.Errorf("headers differ or memory out of bounds: made %+v, read %+v", made, h)
	}
	return d.Bytes(), h
}

func zstdSize(t testing.TB, p []byte) int {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		t.Fatal(err)
	}
	return len(w.EncodeAll(p, nil))
}

// zstdFile is p as a Go program streams it into a zstd layer.
func zstdFile(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// weights is an array of floats around zero, bf16 or fp32; tune moves each a little, like a fine-tune.
func weights(n int, bf16, tune bool) []byte {
	r := noise(8*n, 99)
	var out []byte
	for i := range n {
		a := float64(int32(binary.LittleEndian.Uint32(r[8*i:]))) / (1 << 31)
		v := float32(a * a * a * 0.1)
		if tune {
			v += float32(float64(int32(binary.LittleEndian.Uint32(r[8*i+4:])))/(1<<31)) * 2e-4
		}
		bits := math.Float32bits(v)
		if bf16 {
			out = binary.LittleEndian.AppendUint16(out, uint16(bits>>16))
		} else {
			out = binary.LittleEndian.AppendUint32(out, bits)
		}
	}
	return out
}

var editedSource = sync.OnceValue(func() []byte { return sourceTar(&testing.T{}, 6<<20, true) })

func TestRoundTrip(t *testing.T) {
	src, edit := smallSource(), editedSource()
	rnd := noise(1<<20, 3)
	moved := append(append(append([]byte(nil), rnd[500000:]...), 1, 2, 3), rnd[:500000]...)
	bfA, bfB := weights(600000, true, false), weights(600000, true, true)
	f32A, f32B := weights(300000, false, false), weights(300000, false, true)
	for _, c := range []struct {
		name   string
		target []byte
		bases  [][]byte
		limit  int
		codec  string
	}{
		{"empty", nil, nil, 256, ""},
		{"empty with base", nil, [][]byte{rnd}, 256, ""},
		{"one byte", []byte{7}, [][]byte{{}}, 256, "raw"},
		{"same", rnd, [][]byte{rnd}, 400, "same"},
		{"moved", moved, [][]byte{rnd}, 600, ""},
		{"from two bases", append(append([]byte(nil), rnd[:300000]...), src[:300000]...), [][]byte{src[:1<<20], rnd}, 700, "copies"},
		{"no base", src[:2<<20], nil, zstdSize(t, src[:2<<20]) + 512, ""},
		{"unlike", src[:2<<20], [][]byte{rnd}, zstdSize(t, src[:2<<20]) + 512, ""},
		{"noise", rnd, [][]byte{src[:1<<20]}, len(rnd) + 600, "raw"},
		{"edited tar", edit, [][]byte{src}, len(edit) / 50, "copies"},
		{"edited tar.gz go-6", goGzip(t, edit, 6, 32<<10), [][]byte{goGzip(t, src, 6, 32<<10)}, len(edit) / 50, "gzip(go-6)+copies"},
		{"edited tar.gz go-1", goGzip(t, edit, 1, 32<<10), [][]byte{goGzip(t, src, 1, 32<<10)}, len(edit) / 50, "gzip(go-1)+copies"},
		{"edited tar.gz from a tar", pipe(t, edit, "gzip", "-n6"), [][]byte{src}, len(edit) / 50, "gzip(zlib-6)+copies"},
		{"gz that is cut", goGzip(t, src, 6, 32<<10)[:300000], [][]byte{rnd}, 302000, ""},
		{"gz with a tail", append(goGzip(t, src[:1<<20], 6, 999), "tail"...), [][]byte{src}, 4000, "gzip(go-6)"},
		{"two members", append(goGzip(t, src[:1<<20], 6, 999), goGzip(t, src[1<<20:2<<20], 6, 999)...), [][]byte{src}, 4000, "gzip(go-6)"},
		{"edited tar.zst", zstdFile(t, edit), [][]byte{zstdFile(t, src)}, len(edit) / 50, "zstd("},
		{"bf16", bfB, [][]byte{bfA}, len(bfB) * 55 / 100, "tensor"},
		{"fp32", f32B, [][]byte{f32A}, len(f32B) * 75 / 100, "tensor"},
		{"fp32 alone", f32A, nil, zstdSize(t, f32A) * 95 / 100, "tensor"},
	} {
		for _, level := range []Level{LevelFast, LevelDefault, LevelMax} {
			d, h := roundTrip(t, c.target, level, c.bases...)
			t.Logf("%-26s %-7s %8d -> %7d (limit %7d) %s, memory %d MB", c.name, level, len(c.target), len(d), c.limit, h.Codec, h.Memory>>20)
			if len(d) > c.limit && level != LevelFast {
				t.Errorf("%s, %s: delta has %d bytes, want at most %d", c.name, level, len(d), c.limit)
			}
			if !strings.Contains(h.Codec, c.codec) {
				t.Errorf("%s, %s: codec %s, want %s in it", c.name, level, h.Codec, c.codec)
			}
		}
	}
}

// TestLargeLayer is the case the product is for: a gzip layer of which a rebuild changed every mtime and some files.
func TestLargeLayer(t *testing.T) {
	a, b := goGzip(t, sourceTar(t, 30<<20, false), 6, 32<<10), goGzip(t, sourceTar(t, 30<<20, true), 6, 32<<10)
	d, h := roundTrip(t, b, LevelDefault, a)
	t.Logf("layer of %d: delta %d (%.2f %%), %s, memory %d MB, scratch %d MB", len(b), len(d), 100*float64(len(d))/float64(len(b)), h.Codec, h.Memory>>20, h.Scratch>>20)
	if len(d) > len(b)/40 {
		t.Errorf("delta of %d bytes for a layer of %d", len(d), len(b))
	}
}

// TestWindowed makes a delta with a window far smaller than the bases, as for blobs above 4 GiB.
func TestWindowed(t *testing.T) {
	old := sourceTar(t, 24<<20, false)
	target := append([]byte("something in front"), old[1<<20:]...)
	var d, out bytes.Buffer
	opt := MakeOptions{ScratchDir: t.TempDir(), Parallel: 2, Window: 4 << 20}
	if _, err := Make(context.Background(), &d, all(old), base(target), opt); err != nil {
		t.Fatal(err)
	}
	if _, err := Apply(context.Background(), &out, &d, all(old), limits(t)); err != nil || !bytes.Equal(out.Bytes(), target) {
		t.Fatalf("other bytes, or %v", err)
	}
}

func hostileDelta(t testing.TB, level Level) (delta []byte, bases []Base, target []byte) {
	t.Helper()
	src := smallSource()
	plain := append(bytes.Clone(src[:200000]), weights(40000, true, true)...)
	gz := goGzip(t, plain, 6, 1000)
	old := append([]byte("moved"), src[:180000]...)
	d, _ := roundTrip(t, gz, level, old, weights(300000, true, false))
	return d, all(old, weights(300000, true, false)), gz
}

// TestT17FlippedByteIsAnError is case T17: the output's digest is right or there is an error.
func TestT17FlippedByteIsAnError(t *testing.T) {
	for _, level := range []Level{LevelDefault, LevelMax} {
		d, bases, _ := hostileDelta(t, level)
		for i := 0; i < len(d); i += max(len(d)/200, 1) {
			bad := bytes.Clone(d)
			bad[i] ^= 0x20
			var ce *CorruptError
			if _, err := Apply(context.Background(), discard{}, bytes.NewReader(bad), bases, limits(t)); !errors.As(err, &ce) {
				t.Fatalf("byte %d flipped: error %v, want a CorruptError", i, err)
			}
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestTruncatedIsAnError(t *testing.T) {
	d, bases, _ := hostileDelta(t, LevelDefault)
	for i := 0; i < len(d); i += max(len(d)/150, 1) {
		var ce *CorruptError
		if _, err := Apply(context.Background(), discard{}, bytes.NewReader(d[:i]), bases, limits(t)); !errors.As(err, &ce) {
			t.Fatalf("cut at %d: error %v, want a CorruptError", i, err)
		}
	}
	var ce *CorruptError
	if _, err := Apply(context.Background(), discard{}, bytes.NewReader(append(bytes.Clone(d), 0)), bases, limits(t)); !errors.As(err, &ce) {
		t.Fatalf("a byte too many: error %v", err)
	}
}

// TestT16T19WrongBaseAndLimits is cases T16 and T19.
func TestT16T19WrongBaseAndLimits(t *testing.T) {
	d, bases, gz := hostileDelta(t, LevelDefault)
	changed := make([]byte, bases[0].Size())
	if _, err := bases[0].ReadAt(changed, 0); err != nil {
		t.Fatal(err)
	}
	changed[len(changed)/2] ^= 1
	for name, b := range map[string][]Base{"one byte differs": {base(changed), bases[1]}, "other size": {base(changed[1:]), bases[1]}, "none": nil} {
		if _, err := Apply(context.Background(), discard{}, bytes.NewReader(d), b, limits(t)); !errors.Is(err, ErrBaseMismatch) {
			t.Errorf("%s: %v, want ErrBaseMismatch", name, err)
		}
	}
	for name, l := range map[string]Limits{"zero": {}, "output": {MaxOutput: int64(len(gz)) - 1}, "memory": {MaxOutput: 1 << 30, MaxMemory: 1 << 20}} {
		if _, err := Apply(context.Background(), discard{}, bytes.NewReader(d), bases, l); !errors.Is(err, ErrTooLarge) {
			t.Errorf("limit %s: %v, want ErrTooLarge", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Apply(ctx, discard{}, bytes.NewReader(d), bases, limits(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// stopper cancels when the first bytes come out.
type stopper struct{ stop context.CancelFunc }

func (s stopper) Write(p []byte) (int, error) {
	s.stop()
	return len(p), nil
}

// failing is a reader that breaks after some bytes.
type failing struct {
	r   io.Reader
	err error
}

func (f failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err == io.EOF {
		err = f.err
	}
	return n, err
}

// TestInterruptedIsNotDamaged: a stopped run and a broken disk are not reported as a hostile delta.
func TestInterruptedIsNotDamaged(t *testing.T) {
	src, edit := sourceTar(t, 20<<20, false), sourceTar(t, 20<<20, true)
	d, _ := roundTrip(t, edit, LevelFast, src)
	for range 20 {
		ctx, cancel := context.WithCancel(context.Background())
		if _, err := Apply(ctx, stopper{cancel}, bytes.NewReader(d), all(src), limits(t)); !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped: error %v, want context.Canceled", err)
		}
		broken := errors.New("disk on fire")
		in := failing{bytes.NewReader(d[:len(d)*3/4]), broken}
		if _, err := Apply(context.Background(), discard{}, in, all(src), limits(t)); !errors.Is(err, broken) {
			t.Fatalf("broken reader: error %v, want %v", err, broken)
		}
	}
}

// bomb is a delta of few bytes whose records claim far more than its header.
func bomb(t *testing.T, target int64, old []byte) []byte {
	t.Helper()
	h := Header{Codec: "same", TargetSize: target, PlainSize: target, maxPlain: 1 << 20, maxRecord: 64}
	id, err := digest(context.Background(), base(old))
	if err != nil {
		t.Fatal(err)
	}
	h.Bases, h.forms, h.plain = []BaseID{id}, []recipe.Form{recipe.None}, []int64{id.Size}
	d := h.marshal()
	for range 1 << 10 {
		d = append(d, (&record{kind: recCopy, plain: int64(len(old))}).marshal()...)
	}
	return d
}

// TestT19BombStops is case T19: a small delta that would write gigabytes stops at the size that its header names.
func TestT19BombStops(t *testing.T) {
	old := noise(10<<20, 5)
	out := &counter{}
	d := bomb(t, 15<<20, old)
	var ce *CorruptError
	if _, err := Apply(context.Background(), out, bytes.NewReader(d), all(old), limits(t)); !errors.As(err, &ce) {
		t.Errorf("error %v, want a CorruptError", err)
	}
	if out.n > 15<<20 {
		t.Errorf("%d bytes were written for a target of %d", out.n, 15<<20)
	}
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// TestHugeSizesDoNotAllocate: a small file that claims the largest segments the format allows.
func TestHugeSizesDoNotAllocate(t *testing.T) {
	h := Header{Codec: "zstd", TargetSize: 1 << 40, PlainSize: 1 << 40, maxPlain: maxPlain, maxRecord: maxRecord, maxCopies: match.MaxCopies / 2, uses: usesZstd}
	d := append(h.marshal(), recZstd, 0, 0, 0x7f, 0, 1)
	r := testing.Benchmark(func(b *testing.B) {
		for range b.N {
			if _, err := Apply(context.Background(), discard{}, bytes.NewReader(d), nil, Limits{MaxOutput: 1 << 41}); err == nil {
				b.Error("no error")
			}
		}
	})
	if got := r.AllocedBytesPerOp(); got > 8<<20 {
		t.Errorf("%d bytes taken for a delta of %d bytes", got, len(d))
	}
}

// TestBorders puts bases and targets one byte below, at and above the 2 and 4 GiB borders, without making such files.
func TestBorders(t *testing.T) {
	for _, size := range []int64{1<<31 - 1, 1<<31 + 1, 1<<32 - 1, 1<<32 + 1} {
		end := noise(300000, uint64(size))
		old := sparseBase{size: size, end: end}
		target := append(append([]byte("new"), end[:200000]...), end[250000:]...)
		var d, out bytes.Buffer
		h, err := Make(context.Background(), &d, []Base{old}, base(target), MakeOptions{ScratchDir: t.TempDir(), Window: 8 << 20})
		if err != nil {
			t.Fatalf("%d: %v", size, err)
		}
		if d.Len() > len(target)+600 || h.Bases[0].Size != size {
			t.Errorf("%d: delta of %d bytes", size, d.Len())
		}
		if _, err := Apply(context.Background(), &out, &d, []Base{old}, limits(t)); err != nil || !bytes.Equal(out.Bytes(), target) {
			t.Errorf("%d: other bytes, or %v", size, err)
		}
	}
}

// sparseBase is zeros, and at its end some bytes.
type sparseBase struct {
	size int64
	end  []byte
}

func (s sparseBase) Size() int64 { return s.size }

func (s sparseBase) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	begin := s.size - int64(len(s.end))
	if off+int64(len(p)) > begin {
		copy(p[max(begin-off, 0):], s.end[max(off-begin, 0):])
	}
	return len(p), nil
}

func FuzzReadHeader(f *testing.F) {
	h := Header{Codec: "zstd", Bases: []BaseID{{Size: 3}}, forms: []recipe.Form{recipe.None}, plain: []int64{3}}
	f.Add(h.marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ReadHeader(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, h.marshal()) {
			t.Error("a header that parses does not re-encode to the same bytes")
		}
	})
}

// fuzzBody is what follows a header that names the base of FuzzApply, so that the fuzzer need not find its digest.
func fuzzBody(body []byte, old []byte, plain int64) error {
	h := &Header{TargetSize: plain, PlainSize: plain, maxPlain: 1 << 20, maxRecord: 1 << 20, maxCopies: 1 << 10, uses: usesAll}
	return rebuild(context.Background(), h, &countReader{r: bytes.NewReader(body)}, discard{}, all(old), 1)
}

// sealed gives each record in b its length and checksum, so that the fuzzer gets past them.
func sealed(b []byte) []byte {
	var out []byte
	for len(b) > 2 {
		n := min(int(b[1])|int(b[2])<<8, len(b)-3)
		r := record{kind: b[0]}
		if rec, err := parseRecord(b[0], b[3:3+n]); err == nil {
			r = rec
		}
		out = append(out, r.marshal()...)
		b = b[3+n:]
	}
	return out
}

func FuzzApply(f *testing.F) {
	old := bytes.Repeat([]byte("some base, "), 500)
	target := append([]byte("and "), old[100:]...)
	var d bytes.Buffer
	if _, err := Make(context.Background(), &d, all(old), base(target), MakeOptions{ScratchDir: f.TempDir()}); err != nil {
		f.Fatal(err)
	}
	f.Add(d.Bytes(), int64(5404))
	f.Fuzz(func(t *testing.T, b []byte, plain int64) {
		var out bytes.Buffer
		h, err := Apply(context.Background(), &out, bytes.NewReader(b), all(old), Limits{MaxOutput: 1 << 20})
		if err == nil && int64(out.Len()) != h.TargetSize {
			t.Error("wrong size without an error")
		}
		_ = fuzzBody(sealed(b), old, plain&(1<<20-1))
		_ = applyBsdiff(make([]byte, 100), b, join(all(old)), 0, int64(len(old)))
		_, _ = Explain(bytes.NewReader(b))
	})
}
