package preflight

import (
	"fmt"
	"sort"
	"strings"
)

// Capacity is what GPU-SLOTS found for one workload: how many slots were free when its turn came, the largest number on
// one node, how it will roll, and how many of its new replicas found a place.
type Capacity struct {
	Pool     string     `json:"pool"`
	Workload string     `json:"workload"`
	PerPod   Quantities `json:"perPod"`
	Replicas int        `json:"replicas"`
	Live     int        `json:"live"`
	Slots    int        `json:"slots"`
	Rolling  Rolling    `json:"rolling"`
	Placed   int        `json:"placed"`
	Rolls    bool       `json:"rolls"`
}

// Fits reports whether every new replica found a place.
func (c Capacity) Fits() bool { return !c.Rolls || c.Placed >= c.Replicas }

// turn is a workload and the pool it rolls in.
type turn struct {
	pool Pool
	w    workload
}

// Capacities plays the roll of every GPU workload through, pool by pool in their order, workloads of no pool first. It
// is what a plan prints. ok is false when nodes or live workloads are unknown or the manifest cannot be read.
func Capacities(s Snapshot, w Want) (out []Capacity, ok bool) {
	ren := parseManifest(w.Manifest)
	if ren.problem != "" || !s.Nodes.Read || !s.Workloads.Read {
		return nil, false
	}
	t := &trial{nodes: s.Nodes.Value, rooms: roomsOf(s.Nodes.Value)}
	for _, x := range turns(ren, w.Pools) {
		if len(accelerators(x.w.requests)) > 0 {
			out = append(out, t.turn(x, s.Workloads.Value))
		}
	}
	return out, true
}

func turns(ren rendered, pools []Pool) []turn {
	pools = append([]Pool(nil), pools...)
	sort.SliceStable(pools, func(i, j int) bool {
		if pools[i].Order != pools[j].Order {
			return pools[i].Order < pools[j].Order
		}
		return pools[i].Name < pools[j].Name
	})
	owned := map[string]bool{}
	var out []turn
	for _, p := range pools {
		for _, ref := range p.Workloads {
			for _, w := range ren.workloads {
				if w.kind == ref.Kind && w.name == ref.Name && !owned[w.ref()] {
					owned[w.ref()] = true
					out = append(out, turn{p, w})
				}
			}
		}
	}
	var base []turn
	for _, w := range ren.workloads {
		if !owned[w.ref()] {
			base = append(base, turn{Pool{Name: "base"}, w})
		}
	}
	return append(base, out...)
}

func (t *trial) turn(x turn, live []LiveWorkload) Capacity {
	t.admit(&x.w)
	total, _ := t.slots(x.w.requests)
	c := Capacity{Pool: x.pool.Name, Workload: x.w.ref(), PerPod: x.w.requests, Replicas: x.w.replicas, Slots: total}
	var now LiveWorkload
	for _, l := range live {
		if l.Kind == x.w.kind && l.Name == x.w.name {
			now = l
		}
	}
	old := t.oldPods(now)
	c.Live = len(old)
	c.Rolling = rollingOf(x, total)
	if x.pool.Unchanged {
		c.Rolls = x.w.replicas > len(old)
		if c.Rolls { // only growth: the pods that run stay
			c.Placed = len(old) + t.roll(nil, nil, x.w.requests, x.w.replicas-len(old), Rolling{})
		}
		return c
	}
	c.Rolls = x.w.replicas > 0
	c.Placed = t.roll(old, now.Requests, x.w.requests, x.w.replicas, c.Rolling)
	return c
}

// rollingOf is the policy that the workload's controller will follow. A StatefulSet never surges.
func rollingOf(x turn, slots int) Rolling {
	switch {
	case x.w.stateful:
		return Rolling{MaxUnavailable: 1}
	case x.w.recreate:
		return Rolling{MaxUnavailable: max(1, x.w.replicas)}
	}
	p := x.pool
	if p.Replicas == 0 {
		p.Replicas = x.w.replicas
	}
	if p.MaxSurge == "" {
		p.MaxSurge = policyText(x.w.surge)
	}
	if p.MaxUnavailable == "" {
		p.MaxUnavailable = policyText(x.w.unav)
	}
	return SurgeFor(p, slots)
}

func (c *checker) gpuSlots(string) {
	if c.badManifest() {
		return
	}
	if !c.s.Nodes.Read {
		c.unread("nodes", c.s.Nodes.cause())
		return
	}
	if !c.s.Workloads.Read {
		c.unread("running workloads", c.s.Workloads.cause())
		return
	}
	caps, _ := Capacities(c.s, c.w)
	if len(caps) == 0 {
		c.pass("no rendered workload asks for a GPU")
	}
	for _, x := range caps {
		c.add(c.slotResult(x))
	}
}

func (c *checker) slotResult(x Capacity) Result {
	r := Result{Verdict: Pass, Subject: x.Pool + " " + x.Workload, Evidence: x}
	if x.Fits() {
		r.Message = fmt.Sprintf("%s has %d free slots of %s, rolls %d replicas with maxSurge=%d maxUnavailable=%d",
			x.Pool, x.Slots, perPod(x.PerPod), x.Replicas, x.Rolling.MaxSurge, x.Rolling.MaxUnavailable)
		return r
	}
	r.Verdict = Fail
	what, gpus := "surge slot", accelerators(x.PerPod)
	need := x.Rolling.MaxSurge
	if x.Live < x.Replicas || x.Placed > 0 || need == 0 {
		what, need = "slot", max(1, x.Replicas-max(x.Placed, x.Live))
	}
	r.Message = fmt.Sprintf("%s needs %d %s%s of %s; %s", x.Pool, need, what, plural(need), perPod(x.PerPod), c.freeText(gpus))
	if x.Rolling.MaxSurge > 0 && x.Rolling.MaxUnavailable == 0 && x.Live >= x.Replicas {
		r.Remedy = fmt.Sprintf("set pools.%s.maxSurge=0,maxUnavailable=1 (or maxSurge=auto), or free a node", x.Pool)
		return r
	}
	r.Remedy = fmt.Sprintf("free GPUs on one node, add a node, or ask for fewer replicas of %s", x.Workload)
	return r
}

// freeText tells where free GPUs are, since their sum says nothing about one pod.
func (c *checker) freeText(gpus Quantities) string {
	var parts []string
	for _, name := range sortedKeys(gpus) {
		var sum, most, going int64
		for _, n := range c.s.Nodes.Value {
			free := max(0, n.Allocatable[name]-n.Requested[name])
			if healthy(n) {
				sum, most = sum+free, max(most, free)
			}
			going += n.Terminating[name]
		}
		p := fmt.Sprintf("%d %s free but at most %d on one node", sum, name, most)
		if going > 0 {
			p += fmt.Sprintf(", %d still held by Terminating pods", going)
		}
		parts = append(parts, p)
	}
	return strings.Join(parts, "; ")
}

func perPod(q Quantities) string {
	var parts []string
	g := accelerators(q)
	for _, k := range sortedKeys(g) {
		parts = append(parts, fmt.Sprintf("%dx %s", g[k], k))
	}
	return strings.Join(parts, " + ")
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

func (c *checker) gpuPresent(string) {
	if !c.s.Nodes.Read {
		c.unread("nodes", c.s.Nodes.cause())
		return
	}
	b := c.w.Baseline
	if b == nil {
		c.pass("no baseline recorded yet; nothing to compare with")
		return
	}
	now := map[string]Node{}
	for _, n := range c.s.Nodes.Value {
		now[n.Name] = n
	}
	for _, name := range sortedKeys(b.GPUs) {
		c.gpuNode(name, b.GPUs[name], now)
	}
	if len(b.GPUs) == 0 {
		c.pass("the baseline has no GPU nodes")
	}
}

func (c *checker) gpuNode(name string, was Quantities, now map[string]Node) {
	n, there := now[name]
	lost := false
	for _, g := range sortedKeys(was) {
		have := n.Allocatable[g]
		if there && have >= was[g] {
			continue
		}
		lost = true
		msg := fmt.Sprintf("%s advertises %d of %d %s (was %d at rev %d)", name, have, was[g], g, was[g], c.w.Baseline.Revision)
		if !there {
			msg = fmt.Sprintf("%s with %d %s is gone (was there at rev %d)", name, was[g], g, c.w.Baseline.Revision)
		}
		c.add(Result{Verdict: Fail, Subject: name, Message: msg,
			Remedy:   "check the device plugin and the driver; kubectl describe node " + name,
			Evidence: map[string]int64{"was": was[g], "now": have}})
	}
	if !lost {
		c.add(Result{Verdict: Pass, Subject: name, Message: name + " has all its GPUs"})
	}
}
