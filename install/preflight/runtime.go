package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
)

// Where MutatingAdmissionPolicy is served.
const (
	PolicyGroup  = "admissionregistration.k8s.io"
	PolicyPlural = "mutatingadmissionpolicies"
)

// PolicyVersion is the newest version of the API that the cluster serves MutatingAdmissionPolicy in, "" for none.
func PolicyVersion(kube kubernetes.Interface) (string, error) {
	for _, v := range []string{"v1", "v1beta1", "v1alpha1"} {
		list, err := kube.Discovery().ServerResourcesForGroupVersion(PolicyGroup + "/" + v)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("asking the API server whether it serves MutatingAdmissionPolicy: %w", err)
		}
		for _, r := range list.APIResources {
			if r.Name == PolicyPlural {
				return v, nil
			}
		}
	}
	return "", nil
}

func (c Clients) podPolicy(context.Context) (string, error) { return PolicyVersion(c.Kube) }

// RunTime is how pods find their images that the rendered manifest does not show.
type RunTime struct {
	Way     string   // policy | mirrors | none
	Pull    string   // host:port of the site's registry, from the nodes
	Known   bool     // whether Mirrors were found out; a site may write the nodes' settings itself
	Mirrors []string // registries that nodes take from the site's
	Hooks   []Hook   // that an install, an upgrade or a rollback runs
}

// Hook is a hook of the chart with the images that it names.
type Hook struct {
	Name   string // kind/name
	Images []string
}

const changeWay = "wcbundle registry use --run-time policy (or mirrors)"

// runTime asks whether the cluster has what the site's way needs, and whether that finds the images of hooks, which no post-renderer sees.
func (c *checker) runTime(string) {
	from := len(c.out)
	r := c.w.RunTime
	switch r.Way {
	case "policy":
		c.policyServed()
	case "mirrors":
		c.mirrored()
	}
	known := map[string]bool{}
	for _, x := range slices.Concat(c.w.Images, c.w.Models) {
		known[x.Ref] = true
	}
	for _, h := range r.Hooks {
		for _, image := range h.Images {
			if strings.HasPrefix(image, r.Pull+"/") {
				continue
			}
			why, remedy := r.misses(image, known[image])
			if why != "" {
				c.add(Result{Verdict: Fail, Subject: h.Name, Message: fmt.Sprintf("hook %s names image %s, which its pod will not find: %s", h.Name, image, why), Remedy: remedy})
			}
		}
	}
	if len(c.out) > from {
		return
	}
	if r.Way == "policy" || r.Way == "mirrors" {
		c.pass("pods that are made at run time find their images by " + r.Way)
		return
	}
	c.pass("pods that are made at run time are left alone, and no hook needs it otherwise")
}

// misses is why a hook's pod will not find an image, and what to do about it; "" when it will.
func (r RunTime) misses(image string, known bool) (why, remedy string) {
	host, _, _ := strings.Cut(image, "/")
	switch {
	case !known:
		return "it is not in the release", "take the value out that names it, or ask for a bundle that has it"
	case r.Way == "policy":
		return "", ""
	case r.Way == "mirrors" && (!r.Known || slices.Contains(r.Mirrors, host)):
		return "", ""
	case r.Way == "mirrors":
		return "the nodes have no mirror of " + host, "wcbundle registry install --mirror " + host
	}
	return "hooks are not rewritten, and this site has no way for what is made at run time", changeWay
}

func (c *checker) policyServed() {
	switch s := c.s.PodPolicy; {
	case !s.Read:
		c.unread("whether MutatingAdmissionPolicy is served", s.cause())
	case s.Value == "":
		c.add(Result{Verdict: Fail, Message: "this site's pods find their images by a MutatingAdmissionPolicy, and the API server serves none",
			Remedy: "switch it on (Kubernetes 1.34: --feature-gates=MutatingAdmissionPolicy=true and --runtime-config=admissionregistration.k8s.io/v1beta1=true), or wcbundle registry use --run-time mirrors"})
	}
}

// mirrored warns of registries that the release's references name and that no node asks the site's for.
func (c *checker) mirrored() {
	r := c.w.RunTime
	if !r.Known {
		return
	}
	missing := map[string]bool{}
	for _, x := range c.w.Images {
		host, _, ok := strings.Cut(x.Ref, "/")
		if ok && !slices.Contains(r.Mirrors, host) {
			missing[host] = true
		}
	}
	for _, host := range sortedKeys(missing) {
		c.add(Result{Verdict: Warned, Subject: host, Message: "the nodes have no mirror of " + host + ", which references of the release name: pods that an operator makes from them will not start",
			Remedy: "wcbundle registry install --mirror " + host})
	}
}
