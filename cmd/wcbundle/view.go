package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/wordcab/wcbundle/rollout"
)

// watch follows the operation until it ends: a view that redraws on a terminal, a line per change when piped, NDJSON with
// -o json. It only reads, so anyone may watch an operation that runs elsewhere. A cluster that has answered once is waited for.
func watch(c *cli.Context) error {
	f, ok := c.App.Writer.(*os.File)
	v := &view{w: c.App.Writer, tty: ok && term.IsTerminal(int(f.Fd())), json: c.String("output") == "json"}
	silent := false
	for seen := false; ; {
		op, err := underWay(c)
		switch {
		case err != nil && (!seen || c.Context.Err() != nil):
			return err
		case err != nil && !silent:
			v.lines = 0 // what comes is below this
			fmt.Fprintf(c.App.ErrWriter, "wcbundle: %v\nwcbundle: looking again until it answers\n", err)
		case err == nil:
			if err := v.draw(op); err != nil {
				return err
			}
			if op.Phase.Terminal() || op.Phase == rollout.Held {
				return watched(op)
			}
		}
		seen, silent = true, err != nil
		select {
		case <-c.Context.Done():
			return c.Context.Err()
		case <-time.After(time.Second):
		}
	}
}

// underWay is the newest operation of the site.
func underWay(c *cli.Context) (*rollout.State, error) {
	s, err := openSite(c)
	if err != nil {
		return nil, err
	}
	st, err := readStatus(c, s)
	if err != nil {
		return nil, err
	}
	if st.Operation == nil {
		return nil, errors.New("no operation has run at this site yet")
	}
	return st.Operation, nil
}

// watched gives the exit code that the operation's own run gave.
func watched(op *rollout.State) error {
	if op.Phase == rollout.Succeeded {
		return nil
	}
	out := rollout.Outcome{Phase: op.Phase, HeldFor: op.HeldFor, Reason: op.Why}
	if op.Failure != nil {
		out.Pool, out.Gate, out.Reason = op.Failure.Pool, op.Failure.Gate, op.Failure.Reason
	}
	return outcomeError{out}
}

// view prints states of an operation as they change.
type view struct {
	w     io.Writer
	tty   bool
	json  bool
	last  string
	lines int
}

func (v *view) draw(op *rollout.State) error {
	width, height := 80, 0
	if v.tty {
		width, height = v.size()
	}
	text := operationText(op, height-1)
	if text == v.last {
		return nil
	}
	before := v.last
	v.last = text
	switch {
	case v.json:
		return json.NewEncoder(v.w).Encode(op)
	case v.tty:
		if v.lines > 0 {
			fmt.Fprintf(v.w, "\033[%dA\033[J", v.lines)
		}
		shown := cutLines(v.last, width)
		v.lines = strings.Count(shown, "\n")
		_, err := io.WriteString(v.w, shown)
		return err
	}
	return v.changed(before)
}

// operationText is an operation in at most so many lines, if room is above 0: a view that is higher than its terminal cannot be drawn over.
func operationText(op *rollout.State, room int) string {
	head := fmt.Sprintf("%s %s to %s: %s\n", op.ID, op.Type, op.Bundle.Version, op.Phase)
	tail := ""
	if op.Phase == rollout.Held {
		tail += fmt.Sprintf("  on hold: %s\n  next: %s\n", op.Why, heldNext(op.HeldFor))
	}
	if op.Failure != nil {
		tail += fmt.Sprintf("  failed: pool %s, gate %s: %s\n", op.Failure.Pool, op.Failure.Gate, op.Failure.Reason)
	}
	var lines []string
	for _, p := range op.Pools {
		lines = append(lines, fmt.Sprintf("  %-16s %s%s%s", p.Name, poolText(p.State, p.Ready, p.Total), gateText(p.Results), waitingText(p)))
		for _, l := range p.Lacks {
			lines = append(lines, "    not fetched: "+l)
		}
	}
	if room -= 1 + strings.Count(tail, "\n"); room > 0 && len(lines) > room {
		lines = folded(op.Pools, room)
	}
	return head + strings.Join(append(lines, ""), "\n") + tail
}

// folded shows the pools that something happens to, and counts the others.
func folded(pools []rollout.PoolState, room int) []string {
	var lines []string
	count := map[rollout.PoolPhase]int{}
	for _, p := range pools {
		switch p.State {
		case rollout.PoolDone, rollout.PoolWaiting:
			count[p.State]++
		default:
			lines = append(lines, fmt.Sprintf("  %-16s %s%s%s", p.Name, poolText(p.State, p.Ready, p.Total), gateText(p.Results), waitingText(p)))
		}
	}
	if most := max(room-2, 0); len(lines) > most {
		lines = lines[:most]
	}
	for _, st := range []rollout.PoolPhase{rollout.PoolDone, rollout.PoolWaiting} {
		if n := count[st]; n > 0 {
			lines = append(lines, fmt.Sprintf("  %-16s %s", counted(n, "pool"), st))
		}
	}
	return lines
}

// size is the terminal's, in columns and lines; a line that wrapped would not be drawn over.
func (v *view) size() (width, height int) {
	if f, ok := v.w.(*os.File); ok {
		if w, h, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			return w, h
		}
	}
	return 80, 0
}

// cutLines cuts each line to so many characters.
func cutLines(text string, width int) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if r := []rune(l); len(r) >= width {
			lines[i] = string(r[:width-2]) + "…"
		}
	}
	return strings.Join(lines, "\n")
}

// changed prints the lines that are new since the last look, with the time.
func (v *view) changed(before string) error {
	old := map[string]bool{}
	for _, l := range strings.Split(before, "\n") {
		old[l] = true
	}
	for _, l := range strings.Split(strings.TrimSpace(v.last), "\n") {
		if old[l] {
			continue
		}
		if _, err := fmt.Fprintf(v.w, "%s %s\n", time.Now().Format("15:04:05"), strings.TrimSpace(l)); err != nil {
			return err
		}
	}
	return nil
}

func waitingText(p rollout.PoolState) string {
	if p.Waiting == "" || p.State == rollout.PoolDone || p.State == rollout.PoolWaiting {
		return ""
	}
	return "  " + p.Waiting
}

func gateText(results []rollout.GateResult) string {
	var out []string
	for _, r := range results {
		out = append(out, fmt.Sprintf("%s %s", r.ID, r.Verdict))
	}
	if len(out) == 0 {
		return ""
	}
	return " (" + strings.Join(out, ", ") + ")"
}
