package tensor

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxSafetensorsHeader is the limit of the format's reference reader.
const maxSafetensorsHeader = 100_000_000

var safetensorsTypes = map[string]Type{
	"BF16": BF16, "F16": F16, "F32": F32, "F64": F64, "F8_E4M3": F8E4M3, "F8_E5M2": F8E5M2,
	"I8": I8, "U8": I8, "BOOL": I8, "I16": I16, "U16": I16, "I32": I32, "U32": I32, "I64": I64, "U64": I64,
}

func isSafetensors(head []byte, size int64) bool {
	if len(head) < 9 || head[8] != '{' {
		return false
	}
	n := binary.LittleEndian.Uint64(head)
	return n >= 2 && n <= maxSafetensorsHeader && int64(n) <= size-8
}

type safetensorsEntry struct {
	DType   string   `json:"dtype"`
	Shape   []uint64 `json:"shape"`
	Offsets []int64  `json:"data_offsets"`
}

func layoutSafetensors(w *window) ([]Tensor, error) {
	var head [8]byte
	if err := w.read(head[:], 0); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint64(head[:]))
	d := json.NewDecoder(bufio.NewReaderSize(io.NewSectionReader(w.r, 8, n), 64<<10))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the header is not a JSON object")
	}
	var ts []Tensor
	for d.More() {
		t, err := safetensorsTensor(d, 8+n, w.size)
		if err != nil {
			return nil, err
		}
		if t.Name == "" {
			continue
		}
		if len(ts) == maxTensors {
			return nil, errors.New("too many tensors")
		}
		ts = append(ts, t)
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return ts, nil
}

// safetensorsTensor reads one member of the header. The metadata give a tensor without a name.
func safetensorsTensor(d *json.Decoder, data, size int64) (Tensor, error) {
	key, err := d.Token()
	if err != nil {
		return Tensor{}, fmt.Errorf("header: %w", err)
	}
	name, ok := key.(string)
	if !ok || len(name) > maxName {
		return Tensor{}, errors.New("header: bad name")
	}
	var e safetensorsEntry
	if name == "__metadata__" || name == "" {
		var skip json.RawMessage
		return Tensor{}, d.Decode(&skip)
	}
	if err := d.Decode(&e); err != nil {
		return Tensor{}, fmt.Errorf("tensor %q: %w", name, err)
	}
	if len(e.Offsets) != 2 || e.Offsets[0] < 0 || e.Offsets[1] < e.Offsets[0] || e.Offsets[1] > size-data {
		return Tensor{}, fmt.Errorf("tensor %q: bad data offsets", name)
	}
	if len(e.Shape) > maxDims {
		return Tensor{}, fmt.Errorf("tensor %q: too many dimensions", name)
	}
	t := Tensor{Name: name, Shape: e.Shape, Off: data + e.Offsets[0], Len: e.Offsets[1] - e.Offsets[0]}
	typ, known := safetensorsTypes[e.DType]
	if !known {
		return t, nil
	}
	n, ok := count(e.Shape)
	if !ok || n > uint64(t.Len)/uint64(typ.Element()) || int64(n)*int64(typ.Element()) != t.Len {
		return Tensor{}, fmt.Errorf("tensor %q: %d bytes do not fit the shape", name, t.Len)
	}
	t.Type = typ
	return t, nil
}
