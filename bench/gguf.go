package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"

	"github.com/wordcab/wcbundle/bench/lm"
)

// Types of tensors in a GGUF file, see ggml/docs/gguf.md.
const (
	ggufF32  = 0
	ggufQ4_0 = 2
	ggufQ8_0 = 8
)

// writeGGUF writes params as a GGUF file of version 3: matrices as blocks of 32 in the format q8_0 or q4_0, vectors as
// 32-bit floats.
func writeGGUF(w io.Writer, params []lm.Tensor, format string) error {
	var h, data bytes.Buffer
	le := binary.LittleEndian
	str := func(s string) {
		_ = binary.Write(&h, le, uint64(len(s)))
		h.WriteString(s)
	}
	num := func(v any) { _ = binary.Write(&h, le, v) }
	h.WriteString("GGUF")
	num(uint32(3))
	num(uint64(len(params)))
	num(uint64(1))
	str("general.architecture")
	num(uint32(8)) // a string
	str("charlm")
	for _, p := range params {
		pad(&data, 32)
		str(p.Name)
		num(uint32(len(p.Shape)))
		for i := range p.Shape { // the fastest dimension comes first
			num(uint64(p.Shape[len(p.Shape)-1-i]))
		}
		kind := uint32(ggufF32)
		at := uint64(data.Len())
		switch {
		case len(p.Shape) == 1 || p.Shape[1]%32 != 0:
			_ = binary.Write(&data, le, p.Data)
		case format == "q8_0":
			kind = ggufQ8_0
			blocks(&data, p.Data, q8)
		default:
			kind = ggufQ4_0
			blocks(&data, p.Data, q4)
		}
		num(kind)
		num(at)
	}
	pad(&h, 32)
	if _, err := h.WriteTo(w); err != nil {
		return err
	}
	_, err := data.WriteTo(w)
	return err
}

func pad(b *bytes.Buffer, n int) {
	for b.Len()%n != 0 {
		b.WriteByte(0)
	}
}

func blocks(b *bytes.Buffer, v []float32, quantise func(*bytes.Buffer, []float32)) {
	for ; len(v) > 0; v = v[32:] {
		quantise(b, v[:32])
	}
}

// q8 writes a block of Q8_0: a half-precision scale and 32 signed bytes.
func q8(b *bytes.Buffer, v []float32) {
	var top float32
	for _, x := range v {
		top = max(top, x, -x)
	}
	d := top / 127
	writeScale(b, d)
	for _, x := range v {
		q := 0.0
		if d != 0 {
			q = math.Round(float64(x / d))
		}
		b.WriteByte(byte(int8(q)))
	}
}

// q4 writes a block of Q4_0: a half-precision scale and 32 numbers of 4 bits, the first 16 in the low halves.
func q4(b *bytes.Buffer, v []float32) {
	var top float32 // the one of largest magnitude, with its sign
	for _, x := range v {
		if max(x, -x) > max(top, -top) {
			top = x
		}
	}
	d := top / -8
	writeScale(b, d)
	var q [32]byte
	for i, x := range v {
		q[i] = 8
		if d != 0 {
			q[i] = byte(min(15, int(x/d+8.5)))
		}
	}
	for i := range 16 {
		b.WriteByte(q[i] | q[i+16]<<4)
	}
}

func writeScale(b *bytes.Buffer, d float32) {
	_ = binary.Write(b, binary.LittleEndian, fp16(d))
}
