package preflight

import (
	"math"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/intstr"
)

// Auto as Pool.MaxSurge chooses by the free slots.
const Auto = "auto"

// Rolling is a rolling-update policy in whole replicas.
type Rolling struct {
	MaxSurge       int `json:"maxSurge"`
	MaxUnavailable int `json:"maxUnavailable"`
}

// SurgeFor chooses how a pool rolls, given how many slots are free for its new pods. A surge of auto becomes one new
// replica first when a slot is free, else one old replica gone first; a surge that is given is kept as it is, so that
// a pool that cannot roll is reported rather than quietly changed. Percentages are of p.Replicas: surge rounds up,
// unavailability down, and where both come to nothing one replica may be unavailable, as Kubernetes has it.
func SurgeFor(p Pool, slots int) Rolling {
	if p.MaxSurge == Auto {
		if slots >= 1 {
			return Rolling{MaxSurge: 1}
		}
		return Rolling{MaxUnavailable: max(1, replicaCount(p.MaxUnavailable, p.Replicas, false))}
	}
	r := Rolling{
		MaxSurge:       replicaCount(orDefault(p.MaxSurge), p.Replicas, true),
		MaxUnavailable: replicaCount(orDefault(p.MaxUnavailable), p.Replicas, false),
	}
	if r.MaxSurge == 0 && r.MaxUnavailable == 0 {
		r.MaxUnavailable = 1
	}
	return r
}

// orDefault is the policy that Kubernetes itself puts where a chart says nothing.
func orDefault(v string) string {
	if v == "" {
		return "25%"
	}
	return v
}

func replicaCount(v string, replicas int, up bool) int {
	share, percent := strings.CutSuffix(v, "%")
	n, err := strconv.Atoi(share)
	if err != nil || n < 0 {
		return 0
	}
	if !percent {
		return n
	}
	part := float64(n) * float64(replicas) / 100
	if up {
		return int(math.Ceil(part))
	}
	return int(math.Floor(part))
}

func policyText(v *intstr.IntOrString) string {
	if v == nil {
		return ""
	}
	return v.String()
}

// room is a node during a trial: what is still free on it.
type room struct {
	name        string
	free        Quantities
	terminating Quantities
	eligible    bool
}

// Slots is how many pods of the given requests fit on a node with the given free amounts.
func Slots(free, requests Quantities) int {
	n := int64(math.MaxInt32)
	for k, need := range requests {
		if need > 0 {
			n = min(n, max(0, free[k])/need)
		}
	}
	return int(n)
}

func roomsOf(nodes []Node) []*room {
	out := make([]*room, 0, len(nodes))
	for _, n := range nodes {
		free := n.Allocatable.clone()
		free.add(n.Requested, -1)
		out = append(out, &room{name: n.Name, free: free, terminating: n.Terminating})
	}
	return out
}

// trial plays rolling updates through on a copy of the cluster.
type trial struct {
	nodes []Node
	rooms []*room
}

// admit marks the rooms that new pods of the workload may use.
func (t *trial) admit(w *workload) {
	for i, n := range t.nodes {
		t.rooms[i].eligible = mayRun(&w.pod, n) && healthy(n)
	}
}

func (t *trial) slots(requests Quantities) (total, best int) {
	for _, r := range t.rooms {
		if r.eligible {
			n := Slots(r.free, requests)
			total, best = total+n, max(best, n)
		}
	}
	return total, best
}

// place puts one pod on the eligible node that it leaves with the fewest further slots, which keeps large holes whole.
func (t *trial) place(requests Quantities) bool {
	var to *room
	fewest := math.MaxInt
	for _, r := range t.rooms {
		if !r.eligible {
			continue
		}
		if n := Slots(r.free, requests); n > 0 && n < fewest {
			to, fewest = r, n
		}
	}
	if to == nil {
		return false
	}
	to.free.add(requests, -1)
	return true
}

// roll replaces the pods of old by want new ones under the policy. It returns how many new pods found a place; fewer
// than want means that the roll gets stuck there.
func (t *trial) roll(old []*room, oldNeed, newNeed Quantities, want int, p Rolling) int {
	placed, left := 0, len(old)
	for {
		moved := false
		for placed < want && placed+left < want+p.MaxSurge && t.place(newNeed) {
			placed, moved = placed+1, true
		}
		if left > 0 && placed+left > want-p.MaxUnavailable {
			left--
			old[left].free.add(oldNeed, 1)
			moved = true
		}
		if !moved {
			return placed
		}
	}
}

// oldPods lists the room of each living pod of a workload, in the order of the nodes.
func (t *trial) oldPods(live LiveWorkload) []*room {
	var out []*room
	for _, r := range t.rooms {
		for range live.On[r.name] {
			out = append(out, r)
		}
	}
	return out
}
