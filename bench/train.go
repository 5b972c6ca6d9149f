package main

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"archive/tar"

	"github.com/wordcab/wcbundle/bench/lm"
)

// The training run: a base model on the sources of the Go toolchain, then three states of one fine-tune on Python's
// standard library. The rates of the fine-tune are those used for large models.
var schedule = []struct {
	state       string
	python      bool
	steps       int
	first, last float64
}{
	{"base", false, 1200, 1e-3, 1e-4},
	{"x100", true, 100, 2e-5, 2e-5},
	{"x250", true, 150, 2e-5, 2e-5},
	{"x450", true, 200, 1e-4, 1e-4},
}

// trained makes the file path: the weights of a state of the training run in one of the formats bf16, fp16, fp32
// (safetensors), q8_0 and q4_0 (GGUF). The states are kept in the corpus folder; the first call trains for minutes.
func (f *fetcher) trained(path string, file *File) error {
	dir := filepath.Join(f.dir, ".trained")
	if _, err := os.Stat(filepath.Join(dir, file.From)); err != nil {
		if err := f.train(dir); err != nil {
			return err
		}
	}
	params, err := loadState(filepath.Join(dir, file.From))
	if err != nil {
		return err
	}
	return writeFile(path, func(w io.Writer) error {
		if strings.HasPrefix(file.Path, "q") {
			return writeGGUF(w, params, file.Path)
		}
		return writeFloats(w, params, file.Path)
	})
}

func (f *fetcher) train(dir string) error {
	goZip, _, err := f.pkg("go1.26.10")
	if err != nil {
		return err
	}
	deb, _, err := f.pkg("libpython3.11-stdlib-old")
	if err != nil {
		return err
	}
	base, err := goText(goZip)
	if err != nil {
		return err
	}
	tune, err := pythonText(deb)
	if err != nil {
		return err
	}
	m := lm.New(1)
	for _, s := range schedule {
		text := base
		if s.python {
			text = tune
		}
		if s.state == "x100" {
			m.ResetOptimiser()
		}
		loss := m.Train(text, s.steps, s.first, s.last)
		fmt.Fprintf(os.Stderr, "trained %s: %d steps, loss %.3f nats per byte\n", s.state, s.steps, loss)
		if err := saveState(filepath.Join(dir, s.state), m.Params); err != nil {
			return err
		}
	}
	return nil
}

const textLimit = 24 << 20

func goText(path string) ([]byte, error) {
	z, err := zip.OpenReader(path)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	files := map[string]*zip.File{}
	for _, f := range z.File {
		if strings.HasSuffix(f.Name, ".go") && strings.Contains(f.Name, "/src/") {
			files[f.Name] = f
		}
	}
	var text bytes.Buffer
	for _, name := range sorted(files) {
		r, err := files[name].Open()
		if err != nil {
			return nil, err
		}
		if _, err := text.ReadFrom(r); err != nil {
			return nil, err
		}
		if text.Len() > textLimit {
			break
		}
	}
	return text.Bytes(), nil
}

func pythonText(deb string) ([]byte, error) {
	var text bytes.Buffer
	err := withDeb(deb, func(r io.Reader) error {
		t := tar.NewReader(r)
		for {
			h, err := t.Next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if strings.HasSuffix(h.Name, ".py") && text.Len() < textLimit {
				if _, err := text.ReadFrom(t); err != nil {
					return err
				}
			}
		}
	})
	return text.Bytes(), err
}

func saveState(path string, params []lm.Tensor) error {
	return writeFile(path, func(w io.Writer) error {
		for _, p := range params {
			if err := binary.Write(w, binary.LittleEndian, p.Data); err != nil {
				return err
			}
		}
		return nil
	})
}

func loadState(path string) ([]lm.Tensor, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	params := lm.New(1).Params
	for _, p := range params {
		n, err := binary.Decode(data, binary.LittleEndian, p.Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		data = data[n:]
	}
	return params, nil
}

// writeFloats writes params as safetensors in one of the formats bf16, fp16 and fp32.
func writeFloats(w io.Writer, params []lm.Tensor, format string) error {
	var data []byte
	var list []tensorInfo
	dtype := map[string]string{"bf16": "BF16", "fp16": "F16", "fp32": "F32"}[format]
	for _, p := range params {
		list = append(list, tensorInfo{p.Name, dtype, p.Shape})
		for _, v := range p.Data {
			switch format {
			case "bf16":
				data = binary.LittleEndian.AppendUint16(data, bf16(v))
			case "fp16":
				data = binary.LittleEndian.AppendUint16(data, fp16(v))
			default:
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
			}
		}
	}
	return writeSafetensors(w, list, data)
}

// bf16 rounds a finite number to the nearest bfloat16, ties to even.
func bf16(v float32) uint16 {
	b := math.Float32bits(v)
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// fp16 rounds a finite number to the nearest IEEE 754 binary16, ties to even.
func fp16(v float32) uint16 {
	b := math.Float32bits(v)
	sign := uint16(b >> 16 & 0x8000)
	exp := int(b>>23&0xff) - 112
	mant := b&0x7fffff | 0x800000
	shift := uint(13)
	if exp <= 0 { // a subnormal number
		shift += uint(1 - exp)
		exp = 0
		if shift > 24 {
			return sign
		}
	} else {
		exp-- // the leading one of mant adds it again
	}
	half := mant >> shift
	rest := mant & (1<<shift - 1)
	if mid := uint32(1) << (shift - 1); rest > mid || rest == mid && half&1 == 1 {
		half++
	}
	return sign | uint16(min(uint32(exp)<<10+half, 0x7c00))
}
