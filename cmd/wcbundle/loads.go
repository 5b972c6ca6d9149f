package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/install"
)

const blindFlag = "without-asking-the-cluster"

// cleanFlags are those of commands that take something away from the site.
func cleanFlags(more ...cli.Flag) []cli.Flag {
	return append(append(siteFlags(),
		&cli.BoolFlag{Name: blindFlag, Usage: "go by the site's record alone: what Helm revisions need is not known and may be lost"},
		&cli.BoolFlag{Name: "yes", Usage: "do not ask"}, outputFlag), more...)
}

func loadsCommand() *cli.Command {
	return &cli.Command{
		Name: "loads", Usage: "list what was loaded and what became of it", Category: "install side",
		Description: "runs, waits (to be applied), in revision N (rollback can go back to it), or earlier: registry gc removes it.\n\n" +
			"Example:\n   wcbundle loads\n   wcbundle loads drop 2.9.0",
		Flags: append(siteFlags(), outputFlag), Action: listLoads,
		Subcommands: []*cli.Command{{
			Name: "drop", Usage: "take back a load that is not applied", ArgsUsage: "VERSION",
			Description: "The release is no longer offered to plan and apply; what the site has accepted stays accepted. Its content is freed by\n" +
				"registry gc. Loading the same file brings it back.\n\nExample:\n   wcbundle loads drop --reason \"wrong window\" 2.9.0",
			Flags: cleanFlags(&cli.StringFlag{Name: "reason", Usage: "for the record"}), Action: dropLoad,
		}},
	}
}

// cleaning opens the site for a command that takes something away.
func cleaning(c *cli.Context) (install.Target, install.CleanOptions, error) {
	s, err := openSite(c)
	if err != nil {
		return install.Target{}, install.CleanOptions{}, err
	}
	reg, err := s.registry(c)
	if err != nil {
		return install.Target{}, install.CleanOptions{}, err
	}
	dir, err := stateDir(c)
	return install.Target{Access: s.access, Registry: reg, Record: s.record, Now: time.Now()},
		install.CleanOptions{Store: s.store, Journal: filepath.Join(dir, c.String("namespace"), "load.journal"), Blind: c.Bool(blindFlag), Keep: c.Int("keep"), Tool: version}, err
}

func listLoads(c *cli.Context) error {
	t, opt, err := cleaning(c)
	if err != nil {
		return err
	}
	use, err := install.ReadUse(c.Context, t, install.DefaultKeep)
	if err != nil {
		return err
	}
	unfinished, err := install.ReadJournal(opt.Journal)
	if err != nil {
		return err
	}
	list := install.ListLoads(t.Record, use, unfinished)
	return show(c, list, func(w io.Writer) error { return loadsTable(w, list) })
}

func loadsTable(w io.Writer, list install.LoadList) error {
	fmt.Fprintf(w, "VERSION\tCHANNEL\tSEQUENCE\tLOADED\tBY\tSIZE\tSTATE\n")
	for _, l := range list.Loads {
		bytes := "unknown"
		if l.Size > 0 {
			bytes = size(l.Size)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\t%s\t%s\n", l.Version, l.Channel, l.Sequence, l.At.Format(time.RFC3339), l.By, bytes, l.State)
	}
	if u := list.Unfinished; u != nil {
		what := "unfinished: load the same file again"
		if u.Running {
			what = "goes on"
		}
		fmt.Fprintf(w, "%s\t\t\t\t\t%d blobs\t%s\n", u.What, u.Blobs, what)
	}
	for _, d := range list.Dropped {
		state := "its content is freed by wcbundle registry gc"
		switch {
		case !d.Back.IsZero():
			continue
		case !d.Freed.IsZero():
			state = "its content is gone"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t\t\tdropped %s (%s); %s\n", d.Version, d.Channel, d.Sequence, d.Loaded.Format(time.RFC3339), d.At.Format(time.RFC3339), d.Why, state)
	}
	return nil
}

func dropLoad(c *cli.Context) error {
	t, opt, err := cleaning(c)
	if err != nil {
		return err
	}
	what := c.Args().First()
	if ok, err := confirm(c, "drop release "+what+"?"); err != nil || !ok {
		return err
	}
	why := strings.TrimSpace(c.String("reason"))
	if why == "" {
		why = "wcbundle loads drop"
	}
	rep, err := install.Drop(c.Context, t, what, why, opt)
	if err != nil {
		return err
	}
	return show(c, rep, func(w io.Writer) error {
		fmt.Fprintf(w, "dropped\t%s (head %.19s)\n", rep.Version, rep.Head)
		if rep.Promised {
			fmt.Fprintf(w, "warning\tthe newest inventory names it: a patch that the vendor makes from it cannot be loaded here\n")
		}
		if rep.Tagged {
			fmt.Fprintf(w, "warning\tthe registry lets nobody delete: its tags are still there\n")
		}
		_, err := fmt.Fprintf(w, "next\twcbundle registry gc frees its content\n")
		return err
	})
}
