package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/yaml"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/preflight"
	"github.com/wordcab/wcbundle/install/siteregistry"
)

// RunTime is how pods find their images that no rendered manifest shows: those that an operator makes while it runs, and Helm's hooks.
type RunTime string

// The ways. The zero value, of records from before there was a choice, is none.
const (
	RunTimePolicy  RunTime = "policy"  // a MutatingAdmissionPolicy rewrites pods of the release's namespace when they are made
	RunTimeMirrors RunTime = "mirrors" // the nodes' containerd asks the site's registry instead of the one that is named
	RunTimeNone    RunTime = "none"    // rendered references only
)

// ParseRunTime reads a way.
func ParseRunTime(s string) (RunTime, error) {
	switch w := RunTime(s); w {
	case RunTimePolicy, RunTimeMirrors, RunTimeNone:
		return w, nil
	}
	return "", fmt.Errorf("%.40q is none of policy, mirrors, none", s)
}

// Way is the way, with the zero value spelled out.
func (w RunTime) Way() RunTime {
	if w == "" {
		return RunTimeNone
	}
	return w
}

// Means says in words what a way does.
func (w RunTime) Means() string {
	switch w.Way() {
	case RunTimePolicy:
		return "policy: the API server rewrites them"
	case RunTimeMirrors:
		return "mirrors: the nodes ask the site's registry"
	}
	return "none: only what the chart renders is rewritten"
}

// ChooseRunTime is the best way that a cluster has: policy where the API server serves it, else mirrors where registry install has set
// them up, else none. Without a cluster it is none.
func ChooseRunTime(ctx context.Context, a *Access, inCluster string) (RunTime, error) {
	if a == nil {
		return RunTimeNone, nil
	}
	v, err := preflight.PolicyVersion(a.Kube)
	if err != nil {
		return "", err
	}
	if v != "" {
		return RunTimePolicy, nil
	}
	if inCluster == "" {
		return RunTimeNone, nil
	}
	mirrors, _, err := siteregistry.Mirrors(ctx, a.Kube, inCluster)
	if err != nil {
		return "", err
	}
	if len(mirrors) > 0 {
		return RunTimeMirrors, nil
	}
	return RunTimeNone, nil
}

// runTimeTable maps references as charts and operators write them to the site's registry, for the releases that may run. Where two name
// the same reference, the first in the list has it.
func runTimeTable(pull string, releases ...*bundle.Release) (map[string]string, error) {
	out := map[string]string{}
	for _, r := range releases {
		refs, err := References(r, pull)
		if err != nil {
			return nil, err
		}
		for _, m := range r.Models { // a volume that named one would be mounted empty: only apply knows the form that nodes mount (ADR 12)
			delete(refs, m.Ref)
		}
		for ref, to := range refs {
			if _, ok := out[ref]; !ok {
				out[ref] = to
			}
		}
	}
	return out, nil
}

// LeaveRunTime takes away what a way has brought that the site has no more. The secret is the one that pods showed.
func LeaveRunTime(ctx context.Context, a *Access, was RunTime, secret string) error {
	switch was.Way() {
	case RunTimePolicy:
		return removePolicy(ctx, a)
	case RunTimeMirrors:
		return eachAccount(ctx, a, func(sa *corev1.ServiceAccount) {
			sa.ImagePullSecrets = slices.DeleteFunc(sa.ImagePullSecrets, func(r corev1.LocalObjectReference) bool { return r.Name == secret })
		})
	}
	return nil
}

// showSecret lets every service account of the namespace show the pull secret: pods without one of their own take their account's.
func showSecret(ctx context.Context, a *Access, secret string) error {
	if secret == "" {
		return nil
	}
	return eachAccount(ctx, a, func(sa *corev1.ServiceAccount) {
		if want := (corev1.LocalObjectReference{Name: secret}); !slices.Contains(sa.ImagePullSecrets, want) {
			sa.ImagePullSecrets = append(sa.ImagePullSecrets, want)
		}
	})
}

// eachAccount changes the service accounts of the namespace that need it.
func eachAccount(ctx context.Context, a *Access, change func(*corev1.ServiceAccount)) error {
	accounts := a.Kube.CoreV1().ServiceAccounts(a.Namespace)
	list, err := accounts.List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("service accounts, which show pull secrets: %w", err)
	}
	for _, sa := range list.Items {
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			now, err := accounts.Get(ctx, sa.Name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			before := slices.Clone(now.ImagePullSecrets)
			if change(now); slices.Equal(before, now.ImagePullSecrets) {
				return nil
			}
			_, err = accounts.Update(ctx, now, metav1.UpdateOptions{FieldManager: fieldManager})
			return err
		})
		if err != nil {
			return fmt.Errorf("service account %s, which shows pull secrets: %w", sa.Name, err)
		}
	}
	return nil
}

// SettleRunTime makes the cluster as the record says for the releases of these versions, the one that is to run first. Versions that are
// not in the site's registry are left out.
func SettleRunTime(ctx context.Context, t Target, versions ...string) error {
	if !t.Brought {
		if err := t.Record.Registry.PodAccess().bring(ctx, t); err != nil {
			return err
		}
	}
	switch t.Record.Registry.RunTime.Way() {
	case RunTimeMirrors:
		return showSecret(ctx, t.Access, t.Record.Registry.PodAccess().Secret)
	case RunTimeNone:
		return nil
	}
	var releases []*bundle.Release
	for i, version := range versions {
		l := t.Record.ofVersion(version)
		if l == nil || !t.Record.Registry.had(*l) || slices.Contains(versions[:i], version) {
			continue
		}
		r, err := fetchRelease(ctx, LoadOptions{Registry: t.Registry}, t.Record.Product, l.Head)
		if err != nil {
			return fmt.Errorf("references of release %s: %w", version, err)
		}
		releases = append(releases, r)
	}
	if len(releases) == 0 {
		return nil
	}
	table, err := runTimeTable(t.Record.Registry.Pull, releases...)
	if err != nil {
		return err
	}
	p := podPolicy{Namespace: t.Access.Namespace, Pull: t.Record.Registry.Pull, Secret: t.Record.Registry.PodAccess().Secret, Table: table}
	return p.settle(ctx, t.Access)
}

// running is the version that the site's record says runs.
func (t Target) running() string {
	if t.Record.Installed == nil {
		return ""
	}
	return t.Record.Installed.Version
}

// ErrPolicyIdle is returned where the API server takes a MutatingAdmissionPolicy and does not act by it.
var ErrPolicyIdle = errors.New("the API server has taken the policy that rewrites pods and does not act by it")

// wantRunTime is what preflight judges of the way.
func (p *Plan) wantRunTime(ctx context.Context, t Target) (preflight.RunTime, error) {
	a := t.Record.Registry
	r := preflight.RunTime{Way: string(a.RunTime.Way()), Pull: a.Pull, Hooks: p.hooks}
	if r.Way != string(RunTimeMirrors) || a.InCluster == "" {
		return r, nil
	}
	var err error
	r.Mirrors, r.Known, err = siteregistry.Mirrors(ctx, t.Access.Kube, a.InCluster)
	return r, err
}

// runEvents are the events whose hooks this program lets Helm run.
var runEvents = []string{"pre-install", "post-install", "pre-upgrade", "post-upgrade", "pre-rollback", "post-rollback"}

// hooksOf lists the hooks that run, with the images that they name.
func hooksOf(manifests []string) ([]preflight.Hook, error) {
	var out []preflight.Hook
	for _, m := range manifests {
		var head struct {
			Kind     string `json:"kind"`
			Metadata struct {
				Name        string            `json:"name"`
				Annotations map[string]string `json:"annotations"`
			} `json:"metadata"`
		}
		if err := yaml.Unmarshal([]byte(m), &head); err != nil {
			return nil, fmt.Errorf("a hook of the chart is not YAML: %w", err)
		}
		runs := slices.ContainsFunc(strings.Split(head.Metadata.Annotations["helm.sh/hook"], ","), func(event string) bool {
			return slices.Contains(runEvents, strings.TrimSpace(event))
		})
		if !runs {
			continue
		}
		images, err := bundle.ImageRefs([]byte(m))
		if err != nil {
			return nil, fmt.Errorf("hook %s/%s: %w", head.Kind, head.Metadata.Name, err)
		}
		if len(images) > 0 {
			out = append(out, preflight.Hook{Name: head.Kind + "/" + head.Metadata.Name, Images: images})
		}
	}
	return out, nil
}
