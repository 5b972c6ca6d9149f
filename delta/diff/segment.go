package diff

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// A Level says how much time an encoder may take.
type Level int

// Levels.
const (
	Fast    Level = iota // byte differences and a fast zstd
	Default              // byte differences and a strong zstd
	Max                  // context mixing, in reading too
)

// Codecs, the first byte of a segment.
const (
	codecSame = 0 // the base as it is
	codecZstd = 1
	codecMix  = 2
)

// DecodeMemory is the most bytes that a Decoder holds besides what it is given.
const DecodeMemory = 52 << 20

// An Encoder writes segments. It may be used by one goroutine at a time.
type Encoder struct {
	level Level
	zstd  *zstd.Encoder
}

// NewEncoder returns an encoder.
func NewEncoder(l Level) (*Encoder, error) {
	speed := zstd.SpeedBestCompression
	if l == Fast {
		speed = zstd.SpeedDefault
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(MaxSegment), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("making an encoder: %w", err)
	}
	return &Encoder{level: l, zstd: z}, nil
}

// Segment appends to dst the coded form of target, the group's bytes from at on, at most MaxSegment of them. base is
// what m.Layout makes for them.
func (e *Encoder) Segment(dst, target, base []byte, at int64, m *Map) []byte {
	if string(target) == string(base) {
		return append(dst, codecSame)
	}
	p := newPredictor(m, base, at)
	rules := p.choose(target)
	if e.level == Max {
		dst = append(dst, codecMix)
		dst = appendPart(dst, writeRules(rules))
		x := newMixed(newWriter(dst), p, make([]byte, len(target)), target, rules)
		x.run()
		return x.c.finish()
	}
	dst = append(dst, codecZstd)
	dst = appendPart(dst, writeRules(rules))
	gaps, diffs, extra := split(target, p)
	for _, b := range [][]byte{gaps, diffs, extra} {
		dst = e.pack(dst, b)
	}
	return dst
}

func appendPart(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// pack appends a stream: its length, and the length of its zstd frame, or 0 if it is stored as it is, and that.
func (e *Encoder) pack(dst, b []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	if z := e.zstd.EncodeAll(b, nil); len(z) < len(b) {
		return appendPart(dst, z)
	}
	return append(append(dst, 0), b...)
}

// A Decoder reads segments. It may be used by one goroutine at a time. Its memory serves for the next segment too.
type Decoder struct {
	zstd    *zstd.Decoder
	p       predictor
	out     []byte
	streams [3][]byte
}

// NewDecoder returns a decoder.
func NewDecoder() (*Decoder, error) {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxStream), zstd.WithDecoderMaxWindow(2*MaxSegment))
	if err != nil {
		return nil, fmt.Errorf("making a decoder: %w", err)
	}
	return &Decoder{zstd: z}, nil
}

// Segment fills dst, the group's bytes from at on, from enc, what an encoder made of them. base is what m.Layout makes for
// them, as long as dst, at most MaxSegment. Where enc is not what an encoder made, it returns an error or other bytes.
func (d *Decoder) Segment(dst, base []byte, at int64, m *Map, enc []byte) error {
	if len(dst) != len(base) || len(dst) > MaxSegment || at < 0 || at > maxAddr {
		return fmt.Errorf("segment of %d bytes, base of %d, at %d: outside the limits", len(dst), len(base), at)
	}
	if len(enc) == 0 {
		return corrupt("empty segment")
	}
	switch enc[0] {
	case codecSame:
		if len(enc) != 1 {
			return corrupt("bytes left over")
		}
		copy(dst, base)
		return nil
	case codecZstd:
		d.p.begin(m, base, dst, at)
		defer d.p.release()
		return d.gaps(dst, enc[1:])
	case codecMix:
		if cap(d.out) < len(dst) {
			d.out = make([]byte, len(dst))
		}
		d.p.begin(m, base, d.out[:len(dst)], at)
		defer d.p.release()
		return d.mixed(dst, enc[1:])
	}
	return corrupt("unknown codec")
}

// foretell reads the rules and follows them.
func (p *predictor) foretell(enc *[]byte) ([]rule, error) {
	b, err := takePart(enc)
	if err != nil {
		return nil, err
	}
	rules, err := readRules(b, (len(p.base)+page-1)/page)
	if err == nil {
		p.follow(rules)
	}
	return rules, err
}

func (d *Decoder) mixed(dst, enc []byte) error {
	rules, err := d.p.foretell(&enc)
	if err != nil {
		return err
	}
	if x := newMixed(newReader(enc), &d.p, dst, dst, rules); !x.run() {
		return corrupt("segment runs out")
	}
	return nil
}

func (d *Decoder) gaps(dst, enc []byte) error {
	if _, err := d.p.foretell(&enc); err != nil {
		return err
	}
	var streams [3][]byte
	for i, limit := range []int{2*len(dst) + 16, len(dst), len(dst)} {
		var err error
		if streams[i], err = d.unpack(i, &enc, limit); err != nil {
			return err
		}
	}
	if len(enc) != 0 {
		return corrupt("bytes left over")
	}
	return join(&d.p, streams[0], streams[1], streams[2])
}

// maxStream bounds the decoded size of a stream.
const maxStream = 2*MaxSegment + 16

// unpack reads what pack appended, of at most limit bytes, into the memory of stream i or where it is.
func (d *Decoder) unpack(i int, enc *[]byte, limit int) ([]byte, error) {
	n, err := takeNumber(enc, limit)
	if err != nil {
		return nil, err
	}
	z, err := takeNumber(enc, len(*enc))
	if err != nil {
		return nil, err
	}
	stored := z == 0
	if stored {
		z = n
	}
	if z > len(*enc) {
		return nil, corrupt("stream runs out")
	}
	b := (*enc)[:z]
	*enc = (*enc)[z:]
	if stored {
		return b, nil
	}
	if cap(d.streams[i]) < n {
		d.streams[i] = make([]byte, 0, n)
	}
	out, err := d.zstd.DecodeAll(b, d.streams[i][:0])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if len(out) != n {
		return nil, corrupt("stream of another length")
	}
	return out, nil
}

// takeNumber reads a uvarint of at most limit.
func takeNumber(b *[]byte, limit int) (int, error) {
	v, k := binary.Uvarint(*b)
	if k <= 0 || v > uint64(limit) {
		return 0, corrupt("number too large")
	}
	*b = (*b)[k:]
	return int(v), nil
}

// takePart reads what appendPart appended.
func takePart(b *[]byte) ([]byte, error) {
	n, err := takeNumber(b, len(*b))
	if err != nil {
		return nil, err
	}
	if n > len(*b) {
		return nil, corrupt("part runs out")
	}
	out := (*b)[:n]
	*b = (*b)[n:]
	return out, nil
}
