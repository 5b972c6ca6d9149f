package tensor

import (
	"errors"
	"fmt"
	"io"
	"math/bits"
	"sort"
)

// ErrNoLayout says that a file is in none of the formats that Layout knows.
var ErrNoLayout = errors.New("no tensor layout")

// maxTensors bounds the memory that a hostile file can ask for. Published models have some ten thousand tensors.
const maxTensors = 1 << 19

// maxName bounds the length of a tensor's name, in bytes. A longer one is refused.
const maxName = 64 << 10

// maxDims bounds the number of dimensions of a tensor.
const maxDims = 64

// A Tensor is a stretch of a file: Len bytes at Off, elements of Type. Shape is as the file gives it and is not checked
// against Len in formats that hold the length itself, except for safetensors.
type Tensor struct {
	Name     string
	Type     Type
	Shape    []uint64
	Off, Len int64
}

// Layout finds the tensors of a file. format is "safetensors", "gguf" or "onnx". The tensors are sorted by Off, have Len
// over 0, lie inside the file and do not overlap. Memory is bounded by the headers: at most 100 MB of safetensors header,
// 2^19 tensors. Raw data is not read.
//
// ErrNoLayout is returned for other files, another error for damaged ones.
func Layout(r io.ReaderAt, size int64) (format string, ts []Tensor, err error) {
	w := &window{r: r, size: size}
	head := make([]byte, min(16, max(size, 0)))
	if err := w.read(head, 0); err != nil {
		return "", nil, err
	}
	switch {
	case isGGUF(head):
		format = "gguf"
		ts, err = layoutGGUF(w)
	case isSafetensors(head, size):
		format = "safetensors"
		ts, err = layoutSafetensors(w)
	case isONNX(w):
		format = "onnx"
		ts, err = layoutONNX(w)
	default:
		return "", nil, ErrNoLayout
	}
	if err == nil {
		ts, err = checked(ts, size)
	}
	if err != nil {
		return "", nil, fmt.Errorf("reading the layout of a %s file: %w", format, err)
	}
	return format, ts, nil
}

// checked sorts the tensors and proves what Layout promises. Empty tensors are dropped.
func checked(ts []Tensor, size int64) ([]Tensor, error) {
	kept := ts[:0]
	for _, t := range ts {
		if t.Len < 0 || t.Off < 0 || t.Off > size || t.Len > size-t.Off {
			return nil, fmt.Errorf("tensor %q is outside the file", t.Name)
		}
		if t.Len > 0 {
			kept = append(kept, t)
		}
	}
	sort.SliceStable(kept, func(i, j int) bool { return kept[i].Off < kept[j].Off })
	for i := 1; i < len(kept); i++ {
		if kept[i].Off < kept[i-1].Off+kept[i-1].Len {
			return nil, fmt.Errorf("tensors %q and %q overlap", kept[i-1].Name, kept[i].Name)
		}
	}
	return kept, nil
}

// count multiplies the dimensions; ok is false when they do not fit 63 bits.
func count(shape []uint64) (n uint64, ok bool) {
	n = 1
	for _, d := range shape {
		hi, lo := bits.Mul64(n, d)
		if hi != 0 || lo > 1<<62 {
			return 0, false
		}
		n = lo
	}
	return n, true
}

// A window reads a file in stretches, so that small fields at growing places cost few calls.
type window struct {
	r    io.ReaderAt
	size int64
	at   int64
	n    int
	buf  [16 << 10]byte
}

// read fills p from the bytes at off.
func (w *window) read(p []byte, off int64) error {
	if off < 0 || off > w.size || int64(len(p)) > w.size-off {
		return io.ErrUnexpectedEOF
	}
	for len(p) > 0 {
		if off < w.at || off >= w.at+int64(w.n) {
			if err := w.fill(off); err != nil {
				return err
			}
		}
		n := copy(p, w.buf[off-w.at:w.n])
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (w *window) fill(off int64) error {
	n := int(min(int64(len(w.buf)), w.size-off))
	w.n = 0
	got, err := w.r.ReadAt(w.buf[:n], off)
	if got < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	w.at, w.n = off, n
	return nil
}
