package recipe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// famZstd is the family of the zstd models: the encoder of klauspost/compress as go.mod pins it, one stream per frame, with
// checksum and default window. A test holds its output fast; if a new version changes that, these models must keep the old
// encoder or go, and the new one gets new numbers.
const famZstd Model = 1000

// maxZstdWindow is the largest window of a frame that is unwrapped.
const maxZstdWindow = 128 << 20

// zstdLevels are the levels, the most common first.
var zstdLevels = []zstd.EncoderLevel{zstd.SpeedDefault, zstd.SpeedFastest, zstd.SpeedBetterCompression, zstd.SpeedBestCompression}

func (m Model) zstdLevel() zstd.EncoderLevel {
	if m > famZstd && m <= famZstd+Model(zstd.SpeedBestCompression) {
		return zstd.EncoderLevel(m - famZstd)
	}
	return 0
}

// Memory is the most bytes that a Remaker of the model holds, besides the plain bytes and parts it is given.
func (m Model) Memory() int64 {
	switch m.zstdLevel() {
	case 0:
		return 16 << 20
	case zstd.SpeedBestCompression:
		return 192 << 20
	}
	return 96 << 20
}

func newDecoder(src io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
}

func unzstd(dst io.Writer, src io.Reader) error {
	d, err := newDecoder(src)
	if err != nil {
		return err
	}
	defer d.Close()
	_, err = d.WriteTo(dst)
	return err
}

func newEncoder(level zstd.EncoderLevel, w io.Writer) (*zstd.Encoder, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1))
}

// zstdFrame is a frame and where it is in the file. plain is negative for one to skip.
type zstdFrame struct {
	at, size int64
	plain    int64
}

// zstdFrames lists the frames of a file.
func zstdFrames(ctx context.Context, src Source) ([]zstdFrame, error) {
	d, err := newDecoder(nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var out []zstdFrame
	for at := int64(0); at < src.Size(); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := zstdFrameAt(src, at)
		if err != nil {
			return nil, err
		}
		if f.plain == 0 {
			if err := d.Reset(io.NewSectionReader(src, f.at, f.size)); err != nil {
				return nil, err
			}
			if f.plain, err = d.WriteTo(io.Discard); err != nil {
				return nil, noFrame(nil)
			}
		}
		at += f.size
		if out = append(out, f); at > src.Size() || len(out) > maxMembers {
			return nil, ErrNoRecipe
		}
	}
	return out, nil
}

// zstdFrameAt finds the end of the frame at a place, by RFC 8878, 3.1.
func zstdFrameAt(src Source, at int64) (zstdFrame, error) {
	var h [8]byte
	if n, err := src.ReadAt(h[:], at); n < len(h) {
		return zstdFrame{}, noFrame(err)
	}
	magic := binary.LittleEndian.Uint32(h[:])
	if magic&^15 == 0x184d2a50 {
		return zstdFrame{at, 8 + int64(binary.LittleEndian.Uint32(h[4:])), -1}, nil
	}
	if magic != 0xfd2fb528 {
		return zstdFrame{}, ErrNoRecipe
	}
	d := h[4]
	end := at + 5 + [4]int64{0, 1, 2, 4}[d&3] + [4]int64{0, 2, 4, 8}[d>>6]
	if d&0x20 == 0 {
		end++ // window descriptor
	} else if d>>6 == 0 {
		end++ // content size of one byte
	}
	for last := false; !last; {
		var b [3]byte
		if n, err := src.ReadAt(b[:], end); n < len(b) {
			return zstdFrame{}, noFrame(err)
		}
		v := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16
		last = v&1 != 0
		end += 3 + v>>3
		if v>>1&3 == 1 {
			end += 1 - v>>3 // one byte, repeated
		}
	}
	if d&4 != 0 {
		end += 4
	}
	return zstdFrame{at, end - at, 0}, nil
}

func noFrame(err error) error {
	if err == nil || err == io.EOF {
		return ErrNoRecipe
	}
	return err
}

// errDiffers stops an encoder that does not write what the file has.
var errDiffers = errors.New("differs")

// comparer is a writer that wants the bytes of src from at on.
type comparer struct {
	src Source
	at  int64
	buf []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	c.buf = append(c.buf[:0], p...)
	if n, err := c.src.ReadAt(c.buf, c.at); n < len(p) && err != io.EOF {
		return 0, err
	} else if n < len(p) || !bytes.Equal(c.buf, p) {
		return 0, errDiffers
	}
	c.at += int64(len(p))
	return len(p), nil
}

// zstdShare is the share of a zstd file that its frames to skip may take, as its divisor.
const zstdShare = 33

func recordZstd(ctx context.Context, src Source, plain *io.SectionReader, emit func(n int, part []byte) error) (Model, error) {
	frames, err := zstdFrames(ctx, src)
	if err != nil {
		return 0, err
	}
	total, cost := int64(0), int64(0)
	for _, f := range frames {
		if f.plain < 0 {
			cost += f.size
		} else {
			total += f.plain
		}
	}
	if total != plain.Size() {
		return 0, corrupt("%d plain bytes given, the file has %d", plain.Size(), total)
	}
	if cost > src.Size()/zstdShare+costFree {
		return 0, ErrNoRecipe
	}
	for _, level := range zstdLevels {
		if err = writesFrames(ctx, level, src, plain, frames); err == nil {
			return famZstd + Model(level), partsOfFrames(src, frames, emit)
		}
		if !errors.Is(err, errDiffers) {
			return 0, err
		}
	}
	return 0, ErrNoRecipe
}

// writesFrames checks that an encoder writes the frames. It returns errDiffers if not.
func writesFrames(ctx context.Context, level zstd.EncoderLevel, src Source, plain *io.SectionReader, frames []zstdFrame) error {
	enc, err := newEncoder(level, nil)
	if err != nil {
		return err
	}
	at := int64(0)
	buf := make([]byte, 256<<10)
	for _, f := range frames {
		if f.plain < 0 {
			continue
		}
		c := &comparer{src: src, at: f.at}
		enc.Reset(c)
		in := &contextReader{ctx: ctx, r: io.NewSectionReader(plain, at, f.plain)}
		if _, err := io.CopyBuffer(struct{ io.Writer }{enc}, struct{ io.Reader }{in}, buf); err != nil {
			return err
		}
		if err := enc.Close(); err != nil {
			return err
		}
		if c.at != f.at+f.size {
			return errDiffers
		}
		at += f.plain
	}
	return nil
}
