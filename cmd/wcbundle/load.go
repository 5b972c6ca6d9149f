package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/sign"
)

func load(c *cli.Context) error {
	s, err := openSite(c)
	if err != nil {
		return err
	}
	f, err := bundle.OpenFile(c.Args().First())
	if err != nil {
		return err
	}
	defer f.Close()
	start := time.Now()
	rep, err := s.load(c, f)
	if err != nil {
		return err
	}
	took := time.Since(start).Round(100 * time.Millisecond)
	return show(c, rep, func(w io.Writer) error {
		fmt.Fprintf(w, "loaded\t%s %s in %s\n", s.record.Product, rep.Version, took)
		fmt.Fprintf(w, "head\t%s\n", rep.Head.Digest)
		fmt.Fprintf(w, "content\t%d blobs, %s: %s were there, %s pushed, %s rebuilt from %s of deltas\n", rep.Blobs, size(rep.Total), size(rep.There), size(rep.Pushed), size(rep.Rebuilt), size(rep.Deltas))
		if len(rep.Healed) > 0 {
			fmt.Fprintf(w, "healed\t%d blobs whose copy in the registry was damaged: %s\n", len(rep.Healed), strings.Join(rep.Healed, ", "))
		}
		fixesTable(w, rep)
		_, err := fmt.Fprintf(w, "next\twcbundle preflight, wcbundle plan, wcbundle apply\n")
		return err
	})
}

// fixesTable says what a loaded release fixes, and what it would undo.
func fixesTable(w io.Writer, rep install.LoadReport) {
	if len(rep.Fixes) > 0 {
		fmt.Fprintf(w, "fixes\t%s\n", strings.Join(rep.Fixes, ", "))
	}
	for _, l := range rep.Undoes {
		fmt.Fprintf(w, "warning\tit would undo the fix of %s (release %s), which runs: apply will refuse it\n", strings.Join(l.Fixes, ", "), l.Version)
	}
}

func (s *site) load(c *cli.Context, f *bundle.File) (install.LoadReport, error) {
	change, err := s.record.UpdateTrustFrom(c.Context, f, s.store, time.Now())
	if err != nil {
		return install.LoadReport{}, err
	}
	if change != nil {
		if err := changeTable(c.App.ErrWriter, *change); err != nil {
			return install.LoadReport{}, err
		}
	}
	p, err := s.record.Policy(time.Now())
	if c.Bool("rehash") && err == nil {
		p, err = s.record.PolicyAgain(f, time.Now())
	}
	if err != nil {
		return install.LoadReport{}, err
	}
	opt, done, err := s.loadOptions(c)
	if err != nil {
		return install.LoadReport{}, err
	}
	defer done()
	return loadFile(c.Context, f, p, opt)
}

// loadOptions is what the flags of load say; done gives back what was opened for it.
func (s *site) loadOptions(c *cli.Context) (opt install.LoadOptions, done func(), err error) {
	reg, err := s.patientRegistry(c, c.Duration("stall"))
	if err != nil {
		return opt, nil, err
	}
	dir, err := stateDir(c)
	if err != nil {
		return opt, nil, err
	}
	scratch, clean, err := scratchDir(c)
	if err != nil {
		return opt, nil, err
	}
	kept, err := openKept(c.StringSlice("base"))
	if err != nil {
		clean()
		return opt, nil, err
	}
	m := newMeter(c, "loading")
	opt = install.LoadOptions{Registry: reg, Record: s.record, Store: s.store, Now: time.Now(), Scratch: scratch, Kept: kept,
		MoveTags: c.Bool("move-tags"), Rehash: c.Bool("rehash"),
		Journal:  filepath.Join(dir, c.String("namespace"), "load.journal"),
		Progress: m.load,
		Room:     func(r install.Room) { fmt.Fprintln(c.App.ErrWriter, roomLine(r)) },
		Retry: func(d ocispec.Descriptor, err error, wait time.Duration) {
			what := ""
			if d.Digest != "" {
				what = fmt.Sprintf("blob %.19s: ", d.Digest)
			}
			fmt.Fprintf(c.App.ErrWriter, "%s%v; again in %s\n", what, err, wait)
		}}
	return opt, func() {
		m.end()
		clean()
		for _, f := range kept {
			f.Close()
		}
	}, nil
}

func openKept(paths []string) ([]*bundle.File, error) {
	var kept []*bundle.File
	for _, path := range paths {
		f, err := bundle.OpenFile(path)
		if err != nil {
			for _, f := range kept {
				f.Close()
			}
			return nil, err
		}
		kept = append(kept, f)
	}
	return kept, nil
}

// roomLine tells what a patch will take of the scratch folder.
func roomLine(r install.Room) string {
	how := fmt.Sprintf("%d blobs at once", r.Parallel)
	if r.Parallel == 1 {
		how = "one blob at a time"
	}
	if !r.Copies {
		how += ", bases read part by part from the registry: there is no room for copies of them"
	}
	return fmt.Sprintf("scratch: up to %s of the %s free in %s; %s", size(r.Need), size(r.Free), r.Dir, how)
}

func loadFile(ctx context.Context, f *bundle.File, p sign.Policy, opt install.LoadOptions) (install.LoadReport, error) {
	frugal(frugalApply)
	if f.IsPatch() {
		v, err := bundle.OpenPatch(ctx, f, p)
		if err != nil {
			return install.LoadReport{}, err
		}
		return install.LoadPatch(ctx, f, v, opt)
	}
	v, err := bundle.Open(ctx, f, p)
	if err != nil {
		return install.LoadReport{}, err
	}
	return install.Load(ctx, f, v, opt)
}
