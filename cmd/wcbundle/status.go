package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/rollout"
	"github.com/wordcab/wcbundle/sign"
)

// siteStatus is what runs, what was accepted, and the newest operation.
type siteStatus struct {
	Site      string                      `json:"site"`
	Product   string                      `json:"product"`
	Installed *install.Installed          `json:"installed,omitempty"`
	Accepted  map[string]install.Accepted `json:"accepted,omitempty"`
	Newest    time.Time                   `json:"newestSignature,omitzero"`
	Trust     trustStatus                 `json:"trust"`
	RunTime   install.RunTime             `json:"runTime"` // how pods made at run time find their images
	Loads     []install.Loaded            `json:"loads,omitempty"`
	Open      []bundle.Contained          `json:"open,omitempty"`    // fixes that are loaded and do not run
	Revoked   bool                        `json:"revoked,omitempty"` // what runs was revoked
	Notes     []install.Note              `json:"notes,omitempty"`
	Operation *rollout.State              `json:"operation,omitempty"`
	Detached  string                      `json:"detached,omitempty"` // the pod that runs it
}

// trustStatus says how old the trust policy is that the site has.
type trustStatus struct {
	Version uint64    `json:"version"`
	Since   time.Time `json:"since,omitzero"`
	Expires string    `json:"expires,omitempty"`
}

func runStatus(c *cli.Context) error {
	s, err := openSite(c)
	if err != nil {
		return err
	}
	if c.Bool("watch") {
		return watch(c)
	}
	if err := s.observe(c); err != nil {
		return err
	}
	st, err := readStatus(c, s)
	if err != nil {
		return err
	}
	return show(c, st, func(w io.Writer) error { return statusTable(w, st, time.Now()) })
}

// observe looks what runs, if the cluster tells: the record is shown with it, and not written.
func (s *site) observe(c *cli.Context) error {
	if s.access == nil {
		return nil
	}
	reg, err := s.registry(c)
	if err != nil {
		return err
	}
	if _, err := install.Observe(c.Context, install.Target{Access: s.access, Registry: reg, Record: s.record}); err != nil {
		fmt.Fprintf(c.App.ErrWriter, "wcbundle: what runs is shown by the site's record, the cluster does not tell: %v\n", err)
	}
	return nil
}

func readStatus(c *cli.Context, s *site) (siteStatus, error) {
	r := s.record
	st := siteStatus{Site: r.Site, Product: r.Product, Installed: r.Installed, Accepted: r.Accepted, Newest: r.ClockFloor, Loads: r.Loads, Open: r.Open(), Notes: r.Notes, RunTime: r.Registry.RunTime.Way()}
	t, err := sign.ParseTrust(r.Trust)
	if err != nil {
		return st, fmt.Errorf("the site's trust policy: %w", err)
	}
	st.Trust = trustStatus{t.Version(), r.TrustAt, t.Form().Expires}
	st.Revoked = r.Installed != nil && t.RevokedHead(string(r.Installed.Head.Digest))
	if s.access == nil || r.Latest() == nil {
		return st, nil
	}
	reg, err := s.registry(c)
	if err != nil {
		return st, err
	}
	release, err := install.ReleaseName(c.Context, install.Target{Access: s.access, Registry: reg, Record: r})
	if err != nil {
		return st, err
	}
	op, err := install.OpenOperation(c.Context, s.access, release)
	if errors.Is(err, rollout.ErrNoOperation) {
		return st, nil
	}
	if err != nil {
		return st, err
	}
	st.Operation = &op
	if !op.Phase.Terminal() {
		if id, pod, err := install.DetachedRun(c.Context, s.access, release); err == nil && id == op.ID { // who may not look at Jobs sees the rest
			st.Detached = pod
		}
	}
	return st, nil
}

func statusTable(w io.Writer, st siteStatus, now time.Time) error {
	fmt.Fprintf(w, "site\t%s\nproduct\t%s\n", st.Site, st.Product)
	if i := st.Installed; i != nil {
		fmt.Fprintf(w, "runs\t%s (revision %d, since %s)\n", i.Version, i.Revision, i.At.Format(time.RFC3339))
	} else {
		fmt.Fprintf(w, "runs\tnothing yet\n")
	}
	if st.Revoked {
		fmt.Fprintf(w, "warning\twhat runs was revoked by the vendor: load the release that replaces it\n")
	}
	for _, o := range st.Open {
		fmt.Fprintf(w, "vulnerable\t%s: fixed by %s, which is loaded and does not run: wcbundle plan --release %s\n", strings.Join(o.Fixes, ", "), o.Version, o.Version)
	}
	for _, channel := range slices.Sorted(maps.Keys(st.Accepted)) {
		fmt.Fprintf(w, "accepted\t%s up to sequence %d\n", channel, st.Accepted[channel].Sequence)
	}
	fmt.Fprintf(w, "trust\tpolicy version %d%s%s\n", st.Trust.Version, daysAgo(", accepted %d days ago", now, st.Trust.Since),
		daysAgo("; newest accepted signature is %d days old", now, st.Newest))
	if st.Trust.Expires != "" {
		fmt.Fprintf(w, "\tit lets nothing in from %s on\n", st.Trust.Expires)
	}
	fmt.Fprintf(w, "run time\t%s\n", st.RunTime.Means())
	for _, l := range st.Loads {
		fmt.Fprintf(w, "loaded\t%s by %s at %s\n", l.Version, l.By, l.At.Format(time.RFC3339))
	}
	for _, n := range st.Notes {
		fmt.Fprintf(w, "note\t%s, %s: %s\n", n.At.Format(time.RFC3339), n.By, n.Text)
	}
	if st.Operation == nil {
		return nil
	}
	if st.Detached != "" {
		fmt.Fprintf(w, "runs in\tpod %s\n", st.Detached)
	}
	return operationTable(w, *st.Operation)
}

// daysAgo is the text with the days since then, or nothing.
func daysAgo(text string, now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	return fmt.Sprintf(text, int(now.Sub(then).Hours()/24))
}

func operationTable(w io.Writer, op rollout.State) error {
	fmt.Fprintf(w, "operation\t%s %s to %s: %s\n", op.ID, op.Type, op.Bundle.Version, op.Phase)
	for _, p := range op.Pools {
		fmt.Fprintf(w, "  %s\t%s%s%s\n", p.Name, poolText(p.State, p.Ready, p.Total), gateText(p.Results), waitingText(p))
		for _, l := range p.Lacks {
			fmt.Fprintf(w, "  not fetched\t%s\n", l)
		}
	}
	if f := op.Failure; f != nil {
		fmt.Fprintf(w, "failed\tpool %s, gate %s: %s\n", f.Pool, f.Gate, f.Reason)
		for _, line := range f.Evidence {
			fmt.Fprintf(w, "  evidence\t%s\n", line)
		}
	}
	switch {
	case op.Phase == rollout.Held:
		fmt.Fprintf(w, "on hold\t%s\nnext\t%s\n", op.Why, heldNext(op.HeldFor))
	case !op.Phase.Terminal():
		fmt.Fprintf(w, "next\twcbundle status --watch; if nobody runs it any more: wcbundle resume\n")
	}
	return nil
}

// heldNext is what an operator can do about an operation on hold.
func heldNext(heldFor string) string {
	switch heldFor {
	case rollout.HeldForCanary:
		return "wcbundle canary promote, or wcbundle canary drop --reason TEXT"
	case rollout.HeldForGate:
		return "wcbundle resume asks the gate again, wcbundle resume --accept GATE --reason TEXT takes it as passed; wcbundle abort --reason TEXT goes back"
	case rollout.HeldForDrift:
		return "stop what changes the workload, then wcbundle resume; wcbundle abort --reason TEXT goes back"
	case rollout.HeldForOutage:
		return "when the outage is over: wcbundle resume tries the pool again, wcbundle abort --reason TEXT goes back"
	case rollout.HeldForWindow:
		return "in the next window: wcbundle resume --window LENGTH; wcbundle abort --reason TEXT goes back"
	case rollout.HeldForFailure:
		return "wcbundle resume tries the pool again when it is mended; wcbundle abort --reason TEXT goes back"
	}
	return "wcbundle resume goes on, wcbundle abort --reason TEXT goes back"
}

// waitingText is what a pool waits for.
// historyRow is a revision with the operation that made it.
type historyRow struct {
	revision.Revision
	Pools    []string `json:"pools,omitempty"`
	Actor    string   `json:"actor,omitempty"`
	Duration string   `json:"duration,omitempty"`
	shown    string   // outcome, with the pool
}

// outcomeText says at which pool a revision was given up, and which changed nothing but configuration.
func outcomeText(outcome string, o rollout.State) string {
	switch {
	case outcome == revision.OutcomeRolledBack && o.Failure != nil && o.Failure.Pool != "":
		return outcome + "@" + o.Failure.Pool
	case outcome == revision.OutcomeSucceeded && o.Type == rollout.TypeApply && len(o.Pools) == 0:
		return "config"
	}
	return outcome
}

func runHistory(c *cli.Context) error {
	t, _, err := target(c)
	if err != nil {
		return err
	}
	revs, ops, err := install.History(c.Context, t)
	if err != nil {
		return err
	}
	byID := map[string]rollout.State{}
	for _, o := range ops {
		byID[o.ID] = o
	}
	var rows []historyRow
	for _, r := range revs {
		row := historyRow{Revision: r, shown: r.Outcome}
		if o, ok := byID[r.Op]; ok {
			for _, p := range o.Pools {
				row.Pools = append(row.Pools, p.Name)
			}
			row.shown = outcomeText(r.Outcome, o)
			row.Actor, row.Duration = o.Actor.User+"@"+o.Actor.Host, o.EndedAt.Sub(o.StartedAt).Round(time.Second).String()
		}
		rows = append(rows, row)
	}
	return show(c, rows, func(w io.Writer) error {
		fmt.Fprintf(w, "REVISION\tUPDATED\tSTATUS\tBUNDLE\tOUTCOME\tPOOLS\tACTOR\tDURATION\tDESCRIPTION\n")
		for _, r := range rows {
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Number, r.Updated.UTC().Format("2006-01-02 15:04:05"), r.Status, r.Bundle, r.shown,
				strings.Join(r.Pools, ","), r.Actor, r.Duration, r.Description)
		}
		return nil
	})
}
