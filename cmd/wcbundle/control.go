package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/rollout"
)

// runLimitFlags say how far one run of an operation goes.
func runLimitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "until", Usage: "go on hold when this pool is done"},
		&cli.StringSliceFlag{Name: "only", Usage: "replace only this pool and go on hold; may be repeated"},
		&cli.StringFlag{Name: "window", Usage: "the change window, from now (4h) or by this machine's clock (22:00-04:00): no pool is begun after it"},
	}
}

// controlCommands act on an operation that is under way.
func controlCommands() []*cli.Command {
	flags := func(more ...cli.Flag) []cli.Flag { return append(siteFlags(), more...) }
	values := []cli.Flag{&cli.StringSliceFlag{Name: "values", Aliases: []string{"f"}, Usage: "the site's values, as apply had them; may be repeated"}, scratchFlag}
	reason := func(required bool) cli.Flag {
		return &cli.StringFlag{Name: "reason", Usage: "for the record", Required: required}
	}
	return []*cli.Command{
		{
			Name: "resume", Usage: "go on with an operation that was cut off or is on hold", Category: "install side",
			Description: "A gate that could not say is asked again; --accept takes it as passed, and the record keeps who said so and why.\n\n" +
				"Example:\n   wcbundle resume -f values.yaml\n   wcbundle resume --accept err-rate --reason \"no calls at night\"",
			Flags: flags(append(append(values, &cli.StringSliceFlag{Name: "accept", Usage: "take a gate that could not say as passed; with --reason"}, reason(false),
				outputFlag, detachFlag), runLimitFlags()...)...),
			Action: func(c *cli.Context) error { return runContinue(c, "", false) },
		},
		{
			Name: "abort", Usage: "turn an operation back, whoever runs it", Category: "install side",
			Description: "The revision that ran before runs again, pool by pool, the one under way first.\n\nExample:\n   wcbundle abort --reason \"window closes\"",
			Flags:       flags(append(values, reason(true), outputFlag)...),
			Action:      func(c *cli.Context) error { return runContinue(c, c.String("reason"), false) },
		},
		{
			Name: "pause", Usage: "put an operation on hold at the next safe point, whoever runs it", Category: "install side",
			Description: "A pool that rolls is held again and its pods under way come up; replicas that go one by one are not cut off in between.\n\nExample:\n   wcbundle pause --reason \"users complain\"",
			Flags:       flags(reason(false), outputFlag), Action: runPause,
		},
		{
			Name: "finalize", Usage: "let CRDs store what the release that runs stores, and drop what it does not have", Category: "install side",
			Description: "After this no revision is gone back to that needs the old versions. Objects that would lose a field are named, and their CRD is left.\n\n" +
				"Example:\n   wcbundle finalize",
			Flags: flags(&cli.BoolFlag{Name: "yes", Usage: "do not ask"}, outputFlag), Action: runFinalize,
		},
		{
			Name: "canary", Usage: "decide about the canary that an operation waits with", Category: "install side",
			Description: "apply --canary POOL=1 replaces one replica of a pool, or apply --canary POOL a whole pool, such as one with a new model beside the\n" +
				"old, behind the same gates, and then waits.\n\nExample:\n   wcbundle canary promote",
			Subcommands: []*cli.Command{
				{
					Name: "promote", Usage: "let the other replicas and pools follow",
					Description: "Example:\n   wcbundle canary promote -f values.yaml --reason \"answers are better\"",
					Flags:       flags(append(append(values, reason(false), outputFlag), runLimitFlags()...)...),
					Action:      func(c *cli.Context) error { return runContinue(c, "", true) },
				},
				{
					Name: "drop", Usage: "go back to what ran before",
					Description: "Example:\n   wcbundle canary drop --reason \"answers are worse\"",
					Flags:       flags(append(values, reason(true), outputFlag)...),
					Action:      func(c *cli.Context) error { return runDrop(c) },
				},
			},
		},
	}
}

// readLimits are those of the flags.
func readLimits(c *cli.Context, now time.Time) (rollout.Limits, error) {
	l := rollout.Limits{Until: c.String("until"), Only: c.StringSlice("only")}
	if l.Until != "" && len(l.Only) > 0 {
		return l, usageError{"--until and --only are two ways to say the same: take one"}
	}
	var err error
	if w := c.String("window"); w != "" {
		l.WindowEnd, err = windowEnd(w, now)
	}
	return l, err
}

// windowEnd reads 4h, or 22:00-04:00 in the time zone of now. A window that is not open is a mistake, not something to wait for.
func windowEnd(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d).Truncate(time.Second), nil
	}
	from, to, ok := strings.Cut(text, "-")
	a, errA := time.Parse("15:04", from)
	b, errB := time.Parse("15:04", to)
	if !ok || errA != nil || errB != nil || a.Equal(b) {
		return time.Time{}, usageError{fmt.Sprintf("--window %.40q is neither a duration such as 4h nor times such as 22:00-04:00", text)}
	}
	at := func(t time.Time) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), 0, 0, now.Location())
	}
	begin, end := at(a), at(b)
	if !begin.Before(end) { // over midnight
		if now.Before(end) {
			begin = begin.AddDate(0, 0, -1)
		} else {
			end = end.AddDate(0, 0, 1)
		}
	}
	if now.Before(begin) || !now.Before(end) {
		return time.Time{}, usageError{fmt.Sprintf("--window %s is not open: it is %s here", text, now.Format("15:04"))}
	}
	return end, nil
}

// readTrial reads --canary POOL or POOL=REPLICAS.
func readTrial(text string) (*rollout.Trial, error) {
	if text == "" {
		return nil, nil
	}
	pool, n, counted := strings.Cut(text, "=")
	t := &rollout.Trial{Pool: pool}
	if counted {
		var err error
		if t.Replicas, err = strconv.Atoi(n); err != nil || t.Replicas < 1 {
			return nil, usageError{fmt.Sprintf("--canary %.60s: write POOL, or POOL=1 for one of its replicas", text)}
		}
	}
	return t, nil
}

// calm gives the context in which an operation runs. The first Ctrl-C, or TERM, is a wish to pause at the next safe point; the second ends
// the run where it is, which resume takes up.
func calm(c *cli.Context, w io.Writer) (ctx context.Context, stop <-chan struct{}, done func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context))
	again := make(chan os.Signal, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-ctx.Done():
			return
		case <-c.Context.Done():
		}
		fmt.Fprintln(w, "wcbundle: pausing at the next safe point; once more: leave at once, and everything stays as it is then")
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(again)
		select {
		case <-ctx.Done():
		case <-again:
			cancel()
		}
	}()
	return ctx, c.Context.Done(), func() { cancel(); <-ended }
}

func runPause(c *cli.Context) error {
	t, _, opt, err := operationOptions(c)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.App.ErrWriter, "waiting for the next safe point")
	out, err := install.Pause(c.Context, t, opt)
	if err == nil && out.Phase == rollout.Held {
		return show(c, out, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "on hold\t%s\n", out.Reason)
			return err
		})
	}
	return finish(c, out, err)
}

// runDrop goes back, if it is a canary that the operation waits with.
func runDrop(c *cli.Context) error {
	t, _, err := target(c)
	if err != nil {
		return err
	}
	op, err := install.Operation(c.Context, t)
	if err != nil {
		return err
	}
	if op.Phase != rollout.Held || op.HeldFor != rollout.HeldForCanary {
		return fmt.Errorf("operation %s is %s and waits with no canary: wcbundle abort turns any operation back", op.ID, op.Phase)
	}
	return runContinue(c, c.String("reason"), false)
}

func runContinue(c *cli.Context, abort string, promote bool) error {
	t, s, opt, err := operationOptions(c)
	if err != nil {
		return err
	}
	if len(opt.Accept) > 0 && opt.Reason == "" {
		return usageError{"--accept takes a gate as passed that did not say so: say why with --reason"}
	}
	opt.Promote = promote
	if c.Bool("detach") {
		return s.detach(c, func(a install.DetachedAccess) (install.Detached, error) {
			return install.DetachResume(c.Context, t, opt, a)
		})
	}
	ctx, stop, done := calm(c, c.App.ErrWriter)
	defer done()
	opt.Stop = stop
	out, err := install.Continue(ctx, t, abort, opt)
	if abort != "" && err == nil && out.Phase == rollout.RolledBack { // what was asked for
		return show(c, out, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "rolled back\trevision %d runs again, as revision %d\n", out.FromRevision, out.RollbackRevision)
			return err
		})
	}
	return finish(c, out, err)
}

func runFinalize(c *cli.Context) error {
	t, _, err := target(c)
	if err != nil {
		return err
	}
	f, err := install.NewFinalization(c.Context, t)
	if err != nil {
		return err
	}
	if err := show(c, f, func(w io.Writer) error { return finalizeTable(w, f) }); err != nil {
		return err
	}
	if f.Nothing() {
		return nil
	}
	if ok, err := confirm(c, "give up the way back to revisions that need the old versions?"); err != nil || !ok {
		return err
	}
	if err := f.Do(c.Context, t, version); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.App.ErrWriter, "done")
	return err
}

func finalizeTable(w io.Writer, f *install.Finalization) error {
	if len(f.CRDs) == 0 {
		_, err := fmt.Fprintln(w, "there is nothing to finalize")
		return err
	}
	for _, t := range f.CRDs {
		fmt.Fprintf(w, "CRD\t%s\n", t.CRD)
		if t.Storage != "" {
			fmt.Fprintf(w, "  store\t%s from now on\n", t.Storage)
		}
		if t.Storage != "" || len(t.Trim) > 0 {
			fmt.Fprintf(w, "  write anew\t%d objects; nothing is stored in %s any more\n", t.Objects, strings.Join(t.Trim, ", "))
		}
		for _, l := range t.Losses {
			fmt.Fprintf(w, "  left\t%s\n", l)
		}
		if len(t.Losses) == 0 {
			for _, d := range t.Drop {
				fmt.Fprintf(w, "  drop\t%s\n", d)
			}
		}
	}
	return nil
}
