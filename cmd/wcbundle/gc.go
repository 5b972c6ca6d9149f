package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/install"
)

func gcCommand() *cli.Command {
	return &cli.Command{
		Name: "gc", Usage: "remove from the site's registry what nothing needs any more",
		Description: "Kept is what runs, what waits, what a revision inside the rollback window or an open operation uses, what the newest inventory\n" +
			"promises, and models that are still callable. What no load of this site has brought is never touched. See docs/retention.md.\n\n" +
			"Example:\n   wcbundle registry gc --dry-run\n   wcbundle registry gc --keep 5",
		Flags: cleanFlags(&cli.BoolFlag{Name: "dry-run", Usage: "explain, and change nothing; -o json has every blob"},
			&cli.IntFlag{Name: "keep", Value: install.DefaultKeep, Usage: "revisions besides the current one that rollback can go back to"}),
		Action: collectGarbage,
	}
}

func collectGarbage(c *cli.Context) error {
	if c.Int("keep") < 1 {
		return usageError{"--keep 0 would make rollback impossible: keep at least 1"}
	}
	t, opt, err := cleaning(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		rep, err := install.PlanGC(c.Context, t, opt)
		if err != nil {
			return err
		}
		return show(c, rep, func(w io.Writer) error { return gcTable(w, rep) })
	}
	agreed := false
	rep, err := install.GC(c.Context, t, opt, func(rep *install.GCReport) (bool, error) {
		if agreed = rep.Nothing(); agreed {
			return true, nil
		}
		var err error
		agreed, err = confirm(c, fmt.Sprintf("remove %s, %d blobs (%s)?", strings.Join(goingOf(rep), ", "), rep.Removed.Blobs, size(rep.Removed.Bytes)))
		return agreed, err
	})
	if err != nil || !agreed {
		return err
	}
	return show(c, rep, func(w io.Writer) error { return gcTable(w, rep) })
}

func goingOf(rep *install.GCReport) []string {
	var out []string
	for _, f := range rep.Releases {
		if len(f.Keep) == 0 {
			out = append(out, f.Version)
		}
	}
	return out
}

func gcTable(w io.Writer, rep *install.GCReport) error {
	verb := "removed"
	if rep.DryRun {
		verb = "would remove"
	}
	fmt.Fprintf(w, "RELEASE\tCHANNEL\tSEQUENCE\tFATE\tWHY\n")
	for _, f := range rep.Releases {
		fate, why := verb, []string{f.Remove}
		if len(f.Keep) > 0 {
			fate, why = "kept", nil
			for _, r := range f.Keep {
				why = append(why, r.Text)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", f.Version, f.Channel, f.Sequence, fate, strings.Join(why, "; "))
	}
	fmt.Fprintln(w)
	for _, s := range rep.Sums {
		fmt.Fprintf(w, "kept\t%d blobs, %s\t%s\n", s.Blobs, size(s.Bytes), becauseText[s.Because])
	}
	fmt.Fprintf(w, "%s\t%d blobs, %s\tnothing needs them\n", verb, rep.Removed.Blobs, size(rep.Removed.Bytes))
	for _, f := range rep.Foreign {
		fmt.Fprintf(w, "not ours\t%s\tuntouched\n", f)
	}
	for _, v := range rep.Lost {
		fmt.Fprintf(w, "lost\t%s\tthe registry does not have the list of its content any more: what is left of it cannot be told from what is not ours\n", v)
	}
	if !rep.Asked {
		fmt.Fprintf(w, "note\tno cluster was named (--kubeconfig): only what was dropped goes, unless --%s\n", blindFlag)
	}
	switch {
	case rep.Swept != nil:
		fmt.Fprintf(w, "freed\t%d blobs and %d uploads that were broken off, %s\n", rep.Swept.Blobs, rep.Swept.Uploads, size(rep.Swept.Bytes))
	case !rep.Frees:
		fmt.Fprintf(w, "note\tthis registry frees the bytes by its own garbage collection: run that too\n")
	}
	return nil
}

var becauseText = map[install.Because]string{
	install.BecauseRuns: "of what runs", install.BecauseOperation: "of an open operation", install.BecauseRevision: "of revisions that rollback can go back to",
	install.BecauseWaits: "of what waits to be applied", install.BecausePromised: "of bases that the newest inventory promises",
	install.BecauseModel: "of models that are still callable", install.BecauseUnknown: "because the cluster was not asked", install.BecauseForeign: "because something needs them that is not ours",
}
