package tensor

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand"
	"testing"
)

var allTypes = []Type{Bytes, BF16, F16, F32, F64, F8E4M3, F8E5M2, I8, I16, I32, I64,
	Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K}

// A weights makes the numbers of a tensor and of its fine-tuned version.
type weights struct{ base, target []float32 }

// tune returns n numbers around zero and the same after steps of the size of a fine-tune: small beside most weights.
func tune(seed int64, n int, step float64) weights {
	r := rand.New(rand.NewSource(seed))
	w := weights{make([]float32, n), make([]float32, n)}
	for i := range n {
		x := r.NormFloat64() * 0.02
		w.base[i], w.target[i] = float32(x), float32(x+r.NormFloat64()*step)
	}
	return w
}

func half(f float32) uint16 {
	u := math.Float32bits(f)
	sign, e, m := uint16(u>>16&0x8000), int(u>>23&0xff)-112, u&0x7fffff
	if e >= 31 {
		return sign | 0x7c00
	}
	if e <= 0 {
		if e < -10 {
			return sign
		}
		return sign | uint16((m|0x800000)>>uint(14-e))
	}
	return sign | uint16(uint32(e)<<10|m>>13)
}

// pack turns numbers into the bytes of the type. Integers and doubles take the bits of a float.
func pack(t Type, w []float32) []byte {
	switch t {
	case Q4_0, Q8_0:
		return packQuants(t, w)
	}
	var out []byte
	for _, f := range w {
		u := math.Float32bits(f)
		switch t {
		case BF16:
			out = binary.LittleEndian.AppendUint16(out, uint16((u+0x8000)>>16))
		case F16:
			out = binary.LittleEndian.AppendUint16(out, half(f))
		case F64:
			out = binary.LittleEndian.AppendUint64(out, math.Float64bits(float64(f)))
		case I8, F8E4M3, F8E5M2, Bytes:
			out = append(out, byte(int8(max(-127, min(127, f*2000)))))
		case I16:
			out = binary.LittleEndian.AppendUint16(out, uint16(int16(f*100000)))
		case I32:
			out = binary.LittleEndian.AppendUint32(out, uint32(int32(f*1e7)))
		case I64:
			out = binary.LittleEndian.AppendUint64(out, uint64(int64(f*1e7)))
		default:
			out = binary.LittleEndian.AppendUint32(out, u)
		}
	}
	return out
}

// packQuants quantizes blocks of 32 as ggml does.
func packQuants(t Type, w []float32) []byte {
	var out []byte
	for ; len(w) >= 32; w = w[32:] {
		most := float32(0)
		for _, f := range w[:32] {
			if math.Abs(float64(f)) > math.Abs(float64(most)) {
				most = f
			}
		}
		if t == Q8_0 {
			d := float32(math.Abs(float64(most))) / 127
			out = binary.LittleEndian.AppendUint16(out, half(d))
			for _, f := range w[:32] {
				out = append(out, byte(int8(math.Round(float64(f/d)))))
			}
			continue
		}
		d := most / -8
		out = binary.LittleEndian.AppendUint16(out, half(d))
		for i := range 16 {
			lo, hi := min(15, int(w[i]/d+8.5)), min(15, int(w[i+16]/d+8.5))
			out = append(out, byte(lo|hi<<4))
		}
	}
	return out
}

// through encodes and decodes and returns the length of the payload.
func through(t *testing.T, c *Coder, typ Type, base, target []byte) int {
	t.Helper()
	enc := c.Encode([]byte("x"), typ, base, target)[1:]
	got := make([]byte, len(base))
	if err := c.Decode(got, typ, base, enc); err != nil {
		t.Fatalf("%s, %d bytes: %v", typ, len(base), err)
	}
	if !bytes.Equal(got, target) {
		t.Fatalf("%s, %d bytes: another target came back", typ, len(base))
	}
	if len(enc) > len(target)+16 {
		t.Fatalf("%s: %d bytes became %d", typ, len(target), len(enc))
	}
	return len(enc)
}

func TestRoundTripSizes(t *testing.T) {
	c := NewCoder()
	r := rand.New(rand.NewSource(1))
	for _, typ := range allTypes {
		w := typ.Element()
		for _, n := range []int{0, 1, w - 1, w, w + 1, 33*w + w/2, blockBytes(typ) - 1, blockBytes(typ), blockBytes(typ)*2 + 3} {
			base, target := make([]byte, n), make([]byte, n)
			r.Read(base)
			through(t, c, typ, base, target)
			copy(target, base)
			if got := through(t, c, typ, base, target); got != 1 {
				t.Errorf("%s: %d equal bytes took %d", typ, n, got)
			}
			for i := range target {
				if r.Intn(50) == 0 {
					target[i] ^= byte(1 << r.Intn(8))
				}
			}
			through(t, c, typ, base, target)
			r.Read(target)
			through(t, c, typ, base, target)
		}
	}
}

func TestEveryPair(t *testing.T) {
	c := NewCoder()
	for _, typ := range []Type{F16, BF16, I16, I8, F8E4M3, F8E5M2} {
		for _, y := range []uint16{0, 1, 0x7fff, 0x8000, 0x8001, 0xffff, 0x3c00, 0xbc00} {
			base, target := make([]byte, 1<<17), make([]byte, 1<<17)
			for i := range 1 << 16 {
				binary.LittleEndian.PutUint16(base[2*i:], uint16(i))
				binary.LittleEndian.PutUint16(target[2*i:], y)
			}
			through(t, c, typ, base, target)
			through(t, c, typ, target, base)
		}
	}
}

func TestFineTunes(t *testing.T) {
	c := NewCoder()
	for _, x := range []struct {
		typ  Type
		step float64
		most float64 // of the raw size
	}{
		{BF16, 2e-5, 0.30}, {F16, 2e-5, 0.45}, {F32, 2e-5, 0.60}, {F32, 1e-3, 0.80},
		{Q8_0, 2e-5, 0.25}, {Q4_0, 2e-5, 0.12}, {F64, 2e-5, 0.9}, {I8, 2e-5, 0.2},
	} {
		w := tune(7, 1<<18, x.step)
		base, target := pack(x.typ, w.base), pack(x.typ, w.target)
		got := float64(through(t, c, x.typ, base, target)) / float64(len(target))
		if got > x.most {
			t.Errorf("%s with steps of %g: %.3f of the raw size, want at most %.3f", x.typ, x.step, got, x.most)
		}
		t.Logf("%s %g: %.4f", x.typ, x.step, got)
	}
}

func TestStrangersFallBack(t *testing.T) {
	c := NewCoder()
	a, b := pack(BF16, tune(1, 1<<17, 0).base), pack(BF16, tune(2, 1<<17, 0).base)
	if got := through(t, c, BF16, a, b); got > len(b)*75/100 {
		t.Errorf("%d bytes of bf16 took %d against a stranger", len(b), got)
	}
}

func benchPair(typ Type) (base, target []byte) {
	w := tune(3, MaxBlock/4, 2e-5)
	return pack(typ, w.base), pack(typ, w.target)
}

func BenchmarkEncode(b *testing.B) {
	for _, typ := range []Type{BF16, F16, F32, Q8_0, Q4_0} {
		b.Run(typ.String(), func(b *testing.B) {
			base, target := benchPair(typ)
			c := NewCoder()
			var out []byte
			b.SetBytes(int64(len(target)))
			for b.Loop() {
				out = c.Encode(out[:0], typ, base, target)
			}
			b.ReportMetric(float64(len(out))/float64(len(target)), "ratio")
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, typ := range []Type{BF16, F16, F32, Q8_0, Q4_0} {
		b.Run(typ.String(), func(b *testing.B) {
			base, target := benchPair(typ)
			c := NewCoder()
			enc := c.Encode(nil, typ, base, target)
			got := make([]byte, len(target))
			b.SetBytes(int64(len(target)))
			for b.Loop() {
				if err := c.Decode(got, typ, base, enc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
