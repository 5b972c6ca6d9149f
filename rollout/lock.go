package rollout

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// DefaultLockTTL is how long a lock outlives its holder's last renewal; it is renewed six times in that time.
const DefaultLockTTL = 60 * time.Second

// lock is the Lease of a release, while this process has it.
type lock struct {
	kube      kubernetes.Interface
	namespace string
	name      string
	holder    string
	ttl       time.Duration
	now       func() time.Time
	lost      atomic.Bool
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
		got.Spec = l.spec(&got.Spec)
		_, err = leases.Update(ctx, got, metav1.UpdateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("taking the lock: %w", err)
	}
	return nil
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

// keep renews the Lease until ctx ends, and calls lost when another holder has it.
func (l *lock) keep(ctx context.Context, lost func()) {
	tick := time.NewTicker(l.ttl / 6)
	defer tick.Stop()
	last := l.now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := l.acquire(ctx)
		switch {
		case err == nil:
			last = l.now()
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrLocked) || l.now().Sub(last) > l.ttl:
			l.lost.Store(true)
			lost()
			return
		}
	}
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
