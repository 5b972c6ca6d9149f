package delta

import (
	"archive/tar"
	"errors"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/wordcab/wcbundle/delta/tensor"
)

// A piece is a stretch of plain bytes with a name and a kind: a tar header or padding, a file, a tensor.
type piece struct {
	kind pieceKind
	typ  tensor.Type // of a tensor
	name string
	off  int64
	n    int64
}

type pieceKind uint8

const (
	pieceMeta   pieceKind = iota // tar headers and padding, and what lies between tensors
	pieceFile                    // a file that is nothing below
	pieceExec                    // an executable or shared library
	pieceTensor                  // a tensor, or a file of weights without a layout
)

const (
	sniffSize = 64 << 10 // smaller files are not looked into
	maxPieces = 1 << 21  // a tar with more members is one piece
)

// split takes plain bytes apart: tar archives into members, model files into tensors. What it does not know is one piece.
func split(r io.ReaderAt, size int64) ([]piece, error) {
	ps, err := splitTar(r, size)
	if err == nil {
		return ps, nil
	}
	if !errors.Is(err, errNoTar) {
		return nil, err
	}
	return splitFile(r, piece{kind: pieceFile, n: size})
}

var errNoTar = errors.New("not a tar archive")

// seeker is a section that tells where it stands.
type seeker struct {
	*io.SectionReader
}

func (s seeker) at() int64 {
	n, _ := s.Seek(0, io.SeekCurrent)
	return n
}

func splitTar(r io.ReaderAt, size int64) ([]piece, error) {
	var magic [5]byte
	if n, _ := r.ReadAt(magic[:], 257); n < len(magic) || string(magic[:]) != "ustar" {
		return nil, errNoTar
	}
	s := seeker{io.NewSectionReader(r, 0, size)}
	tr := tar.NewReader(s)
	var out []piece
	end := int64(0) // of the member before
	for {
		h, err := tr.Next()
		if err != nil && !errors.Is(err, io.EOF) && len(out) == 0 {
			return nil, errNoTar
		}
		if err != nil || len(out) > maxPieces {
			break // padding at the end, or something that is not tar: one piece
		}
		at := s.at()
		n := h.Size
		if h.Typeflag == tar.TypeGNUSparse || sparse(h) || n > size-at || h.Typeflag != tar.TypeReg {
			n = 0
		}
		out = append(out, piece{kind: pieceMeta, name: h.Name + "\x00", off: end, n: at - end})
		if n > 0 {
			ps, err := splitFile(io.NewSectionReader(r, at, n), piece{kind: pieceFile, name: h.Name, off: at, n: n})
			if err != nil {
				return nil, err
			}
			out = append(out, ps...)
		}
		end = at + n
	}
	if end < size {
		out = append(out, piece{kind: pieceMeta, name: "\x00", off: end, n: size - end})
	}
	return out, nil
}

// sparse says whether a member's bytes in the archive are not its content.
func sparse(h *tar.Header) bool {
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// splitFile looks into a file; r has just the file's bytes.
func splitFile(r io.ReaderAt, f piece) ([]piece, error) {
	if f.n < sniffSize {
		return []piece{f}, nil
	}
	head := make([]byte, 64)
	if n, err := r.ReadAt(head, 0); n < len(head) {
		return nil, err
	}
	if isExec(head) {
		f.kind = pieceExec
		return []piece{f}, nil
	}
	if _, ts, err := tensor.Layout(r, f.n); err == nil && len(ts) > 0 {
		return tensorPieces(f, ts), nil
	}
	if t, ok, err := guessWeights(r, f.n); err != nil {
		return nil, err
	} else if ok {
		f.kind, f.typ = pieceTensor, t
	}
	return []piece{f}, nil
}

func isExec(head []byte) bool {
	return string(head[:4]) == "\x7fELF" || string(head[:2]) == "MZ"
}

// guessWeights looks at samples of a file without a layout, such as a .bin of weights.
func guessWeights(r io.ReaderAt, size int64) (tensor.Type, bool, error) {
	const step = 64 << 10
	if size < 8*step {
		return 0, false, nil
	}
	var sample []byte
	for i := range int64(4) {
		b := make([]byte, step)
		at := (size - step) / 4 * i &^ 7
		if n, err := r.ReadAt(b, at); n < len(b) {
			return 0, false, err
		}
		sample = append(sample, b...)
	}
	t, phase, ok := tensor.Guess(sample)
	return t, ok && phase == 0, nil
}

// tensorPieces cuts a file into its tensors and what lies between them.
func tensorPieces(f piece, ts []tensor.Tensor) []piece {
	var out []piece
	end := int64(0)
	gap := func(to int64) {
		if to > end {
			out = append(out, piece{kind: pieceMeta, name: f.name + "\x01", off: f.off + end, n: to - end})
		}
	}
	for _, t := range ts {
		if t.Len == 0 {
			continue
		}
		gap(t.Off)
		out = append(out, piece{kind: pieceTensor, typ: t.Type, name: f.name + "\x01" + t.Name, off: f.off + t.Off, n: t.Len})
		end = t.Off + t.Len
	}
	gap(f.n)
	return out
}

var numbersInNames = regexp.MustCompile(`[0-9]+([._-][0-9]+)*`)

// stripped is a name without its folder and its version numbers; a tensor keeps its own name.
func stripped(name string) string {
	file, in, isTensor := strings.Cut(name, "\x01")
	s := numbersInNames.ReplaceAllString(path.Base(file), "#")
	if isTensor {
		return s + "\x01" + in
	}
	return s
}

// tensorName is the tensor's own name, whatever the file.
func tensorName(name string) string {
	_, in, _ := strings.Cut(name, "\x01")
	return in
}

// shown is a piece's name for people.
func shown(name string) string {
	name = strings.TrimSuffix(strings.TrimSuffix(name, "\x00"), "\x01")
	return strings.ReplaceAll(name, "\x01", ": ")
}
