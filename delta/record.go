package delta

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/wordcab/wcbundle/delta/tensor"
)

// Kinds of records. doc.go has their fields.
const (
	recMap     = 1 // the map of a group of segments
	recDiff    = 2 // a segment of the group, by package diff
	recTensor  = 3 // a segment of elements, by package tensor
	recZstd    = 4 // a segment by itself
	recRaw     = 5 // a segment as it is
	recBsdiff  = 6 // a segment as a BSDIFF40 patch
	recCopy    = 7 // a stretch of the bases, of any length
	recPart    = 8 // a part of the recipe
	recNames   = 9 // what the plain bytes are, for people
	recordHead = 5 // kind, length
	recordTail = 4 // CRC-32C of head and body
)

// A record is one parsed record. Which fields count depends on the kind.
type record struct {
	kind   uint8
	plain  int64       // plain bytes it makes; for a map those of the group, for a part those it covers
	old    int64       // place in the bases
	span   int64       // bytes of the bases a BSDIFF40 patch may read
	typ    tensor.Type // of a tensor segment
	raw    uint32      // decoded size of a part or of the names
	copies int         // of a map, at make time
	body   []byte
}

// marshal writes a record with its head and checksum.
func (r *record) marshal() []byte {
	b := append(make([]byte, 0, len(r.body)+64), r.kind, 0, 0, 0, 0)
	switch r.kind {
	case recNames:
		b = binary.AppendUvarint(b, uint64(r.raw))
	case recPart:
		b = binary.AppendUvarint(b, uint64(r.plain))
		b = binary.AppendUvarint(b, uint64(r.raw))
	case recTensor:
		b = binary.AppendUvarint(b, uint64(r.plain))
		b = binary.AppendUvarint(b, uint64(r.typ))
		b = binary.AppendUvarint(b, uint64(r.old+1))
	case recBsdiff:
		b = binary.AppendUvarint(b, uint64(r.plain))
		b = binary.AppendUvarint(b, uint64(r.old))
		b = binary.AppendUvarint(b, uint64(r.span))
	case recCopy:
		b = binary.AppendUvarint(b, uint64(r.plain))
		b = binary.AppendUvarint(b, uint64(r.old))
	default:
		b = binary.AppendUvarint(b, uint64(r.plain))
	}
	b = append(b, r.body...)
	binary.LittleEndian.PutUint32(b[1:], uint32(len(b)-recordHead))
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// recordReader reads records from a delta, behind its header.
type recordReader struct {
	in  io.Reader
	max uint32
}

// next reads a record into buf, which grows if need be. io.EOF means that the delta ends before it.
func (r *recordReader) next(buf []byte) (record, []byte, error) {
	var head [recordHead]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		if err == io.EOF {
			return record{}, buf, err
		}
		return record{}, buf, cut(err)
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n > r.max {
		return record{}, buf, corrupt("record larger than the header says")
	}
	buf, err := fill(r.in, buf, int(n)+recordTail)
	if err != nil {
		return record{}, buf, err
	}
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli()), castagnoli(), buf[:n])
	if sum != binary.LittleEndian.Uint32(buf[n:]) {
		return record{}, buf, corrupt("record checksum")
	}
	rec, err := parseRecord(head[0], buf[:n])
	return rec, buf, err
}

// fill reads n bytes into buf, in steps, so that memory is taken only for bytes that have come.
func fill(in io.Reader, buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		have := len(buf)
		k := min(n-have, 1<<20)
		if cap(buf) < have+k {
			buf = append(make([]byte, 0, min(n, max(2*have, 1<<20))), buf...)
		}
		buf = buf[:have+k]
		if _, err := io.ReadFull(in, buf[have:]); err != nil {
			return buf, cut(err)
		}
	}
	return buf, nil
}

func cut(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return corrupt("cut short")
	}
	return err
}

// maxSize is more than any size or place in a delta.
const maxSize = 1 << 62

func parseRecord(kind uint8, b []byte) (record, error) {
	r := record{kind: kind}
	n := numbers{b: b}
	if kind != recNames {
		r.plain = n.next(maxSize)
	}
	switch kind {
	case recMap, recDiff, recZstd, recRaw:
	case recTensor:
		r.typ = tensor.Type(n.next(0xff))
		r.old = n.next(maxSize) - 1
	case recBsdiff:
		r.old = n.next(maxSize)
		r.span = n.next(maxSize)
	case recCopy:
		r.old = n.next(maxSize)
		n.bad = n.bad || len(n.b) != 0
	case recPart, recNames:
		r.raw = uint32(n.next(1<<32 - 1))
	default:
		return r, corrupt("unknown record kind %d", kind)
	}
	if n.bad {
		return r, corrupt("record too short or out of range")
	}
	r.body = n.b
	return r, nil
}

// numbers reads uvarints off a slice; once one is missing or too large, bad is set and all are zero.
type numbers struct {
	b   []byte
	bad bool
}

func (n *numbers) next(limit uint64) int64 {
	v, k := binary.Uvarint(n.b)
	if n.bad || k <= 0 || v > limit {
		n.bad = true
		return 0
	}
	n.b = n.b[k:]
	return int64(v)
}
