package delta

import (
	"errors"
	"fmt"
	"io"
)

// Base is what a delta starts from, or at make time the target: bytes that can be read at any place.
type Base interface {
	io.ReaderAt
	Size() int64
}

// BaseID names one base of a delta. Apply refuses a base whose size or digest differs.
type BaseID struct {
	Size   int64
	SHA256 [32]byte
}

// Header is what a delta says about itself.
type Header struct {
	Codec        string // how the target was coded, for people: "gzip(zlib-6)+match+zstd"
	TargetSize   int64
	TargetSHA256 [32]byte
	Bases        []BaseID // in the order in which Apply wants them
	Memory       int64    // bytes of memory Apply needs at most; computed from the fields below, never read
	Scratch      int64    // bytes of scratch disk Apply needs at most; computed likewise

	layout     uint8
	model      uint8 // 0: the target is coded as it is; else the model of its gzip recipe
	plainSize  int64 // size of what the segments rebuild; the target's own size unless there is a recipe
	segments   uint32
	maxPlain   uint32 // largest segment, in plain bytes
	maxRecord  uint32 // largest segment record, in delta bytes
	maxStreams uint32 // largest sum of a segment's decoded streams
	gunzip     []int64
}

// MakeOptions tunes Make. The zero value is a good default.
type MakeOptions struct {
	// ScratchDir holds the gunzipped target, gunzipped bases and the delta while it grows, up to the sum of their sizes.
	// Empty means the system's directory for temporary files.
	ScratchDir string
	// Level is the effort of the entropy stage, 1 (fast) to 4 (small). Zero means 4.
	Level int
}

// Limits bounds what Apply may use. The zero value refuses everything.
type Limits struct {
	MaxOutput  int64  // largest target, in bytes; must be above zero
	MaxMemory  int64  // most memory; zero means DefaultMemory
	ScratchDir string // where gunzipped bases go; empty means the system's directory for temporary files
	MaxScratch int64  // most scratch disk; zero means none, so a delta with gzip bases is refused
}

// DefaultMemory is the memory that Apply allows itself when Limits names none. Make writes no delta that needs more.
const DefaultMemory = 256 << 20

// ErrBaseMismatch is returned by Apply when the bases are not those the delta was made from.
var ErrBaseMismatch = errors.New("base does not match the delta")

// ErrTooLarge is returned by Apply when the delta needs more than the limits allow.
var ErrTooLarge = errors.New("delta needs more than the limits allow")

// CorruptError says that a delta is damaged or hostile. Offset counts the delta's bytes read when that was seen.
type CorruptError struct {
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("corrupt delta at byte %d: %s", e.Offset, e.Reason)
}

// errCorrupt marks damage found below the reader that knows the offset; Apply turns it into a *CorruptError.
var errCorrupt = errors.New("corrupt")

func corrupt(format string, a ...any) error {
	return fmt.Errorf("%w: %s", errCorrupt, fmt.Sprintf(format, a...))
}
