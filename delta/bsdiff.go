package delta

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"io"
)

// bsdiffLimit is the largest sum of bases and target for which Make tries bsdiff, whose memory is eighteen times that.
const bsdiffLimit = 2 << 20

const bsdiffHead = 32

// signMagnitude reads bsdiff's 64-bit numbers.
func signMagnitude(b []byte) int64 {
	v := binary.LittleEndian.Uint64(b)
	n := int64(v & (1<<63 - 1))
	if v>>63 != 0 {
		return -n
	}
	return n
}

// oldReader reads old bytes at any place; it refuses places outside.
type oldReader interface {
	read(p []byte, off int64) error
}

// applyBsdiff makes dst with a BSDIFF40 patch of the size bytes of old from begin on. It is stricter than bspatch: every
// byte that is added to must exist.
func applyBsdiff(dst, patch []byte, old oldReader, begin, size int64) error {
	b, err := newBsdiff(dst, patch)
	if err != nil {
		return err
	}
	b.old, b.begin, b.size = old, begin, size
	for ops := 0; len(b.dst) > 0; ops++ {
		if ops > 2*len(dst) {
			return corrupt("bsdiff: too many controls")
		}
		if err := b.step(); err != nil {
			return err
		}
	}
	return nil
}

// bsdiffRun is a BSDIFF40 patch under way.
type bsdiffRun struct {
	dst                  []byte // what is still to make
	old                  oldReader
	begin, size, from    int64
	control, diff, extra io.Reader
	sum                  []byte
}

func newBsdiff(dst, patch []byte) (*bsdiffRun, error) {
	if len(patch) < bsdiffHead || string(patch[:8]) != "BSDIFF40" {
		return nil, corrupt("not a BSDIFF40 patch")
	}
	nc, nd := signMagnitude(patch[8:]), signMagnitude(patch[16:])
	if signMagnitude(patch[24:]) != int64(len(dst)) {
		return nil, corrupt("bsdiff: size of the target")
	}
	body := patch[bsdiffHead:]
	if nc < 0 || nd < 0 || nc > int64(len(body)) || nd > int64(len(body))-nc {
		return nil, corrupt("bsdiff: stream lengths")
	}
	return &bsdiffRun{
		dst:     dst,
		control: bzip2.NewReader(bytes.NewReader(body[:nc])),
		diff:    bzip2.NewReader(bytes.NewReader(body[nc : nc+nd])),
		extra:   bzip2.NewReader(bytes.NewReader(body[nc+nd:])),
		sum:     make([]byte, 32<<10),
	}, nil
}

// step does one control: bytes to add to old ones, bytes to take, and where to go on in the old ones.
func (b *bsdiffRun) step() error {
	var c [24]byte
	if _, err := io.ReadFull(b.control, c[:]); err != nil {
		return corrupt("bsdiff: control")
	}
	add, plus, seek := signMagnitude(c[:]), signMagnitude(c[8:]), signMagnitude(c[16:])
	left := int64(len(b.dst))
	if add < 0 || plus < 0 || add > left || plus > left-add {
		return corrupt("bsdiff: control out of range")
	}
	if add > 0 {
		if b.from < 0 || b.from > b.size || add > b.size-b.from {
			return corrupt("bsdiff: old bytes out of range")
		}
		if err := b.old.read(b.dst[:add], b.begin+b.from); err != nil {
			return err
		}
		if err := addFrom(b.dst[:add], b.diff, b.sum); err != nil {
			return err
		}
	}
	if _, err := io.ReadFull(b.extra, b.dst[add:add+plus]); err != nil {
		return corrupt("bsdiff: extra")
	}
	b.dst = b.dst[add+plus:]
	if seek > b.size || seek < -b.size {
		return corrupt("bsdiff: seek out of range")
	}
	b.from += add + seek
	return nil
}

// addFrom adds the bytes of r to p, through buf.
func addFrom(p []byte, r io.Reader, buf []byte) error {
	for len(p) > 0 {
		n := min(len(p), len(buf))
		if _, err := io.ReadFull(r, buf[:n]); err != nil {
			return corrupt("bsdiff: differences")
		}
		for i, d := range buf[:n] {
			p[i] += d
		}
		p = p[n:]
	}
	return nil
}
