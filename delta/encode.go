package delta

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// maxOps is how many copies a segment may have.
const maxOps = 1 << 20

// packer turns plain bytes into segments.
type packer struct {
	enc   *zstd.Encoder
	fast  *zstd.Encoder
	old   []byte // the joined bases
	ix    *index // nil without bases
	shift int
	used  map[string]bool // words for Header.Codec
	same  int64           // bytes that came from the bases
}

func newPacker(old []byte, level zstd.EncoderLevel) (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(maxPart), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	fast, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	p := &packer{enc: enc, fast: fast, old: old, used: map[string]bool{}}
	if len(old) >= anchor {
		p.ix = newIndex(old)
	}
	return p, err
}

// segment codes plain, which begins at begin in the target's plain bytes.
func (k *packer) segment(plain, recipe []byte, begin, total int64) segment {
	var ops []op
	if k.ix != nil {
		ops = k.ix.match(plain, k.shift)
	}
	if len(ops) > maxOps {
		ops = nil
	}
	covered := coverage(ops)
	diff := uint8(diffGaps)
	if len(plain) > 0 {
		ops, diff = k.choose(plain, ops, covered, begin, total)
	}
	s := k.copies(plain, ops, diff, begin, k.enc)
	if diff != diffGaps || len(ops) > 0 {
		if alone := k.copies(plain, nil, diffGaps, begin, k.enc); s.size() > alone.size() {
			s, ops = alone, nil
		}
	}
	if n := len(ops); n > 0 {
		k.shift = int(ops[n-1].old) - ops[n-1].at + len(plain)
		k.used["match"] = true
	}
	k.same += int64(coverage(ops))
	s.streams[strRecipe] = k.best(recipe, k.enc, methodZstd)
	return s
}

func (s *segment) size() int {
	n := 0
	for _, t := range s.streams {
		n += len(t.enc)
	}
	return n
}

func coverage(ops []op) int {
	n := 0
	for _, o := range ops {
		n += o.n
	}
	return n
}

// choose decides between the copies found and straight alignments, and how to write differences, by trying each on
// a sample. It looks further only where the found copies leave much to say.
func (k *packer) choose(plain []byte, ops []op, covered int, begin, total int64) ([]op, uint8) {
	if k.ix == nil || k.dense(plain, ops) < len(plain)/10 && covered > len(plain)*9/10 {
		return ops, diffGaps
	}
	lo := len(plain) / 2
	hi := min(lo+sampleDiff, len(plain))
	bestOps, bestDiff := ops, uint8(diffGaps)
	best := k.trial(plain, ops, diffGaps, begin, lo, hi)
	shifts := []int64{0, int64(len(k.old)) - total, int64(k.shift) - begin}
	options := [][]op{ops}
	for i, s := range shifts {
		if i == 0 || s != shifts[0] {
			options = append(options, straight(begin+s, len(plain), int64(len(k.old))))
		}
	}
	for _, o := range options {
		for diff := uint8(diffBytes); diff <= diffMax && len(o) > 0; diff++ {
			if n := k.trial(plain, o, diff, begin, lo, hi); n < best {
				best, bestOps, bestDiff = n, o, diff
			}
		}
	}
	return bestOps, bestDiff
}

const sampleDiff = 256 << 10

// dense counts the bytes that copies do not make, and the copied ones that differ.
func (k *packer) dense(plain []byte, ops []op) int {
	n := len(plain)
	for _, o := range ops {
		for i, v := range k.old[o.old : o.old+int64(o.n)] {
			if v == plain[o.at+i] {
				n--
			}
		}
	}
	return n
}

// straight is one copy of n bytes from old on, as far as the bases reach.
func straight(old int64, n int, size int64) []op {
	at := 0
	if old < 0 {
		at = int(min(-old, int64(n)))
	}
	n = int(min(int64(n), size-old)) - at
	if n <= 0 {
		return nil
	}
	return []op{{at, n, old + int64(at)}}
}

// trial returns the size of plain[lo:hi] coded one way, with a fast entropy stage.
func (k *packer) trial(plain []byte, ops []op, diff uint8, begin int64, lo, hi int) int {
	var cut []op
	for _, o := range ops {
		a, b := max(o.at, lo), min(o.at+o.n, hi)
		if a < b {
			cut = append(cut, op{a - lo, b - a, o.old + int64(a-o.at)})
		}
	}
	s := k.copies(plain[lo:hi], cut, diff, begin+int64(lo), k.fast)
	return s.size()
}

// copies codes plain with the given copies.
func (k *packer) copies(plain []byte, ops []op, diff uint8, begin int64, enc *zstd.Encoder) segment {
	s := segment{kind: segCopies, diff: diff, plain: uint32(len(plain))}
	base := make([]byte, len(plain))
	var control, extra []byte
	at, next := 0, int64(0)
	for _, o := range ops {
		control = binary.AppendUvarint(control, uint64(o.at-at))
		control = binary.AppendUvarint(control, uint64(o.n))
		control = binary.AppendVarint(control, o.old-next)
		extra = append(extra, plain[at:o.at]...)
		copy(base[o.at:o.at+o.n], k.old[o.old:])
		at, next = o.at+o.n, o.old+int64(o.n)
	}
	extra = append(extra, plain[at:]...)
	s.streams[strControl] = k.best(control, enc, methodZstd)
	s.streams[strExtra] = k.best(extra, enc, methodZstd, methodPlanes2, methodPlanes4)
	switch diff {
	case diffGaps:
		gaps, diffs := encodeGaps(plain, base, ops)
		s.streams[strGaps] = k.best(gaps, enc, methodZstd)
		s.streams[strDiffs] = k.best(diffs, enc, methodZstd)
	case diffBytes:
		var d []byte
		for _, o := range ops {
			for i := o.at; i < o.at+o.n; i++ {
				d = append(d, plain[i]-base[i])
			}
		}
		s.streams[strDiffs] = k.best(d, enc, methodZstd)
	default:
		e := elementOf(diff)
		s.streams[strDiffs] = k.pieces(e.encodeElements(plain, base, ops, begin), int(e.width), enc)
	}
	return s
}

// best writes a stream by the method that makes it smallest. Planes are tried on a sample first.
func (k *packer) best(b []byte, enc *zstd.Encoder, methods ...uint8) stream {
	s := stream{raw: uint32(len(b))}
	if len(b) == 0 {
		return s
	}
	method := methods[0]
	if len(methods) > 1 {
		lo := len(b) / 2 &^ 3
		cut := b[lo:min(lo+sampleDiff, len(b))]
		least := len(k.encode(cut, methods[0], k.fast))
		for _, m := range methods[1:] {
			if n := len(k.encode(cut, m, k.fast)); n < least-least/64 {
				least, method = n, m
			}
		}
	}
	s.method, s.enc = method, k.encode(b, method, enc)
	if method != methodZstd {
		k.used["planes"] = true
	}
	if len(s.enc) >= len(b) {
		s.method, s.enc = methodStored, b
	}
	return s
}

func (k *packer) encode(b []byte, method uint8, enc *zstd.Encoder) []byte {
	if method == methodZstd {
		return enc.EncodeAll(b, nil)
	}
	w := 2*int(method-methodPlanes2) + 2
	p := make([]byte, len(b))
	splitPlanes(p, b, w)
	return frames(p, w, enc)
}

// frames compresses b in w frames of about the same size, so that planes do not share a table of symbols.
func frames(b []byte, w int, enc *zstd.Encoder) []byte {
	var out []byte
	for step := len(b) / w; w > 1; w-- {
		out = enc.EncodeAll(b[:step], out)
		b = b[step:]
	}
	return enc.EncodeAll(b, out)
}

// pieces writes a stream of w planes.
func (k *packer) pieces(b []byte, w int, enc *zstd.Encoder) stream {
	s := stream{method: methodZstd, raw: uint32(len(b)), enc: frames(b, w, enc)}
	if len(s.enc) >= len(b) {
		s.method, s.enc = methodStored, b
	}
	return s
}
