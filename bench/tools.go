package main

import (
	"debug/buildinfo"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// A tool makes and applies deltas. In its command lines {old}, {new}, {delta}, {out} and {size} stand for the files of
// the job and the size of the old file.
type tool struct {
	name    string
	ours    bool
	make    []string
	apply   []string
	classes string                 // the classes of pairs it is run on, separated by spaces
	only    func(p *Pair) bool     // further choice of pairs, or nil
	before  func(j job) error      // work before apply that is not measured, or nil
	version func() (string, error) // what the page says of its version
}

// A job is one pair for one tool.
type job struct {
	pair                 *Pair
	old, new, delta, out string
	size                 int64 // of old
}

func (j job) expand(argv []string) []string {
	r := strings.NewReplacer("{old}", j.old, "{new}", j.new, "{delta}", j.delta, "{out}", j.out, "{size}", fmt.Sprint(j.size))
	var out []string
	for _, a := range argv {
		out = append(out, r.Replace(a))
	}
	return out
}

func (t *tool) wants(p *Pair) bool {
	for _, c := range strings.Fields(t.classes) {
		if c == p.Class {
			return t.only == nil || t.only(p)
		}
	}
	return false
}

// Names of tools that the targets refer to.
const (
	toolBsdiff  = "bsdiff"
	toolHdiffz  = "hdiffz"
	toolTarDiff = "tar-diff"
	toolXor     = "xor planes"
	toolFast    = "wcbundle fast"
	toolDefault = "wcbundle default"
	toolMax     = "wcbundle max"
)

// toolSet lists the tools, ours between the others, in the order in which a pair runs through them.
func (r *runner) toolSet() []*tool {
	bin := func(name string) string { return filepath.Join(r.bin, name) }
	set := []*tool{
		{name: toolBsdiff, classes: "exec same layer weights", version: debian("bsdiff"),
			make: []string{"bsdiff", "{old}", "{new}", "{delta}"}, apply: []string{"bspatch", "{old}", "{out}", "{delta}"}},
		r.ours(toolMax, "max"),
		{name: "xdelta3 -9 -S lzma", classes: "exec same layer", version: debian("xdelta3"),
			make:  []string{"xdelta3", "-q", "-f", "-e", "-9", "-S", "lzma", "-B", "{size}", "-s", "{old}", "{new}", "{delta}"},
			apply: []string{"xdelta3", "-q", "-f", "-d", "-B", "{size}", "-s", "{old}", "{delta}", "{out}"}},
		zstdTool("zstd -19 --patch-from", "exec same weights", "-19", "--long=31"),
		r.ours(toolDefault, "default"),
		zstdTool("zstd -3 --patch-from --long=31", "exec same layer gzlayer weights", "-3", "--long=31"),
		{name: "go-bsdiff", classes: "exec", version: module(bin("bsdiff"), "github.com/gabstv/go-bsdiff"),
			make: []string{bin("bsdiff"), "{old}", "{new}", "{delta}"}, apply: []string{bin("bspatch"), "{old}", "{out}", "{delta}"}},
		r.ours(toolFast, "fast"),
		{name: toolTarDiff, classes: "layer", before: extractOld, version: module(bin("tar-diff"), "github.com/containers/tar-diff"),
			make: []string{bin("tar-diff"), "{old}", "{new}", "{delta}"}, apply: []string{bin("tar-patch"), "{delta}", "{out}.tree", "{out}"}},
		{name: toolXor, classes: "weights", only: isSafetensors, version: module(bin("xorplanes"), "github.com/klauspost/compress"),
			make: []string{bin("xorplanes"), "make", "{old}", "{new}", "{delta}"}, apply: []string{bin("xorplanes"), "apply", "{old}", "{delta}", "{out}"}},
	}
	if r.hdiffz != "" {
		set = append(set, &tool{name: toolHdiffz, classes: "exec same layer weights", version: firstLine(r.hdiffz, "-v"),
			make:  []string{r.hdiffz, "-m-1", "-cache", "-c-zstd-21-24", "-p-1", "-f", "{old}", "{new}", "{delta}"},
			apply: []string{filepath.Join(filepath.Dir(r.hdiffz), "hpatchz"), "-f", "{old}", "{delta}", "{out}"}})
	}
	var have []*tool
	for _, t := range set {
		if t != nil {
			have = append(have, t)
		}
	}
	return have
}

// ours is the product at one level, on one core.
func (r *runner) ours(name, level string) *tool {
	if r.wcbundle == "" {
		return nil
	}
	return &tool{name: name, ours: true, classes: "exec same layer gzlayer weights", version: programVersion(r.wcbundle),
		make:  []string{r.wcbundle, "delta", "make", "--level", level, "-j", "1", "-o", "{delta}", "{old}", "{new}"},
		apply: []string{r.wcbundle, "delta", "apply", "-j", "1", "-o", "{out}", "{old}", "{delta}"}}
}

func zstdTool(name, classes string, flags ...string) *tool {
	return &tool{name: name, classes: classes, version: debian("zstd"),
		make:  append(append([]string{"zstd", "-q", "-f"}, flags...), "--patch-from={old}", "{new}", "-o", "{delta}"),
		apply: []string{"zstd", "-q", "-f", "-d", "--long=31", "--memory=2048MB", "--patch-from={old}", "{delta}", "-o", "{out}"}}
}

func isSafetensors(p *Pair) bool {
	return p.New.Op == "tensors" || p.New.Op == "trained" && !strings.HasPrefix(p.New.Path, "q")
}

// extractOld unpacks the old layer, because tar-patch reads its base from a tree of files.
func extractOld(j job) error {
	out, err := exec.Command("sh", "-c", `mkdir -p "$2" && tar -xf "$1" --no-same-owner -C "$2"`, "sh", j.old, j.out+".tree").CombinedOutput()
	if err != nil {
		return fmt.Errorf("unpacking %s: %w: %s", j.old, err, tail(out))
	}
	return nil
}

// debian is the version of an installed Debian package.
func debian(pkg string) func() (string, error) {
	return func() (string, error) {
		out, err := exec.Command("dpkg-query", "-W", "-f", "Debian ${Version}", pkg).Output()
		return strings.TrimSpace(string(out)), withStderr(err)
	}
}

// module is the version of a Go module that a program was built with.
func module(path, name string) func() (string, error) {
	return func() (string, error) {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return "", err
		}
		for _, d := range append(info.Deps, &info.Main) {
			if d.Path == name {
				return name + " " + d.Version + ", built by " + info.GoVersion, nil
			}
		}
		return "", fmt.Errorf("%s does not use %s", path, name)
	}
}

// programVersion is what a program says of itself, and its digest, because a build from a work tree has no version.
func programVersion(path string) func() (string, error) {
	return func() (string, error) {
		line, err := firstLine(path, "--version")()
		if err != nil {
			return "", err
		}
		digest, err := fileDigest(path)
		return line + ", sha256 " + digest[:min(len(digest), 16)], err
	}
}

func firstLine(argv ...string) func() (string, error) {
	return func() (string, error) {
		out, err := exec.Command(argv[0], argv[1:]...).Output()
		line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return line, withStderr(err)
	}
}
