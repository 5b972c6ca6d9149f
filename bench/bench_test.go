package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFP16(t *testing.T) {
	for _, c := range []struct {
		in   float32
		want uint16
	}{
		{0, 0}, {1, 0x3c00}, {-2, 0xc000}, {65504, 0x7bff}, {65520, 0x7c00}, {1e9, 0x7c00},
		{6.1035156e-5, 0x0400}, {5.9604645e-8, 0x0001}, {2.9802322e-8, 0}, {2.99e-8, 1}, {0.1, 0x2e66},
		{1 + 1.0/2048, 0x3c00}, {1 + 3.0/2048, 0x3c02}, {0.99999, 0x3c00},
	} {
		if got := fp16(c.in); got != c.want {
			t.Errorf("fp16(%g) = %#04x, want %#04x", c.in, got, c.want)
		}
	}
}

func TestBF16(t *testing.T) {
	for _, c := range []struct {
		in   uint32
		want uint16
	}{{0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0xbf80ffff, 0xbf81}} {
		if got := bf16(math.Float32frombits(c.in)); got != c.want {
			t.Errorf("bf16(%#08x) = %#04x, want %#04x", c.in, got, c.want)
		}
	}
}

func testRow(pair, tool string, size int64, cpu float64) Row {
	c := Cost{CPU: cpu, RSS: 50e6}
	return Row{Pair: pair, Class: "exec", Tool: tool, OldSize: 10e6, NewSize: 10e6, Size: size, Make: c, Apply: c}
}

func state(t *testing.T, all []verdict, what string) string {
	t.Helper()
	for _, v := range all {
		if strings.HasPrefix(v.what, what) {
			return v.state
		}
	}
	t.Fatalf("no target %q", what)
	return ""
}

func TestTargets(t *testing.T) {
	c := &Corpus{Pairs: []Pair{{Name: "a", Class: "exec"}, {Name: "b", Class: "exec"}}}
	r := &Results{Tools: map[string]string{toolHdiffz: "1"}}
	const size, peers, speed = "executables, max: size", "executables, max: no pair", "executables, max: make"
	if got := state(t, targets(c, r), size); got != notMeasured {
		t.Errorf("without rows: %s", got)
	}
	r.Rows = append(r.Rows, testRow("a", toolBsdiff, 1000, 10), testRow("a", toolHdiffz, 700, 2), testRow("a", toolMax, 400, 1))
	if got := state(t, targets(c, r), size); got != "incomplete" {
		t.Errorf("with one of two pairs: %s", got)
	}
	r.Rows = append(r.Rows, testRow("b", toolBsdiff, 1000, 10), testRow("b", toolHdiffz, 500, 2), testRow("b", toolMax, 600, 2))
	all := targets(c, r)
	if got := state(t, all, size); got != "met" { // the square root of 0.4 x 0.6 is 0.49
		t.Errorf("size: %s", got)
	}
	if got := state(t, all, peers); got != "not met" { // 600 > 500
		t.Errorf("peers: %s", got)
	}
	if got := state(t, all, speed); got != "not met" { // the 20 MB in 3 s are 6.7
		t.Errorf("speed: %s", got)
	}
	if got := state(t, all, "memory of make"); got != "met" {
		t.Errorf("memory of make: %s", got)
	}
	r.Rows[5].Error = "broken"
	if got := state(t, targets(c, r), "memory of make"); got != "incomplete" {
		t.Errorf("memory of make with a failed row: %s", got)
	}
	if got := state(t, targets(c, r), size); got != "incomplete" {
		t.Errorf("with a failed row: %s", got)
	}
	r.Rows[2].Apply.RSS = 300e6
	if got := state(t, targets(c, r), "memory of apply, exec"); got != "not met" {
		t.Errorf("memory: %s", got)
	}
}

func TestPageAndCharts(t *testing.T) {
	c := &Corpus{Pairs: []Pair{{Name: "a", Class: "exec", What: "x"}}}
	r := &Results{Tools: map[string]string{}, Runs: 1}
	for i, tool := range []string{toolBsdiff, toolMax, "a<b"} {
		r.Tools[tool] = "1"
		r.Rows = append(r.Rows, testRow("a", tool, int64(100*(i+1)), float64(i+1)))
	}
	r.Rows = append(r.Rows, Row{Pair: "a", Class: "exec", Tool: "bad", Error: "one | two\nthree"})
	dir := t.TempDir()
	if err := writePage(dir, c, r); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| **wcbundle max** | 200 B |", "| bad | failed |", `- a, bad: one \| two`} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	charts, err := filepath.Glob(filepath.Join(dir, "benchmarks", "*.svg"))
	if err != nil || len(charts) != 2 {
		t.Fatalf("charts %v, %v; want 2", charts, err)
	}
	for _, name := range charts {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		d := xml.NewDecoder(f)
		for err == nil {
			_, err = d.Token()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSameFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, data string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	long := strings.Repeat("x", 3<<20)
	a := write("a", long)
	for _, c := range []struct {
		data string
		want bool
	}{{long, true}, {long + "y", false}, {long[1:], false}, {long[1:] + "y", false}, {"", false}} {
		got, err := sameFile(a, write("b", c.data))
		if err != nil || got != c.want {
			t.Errorf("sameFile with %d bytes: %v, %v, want %v", len(c.data), got, err, c.want)
		}
	}
	if same, err := sameFile(write("c", ""), write("d", "")); err != nil || !same {
		t.Errorf("two empty files: %v, %v", same, err)
	}
}

func TestPin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	var digest string
	if err := pin(path, &digest); err != nil || !strings.HasPrefix(digest, "ba7816bf") {
		t.Fatalf("first pin: %v, %s", err, digest)
	}
	if err := os.WriteFile(path, []byte("abd"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pin(path, &digest); !errors.Is(err, errDigest) {
		t.Errorf("changed file: %v", err)
	}
}

func TestCorpusIsWhole(t *testing.T) {
	c, err := loadCorpus("corpus.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Sources {
		if len(s.SHA256) != 64 {
			t.Errorf("source %s has no digest", s.ID)
		}
	}
	if n := len(names(c, "exec", nil)); n < 7 {
		t.Errorf("%d executable pairs, want 7 or more", n)
	}
	for _, p := range c.Pairs {
		for _, f := range []File{p.Old, p.New} {
			if len(f.SHA256) != 64 {
				t.Errorf("pair %s has a file without a digest", p.Name)
			}
			for _, id := range append(f.Merge, f.From) {
				if id == "" || f.Op == "gzip" || f.Op == "trained" {
					continue
				}
				if _, err := c.source(id); err != nil {
					t.Errorf("pair %s: %v", p.Name, err)
				}
			}
		}
	}
}
