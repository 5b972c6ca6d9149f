package preflight

import (
	"strings"
	"testing"
)

func TestImageVolumes(t *testing.T) {
	manifest := deployment("asr", 1, 1, "") + "      volumes: [{name: m, image: {reference: \"r/m@sha256:1\"}}]\n"
	at := func(name, runtime, kubelet string) Node {
		n := node(name, 8, 0)
		n.Runtime, n.Kubelet = runtime, kubelet
		return n
	}
	for _, c := range []struct {
		what     string
		manifest string
		nodes    []Node
		want     Verdict
		says     string
	}{
		{"none asked for", deployment("asr", 1, 1, ""), []Node{at("a", "containerd://1.6.20", "v1.34.4")}, Pass, "no rendered workload"},
		{"all can", manifest, []Node{at("a", "containerd://2.1.4", "v1.35.0"), at("b", "cri-o://1.33.0", "v1.36.1+k3s1")}, Pass, "2 nodes can"},
		{"off by default", manifest, []Node{at("a", "containerd://2.1.4", "v1.34.4")}, Warned, "off by default"},
		{"an old runtime", manifest, []Node{at("a", "containerd://2.1.4", "v1.35.0"), at("old", "containerd://1.6.20~ds1", "v1.35.0")}, Fail, "old"},
		{"an old runtime by number", manifest, []Node{at("old", "containerd://1.7.29", "v1.35.0")}, Fail, "containerd 1.7.29, needs 2.1.0"},
		{"an old kubelet", manifest, []Node{at("a", "containerd://2.1.4", "v1.30.9")}, Fail, "kubelet v1.30.9, needs"},
		{"a preview", manifest, []Node{at("a", "containerd://2.1.0-rc.1", "v1.35.0-gke.1")}, Pass, "1 nodes can"},
		{"docker", manifest, []Node{at("a", "docker://27.0.0", "v1.35.0")}, Fail, "docker"},
		{"a runtime that is not told", manifest, []Node{at("a", "", "v1.35.0")}, Warned, "runtime"},
		{"simulated", manifest, []Node{at("a", "kwok://v0.8.0", "v1.34.4"), at("b", "containerd://2.1.4", "v1.35.0")}, Pass, "1 nodes can"},
	} {
		s := Snapshot{Nodes: Got(c.nodes), Workloads: Got([]LiveWorkload{})}
		got, text := worst(Check(s, Want{Manifest: c.manifest}, now), "IMG-VOLUME")
		if got != c.want || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s: %s", c.what, got, text)
		}
	}
	if got, _ := worst(Check(Snapshot{}, Want{Manifest: manifest}, now), "IMG-VOLUME"); got != Unknown {
		t.Errorf("nothing was read: %s", got)
	}
}
