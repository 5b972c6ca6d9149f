package recipe

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
)

// FuzzRemake: hostile parts never panic, and what they make is bounded by what they cost.
func FuzzRemake(f *testing.F) {
	plain := frozenPlain(300_000)
	for _, m := range models() {
		r := ideal(m, plain[:5000])
		f.Add(uint16(m), uint32(5000), r.parts[0], []byte{})
	}
	f.Add(uint16(famZstd+2), uint32(5000), binary.AppendUvarint([]byte{evMember}, 5000), []byte{})
	f.Fuzz(func(t *testing.T, model uint16, n uint32, part, second []byte) {
		p := plain[:n%uint32(len(plain))]
		r := recorded{Model(model), []int{len(p), 0}, [][]byte{part, second}}
		if len(second) > 0 {
			r.lens = []int{len(p) / 2, len(p) - len(p)/2}
		}
		out, err := r.remake(p, 5000)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if most := 16*len(p) + 400*(len(part)+len(second)) + 1000; len(out) > most {
			t.Fatalf("%d bytes out of %d plain ones and %d of parts", len(out), len(p), len(part)+len(second))
		}
	})
}

// FuzzRecord: any bytes as a gzip file or as a zstd file never panic, and what yields a recipe is remade from it.
func FuzzRecord(f *testing.F) {
	p := frozenPlain(3000)
	f.Add(goGzip(f, p, 6))
	f.Add(goGzip(f, p, 1))
	f.Add(goGzip(f, p, 0))
	f.Add(kpGzip(5)(f, p))
	f.Add(kpGzip(9)(f, p))
	f.Add(asPgzip(1)(f, p))
	f.Add(withFields(f, p[:100]))
	f.Add(append(goGzip(f, p[:50], 9), goGzip(f, nil, 9)...))
	f.Add(kpZstd(1)(f, p))
	f.Fuzz(func(t *testing.T, src []byte) {
		plain := &bytes.Buffer{}
		if _, err := Unwrap(context.Background(), plain, file(src), 1<<20); err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooLong) {
				t.Fatal(err)
			}
			return
		}
		r, err := record(src, plain.Bytes())
		if err != nil {
			if !errors.Is(err, ErrNoRecipe) && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if got, err := r.remake(plain.Bytes(), 777); err != nil || !bytes.Equal(got, src) {
			t.Fatalf("%s: %d bytes remade of %d, %v", r.model, len(got), len(src), err)
		}
	})
}

// FuzzBlocks: what is inside a deflate stream, without the checksums that keep mutations out of Unwrap.
func FuzzBlocks(f *testing.F) {
	p := frozenPlain(3000)
	for _, src := range [][]byte{goGzip(f, p, 6), kpGzip(5)(f, p), asPgzip(1)(f, p)} {
		f.Add(src[10 : len(src)-8])
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		src := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, stream...)
		zr, err := gzip.NewReader(bytes.NewReader(append(bytes.Clone(src), make([]byte, 8)...)))
		if err != nil {
			t.Fatal(err)
		}
		plain, _ := io.ReadAll(io.LimitReader(zr, 1<<20))
		src = append(src, trailerOf(plain)...)
		r, err := record(src, plain)
		if err != nil {
			if !errors.Is(err, ErrNoRecipe) && !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if got, err := r.remake(plain, 777); err != nil || !bytes.Equal(got, src) {
			t.Fatalf("%s: %d bytes remade of %d, %v", r.model, len(got), len(src), err)
		}
	})
}
