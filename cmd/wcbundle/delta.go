package main

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/delta"
)

func deltaCommands() []*cli.Command {
	out := func(usage string) cli.Flag {
		return &cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: usage, Required: true}
	}
	jobs := &cli.IntFlag{Name: "jobs", Aliases: []string{"j"}, Value: runtime.NumCPU(), Usage: "segments at once"}
	return []*cli.Command{{
		Name: "delta", Usage: "make, apply and explain the delta between two files", Category: "build side",
		Description: "The engine behind patch and load, for two plain files. Nothing here is signed: a site takes signed patches only.\n\n" +
			"Example:\n   wcbundle delta make -o model.delta model-1.safetensors model-2.safetensors",
		Subcommands: []*cli.Command{
			{
				Name: "make", Usage: "write the delta that turns BASE into TARGET", ArgsUsage: "BASE TARGET",
				Description: "Example:\n   wcbundle delta make --level max -o layer.delta old-layer.tar.gz new-layer.tar.gz",
				Flags: []cli.Flag{
					out("the delta to write"), levelFlag, jobs, memoryFlag, scratchFlag,
					&cli.StringSliceFlag{Name: "base", Usage: "one more base file; may be repeated, and apply wants them in the same order"},
				},
				Action: deltaMake,
			},
			{
				Name: "apply", Usage: "rebuild the target of a delta from its base", ArgsUsage: "BASE DELTA",
				Description: "Refuses a base that is not the one the delta was made from; the output appears under its name only\n" +
					"when its digest is right.\n\nExample:\n   wcbundle delta apply -o new-layer.tar.gz old-layer.tar.gz layer.delta",
				Flags: []cli.Flag{
					out("the file to write"), jobs, memoryFlag, scratchFlag,
					&cli.StringSliceFlag{Name: "base", Usage: "one more base file, in the order of make"},
				},
				Action: deltaApply,
			},
			{
				Name: "explain", Usage: "say what a delta is made of", ArgsUsage: "DELTA",
				Description: "Shows the codec and the bytes of each member and tensor. Decodes nothing.\n\n" +
					"Example:\n   wcbundle delta explain layer.delta",
				Flags:  []cli.Flag{outputFlag},
				Action: deltaExplain,
			},
		},
	}}
}

var levelFlag = &cli.StringFlag{Name: "level", Value: "default", Usage: "fast, default, or max for the smallest delta"}

var memoryFlag = &cli.StringFlag{Name: "memory", Usage: "the most memory to use, as in 512MiB"}

// openBase opens a file that a delta starts from.
func openBases(paths []string) (bases []delta.Base, done func(), err error) {
	var files []*os.File
	done = func() {
		for _, f := range files {
			f.Close()
		}
	}
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			done()
			return nil, nil, err
		}
		files = append(files, f)
		b, err := fileBase(f)
		if err != nil {
			done()
			return nil, nil, err
		}
		bases = append(bases, b)
	}
	return bases, done, nil
}

func fileBase(f *os.File) (delta.Base, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", f.Name())
	}
	return io.NewSectionReader(f, 0, st.Size()), nil
}

// writeBytes writes a small file as a whole.
func writeBytes(path string, b []byte) error {
	return writeWhole(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}

// writeWhole gives write a temporary file beside path and renames it when all is well and on disk.
func writeWhole(path string, write func(w io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".wcbundle-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<20)
	if err = write(w); err != nil {
		return err
	}
	if err = w.Flush(); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// frugal trades a little time for memory: deltas hold large buffers for long, and garbage beside them would double the peak.
// Making one holds more, and for longer, than applying one.
func frugal(percent int) { debug.SetGCPercent(percent) }

const (
	frugalMake  = 15
	frugalApply = 40
)

func deltaMake(c *cli.Context) error {
	frugal(frugalMake)
	bases, done, err := openBases(append([]string{c.Args().Get(0)}, c.StringSlice("base")...))
	if err != nil {
		return err
	}
	defer done()
	target, closeTarget, err := openBases([]string{c.Args().Get(1)})
	if err != nil {
		return err
	}
	defer closeTarget()
	opt, err := makeOptions(c)
	if err != nil {
		return err
	}
	var h delta.Header
	err = writeWhole(c.String("out"), func(w io.Writer) error {
		h, err = delta.Make(c.Context, w, bases, target[0], opt)
		return err
	})
	if err != nil {
		return err
	}
	st, err := os.Stat(c.String("out"))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "%s: %s, %.2f %% of %s; %s\n", c.String("out"), size(st.Size()),
		100*float64(st.Size())/float64(max(h.TargetSize, 1)), size(h.TargetSize), h.Codec)
	fmt.Fprintf(c.App.Writer, "it was applied and compared; applying it needs at most %s of memory and %s of scratch\n", size(h.Memory), size(h.Scratch))
	return nil
}

// makeOptions reads the flags. Of --memory, 256 MiB are for the work and the rest for bases, 1.5 bytes for each of theirs.
func makeOptions(c *cli.Context) (delta.MakeOptions, error) {
	opt := delta.MakeOptions{ScratchDir: c.String("scratch"), Parallel: c.Int("jobs")}
	level, err := delta.ParseLevel(c.String("level"))
	if err != nil {
		return opt, usageError{err.Error()}
	}
	opt.Level = level
	memory, err := memoryOf(c)
	if err != nil {
		return opt, err
	}
	if memory > 0 {
		debug.SetMemoryLimit(memory)
		opt.Window = min((memory-delta.DefaultMemory)*2/3, delta.MaxWindow)
		if opt.Window < 32<<20 {
			return opt, usageError{"--memory below 304MiB is too little to make a delta"}
		}
	}
	m := newMeter(c, "coding")
	opt.Progress = func(done, total int64) { m.at("", done, total) }
	return opt, nil
}

func memoryOf(c *cli.Context) (int64, error) {
	s := c.String("memory")
	if s == "" {
		return 0, nil
	}
	n, err := parseSize(s)
	if err != nil {
		return 0, usageError{fmt.Sprintf("--memory %q is not a size such as 512MiB", s)}
	}
	return n, nil
}

func deltaApply(c *cli.Context) error {
	frugal(frugalApply)
	bases, done, err := openBases(append([]string{c.Args().Get(0)}, c.StringSlice("base")...))
	if err != nil {
		return err
	}
	defer done()
	in, err := os.Open(c.Args().Get(1))
	if err != nil {
		return err
	}
	defer in.Close()
	lim, err := applyLimits(c)
	if err != nil {
		return err
	}
	return writeWhole(c.String("out"), func(w io.Writer) error {
		if _, err := delta.Apply(c.Context, w, bufio.NewReaderSize(in, 64<<10), bases, lim); err != nil {
			return fileDeltaError{err}
		}
		return nil
	})
}

// applyLimits are those of a person at a terminal, who names the files: any size that the disk takes.
func applyLimits(c *cli.Context) (delta.Limits, error) {
	memory, err := memoryOf(c)
	return delta.Limits{
		MaxOutput: math.MaxInt64, MaxScratch: math.MaxInt64, MaxMemory: memory,
		ScratchDir: c.String("scratch"), Parallel: c.Int("jobs"),
	}, err
}

func deltaExplain(c *cli.Context) error {
	f, err := os.Open(c.Args().Get(0))
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := delta.Explain(bufio.NewReaderSize(f, 64<<10))
	if err != nil {
		return err
	}
	return show(c, explained(e), func(w io.Writer) error { return explainTable(w, e) })
}

// explanation is what explain prints as JSON or YAML.
type explanation struct {
	Codec   string       `json:"codec"`
	Target  string       `json:"target"`
	Size    int64        `json:"size"`
	Plain   int64        `json:"plain"`
	Memory  int64        `json:"memory"`
	Scratch int64        `json:"scratch"`
	Recipe  int64        `json:"recipe"`
	Other   int64        `json:"other"`
	Bases   []baseLine   `json:"bases"`
	Lines   []delta.Line `json:"lines"`
}

type baseLine struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

func explained(e delta.Explanation) explanation {
	h := e.Header
	x := explanation{
		Codec: h.Codec, Target: hex.EncodeToString(h.TargetSHA256[:]), Size: h.TargetSize, Plain: h.PlainSize,
		Memory: h.Memory, Scratch: h.Scratch, Recipe: e.Recipe, Other: e.Other, Lines: e.Lines,
	}
	for _, b := range h.Bases {
		x.Bases = append(x.Bases, baseLine{hex.EncodeToString(b.SHA256[:]), b.Size})
	}
	return x
}

// explainMost is how many lines a table has; JSON and YAML have them all.
const explainMost = 40

func explainTable(w io.Writer, e delta.Explanation) error {
	x := explained(e)
	fmt.Fprintf(w, "makes\tsha256:%s\t%s\n", x.Target, size(x.Size))
	for _, b := range x.Bases {
		fmt.Fprintf(w, "from\tsha256:%s\t%s\n", b.SHA256, size(b.Size))
	}
	fmt.Fprintf(w, "codec\t%s\nneeds\tat most %s of memory, %s of scratch\n\nBYTES\tOF\tCODEC\tWHAT\n", x.Codec, size(x.Memory), size(x.Scratch))
	if x.Recipe > 0 {
		fmt.Fprintf(w, "%d\t%s\t%s\tturning the plain bytes into the file\n", x.Recipe, size(x.Size), "recipe")
	}
	lines := slices.Clone(e.Lines)
	slices.SortStableFunc(lines, func(a, b delta.Line) int { return cmp.Compare(b.Bytes, a.Bytes) })
	for _, l := range lines[:min(len(lines), explainMost)] {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", l.Bytes, size(l.Plain), l.Codec, l.Name)
	}
	if rest := lines[min(len(lines), explainMost):]; len(rest) > 0 {
		var bytes, plain int64
		for _, l := range rest {
			bytes, plain = bytes+l.Bytes, plain+l.Plain
		}
		fmt.Fprintf(w, "%d\t%s\t\t%d more (-o json shows all)\n", bytes, size(plain), len(rest))
	}
	fmt.Fprintf(w, "%d\t\theader\tdigests, sizes and names\n", x.Other)
	return nil
}

// parseSize reads a size such as 512MiB, 2GiB or a plain number of bytes.
func parseSize(s string) (int64, error) {
	shift := 0
	for unit, n := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			s, shift = rest, n
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && (n <= 0 || n > math.MaxInt64>>shift) {
		err = strconv.ErrRange
	}
	return n << shift, err
}
