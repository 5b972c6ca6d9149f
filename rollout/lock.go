package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"
)

// DefaultLockTTL is how long a lock outlives its holder's last renewal; it is renewed six times in that time.
const DefaultLockTTL = 60 * time.Second

// annotationAsked is what a person asks of whoever holds the lock, on the Lease: its holder reads that all the time anyway.
const annotationAsked = "bundle.wordcab.com/asked"

// lock is the Lease of a release, while this process has it.
type lock struct {
	kube      kubernetes.Interface
	namespace string
	name      string
	holder    string
	ttl       time.Duration
	now       func() time.Time
	lost      atomic.Bool
	renewed   atomic.Int64 // when, in Unix nanoseconds
	asked     atomic.Pointer[Request]
}

// Request is what a person asks of a run in another process: pause or abort the operation of that id.
type Request struct {
	Op     string `json:"op"`
	What   string `json:"what"`
	By     string `json:"by,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// acquire takes the Lease if it is free, expired or ours already. Otherwise the error is an ErrLocked that names the
// holder. The clocks of two machines are never compared but for the expiry, which is why that is six renewals long.
func (l *lock) acquire(ctx context.Context) error {
	leases := l.kube.CoordinationV1().Leases(l.namespace)
	got, err := leases.Get(ctx, l.name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		_, err = leases.Create(ctx, &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: l.name, Namespace: l.namespace}, Spec: l.spec(nil)}, metav1.CreateOptions{})
	case err != nil:
	default:
		if holder := l.heldByOther(got); holder != "" {
			return fmt.Errorf("%w: %s", ErrLocked, holder)
		}
		l.hear(got)
		got.Spec = l.spec(&got.Spec)
		_, err = leases.Update(ctx, got, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("taking the lock: %w", err)
	}
	l.renewed.Store(l.now().UnixNano())
	return nil
}

// hear takes what was asked off the Lease. What was asked of an earlier holder is nobody's any more.
func (l *lock) hear(got *coordinationv1.Lease) {
	text := got.Annotations[annotationAsked]
	if text == "" {
		return
	}
	delete(got.Annotations, annotationAsked)
	var r Request
	if got.Spec.HolderIdentity != nil && *got.Spec.HolderIdentity == l.holder && len(text) < 4096 && json.Unmarshal([]byte(text), &r) == nil {
		l.asked.Store(&r)
	}
}

// assured waits until the lock has been renewed lately. A process that slept, or could not reach the API server, must not act before it
// knows that nobody has taken the lock meanwhile.
func (l *lock) assured(ctx context.Context) error {
	for {
		age := l.now().Sub(time.Unix(0, l.renewed.Load()))
		if age < l.ttl*2/3 && !l.lost.Load() {
			return nil
		}
		if err := wait(ctx, min(l.ttl/60, time.Second)); err != nil {
			return err
		}
	}
}

// Ask leaves a request for whoever runs the operation. ErrNoOperation when nobody holds the lock.
func Ask(ctx context.Context, kube kubernetes.Interface, namespace, release string, r Request) error {
	leases := kube.CoordinationV1().Leases(namespace)
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		got, err := leases.Get(ctx, "wcbundle-"+release, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && (got.Spec.HolderIdentity == nil || *got.Spec.HolderIdentity == "") {
			return ErrNoOperation
		}
		if err != nil {
			return fmt.Errorf("asking the holder of the lock: %w", err)
		}
		if got.Annotations == nil {
			got.Annotations = map[string]string{}
		}
		got.Annotations[annotationAsked] = string(text)
		_, err = leases.Update(ctx, got, metav1.UpdateOptions{})
		return err
	})
}

func (l *lock) heldByOther(got *coordinationv1.Lease) string {
	s := got.Spec
	if s.HolderIdentity == nil || *s.HolderIdentity == "" || *s.HolderIdentity == l.holder || s.RenewTime == nil {
		return ""
	}
	ttl := l.ttl
	if s.LeaseDurationSeconds != nil {
		ttl = time.Duration(*s.LeaseDurationSeconds) * time.Second
	}
	if l.now().Sub(s.RenewTime.Time) > ttl {
		return ""
	}
	return *s.HolderIdentity
}

func (l *lock) spec(old *coordinationv1.LeaseSpec) coordinationv1.LeaseSpec {
	now := metav1.NewMicroTime(l.now())
	ttl := int32(max(l.ttl/time.Second, 1))
	var turns int32
	s := coordinationv1.LeaseSpec{HolderIdentity: &l.holder, LeaseDurationSeconds: &ttl, RenewTime: &now, AcquireTime: &now, LeaseTransitions: &turns}
	if old == nil {
		return s
	}
	if old.LeaseTransitions != nil {
		turns = *old.LeaseTransitions
	}
	if old.HolderIdentity != nil && *old.HolderIdentity == l.holder {
		s.AcquireTime = old.AcquireTime
	} else {
		turns++
	}
	return s
}

// keep renews the Lease until ctx ends, and calls lost when another holder has it. An API server that is away takes the lock from nobody:
// see assured.
func (l *lock) keep(ctx context.Context, lost func()) {
	tick := time.NewTicker(l.ttl / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := l.acquire(ctx)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, ErrLocked) && !l.mine(ctx) {
			l.lost.Store(true)
			lost()
			return
		}
	}
}

// mine tells a lost lock from a conflict with somebody who asked something.
func (l *lock) mine(ctx context.Context) bool {
	got, err := l.kube.CoordinationV1().Leases(l.namespace).Get(ctx, l.name, metav1.GetOptions{})
	return err == nil && got.Spec.HolderIdentity != nil && *got.Spec.HolderIdentity == l.holder
}

// drop frees the Lease, if it is still ours.
func (l *lock) drop(ctx context.Context) error {
	leases := l.kube.CoordinationV1().Leases(l.namespace)
	got, err := leases.Get(ctx, l.name, metav1.GetOptions{})
	if err != nil || got.Spec.HolderIdentity == nil || *got.Spec.HolderIdentity != l.holder {
		return err
	}
	free := ""
	got.Spec.HolderIdentity = &free
	_, err = leases.Update(ctx, got, metav1.UpdateOptions{})
	return err
}

// Lock takes the lock of a release for work beside operations, such as removing what no revision needs. The context that it gives ends
// when the lock is lost; unlock gives it back. ErrLocked where an operation runs.
func Lock(ctx context.Context, kube kubernetes.Interface, namespace, release, holder string) (_ context.Context, unlock func() error, err error) {
	l := &lock{kube: kube, namespace: namespace, name: "wcbundle-" + release, holder: holder, ttl: DefaultLockTTL, now: time.Now}
	if err := l.acquire(ctx); err != nil {
		return nil, nil, err
	}
	held, lost := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.keep(held, func() { lost(ErrLockLost) })
	}()
	return held, func() error {
		lost(nil)
		<-ended
		return l.drop(context.WithoutCancel(ctx))
	}, nil
}
