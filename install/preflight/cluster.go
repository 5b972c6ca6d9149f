package preflight

import (
	"fmt"
	"strings"
)

// nodeState looks at every node that the release's own rules admit; nodes that it could never use are left out.
func (c *checker) nodeState(string) {
	if c.badManifest() {
		return
	}
	if !c.s.Nodes.Read {
		c.unread("nodes", c.s.Nodes.cause())
		return
	}
	seen := 0
	for _, n := range c.s.Nodes.Value {
		if !c.concerns(n) {
			continue
		}
		seen++
		c.oneNode(n)
	}
	if seen == 0 {
		c.add(Result{Verdict: Fail, Message: fmt.Sprintf("none of %d nodes admits a pod of the release", len(c.s.Nodes.Value)),
			Remedy: "label a node as the chart's nodeSelector asks, or change the values"})
	}
}

func (c *checker) concerns(n Node) bool {
	for i := range c.ren.pods {
		if mayRun(&c.ren.pods[i], n) {
			return true
		}
	}
	return len(c.ren.pods) == 0
}

func (c *checker) oneNode(n Node) {
	var bad []string
	remedy := "look at kubectl describe node " + n.Name
	if !n.Ready {
		bad = append(bad, "is NotReady")
	}
	if n.Unschedulable {
		bad = append(bad, "is cordoned")
		remedy = "finish the maintenance, then kubectl uncordon " + n.Name
	}
	if len(n.Pressure) > 0 {
		bad = append(bad, "has "+strings.Join(n.Pressure, ", "))
		remedy = "free disk, memory or processes on " + n.Name + " first"
	}
	if len(bad) == 0 {
		c.add(Result{Verdict: Pass, Subject: n.Name, Message: n.Name + " is ready"})
		return
	}
	c.add(Result{Verdict: Fail, Subject: n.Name, Message: n.Name + " " + strings.Join(bad, " and "), Remedy: remedy})
}

// quota compares each ResourceQuota with the growth of all workloads plus the largest surge, since pools roll one at a
// time.
func (c *checker) quota(string) {
	if c.badManifest() {
		return
	}
	if !c.s.Quotas.Read {
		c.unread("resource quotas", c.s.Quotas.cause())
		return
	}
	if len(c.s.Quotas.Value) == 0 {
		c.pass("the namespace has no resource quota")
		return
	}
	if !c.s.Workloads.Read {
		c.unread("running workloads", c.s.Workloads.cause())
		return
	}
	extra := c.extraRequests()
	for _, q := range c.s.Quotas.Value {
		c.oneQuota(q, extra)
	}
}

func (c *checker) extraRequests() Quantities {
	growth, surge := Quantities{}, Quantities{}
	for _, x := range turns(c.ren, c.w.Pools) {
		live := LiveWorkload{}
		for _, l := range c.s.Workloads.Value {
			if l.Kind == x.w.kind && l.Name == x.w.name {
				live = l
			}
		}
		growth.add(x.w.requests, int64(max(0, x.w.replicas-live.Replicas)))
		if live.Replicas > 0 && !x.pool.Unchanged {
			one := Quantities{}
			one.add(x.w.requests, int64(rollingOf(x, 0).MaxSurge))
			surge.atLeast(one)
		}
	}
	growth.add(surge, 1)
	return growth
}

func (c *checker) oneQuota(q Quota, extra Quantities) {
	short := 0
	for _, name := range sortedKeys(q.Hard) {
		need := extra[strings.TrimPrefix(name, "requests.")]
		if strings.HasPrefix(name, "limits.") || need == 0 {
			continue
		}
		if left := q.Hard[name] - q.Used[name]; left < need {
			short++
			c.add(Result{Verdict: Fail, Subject: q.Name + " " + name,
				Message: fmt.Sprintf("quota %s leaves %s of %s, the upgrade needs %s at its peak", q.Name,
					amountText(name, left), name, amountText(name, need)),
				Remedy: "raise the quota, or set maxSurge=0 for the pools"})
		}
	}
	if short == 0 {
		c.add(Result{Verdict: Pass, Subject: q.Name, Message: "quota " + q.Name + " has headroom for growth and surge"})
	}
}

func amountText(name string, v int64) string {
	switch strings.TrimPrefix(name, "requests.") {
	case "cpu":
		return fmt.Sprintf("%dm", v)
	case "memory", "ephemeral-storage", "storage":
		return bytesText(v)
	}
	return fmt.Sprint(v)
}

func bytesText(v int64) string {
	const unit = 1024
	if v < unit && v > -unit {
		return fmt.Sprintf("%d B", v)
	}
	f, names := float64(v), []string{"KiB", "MiB", "GiB", "TiB"}
	for i, n := range names {
		f /= unit
		if f < unit && f > -unit || i == len(names)-1 {
			return fmt.Sprintf("%.1f %s", f, n)
		}
	}
	return ""
}

func (c *checker) scPresent(string) {
	if c.badManifest() {
		return
	}
	if len(c.ren.claims) == 0 {
		c.pass("the release claims no volumes")
		return
	}
	if !c.s.StorageClasses.Read {
		c.unread("storage classes", c.s.StorageClasses.cause())
		return
	}
	have, standard := map[string]bool{}, ""
	for _, sc := range c.s.StorageClasses.Value {
		have[sc.Name] = true
		if sc.Default {
			standard = sc.Name
		}
	}
	for _, cl := range c.ren.claims {
		c.oneClaim(cl, have, standard)
	}
}

func (c *checker) oneClaim(cl claim, have map[string]bool, standard string) {
	r := Result{Verdict: Pass, Subject: cl.subject}
	switch {
	case cl.class == nil && standard == "":
		r.Verdict, r.Message = Fail, cl.subject+" names no StorageClass and the cluster has no default one"
		r.Remedy = "set the class in the values, or mark one with storageclass.kubernetes.io/is-default-class=true"
	case cl.class == nil:
		r.Message = cl.subject + " takes the default StorageClass " + standard
	case *cl.class == "":
		r.Message = cl.subject + " takes a volume made beforehand"
	case !have[*cl.class]:
		r.Verdict, r.Message = Fail, fmt.Sprintf("%s needs StorageClass %s, which does not exist", cl.subject, *cl.class)
		r.Remedy = "create the class, or name another one in the values; there are: " + listText(sortedKeys(have))
	default:
		r.Message = cl.subject + " takes StorageClass " + *cl.class
	}
	c.add(r)
}

func listText(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func (c *checker) scChanged(string) {
	if !c.s.StorageClasses.Read {
		c.unread("storage classes", c.s.StorageClasses.cause())
		return
	}
	if c.w.Baseline == nil {
		c.pass("no baseline recorded yet; nothing to compare with")
		return
	}
	now := map[string]StorageClass{}
	for _, sc := range c.s.StorageClasses.Value {
		now[sc.Name] = sc
	}
	from := len(c.out)
	for _, was := range c.w.Baseline.StorageClasses {
		sc, ok := now[was.Name]
		c.oneClass(was, sc, ok)
	}
	if len(c.out) == from {
		c.pass("storage classes are as at the baseline")
	}
}

func (c *checker) oneClass(was, sc StorageClass, exists bool) {
	var what []string
	if !exists {
		what = append(what, "is gone")
	} else {
		for _, f := range []struct{ name, was, now string }{
			{"provisioner", was.Provisioner, sc.Provisioner}, {"parameters", was.Parameters, sc.Parameters},
			{"reclaim policy", was.Reclaim, sc.Reclaim}, {"binding mode", was.Binding, sc.Binding},
			{"default mark", fmt.Sprint(was.Default), fmt.Sprint(sc.Default)},
		} {
			if f.was != f.now {
				what = append(what, fmt.Sprintf("has another %s (was %s, is %s)", f.name, f.was, f.now))
			}
		}
	}
	if len(what) > 0 {
		c.add(Result{Verdict: Fail, Subject: was.Name,
			Message: fmt.Sprintf("StorageClass %s %s since rev %d", was.Name, strings.Join(what, " and "), c.w.Baseline.Revision),
			Remedy:  "put the class back, or move the volumes before the upgrade"})
	}
}
