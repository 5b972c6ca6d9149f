package preflight

import "sort"

// Severity is what a check's failure means for the upgrade.
type Severity string

// Severities, heaviest first.
const (
	Block Severity = "block"
	Warn  Severity = "warn"
	Info  Severity = "info"
)

// Verdict is what a check found. The zero value is not a verdict and blocks like Unknown.
type Verdict string

// Verdicts. Warned is the verdict, [Warn] the severity.
const (
	Pass    Verdict = "pass"
	Warned  Verdict = "warn"
	Fail    Verdict = "fail"
	Unknown Verdict = "unknown"
)

// Result is one check on one subject. Message says what is the case, with numbers; Remedy is the next move. Evidence
// is plain data that encodes to JSON. Waived holds the reason when an operator decided to go on regardless.
type Result struct {
	ID       string   `json:"id"`
	Severity Severity `json:"severity"`
	Verdict  Verdict  `json:"verdict"`
	Subject  string   `json:"subject,omitempty"`
	Message  string   `json:"message"`
	Remedy   string   `json:"remedy,omitempty"`
	Evidence any      `json:"evidence,omitempty"`
	Waived   string   `json:"waived,omitempty"`
}

// Blocks reports whether this result alone forbids the upgrade.
func (r Result) Blocks() bool {
	if r.Waived != "" || r.Severity == Warn || r.Severity == Info {
		return false
	}
	return r.Verdict != Pass && r.Verdict != Warned
}

// Report is every result, in the order of the catalogue and then by subject.
type Report struct {
	Results []Result `json:"results"`
}

// Blocked reports whether the upgrade must not start. A report without results was never made, so it blocks.
func (r Report) Blocked() bool {
	for _, x := range r.Results {
		if x.Blocks() {
			return true
		}
	}
	return len(r.Results) == 0
}

// AtWork is who holds the release's lock, "" for nobody.
func (r Report) AtWork() string {
	for _, x := range r.Results {
		if op, ok := x.Evidence.(Operation); ok && x.Blocks() {
			return op.Holder
		}
	}
	return ""
}

// Waive returns the report with the results of the given check ids waived, and the ids that no blocking result has:
// a waiver that waives nothing is a mistake the caller should hear about. An empty reason waives nothing.
func (r Report) Waive(reasons map[string]string) (Report, []string) {
	out := Report{Results: append([]Result(nil), r.Results...)}
	used := map[string]bool{}
	for i, x := range out.Results {
		if reason := reasons[x.ID]; reason != "" && x.Blocks() {
			out.Results[i].Waived = reason
			used[x.ID] = true
		}
	}
	var unused []string
	for id := range reasons {
		if !used[id] {
			unused = append(unused, id)
		}
	}
	sort.Strings(unused)
	return out, unused
}

// Count returns how many results have each verdict.
func (r Report) Count() map[Verdict]int {
	n := map[Verdict]int{}
	for _, x := range r.Results {
		n[x.Verdict]++
	}
	return n
}
