package preflight

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 23, 2, 30, 0, 0, time.UTC)

const gpu = "nvidia.com/gpu"

func deployment(name string, replicas, gpus int, extra string) string {
	return fmt.Sprintf(`---
apiVersion: apps/v1
kind: Deployment
metadata: {name: %s}
spec:
  replicas: %d
  %s
  template:
    spec:
      containers:
      - name: main
        image: registry.example.com/%s:2.9.0
        resources: {limits: {nvidia.com/gpu: %d}}
`, name, replicas, extra, name, gpus)
}

func node(name string, gpus, used int64) Node {
	return Node{Name: name, Ready: true, Kubelet: "v1.34.4", Allocatable: Quantities{gpu: gpus, "pods": 110}, Requested: Quantities{gpu: used}}
}

func live(name string, gpus int64, on map[string]int) LiveWorkload {
	n := 0
	for _, c := range on {
		n += c
	}
	return LiveWorkload{Kind: "Deployment", Name: name, Replicas: n, Requests: Quantities{gpu: gpus, "pods": 1}, On: on}
}

func pool(name, surge, unavailable string) Pool {
	return Pool{Name: name, Workloads: []WorkloadRef{{"Deployment", name}}, MaxSurge: surge, MaxUnavailable: unavailable}
}

// find returns the results of one check.
func find(r Report, id string) []Result {
	var out []Result
	for _, x := range r.Results {
		if x.ID == id {
			out = append(out, x)
		}
	}
	return out
}

// worst is the heaviest verdict of one check and its message.
func worst(r Report, id string) (Verdict, string) {
	rank := map[Verdict]int{Pass: 1, Warned: 2, Unknown: 3, Fail: 4}
	var v Verdict
	var text string
	for _, x := range find(r, id) {
		if rank[x.Verdict] > rank[v] {
			v, text = x.Verdict, x.Message+" -> "+x.Remedy
		}
	}
	return v, text
}

func TestGPUSlots(t *testing.T) {
	full := []Node{node("a", 4, 4), node("b", 4, 4)}
	onFull := []LiveWorkload{live("llm", 4, map[string]int{"a": 1, "b": 1})}
	terminating := node("a", 4, 4)
	terminating.Terminating = Quantities{gpu: 4}
	tainted := node("b", 8, 0)
	tainted.Taints = []Taint{{Key: "team", Value: "other", Effect: "NoSchedule"}}
	cordoned := node("b", 8, 0)
	cordoned.Unschedulable = true
	for _, c := range []struct {
		name  string
		nodes []Node
		live  []LiveWorkload
		text  string
		pools []Pool
		want  Verdict
		says  string
	}{
		{"case 18: surge without a free slot deadlocks", full, onFull, deployment("llm", 2, 4, ""), []Pool{pool("llm", "1", "0")}, Fail, "maxSurge=0,maxUnavailable=1"},
		{"case 18: auto gives an old replica up first", full, onFull, deployment("llm", 2, 4, ""), []Pool{pool("llm", "auto", "0")}, Pass, "maxSurge=0 maxUnavailable=1"},
		{"auto surges when a slot is free", append(full, node("c", 4, 0)), onFull, deployment("llm", 2, 4, ""), []Pool{pool("llm", "auto", "0")}, Pass, "maxSurge=1 maxUnavailable=0"},
		{"Kubernetes' own 25% with one replica", full[:1], []LiveWorkload{live("llm", 4, map[string]int{"a": 1})}, deployment("llm", 1, 4, ""), []Pool{pool("llm", "", "")}, Fail, "1 surge slot of 4x nvidia.com/gpu"},
		{"the chart's own policy", full, onFull, deployment("llm", 2, 4, "strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}"), []Pool{pool("llm", "", "")}, Pass, "maxSurge=0 maxUnavailable=1"},
		{"recreate needs no spare", full, onFull, deployment("llm", 2, 4, "strategy: {type: Recreate}"), nil, Pass, ""},
		{"case 19: free GPUs on three nodes are no slot", []Node{node("a", 4, 4), node("b", 4, 2), node("c", 4, 2), node("d", 4, 2)},
			[]LiveWorkload{live("llm", 4, map[string]int{"a": 1})}, deployment("llm", 1, 4, ""), []Pool{pool("llm", "1", "0")}, Fail, "6 nvidia.com/gpu free but at most 2 on one node"},
		{"case 20: a Terminating pod holds its GPU", []Node{terminating}, nil, deployment("llm", 1, 4, ""), []Pool{pool("llm", "1", "0")}, Fail, "4 still held by Terminating pods"},
		{"a taint that the pod does not tolerate", []Node{node("a", 4, 4), tainted}, []LiveWorkload{live("llm", 4, map[string]int{"a": 1})}, deployment("llm", 1, 4, ""), []Pool{pool("llm", "1", "0")}, Fail, ""},
		{"a cordoned node takes nobody", []Node{node("a", 4, 4), cordoned}, []LiveWorkload{live("llm", 4, map[string]int{"a": 1})}, deployment("llm", 1, 4, ""), []Pool{pool("llm", "1", "0")}, Fail, ""},
		{"growth", full, onFull, deployment("llm", 3, 4, ""), []Pool{pool("llm", "0", "1")}, Fail, "1 slot"},
		{"growth of an unchanged pool", full, onFull, deployment("llm", 3, 4, ""), []Pool{{Name: "llm", Workloads: []WorkloadRef{{"Deployment", "llm"}}, Unchanged: true}}, Fail, "1 slot"},
		{"an unchanged pool needs nothing", full, onFull, deployment("llm", 2, 4, ""), []Pool{{Name: "llm", MaxSurge: "1", Workloads: []WorkloadRef{{"Deployment", "llm"}}, Unchanged: true}}, Pass, ""},
		{"more GPUs per pod than the old one frees", []Node{node("a", 4, 4)}, []LiveWorkload{live("llm", 2, map[string]int{"a": 2})}, deployment("llm", 2, 4, ""), []Pool{pool("llm", "0", "1")}, Fail, ""},
		{"two new pools do not share one slot", []Node{node("a", 4, 0)}, nil, deployment("p1", 1, 4, "") + deployment("p2", 1, 4, ""), []Pool{pool("p2", "1", "0"), pool("p1", "1", "0")}, Fail, "p2 needs 1 slot"},
		{"case 32: zero replicas", full, nil, deployment("llm", 0, 4, ""), []Pool{pool("llm", "1", "0")}, Pass, ""},
		{"no GPU workload", full, nil, "", nil, Pass, "no rendered workload"},
		{"unreadable manifest", full, nil, "kind: Deployment\nspec: {replicas: many}", nil, Unknown, "could not be read"},
	} {
		s := Snapshot{Nodes: Got(c.nodes), Workloads: Got(c.live)}
		v, text := worst(Check(s, Want{Manifest: c.text, Pools: c.pools}, now), "GPU-SLOTS")
		if v != c.want || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s %q, want %s with %q", c.name, v, text, c.want, c.says)
		}
	}
}

func TestSurgeFor(t *testing.T) {
	for _, c := range []struct {
		pool  Pool
		slots int
		want  Rolling
	}{
		{Pool{MaxSurge: Auto}, 0, Rolling{0, 1}},
		{Pool{MaxSurge: Auto}, 1, Rolling{1, 0}},
		{Pool{MaxSurge: Auto, MaxUnavailable: "2"}, 0, Rolling{0, 2}},
		{Pool{MaxSurge: "1", MaxUnavailable: "0"}, 0, Rolling{1, 0}},
		{Pool{MaxSurge: "0", MaxUnavailable: "0"}, 5, Rolling{0, 1}},
		{Pool{Replicas: 1}, 0, Rolling{1, 0}},
		{Pool{Replicas: 10}, 0, Rolling{3, 2}},
		{Pool{MaxSurge: "50%", MaxUnavailable: "50%", Replicas: 3}, 0, Rolling{2, 1}},
		{Pool{MaxSurge: "nonsense", MaxUnavailable: "-1", Replicas: 3}, 0, Rolling{0, 1}},
	} {
		if got := SurgeFor(c.pool, c.slots); got != c.want {
			t.Errorf("%+v with %d slots: %+v, want %+v", c.pool, c.slots, got, c.want)
		}
	}
}

func TestWaypoint(t *testing.T) {
	for _, c := range []struct {
		name, have, target, from string
		waypoints                []string
		skip                     int
		want                     Verdict
		says                     string
	}{
		{"fresh", "", "2.9.0", ">=2.3.0", []string{"2.4.0"}, 0, Pass, "fresh"},
		{"six minors", "2.3.0", "2.9.0", ">=2.3.0", nil, 0, Pass, ""},
		{"case 72: seven minors", "2.2.0", "2.9.0", "", nil, 0, Fail, "7 minor versions"},
		{"seven minors with waypoints", "2.1.5", "2.9.0", "", []string{"2.7.0", "2.4.0"}, 0, Fail, "load 2.4.0, then 2.7.0 first"},
		{"close but over a waypoint", "2.3.0", "2.5.0", "", []string{"2.4.0"}, 0, Fail, "crosses 1 waypoint"},
		{"from the waypoint's patch", "2.4.3", "2.5.0", "", []string{"2.4.0"}, 0, Pass, ""},
		{"to the waypoint", "2.3.0", "2.4.0", "", []string{"2.4.0"}, 0, Pass, ""},
		{"own limit", "2.3.0", "2.6.0", "", nil, 2, Fail, "at most 2"},
		{"outside the range", "2.2.0", "2.5.0", ">=2.3.0", nil, 0, Fail, "the site runs 2.2.0"},
		{"case 73: older than installed", "2.9.0", "2.8.1", "", nil, 0, Fail, "older"},
		{"same version", "2.9.0", "2.9.0", "", nil, 0, Pass, ""},
		{"next major, allowed", "2.9.0", "3.0.0", ">=2.8.0", nil, 0, Pass, ""},
		{"next major, no range", "2.9.0", "3.0.0", "", nil, 0, Fail, "major"},
		{"two majors", "1.9.0", "3.0.0", ">=1.0.0", nil, 0, Fail, "major"},
		{"no version", "2.9.0", "latest", "", nil, 0, Unknown, ""},
		{"unreadable installed", "x", "2.9.0", "", nil, 0, Unknown, ""},
		{"unreadable range", "2.8.0", "2.9.0", "about two", nil, 0, Unknown, ""},
		{"unreadable waypoint", "2.8.0", "2.9.0", "", []string{"x"}, 0, Unknown, ""},
	} {
		w := Want{Target: c.target, Installed: c.have, From: c.from, Waypoints: c.waypoints, MaxMinorSkip: c.skip}
		if v, text := worst(Check(Snapshot{}, w, now), "WAYPOINT"); v != c.want || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s %q, want %s with %q", c.name, v, text, c.want, c.says)
		}
	}
}

func cert(days int) []Certificate {
	return []Certificate{{Subject: "CN=x", NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(0, 0, days)}}
}

func TestSections(t *testing.T) {
	pvc := func(class string) string {
		return "kind: PersistentVolumeClaim\nmetadata: {name: data}\nspec: {" + class + "}\n"
	}
	sts := "kind: StatefulSet\nmetadata: {name: asr}\nspec: {volumeClaimTemplates: [{metadata: {name: m}, spec: {storageClassName: fast}}]}\n"
	notReady := node("gpu-1", 8, 0)
	notReady.Ready = false
	cordoned := node("gpu-1", 8, 0)
	cordoned.Unschedulable = true
	pressed := node("gpu-1", 8, 0)
	pressed.Pressure = []string{"DiskPressure"}
	other := cordoned
	other.Labels = map[string]string{"role": "db"}
	selecting := "kind: Pod\nmetadata: {name: p}\nspec: {nodeSelector: {role: asr}, containers: []}\n"
	mine := node("mine", 8, 0)
	mine.Labels = map[string]string{"role": "asr"}
	base := &Baseline{Revision: 14, GPUs: map[string]Quantities{"gpu-1": {gpu: 8}}, StorageClasses: []StorageClass{{Name: "fast", Provisioner: "csi.a"}}}
	seven := node("gpu-1", 7, 0)
	rev := func(n int, status string) Revision {
		return Revision{Number: n, Status: status, Updated: now.AddDate(0, 0, -3), Stored: 4000}
	}
	for _, c := range []struct {
		name, id string
		s        Snapshot
		w        Want
		want     Verdict
		says     string
	}{
		{"not ready", "NODE-STATE", Snapshot{Nodes: Got([]Node{notReady})}, Want{}, Fail, "gpu-1 is NotReady"},
		{"cordoned", "NODE-STATE", Snapshot{Nodes: Got([]Node{cordoned})}, Want{}, Fail, "kubectl uncordon gpu-1"},
		{"pressure", "NODE-STATE", Snapshot{Nodes: Got([]Node{pressed})}, Want{}, Fail, "DiskPressure"},
		{"cordoned but not ours", "NODE-STATE", Snapshot{Nodes: Got([]Node{other, mine})}, Want{Manifest: selecting}, Pass, ""},
		{"no node admits us", "NODE-STATE", Snapshot{Nodes: Got([]Node{other})}, Want{Manifest: selecting}, Fail, "none of 1 nodes"},

		{"GPU lost", "GPU-PRESENT", Snapshot{Nodes: Got([]Node{seven})}, Want{Baseline: base}, Fail, "advertises 7 of 8"},
		{"node lost", "GPU-PRESENT", Snapshot{Nodes: Got([]Node{mine})}, Want{Baseline: base}, Fail, "is gone"},
		{"all there", "GPU-PRESENT", Snapshot{Nodes: Got([]Node{node("gpu-1", 8, 0)})}, Want{Baseline: base}, Pass, ""},

		{"class missing", "SC-PRESENT", Snapshot{StorageClasses: Got([]StorageClass{{Name: "slow"}})}, Want{Manifest: sts}, Fail, "needs StorageClass fast"},
		{"class there", "SC-PRESENT", Snapshot{StorageClasses: Got([]StorageClass{{Name: "fast"}})}, Want{Manifest: sts}, Pass, ""},
		{"no default", "SC-PRESENT", Snapshot{StorageClasses: Got([]StorageClass{{Name: "fast"}})}, Want{Manifest: pvc("")}, Fail, "no default one"},
		{"default", "SC-PRESENT", Snapshot{StorageClasses: Got([]StorageClass{{Name: "fast", Default: true}})}, Want{Manifest: pvc("")}, Pass, "fast"},
		{"made by hand", "SC-PRESENT", Snapshot{StorageClasses: Got([]StorageClass(nil))}, Want{Manifest: pvc(`storageClassName: ""`)}, Pass, ""},
		{"inside a list", "SC-PRESENT", Snapshot{StorageClasses: Got([]StorageClass(nil))},
			Want{Manifest: "kind: List\nitems: [{kind: PersistentVolumeClaim, metadata: {name: d}, spec: {storageClassName: q}}]"}, Fail, "needs StorageClass q"},
		{"not read", "SC-PRESENT", Snapshot{}, Want{Manifest: sts}, Unknown, "not collected"},
		{"class changed", "SC-CHANGED", Snapshot{StorageClasses: Got([]StorageClass{{Name: "fast", Provisioner: "csi.b"}})}, Want{Baseline: base}, Fail, "was csi.a, is csi.b"},
		{"class gone", "SC-CHANGED", Snapshot{StorageClasses: Got([]StorageClass(nil))}, Want{Baseline: base}, Fail, "is gone since rev 14"},
		{"class same", "SC-CHANGED", Snapshot{StorageClasses: Got(base.StorageClasses)}, Want{Baseline: base}, Pass, ""},

		{"expired", "CERT-TLS", Snapshot{TLSSecrets: Got([]TLSSecret{{Name: "in", Certs: cert(-2)}})}, Want{}, Fail, "expired 2 days ago"},
		{"soon", "CERT-TLS", Snapshot{TLSSecrets: Got([]TLSSecret{{Name: "in", Certs: cert(6)}})}, Want{}, Warned, "expires in 6 days"},
		{"good", "CERT-TLS", Snapshot{TLSSecrets: Got([]TLSSecret{{Name: "in", Certs: cert(90)}})}, Want{}, Pass, ""},
		{"expired in the chain", "CERT-TLS", Snapshot{TLSSecrets: Got([]TLSSecret{{Name: "in", Certs: append(cert(90), cert(-1)...)}})}, Want{}, Fail, "expired"},
		{"unreadable", "CERT-TLS", Snapshot{TLSSecrets: Got([]TLSSecret{{Name: "in", Problem: "no PEM"}})}, Want{}, Unknown, "no PEM"},
		{"server soon", "CERT-APISERVER", Snapshot{ServerCerts: Got(cert(10))}, Want{}, Warned, "10 days"},
		{"server empty", "CERT-APISERVER", Snapshot{ServerCerts: Got([]Certificate(nil))}, Want{}, Unknown, ""},

		{"image missing", "IMG-PRESENT", Snapshot{}, Want{Images: []Content{{Ref: "a:1", Digest: "sha256:ab", Presence: Absent}}}, Fail, "not in the registry"},
		{"image unknown", "IMG-PRESENT", Snapshot{}, Want{Images: []Content{{Ref: "a:1", Cause: "timeout"}}}, Unknown, "timeout"},
		{"image not in the release", "IMG-PRESENT", Snapshot{}, Want{Manifest: deployment("x", 1, 0, "")}, Fail, "Deployment/x asks for, is not in the release"},
		{"image rewritten", "IMG-PRESENT", Snapshot{}, Want{Manifest: deployment("x", 1, 0, ""),
			Images: []Content{{Ref: "x:2.9.0", Rendered: "registry.example.com/x:2.9.0", Presence: Present}}}, Pass, "1 of 1 images"},
		{"model missing", "MODEL-PRESENT", Snapshot{}, Want{Models: []Content{{Ref: "m", Presence: Absent}}}, Fail, ""},

		{"scratch short", "DELTA-SPACE", Snapshot{}, Want{Scratch: Space{Where: "/var", Need: 96 << 30, Free: 60 << 30, Known: true}}, Fail, "96.0 GiB scratch at /var, 60.0 GiB free"},
		{"scratch unknown", "DELTA-SPACE", Snapshot{}, Want{Scratch: Space{Need: 1}}, Unknown, ""},
		{"memory short", "DELTA-SPACE", Snapshot{}, Want{Memory: Space{Need: 2, Free: 1, Known: true}}, Fail, "memory"},
		{"nothing needed", "DELTA-SPACE", Snapshot{}, Want{}, Pass, ""},

		{"pending", "HELM-STATE", Snapshot{Revisions: Got([]Revision{rev(14, "deployed"), rev(15, "pending-upgrade")})}, Want{Installed: "1.0.0"}, Fail, "rev 15 is pending-upgrade since 3 days"},
		{"failed", "HELM-STATE", Snapshot{Revisions: Got([]Revision{rev(14, "deployed"), rev(15, "failed")})}, Want{Installed: "1.0.0"}, Fail, "rollback --to rev 14"},
		{"two deployed", "HELM-STATE", Snapshot{Revisions: Got([]Revision{rev(14, "deployed"), rev(15, "deployed")})}, Want{Installed: "1.0.0"}, Fail, "14, 15"},
		{"gap", "HELM-STATE", Snapshot{Revisions: Got([]Revision{rev(12, "superseded"), rev(15, "deployed")})}, Want{Installed: "1.0.0"}, Warned, "from rev 12 to rev 15"},
		{"undecodable", "HELM-STATE", Snapshot{Revisions: Got([]Revision{{Number: 15, Status: "deployed", Problem: "gzip"}})}, Want{Installed: "1.0.0"}, Unknown, "gzip"},
		{"foreign", "HELM-STATE", Snapshot{Revisions: Got([]Revision{rev(15, "deployed")})}, Want{}, Warned, "plain helm"},
		{"sound", "HELM-STATE", Snapshot{Revisions: Got([]Revision{rev(14, "superseded"), rev(15, "deployed")})}, Want{Installed: "1.0.0"}, Pass, ""},
		{"history lost", "HELM-STATE", Snapshot{Revisions: Got([]Revision(nil))}, Want{Installed: "1.0.0"}, Fail, "no revision"},
		{"record large", "HELM-SIZE", Snapshot{}, Want{Stored: 800 << 10}, Warned, ""},
		{"record too large", "HELM-SIZE", Snapshot{}, Want{Stored: 2 << 20}, Fail, ""},

		{"operation open", "OP-OPEN", Snapshot{Operation: Got(Operation{ID: "01J", State: "Rolling", Open: true})}, Want{}, Fail, "operation 01J was left in state Rolling"},
		{"lease held", "OP-OPEN", Snapshot{Operation: Got(Operation{Holder: "alice@jump01"})}, Want{}, Fail, "alice@jump01 is at work"},
		{"nothing open", "OP-OPEN", Snapshot{Operation: Got(Operation{})}, Want{}, Pass, ""},

		{"kubernetes too old", "K8S-VERSION", Snapshot{Server: Got("v1.27.3"), Nodes: Got([]Node(nil))}, Want{KubeVersion: ">=1.28.0-0"}, Fail, "v1.27.3"},
		{"a distribution's suffix", "K8S-VERSION", Snapshot{Server: Got("v1.28.3+k3s1"), Nodes: Got([]Node(nil))}, Want{KubeVersion: ">=1.28.0"}, Pass, ""},
		{"kubelet too old", "K8S-VERSION", Snapshot{Server: Got("v1.34.4"), Nodes: Got([]Node{{Name: "n", Kubelet: "v1.30.1"}})}, Want{}, Fail, "v1.30.1 on n"},

		{"quota", "QUOTA", Snapshot{Workloads: Got([]LiveWorkload{live("x", 1, map[string]int{"a": 2})}),
			Quotas: Got([]Quota{{Name: "q", Hard: Quantities{"requests." + gpu: 2}, Used: Quantities{"requests." + gpu: 2}}})},
			Want{Manifest: deployment("x", 2, 1, ""), Pools: []Pool{pool("x", "1", "0")}}, Fail, "leaves 0"},
		{"quota with headroom", "QUOTA", Snapshot{Workloads: Got([]LiveWorkload{live("x", 1, map[string]int{"a": 2})}),
			Quotas: Got([]Quota{{Name: "q", Hard: Quantities{"requests." + gpu: 3}, Used: Quantities{"requests." + gpu: 2}}})},
			Want{Manifest: deployment("x", 2, 1, ""), Pools: []Pool{pool("x", "1", "0")}}, Pass, "headroom"},
	} {
		if v, text := worst(Check(c.s, c.w, now), c.id); v != c.want || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: %s %q, want %s with %q", c.id, c.name, v, text, c.want, c.says)
		}
	}
}

// What was never read is never a pass.
func TestZeroSnapshotBlocks(t *testing.T) {
	r := Check(Snapshot{}, Want{}, now)
	if !r.Blocked() || !(Report{}).Blocked() {
		t.Error("the zero snapshot or report does not block")
	}
	for _, id := range []string{"GPU-SLOTS", "GPU-PRESENT", "NODE-STATE", "QUOTA", "SC-CHANGED", "CERT-TLS", "CERT-APISERVER", "HELM-STATE", "HELM-SIZE", "OP-OPEN", "WAYPOINT", "K8S-VERSION"} {
		if v, _ := worst(r, id); v != Unknown {
			t.Errorf("%s is %s", id, v)
		}
	}
	for _, x := range r.Results {
		if x.ID == "" || x.Severity != Block || x.Message == "" || x.Verdict != Pass && x.Remedy == "" {
			t.Errorf("incomplete result %+v", x)
		}
	}
}

func TestWaive(t *testing.T) {
	r := Report{Results: []Result{{ID: "A", Severity: Block, Verdict: Fail}, {ID: "B", Severity: Block, Verdict: Pass}}}
	if got, unused := r.Waive(map[string]string{"A": "known", "B": "no need"}); got.Blocked() || len(unused) != 1 || unused[0] != "B" {
		t.Errorf("blocked %v, unused %v", got.Blocked(), unused)
	}
	if got, _ := r.Waive(map[string]string{"A": ""}); !got.Blocked() {
		t.Error("a waiver without a reason counted")
	}
	if !r.Blocked() {
		t.Error("waiving changed the first report")
	}
}
