package preflight

import (
	"fmt"
	"strings"
	"time"
)

// Sizes of a stored Helm record, in bytes: a Secret takes 1 MiB.
const (
	recordLimit   = 1 << 20
	recordWarning = 768 << 10
)

func (c *checker) helmState(string) {
	if !c.s.Revisions.Read {
		c.unread("the Helm history", c.s.Revisions.cause())
		return
	}
	list := c.s.Revisions.Value
	if len(list) == 0 {
		c.noHistory()
		return
	}
	last, bad := list[len(list)-1], false
	r := Result{Subject: fmt.Sprintf("rev %d", last.Number), Evidence: last, Verdict: Fail}
	switch {
	case strings.HasPrefix(last.Status, "pending-"):
		bad = true
		r.Message = fmt.Sprintf("rev %d is %s%s: a client was killed or is still at work", last.Number, last.Status, c.since(last.Updated))
		r.Remedy = "if nobody is at work: wcbundle resume, or wcbundle abort; if plain helm died there: " + goBackTo(list)
	case last.Status == "failed":
		bad = true
		r.Message = fmt.Sprintf("rev %d failed%s; an upgrade over it would leave parts of it behind", last.Number, c.since(last.Updated))
		r.Remedy = goBackTo(list) + " first"
	case last.Status == "uninstalling" || last.Status == "unknown" || last.Status == "":
		bad = true
		r.Message = fmt.Sprintf("rev %d has status %s", last.Number, orText(last.Status, "(none)"))
		r.Remedy = "look at wcbundle history and finish what was begun"
	}
	if bad {
		c.add(r)
	}
	if n := c.historyFaults(list); !bad && n == 0 {
		c.add(Result{Verdict: Pass, Subject: r.Subject, Evidence: last,
			Message: fmt.Sprintf("rev %d is %s, %d revisions stored", last.Number, last.Status, len(list))})
	}
}

// goBackTo is the command that makes what was deployed last the newest revision again.
func goBackTo(list []Revision) string {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Status == "deployed" {
			return fmt.Sprintf("wcbundle rollback --to rev %d", list[i].Number)
		}
	}
	return "wcbundle rollback --to previous"
}

func (c *checker) noHistory() {
	if c.w.Installed == "" {
		c.pass("no revision stored; this is a fresh install")
		return
	}
	c.add(Result{Verdict: Fail, Message: fmt.Sprintf("version %s is recorded as installed, but Helm has no revision of %s in %s",
		c.w.Installed, c.s.Release, c.s.Namespace), Remedy: "check the release name and the namespace"})
}

// historyFaults reports what a sound history does not have, and how many such things there are.
func (c *checker) historyFaults(list []Revision) int {
	from := len(c.out)
	var deployed []string
	for i, x := range list {
		if x.Status == "deployed" {
			deployed = append(deployed, fmt.Sprint(x.Number))
		}
		if x.Problem != "" {
			c.add(Result{Verdict: Unknown, Subject: fmt.Sprintf("rev %d", x.Number),
				Message: fmt.Sprintf("the record of rev %d cannot be read: %s", x.Number, x.Problem),
				Remedy:  "restore the Secret from a backup; a rollback to this revision is impossible"})
		}
		if i > 0 && x.Number != list[i-1].Number+1 && (i > 1 || len(list) < 20) { // the oldest of many is kept to go back to
			c.add(Result{Verdict: Warned, Subject: fmt.Sprintf("rev %d", x.Number),
				Message: fmt.Sprintf("the history jumps from rev %d to rev %d", list[i-1].Number, x.Number),
				Remedy:  "revisions in between were deleted and cannot be rolled back to"})
		}
	}
	if len(deployed) > 1 {
		c.add(Result{Verdict: Fail, Subject: "history", Message: "more than one revision is marked deployed: " + strings.Join(deployed, ", "),
			Remedy: "wcbundle rollback --to the newest of them, which marks the others superseded"})
	}
	if len(deployed) > 0 && c.w.Installed == "" {
		c.add(Result{Verdict: Warned, Subject: "history",
			Message: fmt.Sprintf("rev %s is deployed, but no installed version is recorded here: made by plain helm", deployed[len(deployed)-1]),
			Remedy:  "go on if that is so; the range and waypoint checks cannot see the installed version"})
	}
	return len(c.out) - from
}

func (c *checker) since(t time.Time) string {
	if t.IsZero() || t.After(c.now) {
		return ""
	}
	d := c.now.Sub(t)
	if d < 2*time.Hour {
		return fmt.Sprintf(" since %d minutes", int(d.Minutes()))
	}
	return " since " + days(d)
}

func (c *checker) helmSize(string) {
	size, of := c.w.Stored, "the record to be written"
	if size == 0 {
		if !c.s.Revisions.Read {
			c.unread("the Helm history", c.s.Revisions.cause())
			return
		}
		for _, x := range c.s.Revisions.Value {
			size, of = x.Stored, fmt.Sprintf("the record of rev %d", x.Number)
		}
	}
	r := Result{Verdict: Pass, Message: fmt.Sprintf("%s has %s of %s", of, bytesText(int64(size)), bytesText(recordLimit))}
	if size == 0 {
		r.Message = "no record yet to judge the size by"
	}
	if size > recordWarning {
		r.Verdict, r.Remedy = Warned, "keep CRDs, dashboards and other large files out of the chart"
	}
	if size > recordLimit {
		r.Verdict = Fail
	}
	c.add(r)
}

func (c *checker) opOpen(string) {
	if !c.s.Operation.Read {
		c.unread("the operation record", c.s.Operation.cause())
		return
	}
	op := c.s.Operation.Value
	switch {
	case op.Holder != "":
		c.add(Result{Verdict: Fail, Subject: op.ID, Evidence: op,
			Message: fmt.Sprintf("%s is at work on this release now", op.Holder), Remedy: "wait for it: wcbundle status --watch"})
	case op.Open:
		c.add(Result{Verdict: Fail, Subject: op.ID, Evidence: op,
			Message: fmt.Sprintf("operation %s was left in state %s", op.ID, op.State), Remedy: "wcbundle resume, or wcbundle abort"})
	default:
		c.pass("no operation is open")
	}
}
