package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/install/preflight"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/rollout"
)

func rolloutCommands() []*cli.Command {
	values := []cli.Flag{
		&cli.StringSliceFlag{Name: "values", Aliases: []string{"f"}, Usage: "the site's values, laid over the release's; may be repeated"},
		&cli.StringFlag{Name: "release", Usage: "version to take; default: the newest that is loaded"},
		scratchFlag,
	}
	onFailure := &cli.StringFlag{Name: "on-failure", Value: "rollback", Usage: "rollback, or hold to look first"}
	fetch := &cli.StringFlag{Name: "prefetch", Value: rollout.FetchTry, Usage: "bring images and models to a pool's nodes before it is drained: try, required, or off"}
	yes := &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
	flags := func(more ...cli.Flag) []cli.Flag { return append(siteFlags(), more...) }
	return []*cli.Command{
		{
			Name: "preflight", Usage: "find what would break the upgrade before it starts", Category: "install side",
			Description: "Exit code 20 when something blocks. Example:\n   wcbundle preflight -f values.yaml",
			Flags:       flags(append(values, outputFlag)...), Action: runPreflight,
		},
		{
			Name: "plan", Usage: "show what apply would do, by a dry run against the cluster", Category: "install side",
			Description: "Example:\n   wcbundle plan -f values.yaml",
			Flags:       flags(append(values, outputFlag)...), Action: runPlan,
		},
		{
			Name: "apply", Usage: "upgrade pool by pool inside one Helm revision", Category: "install side",
			Description: "Replicas are replaced one by one; each pool must pass its gates before the next is touched. A failed gate brings\n" +
				"the site back by itself (exit code 21). Before a pool is drained, its images and models are brought to its nodes (docs/models.md).\n\nExample:\n   wcbundle apply -f values.yaml",
			Flags: flags(append(append(values, onFailure, fetch, yes, outputFlag, detachFlag,
				&cli.StringFlag{Name: "canary", Usage: "replace this pool first, or POOL=1 one replica of it, and wait until it is promoted or dropped"},
				&cli.StringFlag{Name: "prometheus", EnvVars: []string{"WCBUNDLE_PROMETHEUS"}, Usage: "NAMESPACE/SERVICE:PORT of this site's Prometheus, where the gates' own is not right"}), runLimitFlags()...)...), Action: runApply,
		},
		{
			Name: "status", Usage: "show what runs and the operation under way", Category: "install side",
			Description: "Example:\n   wcbundle status --watch",
			Flags:       flags(&cli.BoolFlag{Name: "watch", Usage: "until the operation ends"}, outputFlag), Action: runStatus,
		},
		{
			Name: "history", Usage: "list the revisions with what became of them", Category: "install side",
			Description: "Example:\n   wcbundle history",
			Flags:       flags(outputFlag), Action: runHistory,
		},
		{
			Name: "rollback", Usage: "go back to an earlier revision", ArgsUsage: "[REVISION]", Category: "install side",
			Description: "previous is the newest revision that fully succeeded and differs from what runs. Data is not touched.\n\n" +
				"Example:\n   wcbundle rollback --to previous\n   wcbundle rollback --to rev 14",
			Flags: flags(&cli.StringFlag{Name: "to", Usage: "previous, a revision, or rev and a revision", Required: true},
				&cli.StringFlag{Name: "despite-revocation", Usage: "go back to a release that was revoked; the text says why, for the record"}, fetch, yes, outputFlag, scratchFlag, detachFlag), Action: runRollback,
		},
	}
}

// target opens the site and its registry for a command that needs the cluster.
func target(c *cli.Context) (install.Target, *site, error) {
	s, err := openSite(c)
	if err != nil {
		return install.Target{}, nil, err
	}
	if s.access == nil {
		return install.Target{}, nil, usageError{c.Command.Name + " needs the cluster: name it with --kubeconfig or KUBECONFIG"}
	}
	reg, err := s.registry(c)
	if err != nil {
		return install.Target{}, nil, err
	}
	t := install.Target{Access: s.access, Registry: reg, Record: s.record, Version: c.String("release"), Scratch: c.String("scratch"), Now: time.Now()}
	if t.Scratch == "" {
		t.Scratch = os.TempDir()
	}
	if news, err := install.Observe(c.Context, t); err == nil && news { // what cannot be read is told by what needs it
		if err := s.store.Save(c.Context, t.Record); err != nil {
			return t, nil, err
		}
	}
	for _, f := range c.StringSlice("values") {
		raw, err := os.ReadFile(f)
		if err != nil {
			return t, nil, err
		}
		v, err := bundle.ParseValues(f, raw)
		if err != nil {
			return t, nil, err
		}
		t.Values = bundle.MergeValues(t.Values, v)
	}
	return t, s, nil
}

func runPreflight(c *cli.Context) error {
	t, _, err := target(c)
	if err != nil {
		return err
	}
	p, err := install.NewPlan(c.Context, t)
	if err != nil {
		return err
	}
	if err := show(c, p.Report, func(w io.Writer) error { return reportTable(w, p.Report, true) }); err != nil {
		return err
	}
	return blockers(p)
}

func reportTable(w io.Writer, r preflight.Report, all bool) error {
	n := r.Count()
	for _, x := range r.Results {
		if x.Verdict == preflight.Pass && !all {
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", x.Verdict, x.ID, x.Subject, x.Message)
		if x.Remedy != "" && x.Verdict != preflight.Pass {
			fmt.Fprintf(w, "\t\t\t-> %s\n", x.Remedy)
		}
	}
	_, err := fmt.Fprintf(w, "preflight: %d pass, %d warn, %d fail, %d unknown\n", n[preflight.Pass], n[preflight.Warned], n[preflight.Fail], n[preflight.Unknown])
	return err
}

// blockers is why nothing can be applied; nil when it can.
func blockers(p *install.Plan) error {
	if who := p.Report.AtWork(); who != "" {
		return fmt.Errorf("%w: %s", rollout.ErrLocked, who)
	}
	var faults []error
	for _, b := range p.Blocking {
		faults = append(faults, errors.New(b))
	}
	for _, x := range p.Report.Results {
		if x.Blocks() {
			faults = append(faults, fmt.Errorf("%s %s: %s", x.ID, x.Subject, x.Message))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return errors.Join(append([]error{errPreflight}, faults...)...)
}

func runPlan(c *cli.Context) error {
	t, _, err := target(c)
	if err != nil {
		return err
	}
	p, err := install.NewPlan(c.Context, t)
	if err != nil {
		return err
	}
	if err := show(c, p, func(w io.Writer) error { return planTable(w, p) }); err != nil {
		return err
	}
	return blockers(p)
}

func planTable(w io.Writer, p *install.Plan) error {
	fmt.Fprintf(w, "Release %s (head %.19s, signed by %.12s)   Helm revision %d -> %d", p.Version, p.Head, strings.Join(p.Signers, ", "), p.From, p.Next)
	if p.Running != "" {
		fmt.Fprintf(w, "   running %s", p.Running)
	}
	fmt.Fprint(w, "\n")
	if p.Consent.Need > 0 {
		fmt.Fprintf(w, "Approved here by %d of the %d that this site asks for\n", len(p.Consent.By), p.Consent.Need)
	}
	for _, f := range p.Fixes {
		fmt.Fprintf(w, "Fixes %s in %s\n", f.ID, strings.Join(f.In, ", "))
	}
	fmt.Fprintf(w, "Pods made at run time: %s\n", p.RunTime.Means())
	for _, l := range p.Left {
		fmt.Fprintf(w, "Not rewritten: %s\n", l)
	}
	fmt.Fprintf(w, "\nPOOL\tOBJECT\tCHANGE\tWHY\n")
	changeRows(w, p.Changes)
	fmt.Fprintln(w)
	rollsText(w, p.Turns, p.Stays)
	return reportTable(w, p.Report, false)
}

func changeRows(w io.Writer, changes []revision.Change) {
	same := 0
	for _, ch := range changes {
		for _, e := range ch.Edited {
			fmt.Fprintf(w, "-\t%s/%s\tedited\tby hand, and set back: %s\n", ch.Kind, ch.Name, e)
		}
		if ch.Class == revision.ClassNone {
			same++
			continue
		}
		pool := ch.Pool
		if pool == "" {
			pool = "-"
		}
		fmt.Fprintf(w, "%s\t%s/%s\t%s\t%s\n", pool, ch.Kind, ch.Name, ch.Class, strings.Join(ch.Why, "; "))
	}
	if same > 0 {
		fmt.Fprintf(w, "-\t%d objects stay as they are\tnone\t\n", same)
	}
}

func rollsText(w io.Writer, turns []install.Turn, stays []string) {
	if len(turns) == 0 {
		fmt.Fprintln(w, "No pod is replaced.")
		return
	}
	fmt.Fprintf(w, "IN THIS ORDER\tWORKLOAD\tREPLICAS\tHOW\n")
	for _, t := range turns {
		how := t.How
		if t.Note != "" {
			how += " (" + t.Note + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s; %s\n", t.Pool, t.Workload, t.Replicas, how, counted(t.Gates, "gate"))
	}
	fmt.Fprintln(w)
	if len(stays) > 0 {
		fmt.Fprintf(w, "Not touched: %s.\n", strings.Join(stays, ", "))
	}
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func runApply(c *cli.Context) error {
	if f := c.String("on-failure"); f != rollout.OnFailureRollback && f != rollout.OnFailureHold {
		return usageError{fmt.Sprintf("--on-failure %q is neither rollback nor hold", f)}
	}
	if err := checkPrefetch(c); err != nil {
		return err
	}
	t, s, opt, err := operationOptions(c)
	if err != nil {
		return err
	}
	p, err := install.NewPlan(c.Context, t)
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(c.App.ErrWriter, 0, 4, 2, ' ', 0)
	if err := errors.Join(planTable(tw, p), tw.Flush()); err != nil {
		return err
	}
	if err := blockers(p); err != nil {
		return err
	}
	if p.Nothing() {
		fmt.Fprintf(c.App.Writer, "release %s runs already: nothing to change\n", p.Version)
		return nil
	}
	if err := p.Allows(opt.Limits, opt.Trial); err != nil {
		return usageError{err.Error()}
	}
	if !p.Consent.Given() {
		return &install.ConsentError{Version: p.Version, Consent: p.Consent}
	}
	if ok, err := confirm(c, "apply release "+p.Version+"?"); err != nil || !ok {
		return err
	}
	if c.Bool("detach") {
		return s.detach(c, func(a install.DetachedAccess) (install.Detached, error) {
			return install.DetachApply(c.Context, t, p, opt, a)
		})
	}
	ctx, stop, done := calm(c, c.App.ErrWriter)
	defer done()
	opt.Stop = stop
	out, err := install.Apply(ctx, t, p, opt)
	return finish(c, out, err)
}

func checkPrefetch(c *cli.Context) error {
	switch p := c.String("prefetch"); p {
	case rollout.FetchTry, rollout.FetchRequired, rollout.FetchOff:
		return nil
	default:
		return usageError{fmt.Sprintf("--prefetch %q is neither try, required nor off", p)}
	}
}

// operationOptions are the target, and how an operation on it is to be run, by the flags.
func operationOptions(c *cli.Context) (install.Target, *site, install.ApplyOptions, error) {
	t, s, err := target(c)
	if err != nil {
		return t, s, install.ApplyOptions{}, err
	}
	opt, err := applyOptions(c, s)
	return t, s, opt, err
}

func applyOptions(c *cli.Context, s *site) (install.ApplyOptions, error) {
	opt := install.ApplyOptions{Store: s.store, OnFailure: c.String("on-failure"), Prefetch: c.String("prefetch"), OnEvent: lines(c.App.ErrWriter), Tool: version,
		Accept: c.StringSlice("accept"), Reason: c.String("reason"), Despite: c.String("despite-revocation"), Prometheus: c.String("prometheus")}
	var err error
	if opt.Limits, err = readLimits(c, time.Now()); err != nil {
		return opt, err
	}
	opt.Trial, err = readTrial(c.String("canary"))
	return opt, err
}

// lines prints an operation's progress, one line per change.
func lines(w io.Writer) func(rollout.Progress) {
	last := ""
	return func(p rollout.Progress) {
		text := progressText(p)
		if text == last {
			return
		}
		last = text
		fmt.Fprintf(w, "%s %s\n", p.Time.Format("15:04:05"), text)
	}
}

func progressText(p rollout.Progress) string {
	text := string(p.Phase)
	if p.Pool != "" {
		text = fmt.Sprintf("%-10s %s", p.Pool, poolText(p.State, p.Ready, p.Total))
	}
	if p.Reason != "" {
		text += " " + p.Reason
	}
	return text
}

// poolText is how far a pool is: in replicas, or in nodes while its images and models are fetched.
func poolText(state rollout.PoolPhase, ready, total int) string {
	text := fmt.Sprintf("%-10s %d/%d", state, ready, total)
	if state == rollout.PoolFetching {
		text += " nodes"
	}
	return text
}

func finish(c *cli.Context, out rollout.Outcome, err error) error {
	if err != nil {
		return err
	}
	if out.Phase != rollout.Succeeded {
		return outcomeError{out}
	}
	return show(c, out, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "succeeded\trevision %d -> %d\n", out.FromRevision, out.Revision)
		return err
	})
}

// toRevision reads --to previous, --to 14, --to rev14 and --to rev 14.
func toRevision(to string, args []string) (int, error) {
	text := strings.ToLower(to)
	if text == "rev" && len(args) == 1 {
		text, args = args[0], nil
	}
	if len(args) > 0 {
		return 0, usageError{fmt.Sprintf("%q after --to %s: write --to previous, --to 14 or --to rev 14", args[0], to)}
	}
	if text == "previous" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.TrimPrefix(text, "rev"))
	if err != nil || n <= 0 {
		return 0, usageError{fmt.Sprintf("--to %s names no revision: write --to previous, --to 14 or --to rev 14", to)}
	}
	return n, nil
}

func runRollback(c *cli.Context) error {
	if err := checkPrefetch(c); err != nil {
		return err
	}
	to, err := toRevision(c.String("to"), c.Args().Slice())
	if err != nil {
		return err
	}
	t, s, opt, err := operationOptions(c)
	if err != nil {
		return err
	}
	r, err := install.NewRollback(c.Context, t, to)
	if err != nil {
		return err
	}
	if len(r.Reasons) > 0 {
		return &install.ImpossibleError{Revision: r.To.Number, Reasons: r.Reasons}
	}
	w := c.App.ErrWriter
	fmt.Fprintf(w, "Back from revision %d to revision %d (release %s, %s). Data is not touched.\n\n", r.From, r.To.Number, r.To.Bundle, r.To.Updated.Format(time.RFC3339))
	if err := show(c, r, func(out io.Writer) error {
		fmt.Fprintf(out, "POOL\tOBJECT\tCHANGE\tWHY\n")
		changeRows(out, r.Changes)
		fmt.Fprintln(out)
		rollsText(out, r.Turns, r.Stays)
		for _, k := range r.Kept {
			fmt.Fprintf(out, "CRD schemas are not taken back: %s.\n", k)
		}
		for _, l := range r.Undoes {
			fmt.Fprintf(out, "Going back undoes the fix of %s (release %s).\n", strings.Join(l.Fixes, ", "), l.Version)
		}
		if r.Revoked {
			fmt.Fprintf(out, "Release %s was revoked by the vendor.\n", r.To.Bundle)
		}
		return nil
	}); err != nil {
		return err
	}
	if r.Revoked && c.String("despite-revocation") == "" {
		return &install.RevokedError{Version: r.To.Bundle, Revision: r.To.Number}
	}
	if ok, err := confirm(c, fmt.Sprintf("roll back to revision %d?", r.To.Number)); err != nil || !ok {
		return err
	}
	if c.Bool("detach") {
		return s.detach(c, func(a install.DetachedAccess) (install.Detached, error) {
			return install.DetachRollback(c.Context, t, r, opt, a)
		})
	}
	ctx, stop, done := calm(c, w)
	defer done()
	opt.Stop = stop
	out, err := install.Rollback(ctx, t, r, opt)
	if err == nil && out.Phase == rollout.Succeeded {
		fmt.Fprintf(w, "revision %d runs again, as revision %d\n", r.To.Number, out.Revision)
		return nil
	}
	return finish(c, out, err)
}
