package tensor

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
)

// safetensorsFile writes a header and data.
func safetensorsFile(header string, data int) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), make([]byte, data)...)
}

type ggufTensor struct {
	name string
	dims []uint64
	typ  uint32
	off  uint64
}

func ggufText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// ggufFile writes a version 3 file with values of many types.
func ggufFile(ts []ggufTensor, data int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte("GGUF"), 3)
	b = le.AppendUint64(b, uint64(len(ts)))
	b = le.AppendUint64(b, 5)
	b = le.AppendUint32(le.AppendUint32(ggufText(b, "general.alignment"), 4), 64)
	b = ggufText(le.AppendUint32(ggufText(b, "general.architecture"), 8), "llama")
	b = le.AppendUint32(le.AppendUint32(ggufText(b, "tokens"), 9), 8)
	b = ggufText(ggufText(le.AppendUint64(b, 2), "a"), "bc")
	b = le.AppendUint32(le.AppendUint32(ggufText(b, "scores"), 9), 6)
	b = append(le.AppendUint64(b, 3), make([]byte, 12)...)
	b = append(le.AppendUint32(ggufText(b, "flag"), 7), 1)
	for _, t := range ts {
		b = le.AppendUint32(ggufText(b, t.name), uint32(len(t.dims)))
		for _, d := range t.dims {
			b = le.AppendUint64(b, d)
		}
		b = le.AppendUint64(le.AppendUint32(b, t.typ), t.off)
	}
	for len(b)%64 != 0 {
		b = append(b, 0)
	}
	return append(b, make([]byte, data)...)
}

// message writes one length-delimited protobuf field.
func message(number uint64, body ...[]byte) []byte {
	all := bytes.Join(body, nil)
	b := binary.AppendUvarint(nil, number<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(all))), all...)
}

func varint(number, v uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(nil, number<<3), v)
}

func onnxTensor(name string, typ uint64, dims []uint64, raw []byte) []byte {
	var b []byte
	for _, d := range dims {
		b = append(b, varint(1, d)...)
	}
	return bytes.Join([][]byte{b, varint(2, typ), message(8, []byte(name)), message(9, raw)}, nil)
}

func onnxFile(graph ...[]byte) []byte {
	return bytes.Join([][]byte{varint(1, 8), message(2, []byte("maker")), message(7, graph...), message(8, varint(2, 17))}, nil)
}

func layoutOf(t *testing.T, file []byte) (string, []Tensor) {
	t.Helper()
	format, ts, err := Layout(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	return format, ts
}

func TestLayoutSafetensors(t *testing.T) {
	header := `{"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[3],"data_offsets":[8,20]},` +
		`"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"none":{"dtype":"F16","shape":[0],"data_offsets":[20,20]},` +
		`"odd":{"dtype":"F4","shape":[4],"data_offsets":[20,22]}}   `
	format, ts := layoutOf(t, safetensorsFile(header, 22))
	data := int64(8 + len(header))
	want := []Tensor{
		{"a", BF16, []uint64{2, 2}, data, 8}, {"b", F32, []uint64{3}, data + 8, 12}, {"odd", Bytes, []uint64{4}, data + 20, 2},
	}
	if format != "safetensors" || !reflect.DeepEqual(ts, want) {
		t.Errorf("got %s %v, want %v", format, ts, want)
	}
}

func TestLayoutGGUF(t *testing.T) {
	file := ggufFile([]ggufTensor{
		{"q", []uint64{64, 2}, 2, 128}, {"w", []uint64{8}, 1, 0}, {"new", []uint64{5}, 999, 64},
	}, 128+72)
	format, ts := layoutOf(t, file)
	data := int64(len(file) - 200)
	want := []Tensor{
		{"w", F16, []uint64{8}, data, 16}, {"new", Bytes, []uint64{5}, data + 64, 64}, {"q", Q4_0, []uint64{64, 2}, data + 128, 72},
	}
	if format != "gguf" || !reflect.DeepEqual(ts, want) {
		t.Errorf("got %s %v, want %v", format, ts, want)
	}
}

func TestLayoutONNX(t *testing.T) {
	inner := onnxTensor("inner", 10, []uint64{2}, []byte("wxyz"))
	node := message(1, message(5, message(1, []byte("then")), message(6, message(5, inner))))
	constant := message(1, message(5, message(5, message(1, []byte{2, 1}), varint(2, 1), message(4, make([]byte, 8)))))
	first := onnxTensor("first", 1, []uint64{3}, []byte("abcdefghijkl"))
	file := onnxFile(message(2, []byte("graph")), node, message(5, first), constant)
	format, ts := layoutOf(t, file)
	if format != "onnx" || len(ts) != 3 {
		t.Fatalf("got %s %v", format, ts)
	}
	for i, want := range []struct {
		name, data string
		typ        Type
		dims       []uint64
	}{
		{"inner", "wxyz", F16, []uint64{2}},
		{"first", "abcdefghijkl", F32, []uint64{3}},
		{"", strings.Repeat("\x00", 8), F32, []uint64{2, 1}},
	} {
		got := ts[i]
		if got.Name != want.name || got.Type != want.typ || !reflect.DeepEqual(got.Shape, want.dims) ||
			string(file[got.Off:got.Off+got.Len]) != want.data {
			t.Errorf("tensor %d: got %v, want %v", i, got, want)
		}
	}
}

func TestNoLayout(t *testing.T) {
	for _, file := range []string{"", "x", "GGU", "\x7fELF and so on and on", strings.Repeat("{", 200), strings.Repeat("\x08", 100)} {
		if _, _, err := Layout(strings.NewReader(file), int64(len(file))); !errors.Is(err, ErrNoLayout) {
			t.Errorf("%.10q: got %v, want no layout", file, err)
		}
	}
}

// hostile are damaged files of each format.
func hostile() map[string][]byte {
	entry := func(s string) []byte { return safetensorsFile(`{"a":`+s+`}`, 64) }
	gguf := func(t ggufTensor) []byte { return ggufFile([]ggufTensor{t, {"z", []uint64{4}, 0, 0}}, 64) }
	deep := message(1, []byte("x"))
	for range 40 {
		deep = message(1, message(5, message(6, deep)))
	}
	many := append([]byte("GGUF\x03\x00\x00\x00"), bytes.Repeat([]byte{0xff}, 16)...)
	array := append([]byte("GGUF\x03\x00\x00\x00"), make([]byte, 8)...)
	array = binary.LittleEndian.AppendUint64(array, 1)
	array = binary.LittleEndian.AppendUint32(ggufText(array, "k"), 9)
	array = append(binary.LittleEndian.AppendUint32(array, 9), bytes.Repeat([]byte{0xff}, 40)...)
	dims := bytes.Repeat(varint(1, 1), 100)
	return map[string][]byte{
		"safetensors negative":   entry(`{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}`),
		"safetensors backwards":  entry(`{"dtype":"F32","shape":[1],"data_offsets":[8,4]}`),
		"safetensors outside":    entry(`{"dtype":"F32","shape":[40],"data_offsets":[0,160]}`),
		"safetensors overflow":   entry(`{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}`),
		"safetensors shape":      entry(`{"dtype":"F32","shape":[2],"data_offsets":[0,4]}`),
		"safetensors no offsets": entry(`{"dtype":"F32","shape":[2]}`),
		"safetensors overlap": safetensorsFile(`{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},`+
			`"b":{"dtype":"U8","shape":[8],"data_offsets":[7,15]}}`, 64),
		"safetensors cut":      safetensorsFile(`{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}`, 64),
		"safetensors not JSON": safetensorsFile(`{{{{{{`, 64),
		"gguf counts":          many,
		"gguf array":           array,
		"gguf version":         []byte("GGUF\x09\x00\x00\x00________________"),
		"gguf outside":         gguf(ggufTensor{"a", []uint64{4}, 0, 1 << 40}),
		"gguf wraps":           gguf(ggufTensor{"a", []uint64{4}, 0, 1 << 63}),
		"gguf overflow":        gguf(ggufTensor{"a", []uint64{1 << 40, 1 << 40}, 0, 0}),
		"gguf overlap":         gguf(ggufTensor{"a", []uint64{4}, 0, 8}),
		"gguf part":            gguf(ggufTensor{"a", []uint64{33}, 2, 0}),
		"gguf dims":            gguf(ggufTensor{"a", make([]uint64, 65), 2, 0}),
		"onnx deep":            onnxFile(deep),
		"onnx field":           onnxFile([]byte{0x2a, 0xff, 0xff, 0xff, 0x0f}),
		"onnx varint":          onnxFile(bytes.Repeat([]byte{0xff}, 20)),
		"onnx dims":            onnxFile(message(5, dims)),
	}
}

func TestHostileLayouts(t *testing.T) {
	for name, file := range hostile() {
		format, ts, err := Layout(bytes.NewReader(file), int64(len(file)))
		if err == nil || errors.Is(err, ErrNoLayout) {
			t.Errorf("%s: got %s %v %v, want an error", name, format, ts, err)
		}
	}
}

// TestCutLayouts cuts good files everywhere: no panic, and no tensor outside.
func TestCutLayouts(t *testing.T) {
	for _, file := range goodFiles() {
		for n := range file {
			checkLayout(t, file[:n])
		}
	}
}

func goodFiles() [][]byte {
	return [][]byte{
		safetensorsFile(`{"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}}`, 8),
		ggufFile([]ggufTensor{{"q", []uint64{64}, 2, 64}, {"w", []uint64{8}, 1, 0}}, 100),
		onnxFile(message(5, onnxTensor("w", 1, []uint64{2}, make([]byte, 8)))),
	}
}

// checkLayout reads a file and checks what Layout promises.
func checkLayout(t *testing.T, file []byte) {
	_, ts, err := Layout(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return
	}
	at := int64(0)
	for _, x := range ts {
		if x.Off < at || x.Len <= 0 || x.Off+x.Len > int64(len(file)) || x.Type.Element() == 0 {
			t.Fatalf("bad tensor %v after %d in %d bytes", x, at, len(file))
		}
		at = x.Off + x.Len
	}
}

// A farReader is a file of which only the header exists: whoever reads further fails.
type farReader struct{ head []byte }

func (f farReader) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(f.head)) {
		return 0, fmt.Errorf("read at %d", off)
	}
	n := copy(p, f.head[off:])
	clear(p[n:])
	if int(off)+len(p) > len(f.head)+1<<16 {
		return n, io.ErrUnexpectedEOF
	}
	return len(p), nil
}

func TestLayoutLeavesDataAlone(t *testing.T) {
	const n = int64(5) << 30
	header := fmt.Sprintf(`{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}`, n, n)
	file := safetensorsFile(header, 0)
	_, ts, err := Layout(farReader{file}, int64(len(file))+n)
	if err != nil || len(ts) != 1 || ts[0].Len != n {
		t.Errorf("got %v, %v", ts, err)
	}
}

func FuzzLayout(f *testing.F) {
	for _, file := range goodFiles() {
		f.Add(file)
	}
	for _, file := range hostile() {
		f.Add(file)
	}
	f.Fuzz(func(t *testing.T, file []byte) { checkLayout(t, file) })
}
