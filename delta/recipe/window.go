package recipe

import (
	"encoding/binary"
	"io"
	"math/bits"
)

const (
	ringSize  = 1 << 15
	ringMask  = ringSize - 1
	history   = 12 * ringSize // plain bytes kept behind: those that the buffer of five units holds, see fast
	lookahead = 1 << 18       // plain bytes a predictor may look ahead of a token
	readAhead = 1 << 20       // plain bytes taken at a time
	slideAt   = 3 << 20       // buffered bytes from which on old ones are dropped
)

// window is a stretch of plain bytes that slides along. All positions are indexes into buf and move with it.
type window struct {
	buf  []byte
	next func() ([]byte, error) // the following plain bytes; io.EOF at the end
	rest []byte                 // of what next gave
	eof  bool
}

// ensure reads on until n bytes are there, or all.
func (w *window) ensure(n int) error {
	for len(w.buf) < n && !w.eof {
		if len(w.rest) == 0 {
			p, err := w.next()
			w.rest = p
			switch {
			case err == io.EOF:
				w.eof = len(p) == 0
			case err != nil:
				return err
			case len(p) == 0:
				return io.ErrNoProgress
			}
		}
		k := min(len(w.rest), n-len(w.buf))
		w.buf = append(w.buf, w.rest[:k]...)
		w.rest = w.rest[k:]
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
