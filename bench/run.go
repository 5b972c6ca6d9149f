package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// A runner measures the chosen rows and puts them into its results.
type runner struct {
	ctx      context.Context
	bench    string // the folder of this module
	corpus   string // the folder of the pairs
	wcbundle string // the product, or ""
	hdiffz   string // or ""
	runs     int
	quick    bool
	pairs    []Pair
	results  *Results
	saved    func() error // called after each row, so that a stopped run is not lost
	chosen   func(name string) bool

	bin, work string // the programs of this module, and a folder for deltas
}

// run measures everything that is chosen. A wrong result is kept as an error in the row and does not stop the run.
func (r *runner) run() error {
	work, err := os.MkdirTemp("", "wcbench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	r.work, r.bin = filepath.Join(work, "work"), filepath.Join(work, "bin")
	if err := errors.Join(os.Mkdir(r.work, 0o755), r.buildPeers()); err != nil {
		return err
	}
	r.results.Machine, r.results.Quick, r.results.Runs = thisMachine(), r.quick, r.runs
	tools := r.toolSet()
	if err := r.versions(tools); err != nil {
		return err
	}
	if r.wcbundle != "" {
		if r.results.Idle, err = measureRuns(max(r.runs, 5), []string{r.wcbundle, "--version"}); err != nil {
			return err
		}
	}
	for i := range r.pairs {
		if p := &r.pairs[i]; r.chosen(p.Name) {
			if err := r.pair(p, tools); err != nil {
				return err
			}
		}
	}
	for _, part := range []struct {
		name string
		run  func() error
	}{{"gzip", r.gzipWriters}, {"wall", r.wallTime}, {"big", r.big}} {
		if r.wcbundle == "" || !r.chosen(part.name) {
			continue
		}
		if err := errors.Join(part.run(), r.saved()); err != nil {
			return err
		}
	}
	return nil
}

// buildPeers builds the Go programs that are compared with, and this module's own, each as a program of its own.
func (r *runner) buildPeers() error {
	cmd := goCommand(r.bench, go126, "build", "-o", r.bin+"/",
		"github.com/gabstv/go-bsdiff/cmd/bsdiff", "github.com/gabstv/go-bsdiff/cmd/bspatch",
		"github.com/containers/tar-diff/cmd/tar-diff", "github.com/containers/tar-diff/cmd/tar-patch",
		"./cmd/xorplanes", "./cmd/gzwrite", "./cmd/genbf16")
	if err := os.Mkdir(r.bin, 0o755); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the programs of the benchmark: %w: %s", err, tail(out))
	}
	return nil
}

func (r *runner) versions(tools []*tool) error {
	for _, t := range tools {
		v, err := t.version()
		if err != nil {
			return fmt.Errorf("the version of %s: %w", t.name, err)
		}
		r.results.keepVersion(t.name, v)
		r.results.Tools[t.name] = v
	}
	return nil
}

// pair runs every tool on one pair, one after the other.
func (r *runner) pair(p *Pair, tools []*tool) error {
	j := job{
		pair: p, old: filepath.Join(r.corpus, p.Name, "old"), new: filepath.Join(r.corpus, p.Name, "new"),
		delta: filepath.Join(r.work, "delta"), out: filepath.Join(r.work, "out"),
	}
	oldSize, newSize, err := sizes(j.old, j.new)
	if err != nil {
		return fmt.Errorf("%w (the fetch command makes the corpus)", err)
	}
	j.size = oldSize
	r.results.drop(p.Name)
	for _, t := range tools {
		if !t.wants(p) {
			continue
		}
		if err := r.ctx.Err(); err != nil {
			return err
		}
		row := Row{Pair: p.Name, Class: p.Class, Tool: t.name, OldSize: oldSize, NewSize: newSize}
		if err := r.one(&row, t, j); err != nil {
			row = Row{Pair: p.Name, Class: p.Class, Tool: t.name, OldSize: oldSize, NewSize: newSize, Error: err.Error()}
		}
		report(&row)
		r.results.Rows = append(r.results.Rows, row)
		if err := r.saved(); err != nil {
			return err
		}
	}
	return nil
}

func sizes(old, new string) (int64, int64, error) {
	a, err := os.Stat(old)
	if err != nil {
		return 0, 0, err
	}
	b, err := os.Stat(new)
	if err != nil {
		return 0, 0, err
	}
	return a.Size(), b.Size(), nil
}

// one makes a delta, applies it and compares the result with the new file byte for byte.
func (r *runner) one(row *Row, t *tool, j job) error {
	defer clearFolder(r.work)
	var err error
	if row.Make, err = measureRuns(r.runs, j.expand(t.make)); err != nil {
		return err
	}
	info, err := os.Stat(j.delta)
	if err != nil {
		return err
	}
	row.Size = info.Size()
	if t.before != nil {
		if err := t.before(j); err != nil {
			return err
		}
	}
	if row.Apply, err = measureRuns(r.runs, j.expand(t.apply)); err != nil {
		return err
	}
	return mustEqual(j.new, j.out)
}

var errWrongResult = errors.New("the delta did not give the new file")

func mustEqual(want, got string) error {
	same, err := sameFile(want, got)
	if err == nil && !same {
		err = errWrongResult
	}
	return err
}

func clearFolder(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		_ = os.RemoveAll(filepath.Join(dir, e.Name()))
	}
}

func report(w *Row) {
	if w.Error != "" {
		fmt.Fprintf(os.Stderr, "%-16s %-32s ERROR %s\n", w.Pair, w.Tool, w.Error)
		return
	}
	fmt.Fprintf(os.Stderr, "%-16s %-32s %11d B  make %7.2f s %5d MB  apply %7.2f s %5d MB\n", w.Pair, w.Tool, w.Size,
		w.Make.CPU, w.Make.RSS/1e6, w.Apply.CPU, w.Apply.RSS/1e6)
}

// wallTime compares the elapsed time on one core with that on all of them, at the slowest level.
func (r *runner) wallTime() error {
	r.results.Wall = nil
	pairs := []string{"ort", "L-golang"}
	if r.quick {
		pairs = []string{"libpython"}
	}
	for _, name := range pairs {
		row := WallRow{Pair: name, Jobs: runtime.NumCPU()}
		if err := r.wall(&row); err != nil {
			row.Error = err.Error()
		}
		r.results.Wall = append(r.results.Wall, row)
	}
	return nil
}

func (r *runner) wall(row *WallRow) error {
	defer clearFolder(r.work)
	old, new := filepath.Join(r.corpus, row.Pair, "old"), filepath.Join(r.corpus, row.Pair, "new")
	delta, out := filepath.Join(r.work, "delta"), filepath.Join(r.work, "out")
	var err error
	if _, row.NewSize, err = sizes(old, new); err != nil {
		return err
	}
	for _, half := range []struct {
		jobs        int
		make, apply *Cost
	}{{1, &row.Make1, &row.Apply1}, {row.Jobs, &row.MakeN, &row.ApplyN}} {
		jobs := fmt.Sprint(half.jobs)
		if *half.make, err = measure(r.wcbundle, "delta", "make", "--level", "max", "-j", jobs, "-o", delta, old, new); err != nil {
			return err
		}
		if *half.apply, err = measure(r.wcbundle, "delta", "apply", "-j", jobs, "-o", out, old, delta); err != nil {
			return err
		}
		if err := mustEqual(new, out); err != nil {
			return err
		}
		if err := errors.Join(os.Remove(delta), os.Remove(out)); err != nil {
			return err
		}
	}
	return nil
}

// lookTool returns the path of an optional program, or "" where it is not installed.
func lookTool(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return path
}
