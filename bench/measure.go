package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Cost is what one process used, as wait4 reports it: the processes it started and waited for are in it.
type Cost struct {
	CPU  float64 `json:"cpu"`  // seconds, user and system
	Wall float64 `json:"wall"` // seconds
	RSS  int64   `json:"rss"`  // largest resident size in bytes
}

// childCommand is the hidden first argument that makes this program the parent of a measured process.
const childCommand = "measured-child"

// measure runs a command and returns its cost.
//
// A Linux process starts with the peak RSS of the process that made it. So that this program's own memory is not
// counted, the command is started by a fresh, small copy of this program.
func measure(argv ...string) (Cost, error) {
	self, err := os.Executable()
	if err != nil {
		return Cost{}, err
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(self, append([]string{childCommand}, argv...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return Cost{}, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, brief(errs.Bytes()))
	}
	var c Cost
	return c, json.Unmarshal(out.Bytes(), &c)
}

// brief keeps the beginning of an error output: a Go program that stops prints its stacks after the reason.
func brief(b []byte) []byte {
	b = bytes.TrimSpace(b)
	if at := bytes.LastIndexByte(b, 0x0d); at >= 0 { // what a line of progress was overwritten with
		b = b[at+1:]
	}
	return b[:min(len(b), 400)]
}

func tail(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[max(0, len(b)-400):]
}

// measuredChild is the copy's side: it runs argv and writes the cost.
func measuredChild(argv []string, stdout io.Writer) error {
	if len(argv) == 0 {
		return errors.New("this command is for the program itself")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return err
	}
	wall := time.Since(start)
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("no resource usage on this system")
	}
	cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return json.NewEncoder(stdout).Encode(Cost{cpu.Seconds(), wall.Seconds(), usage.Maxrss * 1024})
}

// longRun is the CPU time in seconds from which on a command is run once only.
const longRun = 5

// measureRuns runs a command up to runs times and returns the median of each figure.
func measureRuns(runs int, argv []string) (Cost, error) {
	var all []Cost
	for range runs {
		c, err := measure(argv...)
		if err != nil {
			return Cost{}, err
		}
		all = append(all, c)
		if c.CPU > longRun {
			break
		}
	}
	return medianCost(all), nil
}

func medianCost(all []Cost) Cost {
	mid := func(get func(Cost) float64) float64 {
		var v []float64
		for _, c := range all {
			v = append(v, get(c))
		}
		slices.Sort(v)
		return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	return Cost{
		CPU:  mid(func(c Cost) float64 { return c.CPU }),
		Wall: mid(func(c Cost) float64 { return c.Wall }),
		RSS:  int64(mid(func(c Cost) float64 { return float64(c.RSS) })),
	}
}

// sameFile says whether two files have the same bytes. It compares the bytes, not digests.
func sameFile(a, b string) (bool, error) {
	f, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer f.Close()
	g, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer g.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errx := io.ReadFull(f, x)
		m, erry := io.ReadFull(g, y)
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return false, nil
		}
		end := func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
		switch {
		case end(errx) && end(erry):
			return true, nil
		case errx != nil:
			return false, errx
		case erry != nil:
			return false, erry
		}
	}
}
