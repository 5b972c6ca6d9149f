package bundle

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Canary is the first replicas of a pool. Soak is a Go duration during which the gates must keep passing before the others follow.
type Canary struct {
	Replicas int    `json:"replicas"`
	Soak     string `json:"soak,omitempty"`
}

// Drain asks a replica to finish its work: Method (default POST) on Path, then, if Until is given, GET on it until the answer is as
// expected. Port is a number or a port's name, default the first; Timeout a Go duration, default 10m.
type Drain struct {
	Port    string     `json:"port,omitempty"`
	Method  string     `json:"method,omitempty"`
	Path    string     `json:"path"`
	Until   string     `json:"until,omitempty"`
	Expect  HTTPExpect `json:"expect,omitzero"`
	Timeout string     `json:"timeout,omitempty"`
}

// Hold says how a custom object is kept on its old pods: fields that are set while it is held and get back what the chart says when it
// is let go; Ready are conditions that must be True for the generation; Pods is the label selector of its pods.
type Hold struct {
	Set   []HoldField `json:"set"`
	Ready []string    `json:"ready"`
	Pods  string      `json:"pods,omitempty"`
}

// HoldField is a field, as .a.b.c, and its value while held: true, false, a whole number or text.
type HoldField struct {
	Path string `json:"path"`
	Held any    `json:"held"`
}

var (
	countOrPart = regexp.MustCompile(`^([0-9]{1,4}|[0-9]{1,3}%)$`)
	holdPath    = regexp.MustCompile(`^(\.[A-Za-z0-9_-]{1,63}){1,10}$`)
)

// knownKinds can be held without a rule.
var knownKinds = []string{"Deployment", "StatefulSet", "LeaderWorkerSet"}

// check judges what one pool says; the gates are checkGates'.
func (p Pool) check() error {
	for _, f := range []func() error{p.checkWorkloads, p.checkNumbers, p.checkCanary, p.checkDrain, p.checkHold} {
		if err := f(); err != nil {
			return fmt.Errorf("pool %s: %w", p.Name, err)
		}
	}
	return nil
}

func (p Pool) checkWorkloads() error {
	if len(p.Workloads) == 0 {
		return fmt.Errorf("has no workloads")
	}
	for _, w := range p.Workloads {
		switch {
		case p.Hold != nil && (w.APIVersion == "" || w.Kind == ""):
			return fmt.Errorf("workload %.80s: with hold, give apiVersion and kind", w.Name)
		case p.Hold == nil && (w.APIVersion != "" || !slices.Contains(knownKinds, w.Kind)):
			return fmt.Errorf("kind %.40q is none of %s: give the pool a hold, and the workload its apiVersion", w.Kind, strings.Join(knownKinds, ", "))
		}
	}
	return nil
}

func (p Pool) checkNumbers() error {
	if p.MaxUnavailable != "" && !countOrPart.MatchString(p.MaxUnavailable) {
		return fmt.Errorf("maxUnavailable %.20q is neither a number nor a percentage", p.MaxUnavailable)
	}
	if p.MaxSurge != "" && p.MaxSurge != "auto" && !countOrPart.MatchString(p.MaxSurge) {
		return fmt.Errorf("maxSurge %.20q is neither a number, a percentage nor auto", p.MaxSurge)
	}
	if zero(p.MaxSurge) && zero(p.MaxUnavailable) {
		return fmt.Errorf("maxSurge and maxUnavailable are both 0: no replica could be replaced")
	}
	return checkDurations(map[string]string{"readyTimeout": p.ReadyTimeout, "gates.soak": p.Gates.Soak})
}

func zero(s string) bool { return s != "" && strings.Trim(s, "0%") == "" }

func checkDurations(all map[string]string) error {
	for what, d := range all {
		if n, err := time.ParseDuration(d); d != "" && (err != nil || n < 0) {
			return fmt.Errorf("%s %.40q is not a duration such as 10m", what, d)
		}
	}
	return nil
}

func (p Pool) checkCanary() error {
	switch {
	case p.Canary == nil:
		return nil
	case p.Canary.Replicas < 1 || p.Canary.Replicas > 1000:
		return fmt.Errorf("canary: %d replicas are not between 1 and 1000", p.Canary.Replicas)
	case p.Hold != nil:
		return fmt.Errorf("canary: the replicas of a custom object cannot be counted")
	}
	return checkDurations(map[string]string{"canary.soak": p.Canary.Soak})
}

func (p Pool) checkDrain() error {
	d := p.Drain
	switch {
	case d == nil:
		return nil
	case p.Hold != nil || slices.ContainsFunc(p.Workloads, func(w Workload) bool { return w.Kind == "Deployment" }):
		return fmt.Errorf("drain: only the replicas of a StatefulSet or LeaderWorkerSet go in an order that is known: give the pods of a Deployment a preStop hook")
	case !strings.HasPrefix(d.Path, "/") || d.Until != "" && !strings.HasPrefix(d.Until, "/"):
		return fmt.Errorf("drain: a path does not start with /")
	case d.Method != "" && d.Method != "POST" && d.Method != "GET" && d.Method != "PUT":
		return fmt.Errorf("drain: method %.20q is none of POST, PUT, GET", d.Method)
	}
	return checkDurations(map[string]string{"drain.timeout": d.Timeout})
}

func (p Pool) checkHold() error {
	if p.Hold == nil {
		return nil
	}
	if len(p.Hold.Set) == 0 || len(p.Hold.Ready) == 0 {
		return fmt.Errorf("hold: set says what is held, ready names the conditions that are waited for: both are needed")
	}
	for _, f := range p.Hold.Set {
		if !holdPath.MatchString(f.Path) {
			return fmt.Errorf("hold: path %.80q is not like .spec.paused", f.Path)
		}
		switch f.Held.(type) {
		case bool, string, int, int64, float64:
		default:
			return fmt.Errorf("hold: %s: the value while held is true, false, a number or text", f.Path)
		}
	}
	return nil
}
