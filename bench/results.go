package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Results is what results.json holds. The page is made from nothing else.
type Results struct {
	Machine Machine           `json:"machine"`
	Quick   bool              `json:"quick"` // a short run for a check of the programs
	Runs    int               `json:"runs"`  // of each timing; long ones are run once
	Tools   map[string]string `json:"tools"` // version by tool
	Idle    Cost              `json:"idle"`  // of the product when it only prints its version
	Rows    []Row             `json:"rows"`
	Wall    []WallRow         `json:"wall,omitempty"`
	Gzip    []GzipRow         `json:"gzip,omitempty"`
	Big     []BigRow          `json:"big,omitempty"`
	Verify  *VerifyRow        `json:"verify,omitempty"`
	Load    *LoadRow          `json:"load,omitempty"`
}

// A Machine describes where the numbers come from.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	RAM    int64  `json:"ram"` // bytes
	Kernel string `json:"kernel"`
	Go     string `json:"go"` // that built the benchmark
}

// A Row is one tool on one pair.
type Row struct {
	Pair    string `json:"pair"`
	Class   string `json:"class"`
	Tool    string `json:"tool"`
	OldSize int64  `json:"oldSize"` // bytes
	NewSize int64  `json:"newSize"`
	Size    int64  `json:"size"` // of the delta
	Make    Cost   `json:"make"`
	Apply   Cost   `json:"apply"`
	Error   string `json:"error,omitempty"`   // the other results are then missing
	Version string `json:"version,omitempty"` // of the tool, if it is not that of the table of tools: the row is of an earlier run
}

// A WallRow compares one core with all of them.
type WallRow struct {
	Pair    string `json:"pair"`
	NewSize int64  `json:"newSize"`
	Jobs    int    `json:"jobs"`
	Make1   Cost   `json:"make1"`
	Apply1  Cost   `json:"apply1"`
	MakeN   Cost   `json:"makeN"`
	ApplyN  Cost   `json:"applyN"`
	Error   string `json:"error,omitempty"`
}

// A GzipRow is one gzip writer: the same tar, first plain and then as its stream.
type GzipRow struct {
	Writer string `json:"writer"`
	Plain  int64  `json:"plain"`  // bytes of the tar
	Stream int64  `json:"stream"` // bytes of the gzip stream
	Size   int64  `json:"size"`   // of the delta from tar to stream
	Make   Cost   `json:"make"`
	Apply  Cost   `json:"apply"`
	Error  string `json:"error,omitempty"`
}

// A BigRow is the pair above 2 GiB under a limit of writable memory.
type BigRow struct {
	Level      string `json:"level"`
	OldSize    int64  `json:"oldSize"`
	NewSize    int64  `json:"newSize"`
	Size       int64  `json:"size"`
	MakeLimit  uint64 `json:"makeLimit"` // bytes of writable memory
	ApplyLimit uint64 `json:"applyLimit"`
	MakeOver   bool   `json:"makeOver,omitempty"` // failed under the limit; the figures are without one
	ApplyOver  bool   `json:"applyOver,omitempty"`
	Make       Cost   `json:"make"`
	Apply      Cost   `json:"apply"`
	Error      string `json:"error,omitempty"`
}

func loadResults(path string) (*Results, error) {
	r := &Results{Tools: map[string]string{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	return r, json.Unmarshal(data, r)
}

func (r *Results) save(path string) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// row returns the row of a tool on a pair, or nil if there is none or it failed.
func (r *Results) row(pair, tool string) *Row {
	for i := range r.Rows {
		if w := &r.Rows[i]; w.Pair == pair && w.Tool == tool && w.Error == "" {
			return w
		}
	}
	return nil
}

// drop removes what a new run of a pair replaces.
func (r *Results) drop(pair string) {
	var keep []Row
	for _, w := range r.Rows {
		if w.Pair != pair {
			keep = append(keep, w)
		}
	}
	r.Rows = keep
}

// errors lists everything that failed.
func (r *Results) errors() []string {
	var all []string
	add := func(what, err string) {
		if err != "" {
			all = append(all, what+": "+err)
		}
	}
	for _, w := range r.Rows {
		add(w.Pair+", "+w.Tool, w.Error)
	}
	for _, w := range r.Wall {
		add(w.Pair+", all cores", w.Error)
	}
	for _, w := range r.Gzip {
		add("gzip writer "+w.Writer, w.Error)
	}
	for _, w := range r.Big {
		add("big pair, level "+w.Level, w.Error)
	}
	return all
}

func thisMachine() Machine {
	kernel, _ := exec.Command("uname", "-sr").Output()
	kib, _ := strconv.ParseInt(strings.TrimSuffix(procField("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	return Machine{
		CPU: procField("/proc/cpuinfo", "model name"), Cores: runtime.NumCPU(), RAM: kib * 1024,
		Kernel: strings.TrimSpace(string(kernel)), Go: runtime.Version(),
	}
}

// procField returns the value of the first "key : value" line of a file, or "unknown".
func procField(path, key string) string {
	f, err := os.Open(path)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// keepVersion notes in the rows of a tool, whose version becomes v, which one made them.
func (r *Results) keepVersion(tool, v string) {
	before, known := r.Tools[tool]
	for i := range r.Rows {
		w := &r.Rows[i]
		switch {
		case w.Tool != tool:
		case w.Version == v:
			w.Version = ""
		case w.Version == "" && known && before != v:
			w.Version = before
		}
	}
}
