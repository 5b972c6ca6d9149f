package delta

import (
	"encoding/binary"
	"io"
	"math/bits"
)

const (
	ringSize  = 1 << 15
	ringMask  = ringSize - 1
	history   = 4 * ringSize // plain bytes kept behind: a distance, and one unit of Go's level 1
	lookahead = 1 << 18      // plain bytes a predictor may look past the end of a segment
)

// window is a stretch of plain bytes that slides along. All positions below are indexes into buf and move with it.
type window struct {
	buf  []byte
	more func() ([]byte, error) // the next plain bytes; io.EOF at the end
	eof  bool
}

// ensure reads on until n bytes are there, or all.
func (w *window) ensure(n int) error {
	for len(w.buf) < n && !w.eof {
		p, err := w.more()
		w.buf = append(w.buf, p...)
		if err == io.EOF {
			w.eof = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// slide drops bytes that nobody at pos can reach and returns how many, a multiple of ringSize.
func (w *window) slide(pos int) int {
	k := (pos - history) &^ ringMask
	if k <= 0 {
		return 0
	}
	w.buf = w.buf[:copy(w.buf, w.buf[k:])]
	return k
}

// predictor foretells a writer's tokens from the plain bytes and the tokens so far.
type predictor interface {
	position() int
	done(n int) bool // whether a block of n tokens would end here
	predict() token  // what the writer would emit at position
	commit(t token)  // what it did emit
	jump(pos int)    // go on at pos, whatever the writer did up to there
	rebase(k int)    // the window dropped k bytes
}

// newPredictor returns a predictor for the stream whose plain bytes are buf[start:end], in the tables of old if they fit.
func newPredictor(m *model, w *window, start, end int, old predictor) predictor {
	if m.unit {
		u, _ := old.(*units)
		return newUnits(u, w, start, end)
	}
	c, _ := old.(*chains)
	return newChains(c, m, w, start, end)
}

// commonPrefix returns how many bytes, at most n, are equal at a and b of buf.
func commonPrefix(buf []byte, a, b, n int) int {
	return matchLen(buf[a:a+n], buf[b:b+n])
}

// matchLen returns how many leading bytes of a and b are equal.
func matchLen(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:])
		if x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
