package preflight

import (
	"fmt"
	"sort"
	"strings"

	"github.com/Masterminds/semver/v3"
)

// kubeletSkew is how many minor versions a kubelet may be behind the API server.
const kubeletSkew = 3

func (c *checker) waypoint(string) {
	target, err := semver.NewVersion(c.w.Target)
	if err != nil {
		c.add(Result{Verdict: Unknown, Subject: c.w.Target, Message: fmt.Sprintf("target version %q is not a semantic version", c.w.Target),
			Remedy: "ask for a bundle with a proper version"})
		return
	}
	if c.w.Installed == "" {
		c.pass("fresh install of " + c.w.Target)
		return
	}
	have, err := semver.NewVersion(c.w.Installed)
	if err != nil {
		c.add(Result{Verdict: Unknown, Subject: c.w.Installed,
			Message: fmt.Sprintf("installed version %q is not a semantic version", c.w.Installed), Remedy: "check the site's record"})
		return
	}
	jump := fmt.Sprintf("%s -> %s", have, target)
	if target.LessThan(have) {
		c.add(Result{Verdict: Fail, Subject: jump, Message: fmt.Sprintf("bundle %s is older than the installed %s", target, have),
			Remedy: "to go back, use wcbundle rollback"})
		return
	}
	from := len(c.out)
	c.inRange(jump, have)
	c.stops(jump, have, target)
	if len(c.out) == from {
		c.add(Result{Verdict: Pass, Subject: jump, Message: jump + " is a supported step"})
	}
}

func (c *checker) inRange(jump string, have *semver.Version) {
	if c.w.From == "" {
		return
	}
	rng, err := semver.NewConstraint(c.w.From)
	if err != nil {
		c.add(Result{Verdict: Unknown, Subject: jump, Message: fmt.Sprintf("upgrade range %q cannot be read", c.w.From),
			Remedy: "ask for a bundle with a proper range"})
		return
	}
	rng.IncludePrerelease = true
	if !rng.Check(have) {
		c.add(Result{Verdict: Fail, Subject: jump, Message: fmt.Sprintf("%s upgrades from %s, the site runs %s", c.w.Target, c.w.From, have),
			Remedy: "load a bundle that takes " + have.String() + " first"})
	}
}

// stops looks for waypoints in between and at the distance. A waypoint must be stopped at even when the distance is
// short; a jump over a major version has no distance and is left to the range and the waypoints, but never over two.
func (c *checker) stops(jump string, have, target *semver.Version) {
	var between []*semver.Version
	for _, text := range c.w.Waypoints {
		w, err := semver.NewVersion(text)
		if err != nil {
			c.add(Result{Verdict: Unknown, Subject: jump, Message: fmt.Sprintf("waypoint %q is not a semantic version", text),
				Remedy: "ask for a bundle with proper waypoints"})
			return
		}
		if have.LessThan(w) && w.LessThan(target) {
			between = append(between, w)
		}
	}
	sort.Sort(semver.Collection(between))
	limit := c.w.MaxMinorSkip
	if limit <= 0 {
		limit = DefaultMinorSkip
	}
	distance := int64(target.Minor()) - int64(have.Minor())
	switch {
	case target.Major() > have.Major()+1, target.Major() > have.Major() && c.w.From == "":
		c.tooFar(jump, fmt.Sprintf("%s crosses a major version", jump), between)
	case target.Major() == have.Major() && distance > int64(limit):
		c.tooFar(jump, fmt.Sprintf("%s goes %d minor versions at once, at most %d are supported", jump, distance, limit), between)
	case len(between) > 0:
		c.tooFar(jump, fmt.Sprintf("%s crosses %d waypoint%s", jump, len(between), plural(len(between))), between)
	}
}

func (c *checker) tooFar(jump, message string, between []*semver.Version) {
	var names []string
	for _, w := range between {
		names = append(names, w.String())
	}
	remedy := "load a version in between first; the release notes list the waypoints"
	if len(names) > 0 {
		remedy = "load " + strings.Join(names, ", then ") + " first"
	}
	c.add(Result{Verdict: Fail, Subject: jump, Message: message, Remedy: remedy, Evidence: map[string][]string{"waypoints": names}})
}

func (c *checker) k8sVersion(string) {
	if !c.s.Server.Read {
		c.unread("the server version", c.s.Server.cause())
		return
	}
	server, err := kubeVersion(c.s.Server.Value)
	if err != nil {
		c.add(Result{Verdict: Unknown, Message: fmt.Sprintf("server version %q cannot be read", c.s.Server.Value),
			Remedy: "check kubectl version"})
		return
	}
	from := len(c.out)
	c.serverInRange(server)
	c.skew(server)
	if len(c.out) == from {
		c.pass("Kubernetes " + c.s.Server.Value)
	}
}

// kubeVersion leaves out what a distribution adds (-eks-1, +k3s1), which would make it a prerelease.
func kubeVersion(text string) (*semver.Version, error) {
	v, err := semver.NewVersion(text)
	if err != nil {
		return nil, err
	}
	return semver.New(v.Major(), v.Minor(), v.Patch(), "", ""), nil
}

func (c *checker) serverInRange(server *semver.Version) {
	if c.w.KubeVersion == "" {
		return
	}
	rng, err := semver.NewConstraint(c.w.KubeVersion)
	if err != nil {
		c.add(Result{Verdict: Unknown, Message: fmt.Sprintf("the chart's Kubernetes range %q cannot be read", c.w.KubeVersion),
			Remedy: "ask for a chart with a proper kubeVersion"})
		return
	}
	rng.IncludePrerelease = true // ">=1.28.0-0" is how charts write 1.28 and all its builds
	if !rng.Check(server) {
		c.add(Result{Verdict: Fail, Message: fmt.Sprintf("the release needs Kubernetes %s, the cluster runs %s", c.w.KubeVersion, c.s.Server.Value),
			Remedy: "upgrade the cluster first, or take a release for this version"})
	}
}

func (c *checker) skew(server *semver.Version) {
	if !c.s.Nodes.Read {
		c.unread("nodes", c.s.Nodes.cause())
		return
	}
	for _, n := range c.s.Nodes.Value {
		if n.Kubelet == "" {
			continue
		}
		v, err := kubeVersion(n.Kubelet)
		if err != nil {
			c.add(Result{Verdict: Unknown, Subject: n.Name, Message: fmt.Sprintf("kubelet version %q of %s cannot be read", n.Kubelet, n.Name),
				Remedy: "look at kubectl get nodes"})
			continue
		}
		behind := int64(server.Minor()) - int64(v.Minor())
		if v.Major() != server.Major() || behind > kubeletSkew || behind < 0 {
			c.add(Result{Verdict: Fail, Subject: n.Name, Message: fmt.Sprintf("kubelet %s on %s does not go with API server %s", n.Kubelet, n.Name, c.s.Server.Value),
				Remedy: "bring the kubelet within " + fmt.Sprint(kubeletSkew) + " minor versions of the API server"})
		}
	}
}
