package siteregistry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

var testNow = time.Date(2026, 11, 26, 2, 0, 0, 0, time.UTC)

func node(name, arch string, ready corev1.ConditionStatus, images ...string) corev1.Node {
	n := corev1.Node{}
	n.Name, n.Labels = name, map[string]string{"kubernetes.io/hostname": name, "kubernetes.io/arch": arch}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: "10.0.0." + name[1:]}}
	for _, i := range images {
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: strings.Fields(i)})
	}
	return n
}

func TestSeedImage(t *testing.T) {
	const pause, proxy, digest = "k8s.io/pause:3.9", "k8s.io/proxy:1", "k8s.io/proxy@sha256:aa"
	for name, c := range map[string]struct {
		nodes []corev1.Node
		want  string
		on    []string
	}{
		"what all have":              {[]corev1.Node{node("n1", "amd64", "True", proxy), node("n2", "amd64", "True", proxy, "only:1")}, proxy, []string{"n1", "n2"}},
		"pause before others":        {[]corev1.Node{node("n1", "amd64", "True", "a:1", pause, digest)}, pause, []string{"n1"}},
		"a digest before a tag":      {[]corev1.Node{node("n1", "amd64", "True", proxy+" "+digest)}, digest, []string{"n1"}},
		"most nodes before pause":    {[]corev1.Node{node("n1", "amd64", "True", pause, proxy), node("n2", "amd64", "True", proxy)}, proxy, []string{"n1", "n2"}},
		"not what others have":       {[]corev1.Node{node("n1", "arm64", "True", pause), node("n2", "amd64", "False", pause), node("n3", "amd64", "True", proxy)}, proxy, []string{"n3"}},
		"none: simulated, all empty": {[]corev1.Node{node("n1", "amd64", "True")}, "", nil},
	} {
		got, on := seedImage(c.nodes, "amd64")
		if got != c.want || !slices.Equal(on, c.on) {
			t.Errorf("%s: %q on %v, want %q on %v", name, got, on, c.want, c.on)
		}
	}
}

func TestCertificates(t *testing.T) {
	ca, err := newCA("bank-7", testNow)
	if err != nil {
		t.Fatal(err)
	}
	other, err := newCA("bank-7", testNow)
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"10.96.0.7", "10.0.0.1", "localhost", "wcbundle-registry.wcbundle-registry.svc"}
	cert, err := newCert(ca, hosts, testNow)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cert, ca []byte
		hosts    []string
		now      time.Time
		want     bool
	}{
		"as made":            {cert.cert, ca.cert, hosts, testNow, true},
		"a new node":         {cert.cert, ca.cert, append(slices.Clone(hosts), "10.0.0.2"), testNow, false},
		"another CA":         {cert.cert, other.cert, hosts, testNow, false},
		"soon over":          {cert.cert, ca.cert, hosts, testNow.Add(certLife - 80*24*time.Hour), false},
		"none":               {nil, ca.cert, hosts, testNow, false},
		"nonsense":           {[]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ca.cert, hosts, testNow, false},
		"an ended CA's":      {cert.cert, ca.cert, hosts, testNow.Add(caLife + time.Hour), false},
		"no CA in its place": {cert.cert, []byte("x"), hosts, testNow, false},
	} {
		if got := good(c.cert, c.ca, c.hosts, c.now); got != c.want {
			t.Errorf("%s: good is %v", name, got)
		}
	}
	for name, hostile := range map[string]pair{"no key": {ca.cert, nil}, "key for cert": {ca.key, ca.key}, "cert for key": {ca.cert, ca.cert}} {
		if _, err := newCert(hostile, hosts, testNow); err == nil {
			t.Errorf("%s: a certificate was made", name)
		}
	}
}

func TestPartsFit(t *testing.T) {
	p, err := programOf(make([]byte, 32), 82_500_000)
	if err != nil || p.parts != 80 {
		t.Fatalf("%+v, %v", p, err)
	}
	raw, err := json.Marshal(p.part("wcbundle-registry", 79, nil))
	if err != nil {
		t.Fatal(err)
	}
	if n := partSize + len(raw) + 1000; n > 1<<20 { // what the API server adds is below that
		t.Errorf("a part makes a ConfigMap of %d bytes", n)
	}
	if _, err := programOf(make([]byte, 32), 2000<<20); err == nil {
		t.Error("a program of 2 GB was taken")
	}
	if mounts, volumes := p.mounts(), p.volumes(); len(mounts) != len(volumes) || len(volumes[1].Projected.Sources) != 80 {
		t.Errorf("%d mounts, %d volumes", len(mounts), len(volumes))
	}
}

func TestHostsConfig(t *testing.T) {
	dir := t.TempDir()
	c := HostsConfig{Dir: dir, Host: "10.96.0.7:5000", CA: []byte("ca"), Mirrors: []string{"registry.example.com"}}
	for i, want := range []bool{true, false} {
		if changed, err := c.Write(); err != nil || changed != want {
			t.Fatalf("written %d times: changed %v, %v", i+1, changed, err)
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "registry.example.com", "hosts.toml"))
	if err != nil || !strings.Contains(string(b), `[host."https://10.96.0.7:5000/v2/registry.example.com"]`) || !strings.Contains(string(b), "override_path = true") {
		t.Errorf("the mirror: %v\n%s", err, b)
	}
	own := filepath.Join(dir, "10.96.0.7:5000", "hosts.toml")
	if err := os.WriteFile(own, []byte("# Written by wcbundle: and then changed\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if changed, err := c.Write(); err != nil || !changed {
		t.Errorf("a file of ours that was changed stays so: %v", err)
	}
	if err := os.WriteFile(own, []byte("server = \"https://elsewhere\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(); err == nil || !strings.Contains(err.Error(), "not ours") {
		t.Errorf("somebody's own file was overwritten: %v", err)
	}
	for _, hostile := range []string{"", "../../etc", "a/b", "a\"b", "x:99999999", "a\nb", ".", "-x-"} {
		if _, err := (HostsConfig{Dir: dir, Host: hostile}).Write(); err == nil {
			t.Errorf("host %q was taken", hostile)
		}
		if _, err := (HostsConfig{Dir: dir, Host: "a:1", Mirrors: []string{hostile}}).Write(); err == nil {
			t.Errorf("mirror %q was taken", hostile)
		}
	}
}

func TestReachable(t *testing.T) {
	ca, err := newCA("s", testNow)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := newCert(ca, []string{"10.0.0.1", "10.0.0.2"}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	nodes := []corev1.Node{node("n1", "amd64", "False"), node("n3", "amd64", "True"), node("n2", "amd64", "True")}
	if got := reachable(nodes, cert.cert); !slices.Equal(got, []string{"10.0.0.2"}) {
		t.Errorf("of a lost node, one that the certificate does not name and one that is well, %v are reachable", got)
	}
}
