package diff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/wordcab/wcbundle/delta/match"
)

func coders(t testing.TB, level Level) (*Encoder, *Decoder) {
	t.Helper()
	enc, err := NewEncoder(level)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return enc, dec
}

// program returns an ELF file: code of functions that call each other, a table of pointers to them and one of places
// relative to the code. grow says by how many bytes some functions are longer.
func program(seed uint64, grow int) []byte {
	const head, functions, text = 64, 400, 0x1000
	r := rand.New(rand.NewPCG(seed, 7))
	sizes, starts := make([]int, functions), make([]int, functions)
	at := 0
	for i := range sizes {
		sizes[i] = 64 + r.IntN(512)&^15
		if i%37 == 5 {
			sizes[i] += grow
		}
		starts[i] = at
		at += sizes[i]
	}
	code := make([]byte, at)
	for i := range starts {
		body := rand.New(rand.NewPCG(seed, uint64(i)))
		for k := starts[i]; k+12 < starts[i]+sizes[i]; k += 12 {
			copy(code[k:], []byte{0x48, 0x89, byte(0xc0 | body.IntN(8)), 0x90, byte(body.IntN(256)), 0x90, 0x90, 0xe8})
			binary.LittleEndian.PutUint32(code[k+8:], uint32(starts[body.IntN(functions)]-(k+12)))
		}
	}
	words, fields := make([]byte, 8*functions), make([]byte, 4*functions)
	for i, s := range starts {
		binary.LittleEndian.PutUint64(words[8*i:], uint64(text+s))
		binary.LittleEndian.PutUint32(fields[4*i:], uint32(s))
	}
	img := make([]byte, head)
	copy(img, "\x7fELF\x02\x01\x01")
	type section struct{ off, addr, size int }
	var list []section
	for i, b := range [][]byte{code, words, fields} {
		list = append(list, section{len(img), text + i<<20, len(b)})
		img = append(img, b...)
		img = append(img, make([]byte, -len(img)&15)...)
	}
	binary.LittleEndian.PutUint64(img[40:], uint64(len(img)))
	binary.LittleEndian.PutUint16(img[58:], 64)
	binary.LittleEndian.PutUint16(img[60:], uint16(len(list)))
	for _, s := range list {
		h := make([]byte, 64)
		binary.LittleEndian.PutUint32(h[4:], 1)
		binary.LittleEndian.PutUint64(h[8:], elfAlloc)
		binary.LittleEndian.PutUint64(h[16:], uint64(s.addr))
		binary.LittleEndian.PutUint64(h[24:], uint64(s.off))
		binary.LittleEndian.PutUint64(h[32:], uint64(s.size))
		img = append(img, h...)
	}
	return img
}

func oldBytes(old []byte) func(p []byte, off int64) error {
	return func(p []byte, off int64) error {
		copy(p, old[off:])
		return nil
	}
}

// trip codes target in segments of the given size, checks that it comes back, and returns the size of it all.
func trip(t *testing.T, m *Map, level Level, old, target []byte, size int) int {
	t.Helper()
	coded := m.Append(nil)
	total := len(coded)
	back, err := ParseMap(coded, int64(len(target)), int64(len(old)))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(back.Copies, m.Copies) || !slices.Equal(back.OldLoads, m.OldLoads) || !slices.Equal(back.NewLoads, m.NewLoads) {
		t.Fatal("the map comes back another")
	}
	enc, dec := coders(t, level)
	for at := 0; at < len(target); at += size {
		p := target[at:min(at+size, len(target))]
		base, got := make([]byte, len(p)), make([]byte, len(p))
		if err := back.Layout(base, int64(at), oldBytes(old)); err != nil {
			t.Fatal(err)
		}
		b := enc.Segment(nil, p, base, int64(at), m)
		total += len(b)
		if err := dec.Segment(got, base, int64(at), back, b); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, p) {
			t.Fatalf("level %d, segment at %d comes back another", level, at)
		}
	}
	return total
}

var levels = []Level{Fast, Default, Max}

func TestProgram(t *testing.T) {
	old, target := program(1, 0), program(1, 48)
	x := match.NewIndex(old)
	m := NewMap(x, old, target, match.Options{}, Loads(old), Loads(target))
	if len(m.OldLoads) != 3 || len(m.NewLoads) != 3 {
		t.Fatalf("loads %v and %v, want three each", m.OldLoads, m.NewLoads)
	}
	blind := NewMap(x, old, target, match.Options{}, nil, nil)
	for _, level := range levels {
		with, without := trip(t, m, level, old, target, MaxSegment), trip(t, blind, level, old, target, MaxSegment)
		if with*2 > without {
			t.Errorf("level %d: %d bytes with addresses foretold, %d without", level, with, without)
		}
		trip(t, m, level, old, target, 5000)
	}
}

func someLoads(r *rand.Rand, size int) []Load {
	var out []Load
	for off := r.Int64N(5000); ; {
		n := r.Int64N(1 << r.IntN(18))
		if off+n > int64(size) || len(out) == MaxLoads {
			return out
		}
		out = append(out, Load{off, r.Int64N(1<<21) - 1<<10, n})
		off += n + r.Int64N(100)
	}
}

// Whatever the map and the bytes are, they come back.
func TestSegmentAny(t *testing.T) {
	for seed := range uint64(24) {
		r := rand.New(rand.NewPCG(seed, 3))
		old, target := program(seed%3, 0), program(seed%3, r.IntN(4)*16)
		for range r.IntN(2000) {
			target[r.IntN(len(target))] = byte(r.Uint32())
		}
		m := &Map{}
		pos := int64(0)
		for pos < int64(len(target)) {
			n := min(1+r.Int64N(1<<(1+r.IntN(14))), int64(len(target))-pos)
			if r.IntN(3) > 0 && n < int64(len(old)) {
				m.Copies = append(m.Copies, match.Copy{New: pos, Old: r.Int64N(int64(len(old)) - n), Len: n})
			}
			pos += n
		}
		m.OldLoads, m.NewLoads = someLoads(r, len(old)), someLoads(r, len(target))
		trip(t, m, levels[seed%3], old, target, 1+r.IntN(100000)+4096)
	}
}

func TestSegmentSmall(t *testing.T) {
	old := []byte("old bytes")
	for _, target := range []string{"", "o", "old bytes", "old bytes, new bytes", "something else"} {
		for _, level := range levels {
			m := NewMap(match.NewIndex(old), old, []byte(target), match.Options{}, nil, nil)
			trip(t, m, level, old, []byte(target), MaxSegment)
			if len(target) >= 9 {
				m = &Map{Copies: []match.Copy{{New: 0, Old: 0, Len: 9}}}
				trip(t, m, level, old, []byte(target), MaxSegment)
			}
		}
	}
}

func TestParseMapRefuses(t *testing.T) {
	tests := []struct {
		name string
		m    *Map
	}{
		{"new outside", &Map{Copies: []match.Copy{{New: 95, Old: 0, Len: 6}}}},
		{"old outside", &Map{Copies: []match.Copy{{New: 0, Old: 45, Len: 6}}}},
		{"old before", &Map{Copies: []match.Copy{{New: 0, Old: -1, Len: 6}}}},
		{"empty", &Map{Copies: []match.Copy{{New: 0, Old: 0, Len: 0}}}},
		{"overlap", &Map{Copies: []match.Copy{{New: 0, Old: 0, Len: 5}, {New: -4, Old: 0, Len: 5}}}},
		{"overflow", &Map{Copies: []match.Copy{{New: 1, Old: 1, Len: 1<<62 - 1}}}},
		{"old load", &Map{OldLoads: []Load{{45, 0, 6}}}},
		{"new load", &Map{NewLoads: []Load{{95, 0, 6}}}},
		{"loads overlap", &Map{NewLoads: []Load{{5, 0, 6}, {10, 100, 6}}}},
		{"address", &Map{NewLoads: []Load{{5, 1<<60 + 1, 6}}}},
		{"loads", &Map{NewLoads: make([]Load, MaxLoads+1)}},
	}
	for _, test := range tests {
		if _, err := ParseMap(test.m.Append(nil), 100, 50); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: got %v, want %v", test.name, err, ErrCorrupt)
		}
	}
	good := &Map{Copies: []match.Copy{{New: 3, Old: 7, Len: 40}, {New: 50, Old: 0, Len: 50}}, OldLoads: []Load{{0, -5, 50}}}
	b := good.Append(nil)
	if _, err := ParseMap(b, 100, 50); err != nil {
		t.Error(err)
	}
	if _, err := ParseMap(b[:len(b)/2], 100, 50); err == nil {
		t.Error("half a map is read")
	}
}

func TestNumber(t *testing.T) {
	values := []uint64{0, 1, 2, 3, 255, 256, 1<<62 - 1, 1 << 40, 7, 7, 7}
	c := newWriter(nil)
	n := newNumber()
	for _, v := range values {
		n.code(c, v)
	}
	c = newReader(c.finish())
	n = newNumber()
	for i, v := range values {
		if got := n.code(c, 0); got != v {
			t.Errorf("value %d: got %d, want %d", i, got, v)
		}
	}
	if c.over() {
		t.Error("the reader needed more than was written")
	}
}

func TestLoadsOther(t *testing.T) {
	img := program(2, 0)
	for _, b := range [][]byte{nil, []byte("text"), bytes.Repeat([]byte{0}, 100), bytes.Repeat([]byte("MZ"), 100), img[:100]} {
		if got := Loads(b); got != nil {
			t.Errorf("%d bytes: got %v, want none", len(b), got)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		b := slices.Clone(img)
		for range 4 {
			b[r.IntN(64)] = byte(r.Uint32())
			b[len(b)-1-r.IntN(192)] = byte(r.Uint32())
		}
		for _, l := range Loads(b) {
			if !inside(l.Off, l.Len, int64(len(b))) {
				t.Fatalf("load %+v outside %d bytes", l, len(b))
			}
		}
	}
}
