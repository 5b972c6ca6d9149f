package delta

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
)

const (
	magic      = "WCDELTA1"
	maxHeader  = 64 << 10
	maxBases   = 1024
	maxRecord  = 24 << 20 // a segment record
	maxStreams = 24 << 20 // a segment's decoded streams
)

// Layouts of what follows the header.
const (
	layoutSegments = 0 // segment records, each compressed by itself
	layoutFrame    = 1 // one zstd frame around the segments' plain bytes and recipes
)

// deflateRatio is more than deflate can ever gain.
const deflateRatio = 1100

// frameWindow is the window of the one frame of layoutFrame.
const frameWindow = 32 << 20

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// marshal writes the header. Its inverse is unmarshal.
func (h *Header) marshal() []byte {
	b := []byte{h.layout, h.model, byte(len(h.Codec))}
	b = append(b, h.Codec...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.TargetSize))
	b = append(b, h.TargetSHA256[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.plainSize))
	for _, v := range []uint32{h.segments, h.maxPlain, h.maxRecord, h.maxStreams} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Bases)))
	for i, base := range h.Bases {
		b = binary.LittleEndian.AppendUint64(b, uint64(base.Size))
		b = append(b, base.SHA256[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(h.gunzip[i])) // all ones: used as it is
	}
	out := binary.LittleEndian.AppendUint32([]byte(magic), uint32(len(b)))
	out = append(out, b...)
	return binary.LittleEndian.AppendUint32(out, crc32.Checksum(out, castagnoli()))
}

// ReadHeader reads the header of a delta, and not a byte more. It takes no more memory than 64 KiB whatever the header
// claims. Errors are *CorruptError, or those of r.
func ReadHeader(r io.Reader) (Header, error) {
	var h Header
	head := make([]byte, len(magic)+4)
	if _, err := io.ReadFull(r, head); err != nil {
		return h, truncated(err, 0)
	}
	n := binary.LittleEndian.Uint32(head[len(magic):])
	if string(head[:len(magic)]) != magic {
		return h, &CorruptError{0, "not a delta, or of a version this program does not know"}
	}
	if n > maxHeader {
		return h, &CorruptError{int64(len(magic)), "header too large"}
	}
	body := make([]byte, n+4)
	if _, err := io.ReadFull(r, body); err != nil {
		return h, truncated(err, int64(len(head)))
	}
	sum := crc32.Update(crc32.Checksum(head, castagnoli()), castagnoli(), body[:n])
	if sum != binary.LittleEndian.Uint32(body[n:]) {
		return h, &CorruptError{int64(len(head)), "header checksum"}
	}
	if err := h.unmarshal(body[:n]); err != nil {
		return Header{}, &CorruptError{int64(len(head)), err.Error()}
	}
	return h, nil
}

func truncated(err error, off int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &CorruptError{off, "cut short"}
	}
	return err
}

// fields takes fixed-width fields off a slice; once it is too short all are zero and short is set.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n int) []byte {
	if len(f.b) < n {
		f.b, f.short = nil, true
		return make([]byte, n)
	}
	p := f.b[:n]
	f.b = f.b[n:]
	return p
}

func (f *fields) u8() uint8   { return f.take(1)[0] }
func (f *fields) u16() uint16 { return binary.LittleEndian.Uint16(f.take(2)) }
func (f *fields) u32() uint32 { return binary.LittleEndian.Uint32(f.take(4)) }
func (f *fields) i64() int64  { return int64(binary.LittleEndian.Uint64(f.take(8))) }

func (h *Header) unmarshal(b []byte) error {
	f := &fields{b: b}
	h.layout, h.model = f.u8(), f.u8()
	h.Codec = string(f.take(int(f.u8())))
	h.TargetSize = f.i64()
	copy(h.TargetSHA256[:], f.take(32))
	h.plainSize = f.i64()
	h.segments, h.maxPlain, h.maxRecord, h.maxStreams = f.u32(), f.u32(), f.u32(), f.u32()
	n := int(f.u16())
	if n > maxBases {
		return errors.New("too many bases")
	}
	for range n {
		var id BaseID
		id.Size = f.i64()
		copy(id.SHA256[:], f.take(32))
		h.Bases = append(h.Bases, id)
		h.gunzip = append(h.gunzip, f.i64())
	}
	if f.short || len(f.b) != 0 {
		return errors.New("header of the wrong length")
	}
	return h.check()
}

// check says whether the fields make sense together, and computes Memory and Scratch.
func (h *Header) check() error {
	for _, c := range []byte(h.Codec) {
		if c < 0x21 || c > 0x7e {
			return errors.New("codec is not plain text")
		}
	}
	switch {
	case h.layout > layoutFrame:
		return errors.New("unknown layout")
	case h.model != 0 && modelByID(h.model) == nil:
		return errors.New("unknown recipe model")
	case h.TargetSize < 0 || h.plainSize < 0 || (h.model == 0 && h.plainSize != h.TargetSize):
		return errors.New("size out of range")
	case h.plainSize/deflateRatio > h.TargetSize:
		return errors.New("more plain bytes than deflate could hold")
	case h.maxPlain > maxPart || h.maxRecord > maxRecord || h.maxStreams > maxStreams:
		return errors.New("segments too large")
	}
	var total, scratch int64
	for i, base := range h.Bases {
		n := base.Size
		if g := h.gunzip[i]; g != -1 {
			n = g
			scratch += max(g, 0)
		}
		if base.Size < 0 || n < 0 || n > math.MaxInt64/2-total {
			return errors.New("base size out of range")
		}
		total += n
	}
	h.Scratch = scratch
	h.Memory = h.memory()
	return nil
}

// memory is the most that Apply holds at once: tables, caches and the copies of a segment; the segment, its record, its
// streams and room to turn them; for a frame its window; for a recipe the window on the plain bytes, the parts that wait
// and the tokens of a block.
func (h *Header) memory() int64 {
	m := int64(40<<20) + int64(h.maxPlain) + int64(h.maxRecord) + 2*int64(h.maxStreams)
	if h.layout == layoutFrame {
		m += 2*frameWindow + 16<<20
	}
	if h.model != 0 {
		m += 2*int64(h.maxPlain) + 2*int64(h.maxStreams) + 4*maxBlockTokens + lookahead + 2*history
	}
	return m
}
