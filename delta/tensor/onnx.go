package tensor

import (
	"errors"
)

// Field numbers of onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
const (
	onnxModelGraph   = 7
	onnxGraphNode    = 1
	onnxGraphTensor  = 5
	onnxNodeAttr     = 5
	onnxAttrTensor   = 5
	onnxAttrGraph    = 6
	onnxAttrTensors  = 10
	onnxAttrGraphs   = 11
	onnxTensorDims   = 1
	onnxTensorType   = 2
	onnxTensorFloats = 4
	onnxTensorName   = 8
	onnxTensorRaw    = 9
	onnxTensorDouble = 10
	// onnxDepth bounds graphs in attributes of graphs.
	onnxDepth = 16
)

// onnxTypes maps TensorProto.DataType to ours; ones that are absent are bytes.
var onnxTypes = map[uint64]Type{
	1: F32, 2: I8, 3: I8, 4: I16, 5: I16, 6: I32, 7: I64, 9: I8, 10: F16, 11: F64, 12: I32, 13: I64, 16: BF16,
	17: F8E4M3, 19: F8E5M2,
}

var errProtobuf = errors.New("damaged protobuf")

// A field is one field of a message: a number for wire types 0, 1 and 5, or a stretch of the file.
type field struct {
	number, wire uint64
	value        uint64 // wire type 0 only
	off, end     int64
}

// varint reads a varint at off that ends before end.
func (w *window) varint(off, end int64) (v uint64, next int64, err error) {
	var b [1]byte
	for s := uint(0); s < 64; s += 7 {
		if off >= end {
			return 0, 0, errProtobuf
		}
		if err := w.read(b[:], off); err != nil {
			return 0, 0, err
		}
		off++
		v |= uint64(b[0]&0x7f) << s
		if b[0] < 0x80 {
			return v, off, nil
		}
	}
	return 0, 0, errProtobuf
}

// field reads the field at off of a message that ends at end. The next field begins at its end.
func (w *window) field(off, end int64) (f field, err error) {
	tag, off, err := w.varint(off, end)
	if err != nil {
		return f, err
	}
	f.number, f.wire = tag>>3, tag&7
	n := uint64(0)
	switch f.wire {
	case 0:
		f.value, off, err = w.varint(off, end)
	case 1:
		n = 8
	case 2:
		n, off, err = w.varint(off, end)
	case 5:
		n = 4
	default:
		err = errProtobuf
	}
	if err != nil {
		return f, err
	}
	if f.number == 0 || n > uint64(end-off) {
		return f, errProtobuf
	}
	f.off, f.end = off, off+int64(n)
	return f, nil
}

// each calls do for every field of the message.
func (w *window) each(off, end int64, do func(f field) error) error {
	for off < end {
		f, err := w.field(off, end)
		if err != nil {
			return err
		}
		if err := do(f); err != nil {
			return err
		}
		off = f.end
	}
	return nil
}

// onnxModel gives the wire type of each field of ModelProto plus 1, by number.
var onnxModel = [32]uint8{1: 1, 2: 3, 3: 3, 4: 3, 5: 1, 6: 3, 7: 3, 8: 3, 14: 3, 20: 3, 25: 3, 26: 3}

// isONNX walks the top level: all fields must be ModelProto's and fill the file exactly, with the version first and one
// graph. ONNX has no magic number.
func isONNX(w *window) bool {
	graphs, versions := 0, 0
	err := w.each(0, w.size, func(f field) error {
		if f.number >= uint64(len(onnxModel)) || uint64(onnxModel[f.number]) != f.wire+1 {
			return errProtobuf
		}
		switch f.number {
		case 1:
			versions++
		case onnxModelGraph:
			graphs++
		}
		return nil
	})
	return err == nil && graphs == 1 && versions == 1
}

type onnxWalk struct {
	w  *window
	ts []Tensor
}

func layoutONNX(w *window) ([]Tensor, error) {
	o := &onnxWalk{w: w}
	err := w.each(0, w.size, func(f field) error {
		if f.number == onnxModelGraph {
			return o.graph(f, 0)
		}
		return nil
	})
	return o.ts, err
}

func (o *onnxWalk) graph(g field, depth int) error {
	if depth >= onnxDepth {
		return errors.New("graphs are nested too deeply")
	}
	return o.w.each(g.off, g.end, func(f field) error {
		if f.wire != 2 {
			return nil
		}
		switch f.number {
		case onnxGraphTensor:
			return o.tensor(f)
		case onnxGraphNode:
			return o.node(f, depth)
		}
		return nil
	})
}

func (o *onnxWalk) node(n field, depth int) error {
	return o.w.each(n.off, n.end, func(a field) error {
		if a.number != onnxNodeAttr || a.wire != 2 {
			return nil
		}
		return o.w.each(a.off, a.end, func(f field) error {
			if f.wire != 2 {
				return nil
			}
			switch f.number {
			case onnxAttrTensor, onnxAttrTensors:
				return o.tensor(f)
			case onnxAttrGraph, onnxAttrGraphs:
				return o.graph(f, depth+1)
			}
			return nil
		})
	})
}

// tensor notes where a TensorProto's data lie: raw_data, packed float_data or double_data. Data in other files and
// varints have no place of a fixed width and give no tensor.
func (o *onnxWalk) tensor(m field) error {
	var t Tensor
	typ := uint64(0)
	packed := Bytes
	err := o.w.each(m.off, m.end, func(f field) error {
		switch {
		case f.number == onnxTensorDims:
			return o.dims(&t, f)
		case f.number == onnxTensorType && f.wire == 0:
			typ = f.value
		case f.number == onnxTensorName && f.wire == 2 && f.end-f.off <= maxName:
			name := make([]byte, f.end-f.off)
			if err := o.w.read(name, f.off); err != nil {
				return err
			}
			t.Name = string(name)
		case f.wire != 2:
		case f.number == onnxTensorRaw:
			t.Off, t.Len, packed = f.off, f.end-f.off, Bytes
		case f.number == onnxTensorFloats && t.Len == 0:
			t.Off, t.Len, packed = f.off, f.end-f.off, F32
		case f.number == onnxTensorDouble && t.Len == 0:
			t.Off, t.Len, packed = f.off, f.end-f.off, F64
		}
		return nil
	})
	if err != nil || t.Len == 0 {
		return err
	}
	t.Type = packed
	if packed == Bytes {
		t.Type = onnxTypes[typ]
	}
	if t.Len%int64(t.Type.Element()) != 0 {
		t.Type = Bytes
	}
	if len(o.ts) == maxTensors {
		return errors.New("too many tensors")
	}
	o.ts = append(o.ts, t)
	return nil
}

func (o *onnxWalk) dims(t *Tensor, f field) error {
	if f.wire == 0 {
		return addDim(t, f.value)
	}
	if f.wire != 2 {
		return errProtobuf
	}
	for off := f.off; off < f.end; {
		v, next, err := o.w.varint(off, f.end)
		if err != nil {
			return err
		}
		if err := addDim(t, v); err != nil {
			return err
		}
		off = next
	}
	return nil
}

func addDim(t *Tensor, v uint64) error {
	if len(t.Shape) == maxDims {
		return errors.New("too many dimensions")
	}
	t.Shape = append(t.Shape, v)
	return nil
}
