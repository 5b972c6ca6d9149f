package main

import (
	"fmt"
	"math"
	"strings"
)

// A verdict is one line of the table of targets. All of it is computed from the results.
type verdict struct {
	what, target, measured string
	state                  string // met, not met, incomplete or not measured
}

// Factors of units. The page uses decimal ones only.
const (
	kilo = 1e3
	mega = 1e6
)

// notMeasured is the state of a target for which the results lack a row.
const notMeasured = "not measured"

func judge(what, target string, ok bool, measured string) verdict {
	state := "not met"
	if ok {
		state = "met"
	}
	return verdict{what, target, measured, state}
}

func missing(what, target string) verdict { return verdict{what, target, "-", notMeasured} }

// targets computes every line.
func targets(c *Corpus, r *Results) []verdict {
	var all []verdict
	all = append(all, execTargets(c, r)...)
	all = append(all, layerTargets(c, r)...)
	all = append(all, weightTargets(c, r)...)
	all = append(all, memoryTargets(c, r)...)
	all = append(all, bigTarget(r))
	return append(append(all, verifyTargets(r)...), loadTargets(r)...)
}

// names lists the pairs of a class, in the order of the corpus.
func names(c *Corpus, class string, keep func(p *Pair) bool) []string {
	var list []string
	for i := range c.Pairs {
		if p := &c.Pairs[i]; p.Class == class && (keep == nil || keep(p)) {
			list = append(list, p.Name)
		}
	}
	return list
}

// A comparison is one number per pair.
type comparison struct {
	pairs  []string
	values []float64
	wanted int // pairs of the corpus
}

// compare computes a number for each pair on which all the tools have a row.
func (r *Results) compare(pairs []string, f func(rows []*Row) float64, tools ...string) comparison {
	c := comparison{wanted: len(pairs)}
	for _, p := range pairs {
		var rows []*Row
		for _, t := range tools {
			if w := r.row(p, t); w != nil {
				rows = append(rows, w)
			}
		}
		if len(rows) == len(tools) {
			c.pairs = append(c.pairs, p)
			c.values = append(c.values, f(rows))
		}
	}
	return c
}

func (c comparison) geomean() float64 {
	sum := 0.0
	for _, v := range c.values {
		sum += math.Log(v)
	}
	return math.Exp(sum / float64(len(c.values)))
}

// worst returns the largest number if high is the bad side, else the smallest, and its pair.
func (c comparison) worst(high bool) (float64, string) {
	at := 0
	for i, v := range c.values {
		if high && v > c.values[at] || !high && v < c.values[at] {
			at = i
		}
	}
	return c.values[at], c.pairs[at]
}

// verdict judges the geometric mean against a bound, which is an upper one if high is the bad side.
func (c comparison) verdict(what string, bound float64, high bool, unit string) verdict {
	sign := map[bool]string{true: "<=", false: ">="}[high]
	target := fmt.Sprintf("%s %s%s", sign, number(bound), unit)
	if len(c.values) == 0 {
		return missing(what, target)
	}
	mean := c.geomean()
	worst, pair := c.worst(high)
	measured := fmt.Sprintf("%s%s (%d of %d pairs; worst %s%s, %s)", number(mean), unit, len(c.values), c.wanted, number(worst), unit, pair)
	v := judge(what, target, high && mean <= bound || !high && mean >= bound, measured)
	return c.whole(v)
}

// whole keeps a target from being met, or missed, by a part of its pairs.
func (c comparison) whole(v verdict) verdict {
	if len(c.values) < c.wanted {
		v.state = "incomplete"
	}
	return v
}

// number shows three significant digits.
func number(v float64) string {
	switch {
	case v != 0 && math.Abs(v) < 0.0995:
		return fmt.Sprintf("%.2g", v)
	case math.Abs(v) < 9.995:
		return fmt.Sprintf("%.2f", v)
	case math.Abs(v) < 99.95:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func sizeRatio(w []*Row) float64   { return float64(w[0].Size) / float64(w[1].Size) }
func encodeSpeed(w []*Row) float64 { return float64(w[0].NewSize) / mega / max(w[0].Make.CPU, 0.001) }
func decodeSpeed(w []*Row) float64 { return float64(w[0].NewSize) / mega / max(w[0].Apply.CPU, 0.001) }
func cpuGain(w []*Row) float64     { return w[1].Make.CPU / max(w[0].Make.CPU, 0.001) }

// speedTarget judges all bytes of the pairs through all the CPU time that one tool took for them, without that of starting
// the program, which is no work of the codec and would hide it on small files.
func (r *Results) speedTarget(what string, pairs []string, tool string, bound float64, cost func(*Row) Cost) verdict {
	target := fmt.Sprintf(">= %s MB/s per core", number(bound))
	var bytes, whole, net float64
	cmp := r.compare(pairs, func(w []*Row) float64 {
		bytes += float64(w[0].NewSize) / mega
		whole += cost(w[0]).CPU
		n := max(cost(w[0]).CPU-r.Idle.CPU, 0.001)
		net += n
		return float64(w[0].NewSize) / mega / n
	}, tool)
	if len(cmp.values) == 0 {
		return missing(what, target)
	}
	worst, pair := cmp.worst(false)
	measured := fmt.Sprintf("%s MB/s (whole processes %s; %d of %d pairs; slowest %s, %s)", number(bytes/net), number(bytes/whole),
		len(cmp.values), cmp.wanted, number(worst), pair)
	return cmp.whole(judge(what, target, bytes/net >= bound, measured))
}

func makeCost(w *Row) Cost  { return w.Make }
func applyCost(w *Row) Cost { return w.Apply }

func execTargets(c *Corpus, r *Results) []verdict {
	pairs := names(c, "exec", nil)
	all := []verdict{
		r.compare(pairs, sizeRatio, toolMax, toolBsdiff).verdict("executables, max: size of bsdiff, geometric mean", 0.50, true, ""),
		bestPeerTarget(pairs, r),
	}
	return append(all,
		r.speedTarget("executables, max: make", pairs, toolMax, 8, makeCost),
		r.speedTarget("executables, max: apply", pairs, toolMax, 8, applyCost),
		r.compare(pairs, sizeRatio, toolDefault, toolBsdiff).verdict("executables, default: size of bsdiff, geometric mean", 1.05, true, ""),
		r.compare(pairs, cpuGain, toolDefault, toolBsdiff).verdict("executables, default: times less CPU than bsdiff", 8, false, "x"),
		r.speedTarget("executables, default: apply", pairs, toolDefault, 150, applyCost))
}

// bestPeerTarget asks that no pair is larger than the smaller of bsdiff and hdiffz.
func bestPeerTarget(pairs []string, r *Results) verdict {
	what, peers := "executables, max: no pair larger than the smaller of bsdiff and hdiffz", []string{toolMax, toolBsdiff, toolHdiffz}
	if _, ok := r.Tools[toolHdiffz]; !ok {
		what, peers = "executables, max: no pair larger than bsdiff (hdiffz was not measured)", peers[:2]
	}
	cmp := r.compare(pairs, func(w []*Row) float64 {
		best := w[1].Size
		for _, p := range w[1:] {
			best = min(best, p.Size)
		}
		return float64(w[0].Size) / float64(best)
	}, peers...)
	if len(cmp.values) == 0 {
		return missing(what, "<= 1.00")
	}
	worst, pair := cmp.worst(true)
	return cmp.whole(judge(what, "<= 1.00", worst <= 1, fmt.Sprintf("worst %s, %s (%d of %d pairs)", number(worst), pair, len(cmp.values), cmp.wanted)))
}

func layerTargets(c *Corpus, r *Results) []verdict {
	pairs := names(c, "layer", nil)
	all := []verdict{
		r.speedTarget("plain layers, max: make", pairs, toolMax, 30, makeCost),
		r.speedTarget("plain layers, max: apply", pairs, toolMax, 30, applyCost),
	}
	what, bound := "gzip layer L-golang-gz, max: size of the delta", 0.75
	target := fmt.Sprintf("<= %s MB", number(bound))
	w := r.row("L-golang-gz", toolMax)
	if w == nil {
		return append(all, missing(what, target))
	}
	measured := fmt.Sprintf("%.3f MB of %.1f", float64(w.Size)/mega, float64(w.NewSize)/mega)
	for _, peer := range []string{toolBsdiff, toolTarDiff} {
		if p := r.row("L-golang", peer); p != nil {
			measured += fmt.Sprintf("; %s on the plain tar %.3f", peer, float64(p.Size)/mega)
		}
	}
	return append(all, judge(what, target, float64(w.Size) <= bound*mega, measured))
}

func weightTargets(c *Corpus, r *Results) []verdict {
	half := names(c, "weights", func(p *Pair) bool {
		return strings.HasPrefix(p.Name, "ft-bf16") || strings.HasPrefix(p.Name, "ft-fp16")
	})
	tuned := names(c, "weights", func(p *Pair) bool { return strings.HasPrefix(p.Name, "ft-") })
	raw := func(w []*Row) float64 { return float64(w[0].Size) / float64(w[0].NewSize) }
	return []verdict{
		r.compare(half, sizeRatio, toolMax, toolBsdiff).verdict("fine-tunes bf16 and fp16: size of bsdiff, geometric mean", 0.75, true, ""),
		r.compare(half, sizeRatio, toolMax, toolXor).verdict("fine-tunes bf16 and fp16: size of XOR planes, geometric mean", 0.80, true, ""),
		r.compare([]string{"blaze-heavy-st"}, raw, toolMax).verdict("model revision blaze-heavy, as safetensors: of its raw size", 0.61, true, ""),
		r.speedTarget("fine-tunes: make", tuned, toolMax, 300, makeCost),
		r.speedTarget("fine-tunes: apply", tuned, toolMax, 300, applyCost),
		r.bigSpeed("synthetic pair above 2 GiB: make", func(w *BigRow) Cost { return w.Make }),
		r.bigSpeed("synthetic pair above 2 GiB: apply", func(w *BigRow) Cost { return w.Apply }),
	}
}

// bigSpeed judges the slowest level on the big pair, where starting the program does not matter.
func (r *Results) bigSpeed(what string, cost func(*BigRow) Cost) verdict {
	const target, bound = ">= 300 MB/s per core", 300
	if len(r.Big) == 0 || r.Quick {
		return missing(what, target)
	}
	slowest, level := math.Inf(1), ""
	for i := range r.Big {
		w := &r.Big[i]
		if w.Error != "" {
			return judge(what, target, false, "failed, level "+w.Level)
		}
		if v := float64(w.NewSize) / mega / max(cost(w).CPU, 0.001); v < slowest {
			slowest, level = v, w.Level
		}
	}
	return judge(what, target, slowest >= bound, fmt.Sprintf("%s MB/s, level %s", number(slowest), level))
}

// memoryTargets looks at every row of ours. They are met only if every pair of the corpus was measured.
func memoryTargets(c *Corpus, r *Results) []verdict {
	worst := map[string]struct {
		part float64
		text string
	}{}
	see := func(kind string, rss int64, limit float64, where string) {
		part := float64(rss) / limit
		if seen, ok := worst[kind]; !ok || part > seen.part {
			worst[kind] = struct {
				part float64
				text string
			}{part, fmt.Sprintf("worst %.0f of %.0f MB, %s", float64(rss)/mega, limit/mega, where)}
		}
	}
	for _, w := range r.Rows {
		if w.Error != "" || w.Tool != toolFast && w.Tool != toolDefault && w.Tool != toolMax {
			continue
		}
		where := w.Pair + " " + strings.TrimPrefix(w.Tool, "wcbundle ")
		see("make", w.Make.RSS, float64(makeLimit(w.OldSize)), where)
		if w.Class == "weights" {
			see("weights", w.Apply.RSS, weightsLimit, where)
			see("weights net", w.Apply.RSS-r.Idle.RSS, weightsLimit, where)
		} else {
			see("apply", w.Apply.RSS, applyLimit, where)
		}
	}
	var all []verdict
	for _, t := range []struct{ kind, what, target string }{
		{"apply", "memory of apply, executables and layers, every row", "<= 256 MB"},
		{"weights", "memory of apply, weights, every row", "<= 64 MB"},
		{"weights net", "the same, above that of the program when it only prints its version", "<= 64 MB"},
		{"make", "memory of make, every row", "<= 1.5 B per byte of the base + 256 MB"},
	} {
		if w, ok := worst[t.kind]; ok {
			v := judge(t.what, t.target, w.part <= 1, w.text)
			if v.state == "met" && !r.complete(c) {
				v.state = "incomplete"
			}
			all = append(all, v)
		} else {
			all = append(all, missing(t.what, t.target))
		}
	}
	return all
}

// complete says whether every pair has a row at the slowest level.
func (r *Results) complete(c *Corpus) bool {
	for _, p := range c.Pairs {
		if r.row(p.Name, toolMax) == nil {
			return false
		}
	}
	return true
}

func bigTarget(r *Results) verdict {
	what, target := "synthetic pair above 2 GiB under a limit of memory", "right, make <= 1.5 B/B + 256 MB, apply <= 64 MB"
	if len(r.Big) == 0 || r.Quick {
		return missing(what, target)
	}
	ok, text := true, []string{}
	for _, w := range r.Big {
		if w.Error != "" {
			return judge(what, target, false, "failed, level "+w.Level)
		}
		ok = ok && !w.MakeOver && !w.ApplyOver && w.Make.RSS <= makeLimit(w.OldSize) && w.Apply.RSS <= weightsLimit && w.NewSize > 2<<30
		text = append(text, fmt.Sprintf("%s: make %.0f MB, apply %.0f MB (of which the idle program has %.0f)", w.Level,
			float64(w.Make.RSS)/mega, float64(w.Apply.RSS)/mega, float64(r.Idle.RSS)/mega))
	}
	return judge(what, target, ok, strings.Join(text, "; "))
}
