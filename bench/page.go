package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
)

//go:embed page.md.tmpl
var pageText string

// writePage makes benchmarks.md and its charts from the results, and from nothing else.
func writePage(out string, c *Corpus, r *Results) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"mb":     func(n int64) string { return megabytes(n) },
		"rss":    func(n int64) string { return fmt.Sprintf("%.0f", float64(n)/mega) },
		"gib":    func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/(1<<30)) },
		"part":   func(a, b int64) string { return percent(float64(a) / float64(b)) },
		"sec":    func(s float64) string { return fmt.Sprintf("%.2f", s) },
		"speed":  func(n int64, c Cost) string { return number(float64(n) / mega / max(c.CPU, 0.001)) },
		"gain":   func(a, b Cost) string { return number(a.Wall / max(b.Wall, 0.001)) },
		"tables": func(class string) []table { return tables(c, r, class) },
		"tools":  func() []string { return sorted(r.Tools) },
		"cell":   cell,
		"mib":    func(n uint64) uint64 { return n >> 20 },
		"number": number,
		"deref":  func(c *Cost) Cost { return *c },
		"wall":   func(n int64, c Cost) string { return number(float64(n) / mega / max(c.Wall, 0.001)) },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	charts, err := writeCharts(filepath.Join(out, "benchmarks"), c, r)
	if err != nil {
		return err
	}
	var page bytes.Buffer
	data := struct {
		*Results
		Targets []verdict
		Charts  []chart
		Failed  []string
		Long    int
	}{r, targets(c, r), charts, r.errors(), longRun}
	if err := t.Execute(&page, data); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, "benchmarks.md"), page.Bytes(), 0o644)
}

// cell escapes what would end a cell of a table.
func cell(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return strings.ReplaceAll(s, "|", `\|`)
}

// Fields of a verdict for the template.
func (v verdict) What() string     { return v.what }
func (v verdict) Target() string   { return v.target }
func (v verdict) Measured() string { return v.measured }
func (v verdict) State() string    { return v.state }

// A table is the rows of one pair.
type table struct {
	Name, What, Note string
	Earlier          string // the version of ours that made the rows, if it is an earlier one
	OldSize, NewSize int64
	Lines            []tableLine
}

type tableLine struct{ Tool, Size, Part, Ratio, Enc, Dec, RSSEnc, RSSDec string }

func tables(c *Corpus, r *Results, class string) []table {
	var list []table
	for _, p := range c.Pairs {
		if p.Class != class {
			continue
		}
		t := table{Name: p.Name, What: p.What, Note: p.Note}
		base := r.row(p.Name, toolBsdiff)
		var rows []Row
		for _, w := range r.Rows {
			if w.Pair == p.Name {
				rows = append(rows, w)
			}
		}
		slices.SortStableFunc(rows, func(a, b Row) int { return int(a.Size - b.Size) })
		for _, w := range rows {
			t.OldSize, t.NewSize = w.OldSize, w.NewSize
			if strings.HasPrefix(w.Tool, "wcbundle") && w.Version != "" {
				t.Earlier = w.Version
			}
			t.Lines = append(t.Lines, lineOf(w, base))
		}
		if len(rows) > 0 {
			list = append(list, t)
		}
	}
	return list
}

func lineOf(w Row, base *Row) tableLine {
	l := tableLine{Tool: w.Tool, Size: "failed", Part: "-", Ratio: "-", Enc: "-", Dec: "-", RSSEnc: "-", RSSDec: "-"}
	if w.Error != "" {
		return l
	}
	if strings.HasPrefix(w.Tool, "wcbundle") {
		l.Tool = "**" + w.Tool + "**"
	}
	one := []*Row{&w}
	l.Size, l.Part = megabytes(w.Size), percent(float64(w.Size)/float64(w.NewSize))
	l.Enc, l.Dec = number(encodeSpeed(one)), number(decodeSpeed(one))
	l.RSSEnc, l.RSSDec = fmt.Sprintf("%.0f", float64(w.Make.RSS)/mega), fmt.Sprintf("%.0f", float64(w.Apply.RSS)/mega)
	if base != nil {
		l.Ratio = number(float64(w.Size) / float64(base.Size))
	}
	return l
}

func megabytes(n int64) string {
	switch {
	case n < 10*kilo:
		return fmt.Sprintf("%d B", n)
	case n < mega/2:
		return fmt.Sprintf("%.1f kB", float64(n)/kilo)
	}
	return fmt.Sprintf("%.3f MB", float64(n)/mega)
}

func percent(v float64) string { return number(100*v) + " %" }

// A chart is one file beside the results.
type chart struct{ File, Title string }

const (
	ourColour  = "#c2410c"
	peerColour = "#4b6a8a"
)

func writeCharts(dir string, c *Corpus, r *Results) ([]chart, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var list []chart
	write := func(file, title, svg string) error {
		list = append(list, chart{file, title})
		return os.WriteFile(filepath.Join(dir, file), []byte(svg), 0o644)
	}
	pairs := names(c, "exec", nil)
	if points := toolPoints(pairs, r); len(points) > 1 {
		title := "Executables: size and cost of making a delta"
		if err := write("executables.svg", title, scatter(title, "CPU seconds per MB of the new file (log)",
			"size, bsdiff = 1 (log)", points)); err != nil {
			return nil, err
		}
	}
	for _, b := range []struct {
		file, title string
		classes     string
		colours     []series
	}{
		{"sizes.svg", "Executables and plain layers: size of the delta", "exec layer", []series{
			{name: toolHdiffz, colour: "#8aa5c0"}, {name: toolTarDiff, colour: "#5b7fa3"},
			{name: toolFast, colour: "#f6b48f"}, {name: toolDefault, colour: "#ea7a3d"}, {name: toolMax, colour: ourColour},
		}},
		{"weights.svg", "Weights: size of the delta", "weights", []series{ // our levels hardly differ here
			{name: toolHdiffz, colour: "#8aa5c0"}, {name: toolXor, colour: "#9a9a9a"}, {name: toolMax, colour: ourColour},
		}},
	} {
		labels, all := sizeBars(c, r, b.classes, b.colours)
		if len(labels) == 0 {
			continue
		}
		if err := write(b.file, b.title, bars(b.title, "size, bsdiff = 1; shorter is better", labels, all, 1)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// toolPoints gives one point per tool that ran on every executable pair that bsdiff ran on: geometric means.
func toolPoints(pairs []string, r *Results) []point {
	all := r.compare(pairs, sizeRatio, toolBsdiff, toolBsdiff).pairs
	var points []point
	for _, t := range sorted(r.Tools) {
		size := r.compare(all, sizeRatio, t, toolBsdiff)
		if len(size.values) == 0 || len(size.values) < len(all) {
			continue
		}
		cost := r.compare(all, func(w []*Row) float64 { return 1 / encodeSpeed(w) }, t)
		p := point{t, peerColour, cost.geomean(), size.geomean()}
		if strings.HasPrefix(t, "wcbundle") {
			p.colour = ourColour
		}
		points = append(points, p)
	}
	return points
}

// sizeBars fills the values of each tool in all on the pairs of the classes, in sizes of bsdiff.
func sizeBars(c *Corpus, r *Results, classes string, all []series) ([]string, []series) {
	var labels []string
	for _, class := range strings.Fields(classes) {
		for _, pair := range names(c, class, nil) {
			if r.row(pair, toolBsdiff) == nil {
				continue
			}
			labels = append(labels, pair)
			for i := range all {
				v := math.NaN()
				if cmp := r.compare([]string{pair}, sizeRatio, all[i].name, toolBsdiff); len(cmp.values) == 1 {
					v = cmp.values[0]
				}
				all[i].values = append(all[i].values, v)
			}
		}
	}
	return labels, slices.DeleteFunc(all, func(s series) bool {
		return !slices.ContainsFunc(s.values, func(v float64) bool { return !math.IsNaN(v) })
	})
}
