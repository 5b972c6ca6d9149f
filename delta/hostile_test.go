package delta

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/gabstv/go-bsdiff/pkg/bsdiff"
	"github.com/klauspost/compress/zstd"

	"github.com/wordcab/wcbundle/delta/recipe"
)

// handMade is a delta with the records given, which claims to make size bytes that begin like want.
func handMade(t *testing.T, want, old []byte, uses uint8, recs ...record) []byte {
	t.Helper()
	id, err := digest(context.Background(), base(old))
	if err != nil {
		t.Fatal(err)
	}
	h := Header{
		Codec: "hand", uses: uses, TargetSize: int64(len(want)), TargetSHA256: sha256.Sum256(want), PlainSize: int64(len(want)),
		maxPlain: 1 << 20, maxRecord: 1 << 20, maxCopies: 1 << 10,
		Bases: []BaseID{id}, forms: []recipe.Form{recipe.None}, plain: []int64{id.Size},
	}
	d := h.marshal()
	for _, r := range recs {
		d = append(d, r.marshal()...)
	}
	return d
}

func apply(t *testing.T, d, old []byte) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	_, err := Apply(context.Background(), &out, bytes.NewReader(d), all(old), limits(t))
	return out.Bytes(), err
}

// magnitude writes bsdiff's numbers.
func magnitude(v int64) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(max(v, -v)))
	if v < 0 {
		b[7] |= 0x80
	}
	return b
}

// TestBsdiffIsRead makes a BSDIFF40 patch with another program's code and applies it with ours.
func TestBsdiffIsRead(t *testing.T) {
	old := noise(40000, 1)
	want := append(append(bytes.Clone(old[20000:]), 1, 2, 3), old[:15000]...)
	patch, err := bsdiff.Bytes(old, want)
	if err != nil {
		t.Fatal(err)
	}
	d := handMade(t, want, old, 0, record{kind: recBsdiff, plain: int64(len(want)), span: int64(len(old)), body: patch})
	if got, err := apply(t, d, old); err != nil || !bytes.Equal(got, want) {
		t.Errorf("other bytes, or %v", err)
	}
}

// TestT18HostileBsdiff is case T18 of the threat list: control numbers that are negative, huge, or leave the base.
func TestT18HostileBsdiff(t *testing.T) {
	old, want := noise(1000, 1), noise(500, 2)
	bz := func(b []byte) []byte { // one bzip2 stream, made by taking it out of a patch
		p, err := bsdiff.Bytes(nil, b)
		if err != nil {
			t.Fatal(err)
		}
		nc, nd := signMagnitude(p[8:]), signMagnitude(p[16:])
		return p[bsdiffHead+nc+nd:]
	}
	for name, c := range map[string][3]int64{
		"negative add": {-1, 500, 0}, "negative copy": {0, -1, 0}, "huge add": {1 << 62, 0, 0}, "huge copy": {0, 1 << 62, 0},
		"sum overflows": {1<<63 - 1, 1<<63 - 1, 0}, "seek before the base": {0, 1, -2000}, "seek behind the base": {0, 1, 1 << 61},
		"add outside the base": {0, 1, 900}, "no progress": {0, 0, 0},
	} {
		var control []byte
		for range 3 {
			for _, v := range c {
				control = append(control, magnitude(v)...)
			}
		}
		control = append(control, append(append(magnitude(400), magnitude(0)...), magnitude(0)...)...)
		cs, ds := bz(control), bz(make([]byte, 600))
		patch := append([]byte("BSDIFF40"), magnitude(int64(len(cs)))...)
		patch = append(append(patch, magnitude(int64(len(ds)))...), magnitude(500)...)
		patch = append(append(append(patch, cs...), ds...), bz(make([]byte, 600))...)
		d := handMade(t, want, old, 0, record{kind: recBsdiff, plain: 500, span: 1000, body: patch})
		var ce *CorruptError
		if _, err := apply(t, d, old); !errors.As(err, &ce) {
			t.Errorf("%s: error %v, want a CorruptError", name, err)
		}
	}
}

// TestT20HostileFrames is case T20: frames with a window or content beyond what the record may make, and bytes behind the end.
func TestT20HostileFrames(t *testing.T) {
	old, want := noise(1000, 1), bytes.Repeat([]byte("want"), 1000)
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := enc.EncodeAll(want, nil)
	big := enc.EncodeAll(make([]byte, 64<<20), nil)
	window := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8}, frame[6:]...) // a window of terabytes
	for name, body := range map[string][]byte{
		"more than the record makes": big, "huge window": window, "bytes behind": append(bytes.Clone(frame), 0),
		"second frame": append(bytes.Clone(frame), frame...), "cut": frame[:len(frame)-2], "empty": nil,
	} {
		d := handMade(t, want, old, usesZstd, record{kind: recZstd, plain: int64(len(want)), body: body})
		var ce *CorruptError
		if _, err := apply(t, d, old); !errors.As(err, &ce) {
			t.Errorf("%s: error %v, want a CorruptError", name, err)
		}
	}
	good := handMade(t, want, old, usesZstd, record{kind: recZstd, plain: int64(len(want)), body: frame})
	if got, err := apply(t, good, old); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the frame itself: %v", err)
	}
	var ce *CorruptError
	for name, tail := range map[string][]byte{"one byte": {0}, "a record": (&record{kind: recRaw, plain: 1, body: []byte("x")}).marshal()} {
		if _, err := apply(t, append(bytes.Clone(good), tail...), old); !errors.As(err, &ce) {
			t.Errorf("%s behind the end: error %v, want a CorruptError", name, err)
		}
	}
}

// TestUnnamedDecoderIsNotRun: the header's memory is computed from the decoders it names, so others are refused.
func TestUnnamedDecoderIsNotRun(t *testing.T) {
	old, want := noise(1000, 1), bytes.Repeat([]byte("want"), 1000)
	n := int64(len(want))
	for _, r := range []record{{kind: recZstd, plain: n}, {kind: recTensor, plain: n, typ: 1}, {kind: recMap, plain: n, body: []byte{0}}} {
		var ce *CorruptError
		if _, err := apply(t, handMade(t, want, old, 0, r), old); !errors.As(err, &ce) {
			t.Errorf("kind %d: error %v, want a CorruptError", r.kind, err)
		}
	}
}

// watched is a base that notes whether it was read after its digest was taken.
type watched struct {
	*bytes.Reader
	read int64
}

func (w *watched) ReadAt(p []byte, off int64) (int, error) {
	n, err := w.Reader.ReadAt(p, off)
	w.read += int64(n)
	return n, err
}

// TestT21DigestBeforeDecoding is case T21: a damaged compressed base is refused by its digest, before anything unpacks it.
func TestT21DigestBeforeDecoding(t *testing.T) {
	plain := smallSource()[:300000]
	old := goGzip(t, plain, 6, 1000)
	var d bytes.Buffer
	if _, err := Make(context.Background(), &d, all(old), base(plain[1000:]), MakeOptions{ScratchDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(old)
	bad[len(bad)/2] ^= 1
	b := &watched{Reader: bytes.NewReader(bad)}
	out := &counter{}
	if _, err := Apply(context.Background(), out, &d, []Base{b}, limits(t)); !errors.Is(err, ErrBaseMismatch) {
		t.Errorf("error %v, want ErrBaseMismatch", err)
	}
	if b.read != int64(len(bad)) || out.n != 0 {
		t.Errorf("%d bytes of %d were read and %d written: it was read again after its digest was wrong", b.read, len(bad), out.n)
	}
}
