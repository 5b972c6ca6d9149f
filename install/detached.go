package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/detach"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/rollout"
)

// What a detached run does.
const (
	RunApply    = "apply"
	RunRollback = "rollback"
	RunResume   = "resume"
)

// Detached says what a Job in the cluster is to do: exactly what a person agreed to. It is in a Secret, because the site's values and the
// registry's login are in it.
type Detached struct {
	Op         string         `json:"op"`
	What       string         `json:"what"`
	Release    string         `json:"release"`
	Version    string         `json:"version"`
	Head       string         `json:"head,omitempty"` // apply: the release's head
	From       int            `json:"fromRevision"`   // what ran when it was agreed to
	To         int            `json:"toRevision,omitempty"`
	Seq        int64          `json:"seq,omitempty"` // resume: the record that was seen
	Values     map[string]any `json:"values,omitempty"`
	OnFailure  string         `json:"onFailure,omitempty"`
	Prefetch   string         `json:"prefetch,omitempty"`
	Prometheus string         `json:"prometheus,omitempty"`
	Limits     rollout.Limits `json:"limits,omitzero"`
	Trial      *rollout.Trial `json:"trial,omitempty"`
	Accept     []string       `json:"accept,omitempty"`
	Reason     string         `json:"reason,omitempty"`
	Promote    bool           `json:"promote,omitempty"`
	Despite    string         `json:"despite,omitempty"`
	Actor      rollout.Actor  `json:"actor"`
	Registry   DetachedAccess `json:"registry"`
}

// DetachedAccess is how the Job reaches the site's registry.
type DetachedAccess struct {
	Host      string         `json:"host"`
	CA        string         `json:"ca,omitempty"`
	PlainHTTP bool           `json:"plainHTTP,omitempty"`
	Login     registry.Login `json:"login,omitzero"`
}

// ErrNoProgram means that no release of the site carries the program that a Job could run.
var ErrNoProgram = errors.New("the release carries no wcbundle image (registry.image in bundle.yaml), so that nothing could run in the cluster")

// DetachApply starts a Job that applies the plan.
func DetachApply(ctx context.Context, t Target, p *Plan, opt ApplyOptions, access DetachedAccess) (Detached, error) {
	d := opt.detached(RunApply, t, access)
	d.Release, d.Version, d.Head, d.From = p.Release, p.Version, p.Head, p.From
	manifests := append([]string{p.manifest}, p.hookManifests...)
	return d, d.start(ctx, t, p.client, detachedWork{p.verified.Release(), p.request.Chart, manifests})
}

// DetachRollback starts a Job that goes back as planned.
func DetachRollback(ctx context.Context, t Target, r *RollbackPlan, opt ApplyOptions, access DetachedAccess) (Detached, error) {
	d := opt.detached(RunRollback, t, access)
	d.Release, d.Version, d.From, d.To = r.Release, r.To.Bundle, r.From, r.To.Number
	rel, err := programRelease(ctx, t)
	if err != nil {
		return d, err
	}
	return d, d.start(ctx, t, r.client, detachedWork{rel, nil, []string{r.To.Manifest}})
}

// DetachResume starts a Job that goes on with the operation of the record.
func DetachResume(ctx context.Context, t Target, opt ApplyOptions, access DetachedAccess) (Detached, error) {
	d := opt.detached(RunResume, t, access)
	op, err := Operation(ctx, t)
	if err != nil {
		return d, err
	}
	if op.Phase.Terminal() {
		return d, fmt.Errorf("%w: %s ended as %s", rollout.ErrNoOperation, op.ID, op.Phase)
	}
	d.Op, d.Release, d.Version, d.From, d.Seq = op.ID, op.Release, op.Bundle.Version, op.Helm.FromRevision, op.Seq
	p, err := prepare(ctx, t, op.Bundle.Version)
	if err != nil {
		return d, err
	}
	rendered, err := p.client.Render(ctx, revision.RenderRequest{Chart: p.request.Chart, Values: p.request.Values, Release: p.Release, Post: p.request.Post})
	if err != nil {
		return d, err
	}
	return d, d.start(ctx, t, p.client, detachedWork{p.verified.Release(), p.request.Chart, append([]string{rendered.Manifest}, rendered.Hooks...)})
}

func (o ApplyOptions) detached(what string, t Target, access DetachedAccess) Detached {
	return Detached{Op: newID(t.Now), What: what, Values: t.Values, OnFailure: o.OnFailure, Prefetch: o.Prefetch, Prometheus: o.Prometheus, Limits: o.Limits,
		Trial: o.Trial, Accept: o.Accept, Reason: o.Reason, Promote: o.Promote, Despite: o.Despite, Actor: actor(o.Tool), Registry: access}
}

// programRelease is the newest loaded release, whose program runs in a Job.
func programRelease(ctx context.Context, t Target) (*bundle.Release, error) {
	l := t.Record.Latest()
	if l == nil {
		return nil, ErrNoProgram
	}
	return fetchRelease(ctx, LoadOptions{Registry: t.Registry}, t.Record.Product, l.Head)
}

// detachedWork is what a run has to do with.
type detachedWork struct {
	release   *bundle.Release // whose program runs
	chart     []byte          // nil: no CRD is touched
	manifests []string
}

// start brings the objects, the Job last.
func (d Detached) start(ctx context.Context, t Target, c *revision.Client, w detachedWork) error {
	rel, manifests := w.release, w.manifests
	if rel.Registry == nil {
		return ErrNoProgram
	}
	refs, err := References(rel, t.Record.Registry.Pull)
	if err != nil {
		return err
	}
	prev, err := c.RunningManifest(d.Release)
	if err != nil {
		return err
	}
	kinds, err := c.Kinds(append(manifests, prev)...)
	if err != nil {
		return err
	}
	groups, err := c.CRDGroups(d.Release, w.chart, manifests...)
	if err != nil {
		return err
	}
	spec, err := json.Marshal(d)
	if err != nil {
		return err
	}
	o := detach.Options{Release: d.Release, Namespace: t.Access.Namespace, Op: d.Op, Image: refs[rel.Registry.Image], Spec: spec,
		PullSecret: t.Record.Registry.PodAccess().Secret}
	o.Rules, o.Cluster = detach.Rules(o.ClusterName(), kinds, groups, t.Record.Registry.RunTime.Way() == RunTimePolicy)
	if err := t.Record.Registry.PodAccess().bring(ctx, t); err != nil {
		return err
	}
	if err := send(ctx, t.Access, o); err != nil {
		return err
	}
	return d.begun(ctx, t.Access, o)
}

// beginWait is how long the Job's pod may take to begin: its image is on the nodes or comes from the site's registry.
const beginWait = 3 * time.Minute

// begun waits until the record says that the operation runs. A pod that ends before takes its Job with it: what it said is the error.
func (d Detached) begun(ctx context.Context, a *Access, o detach.Options) error {
	until := time.Now().Add(beginWait)
	for {
		op, err := OpenOperation(ctx, a, d.Release)
		if err == nil && op.ID == d.Op && op.Seq != d.Seq {
			return nil
		}
		said, ended := lastWords(ctx, a, o)
		if ended || time.Now().After(until) {
			background := metav1.DeletePropagationBackground
			err := a.Kube.BatchV1().Jobs(a.Namespace).Delete(ctx, o.Name(), metav1.DeleteOptions{PropagationPolicy: &background})
			return errors.Join(fmt.Errorf("the operation did not begin, nothing was changed: %s", said), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// lastWords is what the Job's pods say, and whether one of them has ended in error.
func lastWords(ctx context.Context, a *Access, o detach.Options) (string, bool) {
	pods, err := a.Kube.CoreV1().Pods(a.Namespace).List(ctx, metav1.ListOptions{LabelSelector: detach.LabelOp + "=" + o.Op})
	if err != nil || len(pods.Items) == 0 {
		return "no pod was made yet", false
	}
	said, lines := "", int64(3)
	for _, p := range pods.Items {
		said = fmt.Sprintf("pod %s is %s", p.Name, p.Status.Phase)
		for _, c := range p.Status.ContainerStatuses {
			if w := c.State.Waiting; w != nil {
				said += ": " + w.Reason + " " + w.Message
			}
		}
		if p.Status.Phase != corev1.PodFailed {
			continue
		}
		if raw, err := a.Kube.CoreV1().Pods(a.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx); err == nil {
			said += ": " + strings.TrimSpace(string(raw))
		}
		return said, true
	}
	return said, false
}

// send replaces what an earlier run has left. One that still runs is not touched.
func send(ctx context.Context, a *Access, o detach.Options) error {
	jobs := a.Kube.BatchV1().Jobs(a.Namespace)
	old, err := ending(ctx, a, o)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fmt.Errorf("looking for an earlier run: %w", err)
	case old.Status.Active > 0:
		return fmt.Errorf("%w: Job %s runs operation %s", rollout.ErrLocked, o.Name(), old.Labels[detach.LabelOp])
	default:
		background := metav1.DeletePropagationForeground
		if err := jobs.Delete(ctx, o.Name(), metav1.DeleteOptions{PropagationPolicy: &background}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing an earlier run: %w", err)
		}
		if err := gone(ctx, a, o.Name()); err != nil {
			return err
		}
	}
	job, err := jobs.Create(ctx, suspended(o.Job()), metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("making Job %s: %w", o.Name(), err)
	}
	if err := bringAround(ctx, a, o, job); err != nil {
		return err
	}
	_, err = jobs.Patch(ctx, o.Name(), types.MergePatchType, []byte(`{"spec":{"suspend":false}}`), metav1.PatchOptions{FieldManager: "wcbundle"})
	return err
}

// ending is the Job of an earlier run; one whose operation has ended, or is on hold, is about to end and is given the time.
func ending(ctx context.Context, a *Access, o detach.Options) (*batchv1.Job, error) {
	for tries := 0; ; tries++ {
		old, err := a.Kube.BatchV1().Jobs(a.Namespace).Get(ctx, o.Name(), metav1.GetOptions{})
		if err != nil || old.Status.Active == 0 || tries == 60 {
			return old, err
		}
		op, err := OpenOperation(ctx, a, o.Release)
		if err != nil || op.ID != old.Labels[detach.LabelOp] || !op.Phase.Terminal() && op.Phase != rollout.Held {
			return old, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// suspended: the Job owns what its pods need, which must be there before they are.
func suspended(j *batchv1.Job) *batchv1.Job {
	yes := true
	j.Spec.Suspend = &yes
	return j
}

func gone(ctx context.Context, a *Access, name string) error {
	for range 150 {
		if _, err := a.Kube.BatchV1().Jobs(a.Namespace).Get(ctx, name, metav1.GetOptions{}); apierrors.IsNotFound(err) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
	return fmt.Errorf("the Job %s of an earlier run does not go", name)
}

// bringAround makes or replaces what the Job's pods need.
func bringAround(ctx context.Context, a *Access, o detach.Options, job *batchv1.Job) error {
	owner := []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))}
	secret, account, role, clusterRole := o.Secret(), o.ServiceAccount(), o.Role(), o.ClusterRole()
	binding, clusterBinding := o.Bindings()
	for _, m := range []*metav1.ObjectMeta{&secret.ObjectMeta, &account.ObjectMeta, &role.ObjectMeta, &binding.ObjectMeta} {
		m.OwnerReferences = owner
	}
	core, rbac := a.Kube.CoreV1(), a.Kube.RbacV1()
	for _, bring := range []func() error{
		func() error { return replace(ctx, core.Secrets(a.Namespace), "Secret", secret) },
		func() error { return replace(ctx, core.ServiceAccounts(a.Namespace), "ServiceAccount", account) },
		func() error { return replace(ctx, rbac.Roles(a.Namespace), "Role", role) },
		func() error { return replace(ctx, rbac.RoleBindings(a.Namespace), "RoleBinding", binding) },
		func() error { return replace(ctx, rbac.ClusterRoles(), "ClusterRole", clusterRole) },
		func() error { return replace(ctx, rbac.ClusterRoleBindings(), "ClusterRoleBinding", clusterBinding) },
	} {
		if err := bring(); err != nil {
			return err
		}
	}
	return roleGoesWithBinding(ctx, a, clusterRole.Name)
}

// replacer is a typed client of one kind.
type replacer[T metav1.Object] interface {
	Create(ctx context.Context, o T, opts metav1.CreateOptions) (T, error)
	Delete(ctx context.Context, name string, opts metav1.DeleteOptions) error
}

// replace makes an object of a run, in place of an earlier run's.
func replace[T metav1.Object](ctx context.Context, at replacer[T], kind string, o T) error {
	if err := at.Delete(ctx, o.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("replacing the %s of an earlier run: %w", kind, err)
	}
	if _, err := at.Create(ctx, o, metav1.CreateOptions{FieldManager: "wcbundle"}); err != nil {
		return fmt.Errorf("making the run's %s (whoever starts a run may give it no right that they do not have): %w", kind, err)
	}
	return nil
}

// roleGoesWithBinding: the run takes its own binding away at the end, and could not take away its role after that.
func roleGoesWithBinding(ctx context.Context, a *Access, name string) error {
	b, err := a.Kube.RbacV1().ClusterRoleBindings().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("making the run's rights: %w", err)
	}
	patch := fmt.Sprintf(`{"metadata":{"ownerReferences":[{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","name":%q,"uid":%q}]}}`, b.Name, b.UID)
	if _, err := a.Kube.RbacV1().ClusterRoles().Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{FieldManager: "wcbundle"}); err != nil {
		return fmt.Errorf("making the run's rights: %w", err)
	}
	return nil
}

// Run does what a Job is there for: it begins the operation, or takes it up where an earlier pod of the Job has left it. It returns when
// the operation has ended or is on hold.
func (d Detached) Run(ctx context.Context, t Target, opt ApplyOptions) (rollout.Outcome, error) {
	opt.OnFailure, opt.Prefetch, opt.Prometheus, opt.Limits, opt.Trial, opt.Accept = d.OnFailure, d.Prefetch, d.Prometheus, d.Limits, d.Trial, d.Accept
	opt.Reason, opt.Promote, opt.Despite, opt.ID, opt.Actor = d.Reason, d.Promote, d.Despite, d.Op, &d.Actor
	t.Values, t.Version, t.Brought = d.Values, d.Version, true
	op, err := OpenOperation(ctx, t.Access, d.Release)
	switch {
	case errors.Is(err, rollout.ErrNoOperation):
	case err != nil:
		return rollout.Outcome{}, err
	case op.ID == d.Op && (op.Phase.Terminal() || op.Phase == rollout.Held && op.Seq != d.Seq):
		return rollout.OutcomeOf(op), nil
	case op.ID == d.Op && op.Seq != d.Seq: // an earlier pod died: what it was told is in the record
		opt.Accept, opt.Limits, opt.Promote = nil, op.Limits, false
		return Continue(ctx, t, "", opt)
	case op.ID == d.Op:
		return Continue(ctx, t, "", opt)
	}
	switch d.What {
	case RunApply:
		return d.apply(ctx, t, opt)
	case RunRollback:
		r, err := NewRollback(ctx, t, d.To)
		if err != nil {
			return rollout.Outcome{}, err
		}
		if r.From != d.From {
			return rollout.Outcome{}, d.moved(r.From)
		}
		return Rollback(ctx, t, r, opt)
	}
	return rollout.Outcome{}, fmt.Errorf("%w: operation %s is not the one of the record any more", rollout.ErrNoOperation, d.Op)
}

func (d Detached) moved(from int) error {
	return fmt.Errorf("revision %d ran when this was agreed to, and now %d does: nothing was changed", d.From, from)
}

// apply plans again, without the preflight that was made just before, and goes on only if it comes to the same.
func (d Detached) apply(ctx context.Context, t Target, opt ApplyOptions) (rollout.Outcome, error) {
	p, err := prepare(ctx, t, d.Version)
	if err != nil {
		return rollout.Outcome{}, err
	}
	if err := p.compare(ctx, t); err != nil {
		return rollout.Outcome{}, err
	}
	if p.Consent, err = t.Record.Consent(p.Head); err != nil {
		return rollout.Outcome{}, err
	}
	if p.Head != d.Head {
		return rollout.Outcome{}, fmt.Errorf("release %s is another one than was agreed to (head %.19s, not %.19s): nothing was changed", d.Version, p.Head, d.Head)
	}
	if p.From != d.From {
		return rollout.Outcome{}, d.moved(p.From)
	}
	p.agreed = true
	return Apply(ctx, t, p, opt)
}

// Tidy takes away the Secret and the rights outside of the namespace, these last, when the operation has ended; the rest goes with the Job.
func (d Detached) Tidy(ctx context.Context, a *Access) error {
	o := detach.Options{Release: d.Release, Namespace: a.Namespace}
	for _, drop := range []func() error{
		func() error {
			return a.Kube.CoreV1().Secrets(a.Namespace).Delete(ctx, o.Name(), metav1.DeleteOptions{})
		},
		func() error {
			return a.Kube.RbacV1().ClusterRoleBindings().Delete(ctx, o.ClusterName(), metav1.DeleteOptions{})
		},
	} {
		if err := drop(); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
			return err
		}
	}
	return nil
}

// DetachedRun says which Job runs an operation, and its pod; empty where none does.
func DetachedRun(ctx context.Context, a *Access, release string) (op, pod string, err error) {
	o := detach.Options{Release: release, Namespace: a.Namespace}
	job, err := a.Kube.BatchV1().Jobs(a.Namespace).Get(ctx, o.Name(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && job.Status.Active == 0 {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("looking for a detached run: %w", err)
	}
	pods, err := a.Kube.CoreV1().Pods(a.Namespace).List(ctx, metav1.ListOptions{LabelSelector: detach.Label + "=" + release})
	if err != nil {
		return job.Labels[detach.LabelOp], "", nil
	}
	for _, p := range pods.Items {
		if p.DeletionTimestamp == nil && !slices.Contains([]string{"Succeeded", "Failed"}, string(p.Status.Phase)) {
			pod = p.Name
		}
	}
	return job.Labels[detach.LabelOp], pod, nil
}
