package diff

import (
	"testing"

	"github.com/wordcab/wcbundle/delta/match"
)

func FuzzParseMap(f *testing.F) {
	m := &Map{Copies: []match.Copy{{New: 3, Old: 7, Len: 40}, {New: 50, Old: 0, Len: 50}},
		OldLoads: []Load{{0, 4096, 50}}, NewLoads: []Load{{0, 4096, 100}, {100, 1 << 20, 0}}}
	f.Add(m.Append(nil))
	f.Add((&Map{}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMap(b, 5000, 4000)
		if err != nil {
			return
		}
		end := int64(0)
		for _, c := range m.Copies {
			if c.New < end || c.Len <= 0 || !inside(c.New, c.Len, 5000) || !inside(c.Old, c.Len, 4000) {
				t.Fatalf("copy %+v after %d", c, end)
			}
			end = c.New + c.Len
		}
		old, base := make([]byte, 4000), make([]byte, 5000)
		if err := m.Layout(base, 0, oldBytes(old)); err != nil {
			t.Fatal(err)
		}
		p := newPredictor(m, base, 0)
		for kind := range uint8(rules) {
			p.follow([]rule{{kind, 3, 4}, {kind, 1, 2}})
		}
		again, err := ParseMap(m.Append(nil), 5000, 4000)
		if err != nil || len(again.Copies) != len(m.Copies) {
			t.Fatalf("the map is not read again: %v", err)
		}
	})
}

func FuzzSegment(f *testing.F) {
	old, target := program(1, 0)[:4000], program(1, 48)[:6000]
	m := NewMap(match.NewIndex(old), old, target, match.Options{}, []Load{{64, 4096, 3500}}, []Load{{64, 4096, 5500}})
	base := make([]byte, len(target))
	if err := m.Layout(base, 0, oldBytes(old)); err != nil {
		f.Fatal(err)
	}
	_, dec := coders(f, Fast)
	for _, level := range levels {
		enc, _ := coders(f, level)
		f.Add(enc.Segment(nil, target, base, 0, m))
	}
	f.Add([]byte{codecSame})
	dst := make([]byte, len(target))
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := dec.Segment(dst, base, 0, m, b); err == nil && len(b) == 0 {
			t.Error("nothing is a segment")
		}
	})
}
