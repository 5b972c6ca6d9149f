package delta

import (
	"errors"
	"fmt"
	"io"

	"github.com/wordcab/wcbundle/delta/recipe"
)

// Base is what a delta starts from, or at make time the target: bytes that can be read at any place, by several goroutines
// at once.
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
	Codec        string // how the target was coded, for people: "gzip(zlib-6)+copies+tensor"
	TargetSize   int64
	TargetSHA256 [32]byte
	PlainSize    int64    // bytes that the segments rebuild; the target's own size unless there is a recipe
	Bases        []BaseID // in the order in which Apply wants them
	Memory       int64    // bytes of memory Apply needs with one worker; computed from the fields below, never read
	Scratch      int64    // bytes of scratch disk Apply needs at most; computed likewise

	form      recipe.Form  // of the target, if it has a recipe
	model     recipe.Model // of the target's recipe; zero: the plain bytes are the target
	uses      uint8        // which decoders the records need
	maxPlain  uint32       // largest segment, in plain bytes
	maxRecord uint32       // largest record, in delta bytes
	maxPart   uint32       // largest decoded recipe part
	maxCopies uint32       // most copies of one map
	forms     []recipe.Form
	plain     []int64 // sizes of the bases once unwrapped
}

// A Level says how much work Make puts into a small delta.
type Level uint8

// Levels. The zero value is the default.
const (
	LevelDefault Level = iota // about the size of bsdiff, several times faster
	LevelFast                 // for trying things out
	LevelMax                  // the smallest; coding and decoding executables is slow
)

// ParseLevel reads fast, default or max.
func ParseLevel(s string) (Level, error) {
	for l, name := range levelNames {
		if s == name {
			return Level(l), nil
		}
	}
	return 0, fmt.Errorf("level %q is none of fast, default, max", s)
}

func (l Level) String() string { return levelNames[l] }

var levelNames = [...]string{LevelDefault: "default", LevelFast: "fast", LevelMax: "max"}

// MakeOptions tunes Make. The zero value is a good default.
type MakeOptions struct {
	// ScratchDir holds the unwrapped target, unwrapped bases and the delta while it grows, up to the sum of their sizes.
	// Empty means the system's directory for temporary files.
	ScratchDir string
	Level      Level
	// Parallel is how many segments are coded at once; zero means one.
	Parallel int
	// Window is the most base bytes that are held and searched at once; above it bases are searched window by window. Zero
	// means half of the bases, 64 MiB to MaxWindow. The memory of Make is about 1.5 bytes for each of these, and 256 MiB.
	Window int64
	// Progress is told, now and then, how many of the plain bytes are coded.
	Progress func(done, total int64)
}

// MaxWindow is the size of bases above which Make always searches them window by window.
const MaxWindow = 4<<30 - 1

const leastWindow = 64 << 20

// Limits bounds what Apply may use. The zero value refuses everything.
type Limits struct {
	MaxOutput  int64  // largest target, in bytes; must be above zero
	MaxMemory  int64  // most memory; zero means DefaultMemory
	ScratchDir string // where unwrapped bases go; empty means the system's directory for temporary files
	MaxScratch int64  // most scratch disk; zero means none, so a delta with wrapped bases is refused
	Parallel   int    // segments at once, as far as MaxMemory goes; zero means one
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
