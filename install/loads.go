package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/rollout"
)

// LoadLine is a load in the list of loads.
type LoadLine struct {
	Version  string        `json:"version"`
	Channel  string        `json:"channel"`
	Sequence uint64        `json:"sequence"`
	Head     digest.Digest `json:"head"`
	At       time.Time     `json:"at"`
	By       string        `json:"by"`
	Size     int64         `json:"size,omitempty"` // 0: not known
	State    string        `json:"state"`          // runs | waits | earlier | in revision N, M
}

// LoadList is what a site has loaded, what it has dropped, and the load that was cut off.
type LoadList struct {
	Loads      []LoadLine  `json:"loads"`
	Dropped    []Dropped   `json:"dropped,omitempty"`
	Unfinished *Unfinished `json:"unfinished,omitempty"`
}

// ListLoads says what became of every load. Without a cluster no revisions are told.
func ListLoads(r *Record, use Use, u *Unfinished) LoadList {
	out := LoadList{Loads: []LoadLine{}, Dropped: r.Dropped, Unfinished: u}
	for i := range r.Loads {
		l := &r.Loads[i]
		out.Loads = append(out.Loads, LoadLine{Version: l.Version, Channel: l.Channel, Sequence: l.Sequence, Head: l.Head.Digest, At: l.At, By: l.By, Size: l.Size,
			State: r.stateOf(i, use)})
	}
	return out
}

func (r *Record) stateOf(i int, use Use) string {
	f := Fate{Version: r.Loads[i].Version, Head: r.Loads[i].Head}
	r.keepUsed(&f, use)
	var numbers []string
	for _, v := range use.Revisions {
		if v.Version == f.Version && v.Because != BecauseRuns {
			numbers = append(numbers, fmt.Sprint(v.Number))
		}
	}
	switch {
	case f.has(BecauseRuns):
		return "runs"
	case len(numbers) > 0:
		return "in revision " + strings.Join(numbers, ", ")
	case r.waits(i):
		return "waits"
	}
	return "earlier"
}

// ReadUse asks the cluster which revisions and operations need what was loaded. Without a cluster nothing is known.
func ReadUse(ctx context.Context, t Target, keep int) (Use, error) {
	if t.Access == nil {
		return Use{}, nil
	}
	names, err := releasesAt(ctx, t)
	if err != nil {
		return Use{}, err
	}
	use := Use{Known: true}
	for _, name := range names {
		if err := use.add(ctx, t, name, keep); err != nil {
			return Use{}, err
		}
	}
	return use, nil
}

// releasesAt names the Helm releases that may use what was loaded.
func releasesAt(ctx context.Context, t Target) ([]string, error) {
	names, err := rollout.Releases(ctx, t.Access.Kube, t.Access.Namespace)
	if err != nil {
		return nil, err
	}
	if i := t.Record.Installed; i != nil && !slices.Contains(names, i.Release) {
		names = append(names, i.Release)
	}
	if len(names) > 0 || len(t.Record.Loads) == 0 {
		return names, nil
	}
	name, err := releaseName(ctx, t)
	return []string{name}, err
}

func (u *Use) add(ctx context.Context, t Target, name string, keep int) error {
	op, err := OpenOperation(ctx, t.Access, name)
	if err != nil && !errors.Is(err, rollout.ErrNoOperation) {
		return err
	}
	var open *rollout.State
	if err == nil && !op.Phase.Terminal() {
		open, u.Operation = &op, &op
	}
	c, err := client(t)
	if err != nil {
		return err
	}
	history, err := c.History(ctx, name)
	if errors.Is(err, revision.ErrNoRelease) {
		return nil
	}
	if err != nil {
		return err
	}
	stay := window(history, open, keep)
	for _, r := range history {
		if why, ok := stay[r.Number]; ok {
			u.Revisions = append(u.Revisions, UsedRevision{Number: r.Number, Version: r.Bundle, Because: why, Refs: pinnedRefs(r.Manifest, t.Record.Registry.Pull)})
		}
	}
	return nil
}

// UsedError says that a load cannot be dropped, and why.
type UsedError struct {
	Version string
	Why     []Reason
}

func (e *UsedError) Error() string {
	var why []string
	for _, r := range e.Why {
		why = append(why, r.Text)
	}
	return fmt.Sprintf("release %s is in use: %s", e.Version, strings.Join(why, "; "))
}

// ErrNotAsked is returned where the cluster would have to say what is in use, and none was named.
var ErrNotAsked = errors.New("only the cluster knows which revisions use it, and none was named")

// CheckDrop gives the load that may be dropped: one that neither runs nor is needed by a revision or an operation.
func (r *Record) CheckDrop(version string, use Use) (*Loaded, error) {
	l := r.ofVersion(version)
	if l == nil {
		return nil, fmt.Errorf("release %s is not loaded", version)
	}
	f := Fate{Version: l.Version, Head: l.Head}
	if r.keepUsed(&f, use); len(f.Keep) > 0 {
		return nil, &UsedError{Version: version, Why: f.Keep}
	}
	if !use.Known && !use.Blind && r.Installed != nil {
		return nil, fmt.Errorf("release %s: %w", version, ErrNotAsked)
	}
	return l, nil
}

// DropReport says what became of a load that was dropped.
type DropReport struct {
	Version  string        `json:"version"`
	Head     digest.Digest `json:"head"`
	Promised bool          `json:"promised,omitempty"` // the newest inventory named it as a base
	Tagged   bool          `json:"tagged,omitempty"`   // the registry lets nobody delete, and its tags are still there
}

// CleanOptions are what dropping loads and collecting garbage take beside the target.
type CleanOptions struct {
	Store   Store
	Journal string // of loads on this machine: none runs meanwhile
	Keep    int    // revisions besides the current one; see DefaultKeep
	Blind   bool   // go by the record alone where no cluster was named
	Tool    string // version of this program, for the lock
}

// Drop takes a load that is not applied out of the record, then its tags and signatures out of the registry. Its content stays until
// garbage is collected.
func Drop(ctx context.Context, t Target, version, why string, opt CleanOptions) (rep DropReport, err error) {
	ctx, unlock, err := quiet(ctx, &t, opt)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	use, err := opt.use(ctx, t)
	if err != nil {
		return rep, err
	}
	l, err := t.Record.CheckDrop(version, use)
	if err != nil {
		return rep, err
	}
	head := l.Head
	rep = DropReport{Version: version, Head: head.Digest, Promised: t.Record.Promised != nil && slices.Contains(t.Record.Promised.Heads, head.Digest)}
	t.Record.drop(head.Digest, why, t.Now)
	if err := opt.Store.Save(ctx, t.Record); err != nil {
		return rep, err
	}
	err = untag(ctx, t, version, head)
	if rep.Tagged = errors.Is(err, registry.ErrNoDelete); rep.Tagged {
		err = nil
	}
	return rep, err
}

func (o CleanOptions) use(ctx context.Context, t Target) (Use, error) {
	keep := o.Keep
	if keep == 0 {
		keep = DefaultKeep
	}
	use, err := ReadUse(ctx, t, keep)
	use.Blind = o.Blind
	return use, err
}

// quiet sees to it that no load of this machine and no operation of the site runs, and reads the record again under these locks.
func quiet(ctx context.Context, t *Target, opt CleanOptions) (_ context.Context, unlock func() error, err error) {
	var undo []func() error
	unlock = func() (err error) {
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
		return err
	}
	fail := func(err error) (context.Context, func() error, error) { return nil, nil, errors.Join(err, unlock()) }
	if opt.Journal != "" {
		f, err := lockJournal(opt.Journal)
		if err != nil {
			return fail(err)
		}
		undo = append(undo, f.Close)
	}
	if t.Access != nil {
		names, err := releasesAt(ctx, *t)
		if err != nil {
			return fail(err)
		}
		a := actor(opt.Tool)
		for _, name := range names {
			held, release, err := rollout.Lock(ctx, t.Access.Kube, t.Access.Namespace, name, fmt.Sprintf("%s/%d", a.Host, os.Getpid()))
			if err != nil {
				return fail(err)
			}
			ctx, undo = held, append(undo, release)
		}
	}
	if t.Record, err = opt.Store.Load(ctx); err != nil {
		return fail(err)
	}
	return ctx, unlock, nil
}

// untag removes what makes a release of a head: its tag and its signatures. The head stays: it knows what belongs to the release.
func untag(ctx context.Context, t Target, version string, head ocispec.Descriptor) error {
	repo := bundle.ReleaseRepo(t.Record.Product)
	about, err := attachedTo(ctx, t.Registry, repo, head)
	if err != nil {
		return err
	}
	for _, d := range about {
		if err := t.Registry.Delete(ctx, repo, d); err != nil {
			return err
		}
	}
	now, err := t.Registry.Resolve(ctx, repo, version)
	if errors.Is(err, registry.ErrNotFound) || err == nil && now.Digest != head.Digest {
		return nil
	}
	if err != nil {
		return err
	}
	return t.Registry.Untag(ctx, repo, version)
}

// attachedTo lists the manifests about a release's head: by their tags, and by their subject. The list that a client keeps for registries
// that keep none comes first: while it is there, deleting what it names would write a new one.
func attachedTo(ctx context.Context, reg *registry.Registry, repo string, head ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	tags, err := reg.Tags(ctx, repo)
	if err != nil {
		return nil, err
	}
	slices.Sort(tags)
	var out []ocispec.Descriptor
	add := func(d ocispec.Descriptor) {
		if !slices.ContainsFunc(out, func(x ocispec.Descriptor) bool { return x.Digest == d.Digest }) {
			out = append(out, d)
		}
	}
	for _, tag := range tags {
		if !strings.HasPrefix(tag, "sha256-"+head.Digest.Encoded()) {
			continue
		}
		d, err := reg.Resolve(ctx, repo, tag)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		add(d)
	}
	about, err := reg.Referrers(ctx, repo, head)
	for _, d := range about {
		add(d)
	}
	return out, err
}
