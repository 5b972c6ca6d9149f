package delta

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"io"
)

// bsdiffLimit is the largest sum of bases and target for which Make tries bsdiff, whose memory is eighteen times that.
const bsdiffLimit = 8 << 20

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

// applyBsdiff makes dst with a BSDIFF40 patch. It is stricter than bspatch: every byte that is added to must exist.
func applyBsdiff(dst, patch []byte, old *joined) error {
	if len(patch) < bsdiffHead || string(patch[:8]) != "BSDIFF40" {
		return corrupt("not a BSDIFF40 patch")
	}
	nc, nd := signMagnitude(patch[8:]), signMagnitude(patch[16:])
	if signMagnitude(patch[24:]) != int64(len(dst)) {
		return corrupt("bsdiff: size of the target")
	}
	body := patch[bsdiffHead:]
	if nc < 0 || nd < 0 || nc > int64(len(body)) || nd > int64(len(body))-nc {
		return corrupt("bsdiff: stream lengths")
	}
	control := bzip2.NewReader(bytes.NewReader(body[:nc]))
	diff := bzip2.NewReader(bytes.NewReader(body[nc : nc+nd]))
	extra := bzip2.NewReader(bytes.NewReader(body[nc+nd:]))
	at, from := 0, int64(0)
	sum := make([]byte, 32<<10)
	for ops := 0; at < len(dst); ops++ {
		var c [24]byte
		if _, err := io.ReadFull(control, c[:]); err != nil || ops > 2*len(dst) {
			return corrupt("bsdiff: control")
		}
		add, plus, seek := signMagnitude(c[:]), signMagnitude(c[8:]), signMagnitude(c[16:])
		left := int64(len(dst) - at)
		if add < 0 || plus < 0 || add > left || plus > left-add {
			return corrupt("bsdiff: control out of range")
		}
		if add > 0 {
			if err := old.read(dst[at:at+int(add)], from); err != nil {
				return err
			}
			if err := addFrom(dst[at:at+int(add)], diff, sum); err != nil {
				return err
			}
		}
		at += int(add)
		if _, err := io.ReadFull(extra, dst[at:at+int(plus)]); err != nil {
			return corrupt("bsdiff: extra")
		}
		at += int(plus)
		from += add
		if seek > old.size() || seek < -old.size() {
			return corrupt("bsdiff: seek out of range")
		}
		from += seek
	}
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
