package preflight

import (
	"sort"
	"time"
)

// checker is the state of one Check: what is compared, and the results so far.
type checker struct {
	s   Snapshot
	w   Want
	now time.Time
	ren rendered
	out []Result
}

// Check compares the snapshot with what is wanted, at the given time. Every check of the catalogue leaves at least one
// result, so a report also shows what was looked at and found well.
func Check(s Snapshot, w Want, now time.Time) Report {
	c := &checker{s: s, w: w, now: now}
	c.ren = parseManifest(w.Manifest)
	steps := []struct {
		id  string
		run func(id string)
	}{
		{"GPU-SLOTS", c.gpuSlots}, {"GPU-PRESENT", c.gpuPresent}, {"NODE-STATE", c.nodeState}, {"QUOTA", c.quota},
		{"SC-PRESENT", c.scPresent}, {"SC-CHANGED", c.scChanged},
		{"CERT-TLS", c.certTLS}, {"CERT-APISERVER", c.certServer},
		{"IMG-PRESENT", c.imgPresent}, {"MODEL-PRESENT", c.modelPresent}, {"IMG-VOLUME", c.imageVolumes}, {"RUN-TIME", c.runTime}, {"DELTA-SPACE", c.deltaSpace},
		{"HELM-STATE", c.helmState}, {"HELM-SIZE", c.helmSize}, {"OP-OPEN", c.opOpen},
		{"WAYPOINT", c.waypoint}, {"K8S-VERSION", c.k8sVersion},
	}
	for _, st := range steps {
		from := len(c.out)
		st.run(st.id)
		for i := from; i < len(c.out); i++ {
			c.out[i].ID, c.out[i].Severity = st.id, Block
		}
		part := c.out[from:]
		sort.SliceStable(part, func(i, j int) bool { return part[i].Subject < part[j].Subject })
	}
	return Report{Results: c.out}
}

func (c *checker) add(r Result) { c.out = append(c.out, r) }

func (c *checker) pass(message string) { c.add(Result{Verdict: Pass, Message: message}) }

// unread notes that a section is missing. The remedy names the usual reason: rights, or a cluster that does not answer.
func (c *checker) unread(what, cause string) {
	c.add(Result{Verdict: Unknown, Message: what + " could not be read: " + cause,
		Remedy: "check that the cluster answers and that you may read it, then run preflight again"})
}

// badManifest reports an unreadable manifest and says whether there was one.
func (c *checker) badManifest() bool {
	if c.ren.problem == "" {
		return false
	}
	c.add(Result{Verdict: Unknown, Message: "the rendered chart could not be read: " + c.ren.problem,
		Remedy: "render the chart with the same values and look at that document"})
	return true
}
