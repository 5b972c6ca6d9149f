package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// The options of the command line.
type options struct {
	wcbundle, corpus, out, bench, only, hdiffz string
	runs                                       int
	quick                                      bool
}

// quickPairs is what -quick runs when -only does not choose.
const quickPairs = "libcrypto,libpython,blaze-lite-st,ft-bf16-x100,ft-q80-x100,gzip,wall,big"

func run(args []string, stdout io.Writer) error {
	if len(args) > 0 && args[0] == childCommand {
		return measuredChild(args[1:], stdout)
	}
	if len(args) == 3 && args[0] == writeCommand {
		return hashAndWrite(args[1], args[2])
	}
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "usage: go run . [flags] [fetch] [run] [verify] [load] [page]   (without a command: run verify load page)")
		fs.PrintDefaults()
	}
	fs.StringVar(&o.wcbundle, "wcbundle", "", "the wcbundle `program`; without it only the others are measured")
	fs.StringVar(&o.corpus, "corpus", "corpus", "`folder` of the test files")
	fs.StringVar(&o.out, "out", "../docs", "`folder` of benchmarks.md; results.json and the charts go to its folder benchmarks")
	fs.StringVar(&o.bench, "bench", ".", "`folder` of this module")
	fs.StringVar(&o.only, "only", "", "rows, as `names` with * and ?, separated by commas; gzip, wall and big are rows too")
	fs.StringVar(&o.hdiffz, "hdiffz", lookTool("hdiffz"), "the hdiffz `program`, with hpatchz beside it; without it there is no such column")
	fs.IntVar(&o.runs, "runs", 3, "runs of each timing, of which the median counts; those above 5 s of CPU are run once")
	fs.BoolVar(&o.quick, "quick", false, "a short run on a few small rows; -out is then a temporary folder by default")
	if err := fs.Parse(args); err != nil {
		return err
	}
	commands := fs.Args()
	if len(commands) == 0 {
		commands = []string{"run", "page"}
		if o.wcbundle != "" {
			commands = []string{"run", "verify", "load", "page"}
		}
	}
	if o.quick && o.only == "" {
		o.only = quickPairs
	}
	given := false
	fs.Visit(func(f *flag.Flag) { given = given || f.Name == "out" })
	if o.quick && !given {
		o.out = filepath.Join(os.TempDir(), "wcbench-quick")
	}
	return o.do(commands)
}

func (o *options) do(commands []string) error {
	if err := o.check(commands); err != nil {
		return err
	}
	corpusFile := filepath.Join(o.bench, "corpus.json")
	c, err := loadCorpus(corpusFile)
	if err != nil {
		return err
	}
	if slices.Contains(commands, "fetch") {
		f := &fetcher{dir: o.corpus, bench: o.bench, corpus: c}
		if err := errors.Join(f.fetch(o.chosen), c.save(corpusFile)); err != nil {
			return err
		}
	}
	resultsFile := filepath.Join(o.out, "benchmarks", "results.json")
	res, err := loadResults(resultsFile)
	if err != nil {
		return err
	}
	if slices.Contains(commands, "run") {
		if o.quick || o.only == "" {
			res = &Results{Tools: map[string]string{}} // nothing of an older run stays
		}
		if err := o.measure(c, res, resultsFile); err != nil {
			return err
		}
	}
	if slices.Contains(commands, "verify") {
		if res.Verify, err = o.verify(); err != nil {
			return err
		}
		if err := res.save(resultsFile); err != nil {
			return err
		}
	}
	if slices.Contains(commands, "load") {
		if res.Load, err = o.load(); err != nil {
			return err
		}
		if err := res.save(resultsFile); err != nil {
			return err
		}
	}
	if slices.Contains(commands, "page") {
		if err := writePage(o.out, c, res); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "wrote", filepath.Join(o.out, "benchmarks.md"))
	}
	if failed := res.errors(); len(failed) > 0 {
		return fmt.Errorf("%d rows failed:\n%s", len(failed), strings.Join(failed, "\n"))
	}
	return nil
}

// check refuses wrong options and makes paths absolute, because programs run in other folders.
func (o *options) check(commands []string) error {
	if o.runs < 1 {
		return errors.New("-runs must be at least 1")
	}
	for _, c := range commands {
		if !slices.Contains([]string{"fetch", "run", "verify", "load", "page"}, c) {
			return fmt.Errorf("unknown command %q; flags come before commands", c)
		}
	}
	for _, p := range []*string{&o.corpus, &o.out, &o.bench, &o.wcbundle, &o.hdiffz} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	return nil
}

// measure runs the chosen rows. What was measured is saved even if a later row stops the run.
func (o *options) measure(c *Corpus, res *Results, path string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	r := &runner{
		ctx: ctx, bench: o.bench, corpus: o.corpus, wcbundle: o.wcbundle, hdiffz: o.hdiffz, runs: o.runs, quick: o.quick,
		pairs: c.Pairs, results: res, chosen: o.chosen, saved: func() error { return res.save(path) },
	}
	return r.run()
}

// chosen says whether -only names a row.
func (o *options) chosen(name string) bool {
	if o.only == "" {
		return true
	}
	for _, p := range strings.Split(o.only, ",") {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return false
}
