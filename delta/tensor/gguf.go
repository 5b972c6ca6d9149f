package tensor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
)

// GGUF value types, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
const (
	ggufString = 8
	ggufArray  = 9
	// ggufDepth bounds arrays of arrays.
	ggufDepth = 8
)

// ggufWidths are the bytes of the fixed-width value types, by number.
var ggufWidths = [13]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// ggmlTypes maps ggml's type numbers to ours; ones that are absent are kept as bytes up to the next tensor.
var ggmlTypes = map[uint32]Type{
	0: F32, 1: F16, 2: Q4_0, 3: Q4_1, 6: Q5_0, 7: Q5_1, 8: Q8_0, 9: Q8_1, 10: Q2_K, 11: Q3_K, 12: Q4_K, 13: Q5_K, 14: Q6_K,
	24: I8, 25: I16, 26: I32, 27: I64, 28: F64, 30: BF16,
}

func isGGUF(head []byte) bool { return len(head) >= 8 && string(head[:4]) == "GGUF" }

// A ggufReader reads fields one after the other; after the first error it returns zeros.
type ggufReader struct {
	w    *window
	off  int64
	wide bool // lengths have 64 bits: since version 2
	err  error
}

func (g *ggufReader) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

func (g *ggufReader) u32() uint32 {
	var b [4]byte
	g.bytes(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (g *ggufReader) u64() uint64 {
	var b [8]byte
	g.bytes(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

func (g *ggufReader) length() uint64 {
	if g.wide {
		return g.u64()
	}
	return uint64(g.u32())
}

func (g *ggufReader) bytes(p []byte) {
	if g.err != nil {
		clear(p)
		return
	}
	if err := g.w.read(p, g.off); err != nil {
		clear(p)
		g.fail(err)
		return
	}
	g.off += int64(len(p))
}

func (g *ggufReader) skip(n uint64) {
	if n > uint64(g.w.size-g.off) {
		g.fail(errors.New("a field is longer than the file"))
		return
	}
	g.off += int64(n)
}

func (g *ggufReader) text() string {
	n := g.length()
	if n > maxName {
		g.fail(errors.New("a name is too long"))
		return ""
	}
	b := make([]byte, n)
	g.bytes(b)
	return string(b)
}

// value skips one value of the type.
func (g *ggufReader) value(typ uint32, depth int) {
	switch {
	case typ == ggufString:
		g.skip(g.length())
	case typ == ggufArray && depth < ggufDepth:
		of, n := g.u32(), g.length()
		if of < uint32(len(ggufWidths)) && ggufWidths[of] > 0 {
			if n > uint64(g.w.size)/uint64(ggufWidths[of]) {
				g.fail(errors.New("an array is longer than the file"))
				return
			}
			g.skip(n * uint64(ggufWidths[of]))
			return
		}
		// Each item takes at least the bytes of a length, so a huge count ends at the end of the file.
		for ; n > 0 && g.err == nil; n-- {
			g.value(of, depth+1)
		}
	case typ < uint32(len(ggufWidths)) && ggufWidths[typ] > 0:
		g.skip(uint64(ggufWidths[typ]))
	default:
		g.fail(fmt.Errorf("value of type %d", typ))
	}
}

func layoutGGUF(w *window) ([]Tensor, error) {
	g := &ggufReader{w: w, off: 4}
	version := g.u32()
	if version < 1 || version > 3 {
		return nil, fmt.Errorf("version %d", version)
	}
	g.wide = version > 1
	tensors, values := g.length(), g.length()
	if tensors > maxTensors || tensors > uint64(w.size)/24 || values > uint64(w.size)/12 {
		return nil, errors.New("more tensors or values than the file has room for")
	}
	align := uint64(32)
	for ; values > 0 && g.err == nil; values-- {
		key, typ := g.text(), g.u32()
		if key == "general.alignment" && typ == 4 {
			align = uint64(g.u32())
			continue
		}
		g.value(typ, 0)
	}
	if align == 0 || align > 1<<20 {
		return nil, fmt.Errorf("alignment %d", align)
	}
	var ts []Tensor
	for ; tensors > 0 && g.err == nil; tensors-- {
		ts = append(ts, g.tensor())
	}
	if g.err != nil {
		return nil, g.err
	}
	data := (uint64(g.off) + align - 1) / align * align
	return ggufPlace(ts, int64(data), w.size)
}

// tensor reads one entry. Off is still relative to the data, Len is -1 where the type does not tell it.
func (g *ggufReader) tensor() Tensor {
	t := Tensor{Name: g.text(), Len: -1}
	dims := g.u32()
	if dims > maxDims {
		g.fail(errors.New("too many dimensions"))
		return t
	}
	for range dims {
		t.Shape = append(t.Shape, g.length())
	}
	typ, known := ggmlTypes[g.u32()]
	off := g.u64()
	if off > uint64(g.w.size) {
		g.fail(fmt.Errorf("tensor %q is outside the file", t.Name))
	}
	t.Off = int64(off)
	if !known {
		return t
	}
	t.Type = typ
	n, ok := count(t.Shape)
	per, width := elementsIn(typ), uint64(typ.Element())
	if !ok || n%per != 0 || n/per > uint64(g.w.size)/width {
		g.fail(fmt.Errorf("tensor %q: the shape does not fit the file", t.Name))
		return t
	}
	t.Len = int64(n / per * width)
	return t
}

// ggufPlace turns relative places into places in the file and gives tensors of unknown type the bytes up to the next one.
func ggufPlace(ts []Tensor, data, size int64) ([]Tensor, error) {
	sort.SliceStable(ts, func(i, j int) bool { return ts[i].Off < ts[j].Off })
	end := size
	for i := len(ts) - 1; i >= 0; i-- {
		t := &ts[i]
		if t.Off > size-data {
			return nil, fmt.Errorf("tensor %q is outside the file", t.Name)
		}
		t.Off += data
		if t.Len < 0 {
			t.Len = end - t.Off
		}
		end = t.Off
	}
	return ts, nil
}
