package rollout

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What becomes of an operation whose pool's images and models cannot be brought to its nodes before a replica is drained.
const (
	FetchTry      = "try"      // go on, unless a node that the pool runs on now says itself that it cannot have them
	FetchRequired = "required" // fail the pool, which is not drained
	FetchOff      = "off"      // bring nothing
)

const (
	// DefaultFetchLimit is how long a pool may be fetched for without one more node that has everything.
	DefaultFetchLimit = 30 * time.Minute
	// fetchGrace is how long nodes that say that they cannot fetch are given: kubelets try again.
	fetchGrace = time.Minute
	// lacksMax bounds what the record keeps of one pool.
	lacksMax = 16
)

// Fetcher brings what a pool's new pods need to the nodes where they may run.
type Fetcher interface {
	// Fetch begins, or looks how far it is. It is asked again until every node is settled, by another process too.
	Fetch(ctx context.Context, op string, p Pool) (Fetched, error)
	// Clear removes whatever Fetch has left in the cluster, of this operation and of others of the release.
	Clear(ctx context.Context) error
}

// Fetched is how far the nodes are. A node that neither has everything nor lacks something is still at it.
type Fetched struct {
	Have  int // nodes that have everything
	Total int
	Lacks []Lack
	At    []string // nodes that are still at it
}

// Lack is a node that says what it cannot have.
type Lack struct {
	Node   string
	Reason string
	Fatal  bool // the pool runs there now, and its own pods would fail for the same reason
}

// fetches tells whether a pool is fetched for before it is released. On the way back nothing may delay the pool that failed, and pools
// that were never released keep their pods.
func (s *State) fetches(p *PoolState) bool {
	if s.Prefetch == "" || s.Prefetch == FetchOff {
		return false
	}
	if s.Phase == RollingBack {
		return p.Touched && (s.Failure == nil || p.Name != s.Failure.Pool)
	}
	return true
}

func (s *State) onFetched(p *PoolState, f Fetched, now time.Time) {
	if f.Have > p.Ready {
		p.ProgressAt = now
	}
	p.Ready, p.Total, p.Waiting = f.Have, f.Total, cut(waitingFor(f), maxMessage)
	quiet := now.Sub(p.ProgressAt)
	switch {
	case len(f.At) > 0 && quiet <= DefaultFetchLimit:
		return
	case len(f.At) == 0 && len(f.Lacks) > 0 && quiet <= fetchGrace:
		return
	}
	lacks := slices.Clone(f.Lacks)
	for _, n := range f.At {
		lacks = append(lacks, Lack{Node: n, Reason: fmt.Sprintf("has not everything, and no further node has it since %s", DefaultFetchLimit)})
	}
	p.Lacks = lackTexts(lacks)
	fatal := slices.IndexFunc(lacks, func(l Lack) bool { return l.Fatal })
	switch {
	case s.Phase == RollingBack: // the pods that come back were here before; a look at them is the better judge
	case s.Prefetch == FetchRequired && len(lacks) > 0:
		s.fail(p, "fetch", "nothing was drained: "+strings.Join(p.Lacks, "; "), now)
		return
	case fatal >= 0:
		s.fail(p, "fetch", "nothing was drained: "+lackTexts(lacks[fatal : fatal+1])[0], now)
		return
	}
	s.step(p, now)
}

func lackTexts(lacks []Lack) []string {
	var out []string
	for i, l := range lacks {
		if i == lacksMax {
			return append(out, fmt.Sprintf("and %d nodes more", len(lacks)-i))
		}
		out = append(out, fmt.Sprintf("node %s: %s", l.Node, cut(l.Reason, 300)))
	}
	return out
}

// cut keeps the beginning and the end, where the cause is.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n/2]+" ... "+s[len(s)-n/2:], "")
}

// fetch performs DoFetch.
func (r *run) fetch(ctx context.Context, s State, p *PoolState) (Event, error) {
	if r.Fetcher == nil {
		return Event{Kind: EvFetched}, nil
	}
	f, err := r.Fetcher.Fetch(ctx, s.ID, p.Pool)
	return Event{Kind: EvFetched, Fetched: f, Seen: Seen{Waiting: waitingFor(f)}}, err
}

func waitingFor(f Fetched) string {
	if len(f.At) > 0 {
		return "images and models for node " + f.At[0]
	}
	if len(f.Lacks) > 0 {
		return lackTexts(f.Lacks)[0]
	}
	return ""
}

// clear removes what a fetch has left.
func (r *run) clear(ctx context.Context) error {
	if r.Fetcher == nil {
		return nil
	}
	return r.Fetcher.Clear(ctx)
}
