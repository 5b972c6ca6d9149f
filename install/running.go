package install

import (
	"context"
	"errors"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/wordcab/wcbundle/install/revision"
)

// nowRuns notes which release runs, as which revision of which Helm release. It tells whether that is news; a version that was never loaded
// is none.
func (r *Record) nowRuns(version string, as Installed) bool {
	l := r.ofVersion(version)
	if l == nil {
		return false
	}
	as.Version, as.Head, as.At = l.Version, l.Head, as.At.UTC().Truncate(time.Second)
	if i := r.Installed; i != nil && i.Head.Digest == as.Head.Digest && i.Release == as.Release && i.Namespace == as.Namespace && i.Revision == as.Revision {
		return false
	}
	r.Installed = &as
	return true
}

// Observe brings the record up to what the cluster says runs, and tells whether that is news: a run that was killed right after its
// operation had ended has not told the record. What is under way, or was made by plain helm, changes nothing, and neither does who may not read
// Helm's records.
func Observe(ctx context.Context, t Target) (bool, error) {
	if t.Record.Latest() == nil {
		return false, nil
	}
	release, err := releaseName(ctx, t)
	if err != nil {
		return false, err
	}
	c, err := client(t)
	if err != nil {
		return false, err
	}
	history, err := c.History(ctx, release)
	if errors.Is(err, revision.ErrNoRelease) || apierrors.IsForbidden(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return t.Record.observed(release, t.Access.Namespace, history), nil
}

// observed is Observe of a history.
func (r *Record) observed(release, namespace string, history []revision.Revision) bool {
	cur, ok := revision.Current(history)
	if !ok || cur.Outcome != revision.OutcomeSucceeded {
		return false
	}
	return r.nowRuns(cur.Bundle, Installed{Release: release, Namespace: namespace, Revision: cur.Number, At: cur.Updated})
}
