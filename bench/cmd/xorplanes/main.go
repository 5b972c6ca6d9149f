// Xorplanes is the comparison codec for weights: the bits of a tensor are combined by exclusive or with those of the
// tensor of the same name in the old file, cut into one plane per byte of an element, and every plane is packed by the
// better of zstd -19 and huff0. It is what ZipLLM calls BitX, written for the benchmarks. It reads safetensors files.
//
// An element of bfloat16 or float32 is first turned left by one bit, so that one plane has the whole exponent.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"slices"

	"github.com/klauspost/compress/huff0"
)

func main() {
	err := errors.New("usage: xorplanes make OLD NEW DELTA, or xorplanes apply OLD DELTA OUT")
	if len(os.Args) == 5 {
		switch os.Args[1] {
		case "make":
			err = makeDelta(os.Args[2], os.Args[3], os.Args[4])
		case "apply":
			err = applyDelta(os.Args[2], os.Args[3], os.Args[4])
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "xorplanes:", err)
		os.Exit(1)
	}
}

// A tensor is a part of the data of a file.
type tensor struct {
	name   string
	dtype  string
	at, to int
}

// width is the size of an element and whether it is turned.
func (t tensor) width() (int, bool) {
	switch t.dtype {
	case "BF16":
		return 2, true
	case "F32":
		return 4, true
	case "F16":
		return 2, false
	case "I32":
		return 4, false
	}
	return 1, false
}

// parse returns the header of a safetensors file, its tensors in the order of the data, and the data.
func parse(file []byte) (header []byte, list []tensor, data []byte, err error) {
	if len(file) < 8 || binary.LittleEndian.Uint64(file) > uint64(len(file)-8) {
		return nil, nil, nil, errors.New("not a safetensors file")
	}
	n := 8 + int(binary.LittleEndian.Uint64(file))
	header, data = file[:n], file[n:]
	var entries map[string]struct {
		Dtype   string
		Offsets [2]int `json:"data_offsets"`
	}
	if err := json.Unmarshal(header[8:], &entries); err != nil {
		return nil, nil, nil, err
	}
	for name, e := range entries {
		if e.Offsets[0] < 0 || e.Offsets[0] > e.Offsets[1] {
			return nil, nil, nil, errors.New("bad offsets")
		}
		list = append(list, tensor{name, e.Dtype, e.Offsets[0], e.Offsets[1]})
	}
	slices.SortFunc(list, func(a, b tensor) int { return a.at - b.at })
	return header, list, data, nil
}

const planes = 4

// base returns the old bytes for a tensor: those of the same name and size, or zeros.
func base(t tensor, old map[string]tensor, data []byte) []byte {
	if o, ok := old[t.name]; ok && o.dtype == t.dtype && o.to-o.at == t.to-t.at {
		return data[o.at:o.to]
	}
	return make([]byte, t.to-t.at)
}

func makeDelta(oldPath, newPath, deltaPath string) error {
	old, oldData, err := load(oldPath)
	if err != nil {
		return err
	}
	file, err := os.ReadFile(newPath)
	if err != nil {
		return err
	}
	header, list, data, err := parse(file)
	if err != nil {
		return err
	}
	var plane [planes][]byte
	for _, t := range list {
		b, n := base(t, old, oldData), data[t.at:t.to]
		width, turn := t.width()
		for i := 0; i < len(n); i += width {
			x := element(b[i:], width, turn) ^ element(n[i:], width, turn)
			for p := range width {
				plane[p] = append(plane[p], byte(x>>(8*p)))
			}
		}
	}
	var delta []byte
	for _, part := range append([][]byte{header}, plane[:]...) {
		if delta, err = pack(delta, part); err != nil {
			return err
		}
	}
	return os.WriteFile(deltaPath, delta, 0o644)
}

func applyDelta(oldPath, deltaPath, outPath string) error {
	old, oldData, err := load(oldPath)
	if err != nil {
		return err
	}
	delta, err := os.ReadFile(deltaPath)
	if err != nil {
		return err
	}
	var parts [1 + planes][]byte
	for i := range parts {
		if parts[i], delta, err = unpack(delta); err != nil {
			return err
		}
	}
	header, list, _, err := parse(parts[0])
	if err != nil {
		return err
	}
	out := slices.Clone(header)
	for _, t := range list {
		b := base(t, old, oldData)
		width, turn := t.width()
		for i := 0; i < len(b); i += width {
			x := element(b[i:], width, turn)
			for p := range width {
				x ^= uint32(parts[1+p][0]) << (8 * p)
				parts[1+p] = parts[1+p][1:]
			}
			out = appendElement(out, x, width, turn)
		}
	}
	return os.WriteFile(outPath, out, 0o644)
}

func load(path string) (map[string]tensor, []byte, error) {
	file, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	_, list, data, err := parse(file)
	byName := map[string]tensor{}
	for _, t := range list {
		byName[t.name] = t
	}
	return byName, data, err
}

func element(b []byte, width int, turn bool) uint32 {
	switch {
	case width == 4 && turn:
		return bits.RotateLeft32(binary.LittleEndian.Uint32(b), 1)
	case width == 4:
		return binary.LittleEndian.Uint32(b)
	case width == 2 && turn:
		return uint32(bits.RotateLeft16(binary.LittleEndian.Uint16(b), 1))
	case width == 2:
		return uint32(binary.LittleEndian.Uint16(b))
	}
	return uint32(b[0])
}

func appendElement(out []byte, x uint32, width int, turn bool) []byte {
	switch {
	case width == 4 && turn:
		return binary.LittleEndian.AppendUint32(out, bits.RotateLeft32(x, -1))
	case width == 4:
		return binary.LittleEndian.AppendUint32(out, x)
	case width == 2 && turn:
		return binary.LittleEndian.AppendUint16(out, bits.RotateLeft16(uint16(x), -1))
	case width == 2:
		return binary.LittleEndian.AppendUint16(out, uint16(x))
	}
	return append(out, byte(x))
}

// pack appends a part: a byte that names the method, the length of the packed bytes, and these.
func pack(delta, part []byte) ([]byte, error) {
	best, err := zstd(part, "-19")
	if err != nil {
		return nil, err
	}
	method := byte('z')
	if h := huffPack(part); len(h) < len(best) {
		method, best = 'h', h
	}
	delta = binary.AppendUvarint(append(delta, method), uint64(len(best)))
	return append(delta, best...), nil
}

func unpack(delta []byte) (part, rest []byte, err error) {
	if len(delta) == 0 {
		return nil, nil, errors.New("the delta is cut short")
	}
	n, k := binary.Uvarint(delta[1:])
	if k <= 0 || n > uint64(len(delta)-1-k) {
		return nil, nil, errors.New("the delta is cut short")
	}
	body := delta[1+k:][:n]
	rest = delta[1+k+int(n):]
	if delta[0] == 'z' {
		part, err = zstd(body, "-d")
	} else {
		part, err = huffUnpack(body)
	}
	return part, rest, err
}

// zstd runs the program of that name, whose level 19 no Go package has.
func zstd(data []byte, flag string) ([]byte, error) {
	cmd := exec.Command("zstd", "-q", "-c", flag)
	cmd.Stdin = bytes.NewReader(data)
	return cmd.Output()
}

// huffPack codes blocks of 128 KiB, each as its length, the length of its code (0 for a block kept as it is) and its code.
func huffPack(part []byte) []byte {
	var out []byte
	for block := range slices.Chunk(part, huff0.BlockSizeMax) {
		out = binary.AppendUvarint(out, uint64(len(block)))
		code, _, err := huff0.Compress4X(block, &huff0.Scratch{Reuse: huff0.ReusePolicyNone})
		if err != nil {
			code = nil
		}
		out = binary.AppendUvarint(out, uint64(len(code)))
		if code == nil {
			code = block
		}
		out = append(out, code...)
	}
	return out
}

func huffUnpack(body []byte) ([]byte, error) {
	var out []byte
	for len(body) > 0 {
		size, k := binary.Uvarint(body)
		n, m := binary.Uvarint(body[max(k, 0):])
		if k <= 0 || m <= 0 || size > huff0.BlockSizeMax || max(n, size) > huff0.BlockSizeMax {
			return nil, errors.New("bad block")
		}
		body = body[k+m:]
		if n == 0 {
			out, body = append(out, body[:size]...), body[size:]
			continue
		}
		s, code, err := huff0.ReadTable(body[:n], nil)
		if err != nil {
			return nil, err
		}
		block, err := s.Decoder().Decompress4X(make([]byte, 0, size), code)
		if err != nil {
			return nil, err
		}
		out, body = append(out, block...), body[n:]
	}
	return out, nil
}
