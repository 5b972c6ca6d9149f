package rollout

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden answers")

var t0 = time.Date(2026, 11, 24, 2, 0, 0, 0, time.UTC)

// script runs the events of a golden file. A line is an event; what Step makes of it is printed under it, indented:
//
//	op TYPE POOL... [before=N] [from=N] [to=N] [soak=D] [hold] [try|required]   a new operation; and
//	   [canary=N] [canarysoak=D] [drain] [until=POOL] [only=POOL,..] [window=D] [trial=POOL:N]
//	kill                                                         the process dies: the state is read back from its JSON
//	+D                                                           time passes
//	EVENT [key=value...]                                         rev, reason, changed, prune, accept, lines, by, outage, drift
//	measured READY/TOTAL
//	drained [done] [waiting=TEXT]
//	seen READY/TOTAL [done] [failed=TEXT] [waiting=TEXT] [restarts=N]
//	fetched HAVE/TOTAL [at=NODE,..] [lacks=NODE,..] [fatal=NODE,..]
//	check ID=VERDICT... [READY/TOTAL] [notready] [restarts=N]
type script struct {
	s   State
	now time.Time
}

func (sc *script) line(text string) (string, error) {
	f := strings.Fields(text)
	switch {
	case f[0] == "op":
		return sc.newOp(f[1:])
	case f[0] == "kill":
		b, err := json.Marshal(sc.s)
		if err != nil {
			return "", err
		}
		sc.s = State{}
		err = json.Unmarshal(b, &sc.s)
		return sc.answer(nil), err
	case strings.HasPrefix(f[0], "+"):
		d, err := time.ParseDuration(f[0][1:])
		sc.now = sc.now.Add(d)
		return "", err
	}
	e, err := event(f)
	if err != nil {
		return "", err
	}
	before := stateJSON(sc.s)
	next, acts := Step(sc.s, e, sc.now)
	if stateJSON(sc.s) != before {
		return "", fmt.Errorf("%s changed the state that it was given", text)
	}
	sc.s = next
	return sc.answer(acts), nil
}

func (sc *script) answer(acts []Action) string {
	out := "    " + sc.s.String() + "\n"
	for _, a := range acts {
		out += "    -> " + a.String() + "\n"
	}
	return out
}

func (sc *script) newOp(f []string) (string, error) {
	var pools []Pool
	num := map[string]int{}
	var soak, canarySoak Duration
	var limits Limits
	hold, prefetch, trial, drain := false, "", "", false
	for i, w := range f[1:] {
		k, v, isPair := strings.Cut(w, "=")
		switch {
		case k == "soak":
			d, err := time.ParseDuration(v)
			if err != nil {
				return "", err
			}
			soak = Duration(d)
		case k == "canarysoak" || k == "window":
			d, err := time.ParseDuration(v)
			if err != nil {
				return "", err
			}
			if k == "window" {
				limits.WindowEnd = sc.now.Add(d)
			} else {
				canarySoak = Duration(d)
			}
		case k == "until":
			limits.Until = v
		case k == "only":
			limits.Only = strings.Split(v, ",")
		case k == "trial":
			trial = v
		case isPair:
			n, err := strconv.Atoi(v)
			if err != nil {
				return "", err
			}
			num[k] = n
		case w == "hold":
			hold = true
		case w == "drain":
			drain = true
		case w == FetchTry || w == FetchRequired:
			prefetch = w
		default:
			pools = append(pools, Pool{Name: w, Order: i, Workloads: []Workload{{Kind: "Deployment", Name: w}}, ReadyTimeout: Duration(time.Minute)})
		}
	}
	for i := range pools {
		pools[i].Gates.Soak = soak
		if n := num["canary"]; n > 0 {
			pools[i].Canary = &Canary{Replicas: n, Soak: canarySoak}
		}
		if drain {
			pools[i].Drain = &Drain{Path: "/drain"}
		}
	}
	sc.s = NewOperation("op", Type(f[0]), pools, num["before"], num["from"])
	if to := num["to"]; to != 0 {
		sc.s = NewRollback("op", pools, num["before"], num["from"], to)
	}
	sc.s.Prefetch = prefetch
	if err := sc.s.Limit(limits); err != nil {
		return "", err
	}
	if pool, n, ok := strings.Cut(trial, ":"); ok {
		replicas, err := strconv.Atoi(n)
		if err != nil {
			return "", err
		}
		if err := sc.s.Try(pool, replicas); err != nil {
			return "", err
		}
	}
	if hold {
		sc.s.OnFailure = OnFailureHold
	}
	return sc.answer(nil), nil
}

func event(f []string) (Event, error) {
	e := Event{Kind: EventKind(f[0])}
	switch f[0] {
	case "seen":
		e.Kind = EvObserved
	case "check":
		e.Kind, e.Seen.Done = EvChecked, true
	}
	for _, w := range f[1:] {
		k, v, _ := strings.Cut(w, "=")
		v = strings.ReplaceAll(v, "_", " ")
		switch k {
		case "rev":
			n, err := strconv.Atoi(v)
			if err != nil {
				return e, err
			}
			e.Revision = n
		case "new":
			n, err := strconv.Atoi(v)
			if err != nil {
				return e, err
			}
			e.Seen.New = n
		case "restarts":
			n, err := strconv.Atoi(v)
			if err != nil {
				return e, err
			}
			e.Seen.Restarts = n
		case "reason":
			e.Reason = v
		case "by":
			e.By = v
		case "outage":
			e.Outage = v
		case "drift":
			e.Drift = v
		case "changed":
			e.Changed = true
		case "prune":
			e.Prune = strings.Split(v, ",")
		case "accept":
			e.Accept = strings.Split(v, ",")
		case "lines":
			e.Lines = strings.Split(v, ",")
		case "done":
			e.Seen.Done = true
		case "notready":
			e.Seen.Done = false
		case "failed":
			e.Seen.Failed = v
		case "waiting":
			e.Seen.Waiting = v
		case "at":
			e.Fetched.At = strings.Split(v, ",")
		case "lacks", "fatal":
			for _, n := range strings.Split(v, ",") {
				e.Fetched.Lacks = append(e.Fetched.Lacks, Lack{Node: n, Reason: "ImagePullBackOff", Fatal: k == "fatal"})
			}
		default:
			if a, b, ok := strings.Cut(w, "/"); ok {
				ready, err1 := strconv.Atoi(a)
				total, err2 := strconv.Atoi(b)
				if err1 != nil || err2 != nil {
					return e, fmt.Errorf("counts %q", w)
				}
				e.Seen.Ready, e.Seen.Total, e.Before = ready, total, Count{ready, total}
				e.Fetched.Have, e.Fetched.Total = ready, total
				continue
			}
			if e.Kind != EvChecked || v == "" {
				return e, fmt.Errorf("unknown word %q", w)
			}
			e.Results = append(e.Results, GateResult{ID: k, Verdict: Verdict(v), Message: k + " said " + v})
		}
	}
	return e, nil
}

// TestScripts replays testdata/*.txt. The answers change only with -update, and the difference is reviewed as code.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sc := script{now: t0}
			var out strings.Builder
			lines := bufio.NewScanner(strings.NewReader(string(text)))
			for lines.Scan() {
				l := lines.Text()
				if strings.HasPrefix(l, "    ") {
					continue
				}
				out.WriteString(l + "\n")
				if l == "" || l[0] == '#' {
					continue
				}
				answer, err := sc.line(l)
				if err != nil {
					t.Fatalf("%s: %v", l, err)
				}
				out.WriteString(answer)
			}
			if *update {
				if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if out.String() != string(text) {
				t.Errorf("answers differ; got:\n%s", out.String())
			}
		})
	}
}

// TestKillAnywhere resumes a whole operation after every single event, from the JSON of its record: the end must be that
// of the run that was not killed, and resume must ask for the very action that was asked for before.
func TestKillAnywhere(t *testing.T) {
	answers := map[ActionKind]Event{
		DoMeasure: {Kind: EvMeasured, Before: Count{2, 2}}, DoDrain: {Kind: EvDrained, Seen: Seen{Done: true}},
		DoFetch: {Kind: EvFetched, Fetched: Fetched{Have: 2, Total: 2}},
		DoCRDs:  {Kind: EvCRDs}, DoStage: {Kind: EvStaged, Revision: 15}, DoRelease: {Kind: EvReleased},
		DoObserve: {Kind: EvObserved, Seen: Seen{Done: true, Ready: 2, Total: 2}},
		DoCheck:   {Kind: EvChecked, Seen: Seen{Done: true, Ready: 2, Total: 2}},
		DoRehold:  {Kind: EvReheld}, DoEvidence: {Kind: EvEvidence}, DoRevert: {Kind: EvReverted, Revision: 16}, DoFinalize: {Kind: EvFinal},
	}
	soak := Gates{Soak: Duration(time.Second)}
	for name, pools := range map[string][]Pool{
		"plain":  {{Name: "a", Order: 1}, {Name: "b", Order: 2}},
		"canary": {{Name: "a", Order: 1, Canary: &Canary{Replicas: 1, Soak: Duration(time.Second)}, Gates: soak}, {Name: "b", Order: 2}},
		"drain":  {{Name: "a", Order: 1, Drain: &Drain{Path: "/drain"}}, {Name: "b", Order: 2, Drain: &Drain{Path: "/drain"}, Canary: &Canary{Replicas: 1}}},
	} {
		t.Run(name, func(t *testing.T) { killAnywhere(t, pools, answers) })
	}
}

func killAnywhere(t *testing.T, pools []Pool, answers map[ActionKind]Event) {
	for _, fail := range []bool{false, true} {
		want := RolledBack
		if !fail {
			want = Succeeded
		}
		for killAt := range 60 {
			op := NewOperation("op", TypeApply, pools, 14, 14)
			op.Prefetch = FetchTry
			now := t0
			s, acts := Step(op, Event{Kind: EvStart}, t0)
			for n := 0; len(acts) != 0; n++ {
				if n == killAt {
					b, err := json.Marshal(s)
					if err != nil {
						t.Fatal(err)
					}
					var back State
					if err := json.Unmarshal(b, &back); err != nil {
						t.Fatal(err)
					}
					again, resumed := Step(back, Event{Kind: EvResume}, now)
					if fmt.Sprint(resumed) != fmt.Sprint(acts) {
						t.Fatalf("killed before %v, resume does %v", acts, resumed)
					}
					s, acts = again, resumed
				}
				e := answers[acts[0].Kind]
				if fail && acts[0] == (Action{DoObserve, "b"}) && s.Phase == Rolling {
					e.Seen = Seen{Failed: "CrashLoopBackOff"}
				}
				now = now.Add(time.Second)
				if s, acts = Step(s, e, now); n > 200 {
					t.Fatal("does not end")
				}
			}
			if s.Phase != want {
				t.Fatalf("killed at %d: ends as %s, want %s", killAt, s, want)
			}
		}
	}
}
