package delta

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
)

// A segment is a stretch of plain bytes and how to make them.
type segment struct {
	kind    uint8
	diff    uint8 // how differences are written, see diff.go
	plain   uint32
	streams [numStreams]stream
}

// Kinds of segments.
const (
	segCopies = 0 // copies from the bases with differences, and extra bytes
	segBsdiff = 1 // a BSDIFF40 patch against all bases, in the extra stream
)

// The streams of a segment.
const (
	strControl = iota
	strGaps
	strDiffs
	strExtra
	strRecipe
	numStreams
)

// Methods by which a stream is written.
const (
	methodStored  = 0
	methodZstd    = 1
	methodPlanes2 = 2 // split into 2 byte planes, then zstd
	methodPlanes4 = 3 // split into 4 byte planes, then zstd
)

type stream struct {
	method uint8
	raw    uint32 // decoded size
	enc    []byte
}

func (s *segment) marshal() []byte {
	b := []byte{s.kind, s.diff}
	b = binary.LittleEndian.AppendUint32(b, s.plain)
	for _, t := range s.streams {
		b = append(b, t.method)
		b = binary.LittleEndian.AppendUint32(b, t.raw)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.enc)))
	}
	for _, t := range s.streams {
		b = append(b, t.enc...)
	}
	return b
}

// parseSegment reads a record and checks its lengths against what the header allows; nothing is decoded yet.
func parseSegment(h *Header, b []byte) (segment, error) {
	var s segment
	f := &fields{b: b}
	s.kind, s.diff, s.plain = f.u8(), f.u8(), f.u32()
	var lens [numStreams]uint32
	var raw uint64
	for i := range s.streams {
		s.streams[i].method, s.streams[i].raw, lens[i] = f.u8(), f.u32(), f.u32()
		raw += uint64(s.streams[i].raw)
	}
	if f.short || s.kind > segBsdiff || s.diff > diffMax {
		return s, corrupt("segment record of an unknown kind")
	}
	if s.plain > h.maxPlain || raw > uint64(h.maxStreams) {
		return s, corrupt("segment larger than the header says")
	}
	for i := range s.streams {
		if uint64(lens[i]) > uint64(len(f.b)) {
			return s, corrupt("segment record too short")
		}
		s.streams[i].enc = f.take(int(lens[i]))
	}
	if len(f.b) != 0 {
		return s, corrupt("segment record too long")
	}
	return s, nil
}

// unpacker decodes streams into memory that it keeps for the next segment.
type unpacker struct {
	dec  *zstd.Decoder
	bufs [numStreams][]byte
	temp []byte
	ops  []op
}

func newUnpacker() (*unpacker, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxStreams), zstd.WithDecodeAllCapLimit(true))
	return &unpacker{dec: d}, err
}

// grown returns a slice of n bytes, in buf if it is large enough.
func grown(buf []byte, n int) []byte {
	if cap(buf) < n {
		return make([]byte, n)
	}
	return buf[:n]
}

// stream decodes stream i of s.
func (u *unpacker) stream(s *segment, i int) ([]byte, error) {
	t := &s.streams[i]
	n := int(t.raw)
	if t.method == methodStored {
		if n != len(t.enc) {
			return nil, corrupt("stored stream of the wrong length")
		}
		return t.enc, nil
	}
	if t.method > methodPlanes4 {
		return nil, corrupt("unknown stream method")
	}
	u.bufs[i] = grown(u.bufs[i], n)
	dst := u.bufs[i]
	if t.method != methodZstd {
		u.temp = grown(u.temp, n)
		dst = u.temp
	}
	out, err := u.dec.DecodeAll(t.enc, dst[:0:n])
	if err != nil || len(out) != n {
		return nil, corrupt("stream does not decode to its length")
	}
	if t.method != methodZstd {
		mergePlanes(u.bufs[i], out, 2*int(t.method-methodPlanes2)+2)
	}
	return u.bufs[i], nil
}

// splitPlanes writes byte k of each w-byte element of src to the k-th stretch of dst; what is left over goes last.
func splitPlanes(dst, src []byte, w int) {
	n := len(src) / w
	for k := range w {
		p := dst[k*n : (k+1)*n]
		for i := range p {
			p[i] = src[i*w+k]
		}
	}
	copy(dst[n*w:], src[n*w:])
}

func mergePlanes(dst, src []byte, w int) {
	n := len(dst) / w
	for k := range w {
		for i, v := range src[k*n : (k+1)*n] {
			dst[i*w+k] = v
		}
	}
	copy(dst[n*w:], src[n*w:])
}
