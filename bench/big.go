package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Limits of memory that the product is held to, in bytes.
const (
	makeFixed    = 256e6 // and makePerByte for each byte of the base
	makePerByte  = 1.5
	applyLimit   = 256e6
	weightsLimit = 64e6
)

const (
	limitStep = 32 << 20 // in which the need of the idle program is found
	arena     = 64 << 20 // the Go runtime takes memory in pieces of this size, which it need not fill
)

func makeLimit(base int64) int64 { return makeFixed + int64(makePerByte*float64(base)) }

// bigWeights makes a pair of 2.2 GiB, above the limit of 2 GiB at which other tools stop.
const bigWeights = 1181118464

// big makes and applies the delta of a pair above 2 GiB under a limit of writable memory (RLIMIT_DATA). Linux limits the
// resident size of a process only in a control group; the resident size is in the row, to be compared with the target.
func (r *runner) big() error {
	defer clearFolder(r.work)
	r.results.Big = nil
	old, new := filepath.Join(r.work, "old.safetensors"), filepath.Join(r.work, "new.safetensors")
	weights := bigWeights
	if r.quick {
		weights = 1 << 24
	}
	gen := exec.Command(filepath.Join(r.bin, "genbf16"), "-n", fmt.Sprint(weights), old, new)
	if out, err := gen.CombinedOutput(); err != nil {
		return fmt.Errorf("making the big pair: %w: %s", err, tail(out))
	}
	idle, err := r.idleMemory()
	if err != nil {
		return err
	}
	for _, level := range []string{"default", "max"} {
		row := BigRow{Level: level}
		if err := r.bigRow(&row, old, new, idle); err != nil {
			row.Error = err.Error()
		}
		fmt.Fprintf(os.Stderr, "big pair, %s: %d B of %d, make %.1f s %d MB over limit %v, apply %.1f s %d MB over limit %v %s\n", level,
			row.Size, row.NewSize, row.Make.CPU, row.Make.RSS/1e6, row.MakeOver, row.Apply.CPU, row.Apply.RSS/1e6, row.ApplyOver, row.Error)
		r.results.Big = append(r.results.Big, row)
	}
	return nil
}

func (r *runner) bigRow(row *BigRow, old, new string, idle uint64) error {
	delta, out := filepath.Join(r.work, "delta"), filepath.Join(r.work, "out")
	defer os.Remove(delta)
	defer os.Remove(out)
	var err error
	if row.OldSize, row.NewSize, err = sizes(old, new); err != nil {
		return err
	}
	row.MakeLimit = idle + uint64(makeLimit(row.OldSize)) + arena
	row.ApplyLimit = idle + weightsLimit + arena
	row.Make, row.MakeOver, err = withLimit(row.MakeLimit, r.wcbundle, "delta", "make", "--level", row.Level, "-j", "1", "-o", delta, old, new)
	if err != nil {
		return err
	}
	if _, row.Size, err = sizes(old, delta); err != nil {
		return err
	}
	row.Apply, row.ApplyOver, err = withLimit(row.ApplyLimit, r.wcbundle, "delta", "apply", "-j", "1", "-o", out, old, delta)
	if err != nil {
		return err
	}
	return mustEqual(new, out)
}

// withLimit measures a command under a limit of its memory, and if it fails there, without: the row then says so and still
// has figures.
func withLimit(bytes uint64, argv ...string) (c Cost, over bool, err error) {
	c, err = measure(limited(bytes, argv...)...)
	if err == nil {
		return c, false, nil
	}
	c, err = measure(argv...)
	return c, true, err
}

// limited runs a command through util-linux's prlimit, which becomes that command.
func limited(bytes uint64, argv ...string) []string {
	return append([]string{"prlimit", fmt.Sprintf("--data=%d", bytes)}, argv...)
}

// idleMemory is the limit under which the product can print its version: the tables of the Go runtime, mostly.
func (r *runner) idleMemory() (uint64, error) {
	for limit := uint64(limitStep); limit <= 1<<30; limit += limitStep {
		if _, err := measure(limited(limit, r.wcbundle, "--version")...); err == nil {
			return limit, nil
		}
	}
	return 0, errors.New("the product does not start in 1 GiB of memory")
}
