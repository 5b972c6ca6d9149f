// Genbf16 writes a pair of safetensors files with bfloat16 weights that nobody trained: bell-shaped numbers with a
// deviation of 0.02, and in the new file the same with a small bell-shaped step added. It takes memory for one tensor row.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
)

func main() {
	n := flag.Uint64("n", 1<<25, "number of weights, a multiple of 4096")
	sigma := flag.Float64("sigma", 2e-5, "deviation of the steps")
	flag.Parse()
	if flag.NArg() != 2 || *n%row != 0 {
		fmt.Fprintln(os.Stderr, "usage: genbf16 [-n WEIGHTS] [-sigma S] OLD NEW")
		os.Exit(2)
	}
	if err := generate(flag.Arg(0), flag.Arg(1), *n, *sigma); err != nil {
		fmt.Fprintln(os.Stderr, "genbf16:", err)
		os.Exit(1)
	}
}

const (
	row        = 4096
	tensorRows = 4096
	deviation  = 0.02
)

func generate(oldPath, newPath string, n uint64, sigma float64) error {
	a, err := os.Create(oldPath)
	if err != nil {
		return err
	}
	b, err := os.Create(newPath)
	if err != nil {
		return err
	}
	x, y := bufio.NewWriterSize(a, 1<<20), bufio.NewWriterSize(b, 1<<20)
	header(x, n)
	header(y, n)
	rng := uint64(1)
	old, new := make([]byte, 0, 2*row), make([]byte, 0, 2*row)
	for range n / row {
		old, new = old[:0], new[:0]
		for range row {
			w := float32(deviation * bell(&rng))
			step := float32(sigma * bell(&rng))
			old = binary.LittleEndian.AppendUint16(old, bf16(w))
			new = binary.LittleEndian.AppendUint16(new, bf16(w+step))
		}
		if _, err := x.Write(old); err != nil {
			return err
		}
		if _, err := y.Write(new); err != nil {
			return err
		}
	}
	return errors.Join(x.Flush(), y.Flush(), a.Close(), b.Close())
}

// header cuts the weights into square matrices; the last one may have fewer rows.
func header(w io.Writer, n uint64) {
	h := []byte{'{'}
	for at := uint64(0); at < n; at += row * tensorRows {
		rows := min(tensorRows, (n-at)/row)
		if at > 0 {
			h = append(h, ',')
		}
		h = fmt.Appendf(h, `"layers.%d.weight":{"dtype":"BF16","shape":[%d,%d],"data_offsets":[%d,%d]}`,
			at/(row*tensorRows), rows, row, 2*at, 2*(at+rows*row))
	}
	h = append(h, '}')
	for len(h)%8 != 0 {
		h = append(h, ' ')
	}
	_ = binary.Write(w, binary.LittleEndian, uint64(len(h)))
	_, _ = w.Write(h)
}

// bell is the sum of four uniform numbers, scaled to a deviation of 1. The generator is Steele and Vigna's splitmix64.
func bell(state *uint64) float64 {
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	sum := int64(z&0xffff) + int64(z>>16&0xffff) + int64(z>>32&0xffff) + int64(z>>48) - 2*65535
	return float64(sum) / 37837 // the square root of 4/12, times 65536
}

func bf16(v float32) uint16 {
	b := math.Float32bits(v)
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}
