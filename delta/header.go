package delta

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"

	"github.com/wordcab/wcbundle/delta/diff"
	"github.com/wordcab/wcbundle/delta/match"
	"github.com/wordcab/wcbundle/delta/recipe"
	"github.com/wordcab/wcbundle/delta/tensor"
)

const (
	magic     = "WCDELTA2"
	maxHeader = 64 << 10
	maxBases  = 1024
)

// Limits of the format.
const (
	maxPlain  = diff.MaxSegment   // plain bytes of a segment
	maxRecord = maxPlain + 64<<10 // delta bytes of a record
)

// Decoders that a delta's records need, see Header.uses.
const (
	usesDiff   = 1
	usesTensor = 2
	usesZstd   = 4
	usesAll    = usesDiff | usesTensor | usesZstd
)

// deflateRatio is more than deflate can ever gain, zstdRatio more than a sane zstd layer does.
const (
	deflateRatio = 1100
	zstdRatio    = 1 << 17
)

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// marshal writes the header. Its inverse is unmarshal.
func (h *Header) marshal() []byte {
	b := binary.LittleEndian.AppendUint16([]byte{h.uses, byte(h.form)}, uint16(h.model))
	b = append(b, byte(len(h.Codec)))
	b = append(b, h.Codec...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.TargetSize))
	b = append(b, h.TargetSHA256[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.PlainSize))
	for _, v := range []uint32{h.maxPlain, h.maxRecord, h.maxPart, h.maxCopies} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h.Bases)))
	for i, base := range h.Bases {
		b = binary.LittleEndian.AppendUint64(b, uint64(base.Size))
		b = append(b, base.SHA256[:]...)
		b = append(b, byte(h.forms[i]))
		b = binary.LittleEndian.AppendUint64(b, uint64(h.plain[i]))
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
	h.uses, h.form, h.model = f.u8(), recipe.Form(f.u8()), recipe.Model(f.u16())
	h.Codec = string(f.take(int(f.u8())))
	h.TargetSize = f.i64()
	copy(h.TargetSHA256[:], f.take(32))
	h.PlainSize = f.i64()
	h.maxPlain, h.maxRecord, h.maxPart, h.maxCopies = f.u32(), f.u32(), f.u32(), f.u32()
	n := int(f.u16())
	if n > maxBases {
		return errors.New("too many bases")
	}
	for range n {
		var id BaseID
		id.Size = f.i64()
		copy(id.SHA256[:], f.take(32))
		h.Bases = append(h.Bases, id)
		h.forms = append(h.forms, recipe.Form(f.u8()))
		h.plain = append(h.plain, f.i64())
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
	ratio := int64(zstdRatio)
	if h.form == recipe.Gzip {
		ratio = deflateRatio
	}
	switch {
	case h.uses > usesAll:
		return errors.New("needs a decoder this program does not have")
	case h.form > recipe.Zstd || (h.form == recipe.None) != (h.model == 0):
		return errors.New("form and recipe disagree")
	case h.TargetSize < 0 || h.PlainSize < 0 || (h.model == 0 && h.PlainSize != h.TargetSize):
		return errors.New("size out of range")
	case h.PlainSize/ratio > h.TargetSize:
		return errors.New("more plain bytes than the target could hold")
	case h.maxPlain > maxPlain || h.maxRecord > maxRecord || h.maxPart > recipe.MaxRecipe || h.maxCopies > match.MaxCopies:
		return errors.New("segments too large")
	case h.model == 0 && h.maxPart != 0:
		return errors.New("recipe without a model")
	}
	return h.checkBases()
}

func (h *Header) checkBases() error {
	var total, scratch int64
	for i, base := range h.Bases {
		if base.Size < 0 || h.plain[i] < 0 || h.forms[i] > recipe.Zstd || (h.forms[i] == recipe.None && h.plain[i] != base.Size) ||
			h.plain[i] > math.MaxInt64/2-total {
			return errors.New("base size out of range")
		}
		if h.forms[i] != recipe.None {
			scratch += h.plain[i]
		}
		total += h.plain[i]
	}
	h.Scratch = scratch
	h.Memory = h.memory(1)
	return nil
}

// copyMemory is what one copy of a map costs a decoder, with its indexes.
const copyMemory = 48

// slack is what a collector leaves lying about beside many short-lived copies.
const slack = 8 << 20

// fixedMemory is the program itself, read-ahead and hashing.
const fixedMemory = 24 << 20

// memory is the most that Apply holds with so many workers: two maps, and for each segment under way its plain bytes and
// its record; for each worker a base segment, a page cache and its decoders; for a recipe the writer's state and parts.
func (h *Header) memory(workers int) int64 {
	m := int64(fixedMemory) + 2*copyMemory*int64(h.maxCopies)
	m += int64(inFlight(workers)) * (int64(h.maxPlain) + int64(h.maxRecord))
	each := int64(h.maxPlain) + cachedPages*pageSize
	if h.uses&usesDiff != 0 {
		each += diff.DecodeMemory
		m += slack
	}
	if h.uses&usesTensor != 0 {
		each += tensor.CoderMemory
	}
	if h.uses&usesZstd != 0 {
		each += int64(h.maxPlain) + 1<<20
	}
	m += int64(workers) * each
	if h.model != 0 {
		m += h.model.Memory() + 3*int64(h.maxPart)
	}
	return m
}

// inFlight is how many segments may be between the reader and the writer.
func inFlight(workers int) int { return workers + 2 }
