package delta

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
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
	return Limits{MaxOutput: 1 << 30, ScratchDir: t.TempDir(), MaxScratch: 1 << 30}
}

// roundTrip makes and applies a delta and returns it with its header.
func roundTrip(t testing.TB, target []byte, level int, bases ...[]byte) ([]byte, Header) {
	t.Helper()
	var d, out bytes.Buffer
	made, err := Make(context.Background(), &d, all(bases...), base(target), MakeOptions{ScratchDir: t.TempDir(), Level: level})
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
		{"empty", nil, nil, 256, "zstd"},
		{"empty with base", nil, [][]byte{rnd}, 256, "zstd"},
		{"one byte", []byte{7}, [][]byte{{}}, 256, "zstd"},
		{"same", rnd, [][]byte{rnd}, 400, ""},
		{"moved", moved, [][]byte{rnd}, 600, ""},
		{"from two bases", append(append([]byte(nil), rnd[:300000]...), src[:300000]...), [][]byte{src[:1<<20], rnd}, 600, "match"},
		{"no base", src[:2<<20], nil, zstdSize(t, src[:2<<20]) + 256, "zstd"},
		{"unlike", src[:2<<20], [][]byte{rnd}, zstdSize(t, src[:2<<20]) + 400, "zstd"},
		{"noise", rnd, [][]byte{src[:1<<20]}, len(rnd) + 600, ""},
		{"edited tar", edit, [][]byte{src}, len(edit) / 50, "match"},
		{"edited tar.gz go-6", goGzip(t, edit, 6, 32<<10), [][]byte{goGzip(t, src, 6, 32<<10)}, len(edit) / 50, "gzip(go-6)+match"},
		{"edited tar.gz go-1", goGzip(t, edit, 1, 32<<10), [][]byte{goGzip(t, src, 1, 32<<10)}, len(edit) / 50, "gzip(go-1)+match"},
		{"edited tar.gz from a tar", pipe(t, edit, "gzip", "-n6"), [][]byte{src}, len(edit) / 50, "gzip(zlib-6)+match"},
		{"gz that is cut", goGzip(t, src, 6, 32<<10)[:300000], [][]byte{rnd}, 302000, ""},
		{"gz with a tail", append(goGzip(t, src[:1<<20], 6, 999), "tail"...), [][]byte{src}, 4000, "gzip(go-6)"},
		{"two members", append(goGzip(t, src[:1<<20], 6, 999), goGzip(t, src[1<<20:2<<20], 6, 999)...), [][]byte{src}, 4000, "gzip(go-6)"},
		{"bf16", bfB, [][]byte{bfA}, len(bfB) * 60 / 100, "match"},
		{"fp32", f32B, [][]byte{f32A}, len(f32B) * 75 / 100, "match"},
		{"fp32 alone", f32A, nil, zstdSize(t, f32A) * 95 / 100, "planes"},
	} {
		d, h := roundTrip(t, c.target, 2, c.bases...)
		t.Logf("%-26s %8d -> %7d (limit %7d) %s, memory %d MB", c.name, len(c.target), len(d), c.limit, h.Codec, h.Memory>>20)
		if len(d) > c.limit {
			t.Errorf("%s: delta has %d bytes, want at most %d", c.name, len(d), c.limit)
		}
		if !strings.Contains(h.Codec, c.codec) {
			t.Errorf("%s: codec %s, want %s in it", c.name, h.Codec, c.codec)
		}
	}
}

// TestLargeLayer is the case the product is for: a gzip layer of which a rebuild changed every mtime and some files.
func TestLargeLayer(t *testing.T) {
	a, b := goGzip(t, sourceTar(t, 30<<20, false), 6, 32<<10), goGzip(t, sourceTar(t, 30<<20, true), 6, 32<<10)
	d, h := roundTrip(t, b, 2, a)
	t.Logf("layer of %d: delta %d (%.2f %%), %s, memory %d MB, scratch %d MB", len(b), len(d), 100*float64(len(d))/float64(len(b)), h.Codec, h.Memory>>20, h.Scratch>>20)
	if len(d) > len(b)/20 {
		t.Errorf("delta of %d bytes for a layer of %d", len(d), len(b))
	}
}

func hostileDelta(t testing.TB) (delta []byte, bases []Base, target []byte) {
	t.Helper()
	src := smallSource()
	gz := goGzip(t, src[:200000], 6, 1000)
	old := append([]byte("moved"), src[:180000]...)
	d, _ := roundTrip(t, gz, 1, old)
	return d, all(old), gz
}

func TestFlippedByteIsAnError(t *testing.T) {
	d, bases, _ := hostileDelta(t)
	step := max(len(d)/600, 1)
	for i := 0; i < len(d); i += step {
		bad := bytes.Clone(d)
		bad[i] ^= 0x20
		var ce *CorruptError
		if _, err := Apply(context.Background(), discard{}, bytes.NewReader(bad), bases, limits(t)); !errors.As(err, &ce) {
			t.Fatalf("byte %d flipped: error %v, want a CorruptError", i, err)
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func TestTruncatedIsAnError(t *testing.T) {
	d, bases, _ := hostileDelta(t)
	for i := 0; i < len(d); i += max(len(d)/300, 1) {
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

func TestWrongBaseAndLimits(t *testing.T) {
	d, bases, gz := hostileDelta(t)
	wrong := smallSource()[:bases[0].Size()]
	for name, b := range map[string][]Base{"other bytes": all(wrong), "other size": all(wrong[1:]), "none": nil} {
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

// TestHugeSizesDoNotAllocate: a small file that claims the largest segments the format allows.
func TestHugeSizesDoNotAllocate(t *testing.T) {
	h := Header{Codec: "zstd", TargetSize: 1 << 40, plainSize: 1 << 40, segments: 1 << 20, maxPlain: maxPart, maxRecord: maxRecord, maxStreams: maxStreams}
	d := append(h.marshal(), 0, 0, 0x7f, 1)
	n := testing.AllocsPerRun(1, func() {
		if _, err := Apply(context.Background(), discard{}, bytes.NewReader(d), nil, Limits{MaxOutput: 1 << 41}); err == nil {
			t.Error("no error")
		}
	})
	r := testing.Benchmark(func(b *testing.B) {
		for range b.N {
			_, _ = Apply(context.Background(), discard{}, bytes.NewReader(d), nil, Limits{MaxOutput: 1 << 41})
		}
	})
	if got := r.AllocedBytesPerOp(); got > 8<<20 {
		t.Errorf("%d bytes taken (%v allocations) for a delta of %d bytes", got, n, len(d))
	}
}

func FuzzReadHeader(f *testing.F) {
	h := Header{Codec: "zstd", Bases: []BaseID{{Size: 3}}, gunzip: []int64{-1}}
	f.Add(h.marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ReadHeader(bytes.NewReader(b))
		if err == nil && !bytes.HasPrefix(b, h.marshal()) {
			t.Error("a header that parses does not re-encode to the same bytes")
		}
	})
}

func FuzzApply(f *testing.F) {
	old := bytes.Repeat([]byte("some base, "), 500)
	target := append([]byte("and "), old[100:]...)
	var d bytes.Buffer
	if _, err := Make(context.Background(), &d, all(old), base(target), MakeOptions{ScratchDir: f.TempDir()}); err != nil {
		f.Fatal(err)
	}
	f.Add(d.Bytes(), false)
	f.Fuzz(func(t *testing.T, b []byte, _ bool) {
		var out bytes.Buffer
		h, err := Apply(context.Background(), &out, bytes.NewReader(b), all(old), Limits{MaxOutput: 1 << 20})
		if err == nil && int64(out.Len()) != h.TargetSize {
			t.Error("wrong size without an error")
		}
		if s, err := parseSegment(&Header{maxPlain: 1 << 20, maxStreams: 1 << 20}, b); err == nil {
			u, _ := newUnpacker()
			defer u.dec.Close()
			_, _ = u.rebuild(make([]byte, s.plain), &s, join(all(old)), 1)
		}
		_ = applyBsdiff(make([]byte, 100), b, join(all(old)))
	})
}

// FuzzRecipe gives the same bytes to the recorder as a gzip file, and to the remaker as a recipe.
func FuzzRecipe(f *testing.F) {
	plain := bytes.Repeat([]byte("plain bytes of a recipe. "), 100)
	f.Add(goGzip(f, plain, 6, 100), uint8(modelGo+6))
	f.Add((&partStreams{events: []byte{evMember, 100, evBlock | kindFixed | blkFinal | blkLength}}).pack(), uint8(modelZlib+6))
	f.Fuzz(func(t *testing.T, b []byte, id uint8) {
		m := modelByID(id)
		if m == nil {
			return
		}
		r := &remaker{m: m, w: readerWindow(bytes.NewReader(plain)), total: int64(len(plain)), bw: bitWriter{w: discard{}}}
		_ = r.part(b, len(plain))
		if len(b) > 1<<16 {
			return
		}
		var p bytes.Buffer
		u := &unwrapper{w: &p}
		if walkGzip(context.Background(), bytes.NewReader(b), u) == nil && u.flush() == nil && len(u.members) > 0 && p.Len() < 1<<20 {
			rewrapWith(t, m, b, p.Bytes(), u.members)
		}
	})
}
