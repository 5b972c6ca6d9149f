package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

// GCReport is what collecting garbage removes and keeps, and why.
type GCReport struct {
	DryRun   bool            `json:"dryRun,omitempty"`
	Releases []Fate          `json:"releases"`
	Sums     []GCSum         `json:"sums"`
	Removed  GCSum           `json:"removed"`
	Foreign  []string        `json:"foreign,omitempty"` // what no load of this site has brought; untouched
	Lost     []string        `json:"lost,omitempty"`    // dropped releases whose list of content the registry does not have any more
	Asked    bool            `json:"clusterAsked"`
	Frees    bool            `json:"frees"`           // the registry frees bytes at once
	Swept    *registry.Swept `json:"swept,omitempty"` // what it has freed
	Blobs    []BlobFate      `json:"blobs"`
}

// GCSum counts blobs, each once, by the first reason for which they are kept.
type GCSum struct {
	Because Because `json:"because,omitempty"`
	Blobs   int     `json:"blobs"`
	Bytes   int64   `json:"bytes"`
}

// BlobFate is what becomes of a blob or manifest in one repository.
type BlobFate struct {
	Repo      string        `json:"repo"`
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	Keep      []Reason      `json:"keep,omitempty"`   // none: it goes
	Remove    []string      `json:"remove,omitempty"` // releases that brought it and go
}

// place is a digest in a repository.
type place struct {
	repo   string
	digest digest.Digest
}

// lot is a blob or manifest in one repository, with who needs it.
type lot struct {
	held
	keep   []Reason
	remove []string
}

// garbage is a plan: every lot that loads or dropped loads of this site have brought.
type garbage struct {
	t        Target
	report   *GCReport
	lots     map[place]*lot
	releases map[digest.Digest]*stock
}

// PlanGC decides about every release and every blob. It changes nothing.
func PlanGC(ctx context.Context, t Target, opt CleanOptions) (*GCReport, error) {
	g, err := newGarbage(ctx, t, opt)
	if err != nil {
		return nil, err
	}
	g.report.DryRun = true
	return g.report, nil
}

func newGarbage(ctx context.Context, t Target, opt CleanOptions) (*garbage, error) {
	if err := t.Registry.Ping(ctx); err != nil {
		return nil, err
	}
	use, err := opt.use(ctx, t)
	if err != nil {
		return nil, err
	}
	return judge(ctx, t, use)
}

// judge plans by what the record and the cluster need.
func judge(ctx context.Context, t Target, use Use) (_ *garbage, err error) {
	g := &garbage{t: t, lots: map[place]*lot{}, releases: map[digest.Digest]*stock{}, report: &GCReport{Asked: use.Known}}
	if g.report.Frees, err = t.Registry.Sweeps(ctx); err != nil {
		return nil, err
	}
	if err := g.read(ctx); err != nil {
		return nil, err
	}
	known := map[digest.Digest]*bundle.Release{}
	for head, c := range g.releases {
		known[head] = c.release
	}
	g.report.Releases = Fates(t.Record, use, known, t.Now)
	for _, f := range g.report.Releases {
		if err := g.count(f); err != nil {
			return nil, err
		}
	}
	for _, v := range use.Revisions {
		if err := g.keepRefs(ctx, v); err != nil {
			return nil, err
		}
	}
	if err := g.findForeign(ctx); err != nil {
		return nil, err
	}
	g.sum()
	return g, nil
}

// read takes from the registry what belongs to each load, and to each dropped load that still has content.
func (g *garbage) read(ctx context.Context) error {
	var heads []ocispec.Descriptor
	for _, l := range g.t.Record.Loads {
		heads = append(heads, l.Head)
	}
	for _, d := range g.t.Record.Dropped {
		if d.pending() {
			heads = append(heads, d.Head)
		}
	}
	for _, h := range heads {
		c, err := readStock(ctx, g.t.Registry, g.t.Record.Product, h)
		if err != nil {
			return err
		}
		g.releases[h.Digest] = c
	}
	return nil
}

// count notes what a release needs, or needs no more. What is kept must be readable, or nothing could be told from garbage.
func (g *garbage) count(f Fate) error {
	c := g.releases[f.Head.Digest]
	kept := len(f.Keep) > 0
	if kept && c.release == nil {
		return fmt.Errorf("release %s is kept (%s), and the registry cannot say what belongs to it: nothing is removed: %w", f.Version, f.Keep[0].Text, &MissingError{Blob: f.Head, Version: f.Version})
	}
	if c.release == nil {
		g.report.Lost = append(g.report.Lost, f.Version)
	}
	for _, h := range c.all() {
		l := g.lot(h)
		if !kept {
			l.remove = append(l.remove, f.Version)
			continue
		}
		for _, r := range f.Keep {
			l.keep = append(l.keep, Reason{r.Because, "release " + f.Version + ": " + r.Text})
		}
	}
	return nil
}

func (g *garbage) lot(h held) *lot {
	at := place{h.repo, h.Digest}
	if g.lots[at] == nil {
		g.lots[at] = &lot{held: h}
	}
	return g.lots[at]
}

// keepRefs keeps what a revision's manifest names, whatever release brought it.
func (g *garbage) keepRefs(ctx context.Context, v UsedRevision) error {
	for _, ref := range v.Refs {
		d, err := g.t.Registry.Resolve(ctx, ref.Repo, string(ref.Digest))
		if errors.Is(err, registry.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		named, err := walk(ctx, g.t.Registry, ref.Repo, d, 0)
		if err != nil {
			return err
		}
		for _, h := range named {
			if l := g.lots[place{h.repo, h.Digest}]; l != nil {
				l.keep = append(l.keep, Reason{v.Because, fmt.Sprintf("revision %d names it", v.Number)})
			}
		}
	}
	return nil
}

// findForeign looks for what no load of this site has brought, and keeps what it needs of what goes.
func (g *garbage) findForeign(ctx context.Context) error {
	ours := map[string]bool{}
	for at, l := range g.lots {
		ours[at.repo] = ours[at.repo] || len(l.keep) == 0
	}
	for repo, touched := range ours {
		if !touched {
			continue
		}
		tags, err := g.t.Registry.Tags(ctx, repo)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if err := g.lookAt(ctx, repo, tag); err != nil {
				return err
			}
		}
	}
	all, err := g.t.Registry.Repositories(ctx)
	for _, repo := range all {
		if _, is := ours[repo]; !is {
			g.report.Foreign = append(g.report.Foreign, repo)
		}
	}
	slices.Sort(g.report.Foreign)
	return err
}

// lookAt keeps what a tag names that no load has brought. The list of signatures that a client keeps under a tag, for registries that keep
// none, goes with what it lists.
func (g *garbage) lookAt(ctx context.Context, repo, tag string) error {
	d, err := g.t.Registry.Resolve(ctx, repo, tag)
	if errors.Is(err, registry.ErrNotFound) || err == nil && g.lots[place{repo, d.Digest}] != nil {
		return nil
	}
	if err != nil {
		return err
	}
	named, err := walk(ctx, g.t.Registry, repo, d, 0)
	if err != nil {
		return err
	}
	if g.listOfGoing(repo, tag, named) {
		l := g.lot(named[0])
		l.remove = append(l.remove, "the list of its signatures")
		return nil
	}
	g.report.Foreign = append(g.report.Foreign, repo+":"+tag)
	for _, h := range named {
		if l := g.lots[place{h.repo, h.Digest}]; l != nil {
			l.keep = append(l.keep, Reason{BecauseForeign, repo + ":" + tag + " names it, which no load has brought"})
		}
	}
	return nil
}

func (g *garbage) listOfGoing(repo, tag string, named []held) bool {
	hex, ok := strings.CutPrefix(tag, "sha256-")
	about := g.lots[place{repo, digest.Digest("sha256:" + hex)}]
	return ok && about != nil && len(named) > 0 && !slices.ContainsFunc(named[1:], func(h held) bool {
		l := g.lots[place{h.repo, h.Digest}]
		return l == nil || len(l.keep) > 0
	})
}

// sum writes the report: lots in order, and sums in which each digest counts once.
func (g *garbage) sum() {
	first, size := map[digest.Digest]Because{}, map[digest.Digest]int64{}
	for _, l := range g.sorted() {
		slices.SortStableFunc(l.keep, byBecause)
		g.report.Blobs = append(g.report.Blobs, BlobFate{Repo: l.repo, Digest: l.Digest, MediaType: l.MediaType, Size: l.Size, Keep: l.keep, Remove: l.remove})
		size[l.Digest] = l.Size
		if len(l.keep) == 0 {
			continue
		}
		if had, ok := first[l.Digest]; !ok || byBecause(l.keep[0], Reason{Because: had}) < 0 {
			first[l.Digest] = l.keep[0].Because
		}
	}
	sums := map[Because]*GCSum{}
	for d, n := range size {
		b := first[d]
		if sums[b] == nil {
			sums[b] = &GCSum{Because: b}
		}
		sums[b].Blobs, sums[b].Bytes = sums[b].Blobs+1, sums[b].Bytes+n
	}
	for _, b := range becauseOrder {
		if sums[b] != nil {
			g.report.Sums = append(g.report.Sums, *sums[b])
		}
	}
	if sums[""] != nil {
		g.report.Removed = *sums[""]
	}
}

func (g *garbage) sorted() []*lot {
	out := make([]*lot, 0, len(g.lots))
	for _, l := range g.lots {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *lot) int {
		return cmp.Or(cmp.Compare(a.repo, b.repo), cmp.Compare(a.Digest, b.Digest))
	})
	return out
}

// Nothing tells that there is nothing to remove.
func (r *GCReport) Nothing() bool {
	return !slices.ContainsFunc(r.Releases, func(f Fate) bool { return len(f.Keep) == 0 })
}

// GC removes what nothing needs, once agree has seen what that is. It may be killed anywhere: the next run finishes the job.
func GC(ctx context.Context, t Target, opt CleanOptions, agree func(*GCReport) (bool, error)) (_ *GCReport, err error) {
	ctx, unlock, err := quiet(ctx, &t, opt)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	g, err := newGarbage(ctx, t, opt)
	if err != nil {
		return nil, err
	}
	if ok, err := agree(g.report); err != nil || !ok {
		return g.report, err
	}
	return g.report, g.run(ctx, opt)
}

// run forgets the loads first, then removes manifests, then blobs, and last the heads: as long as a head is there, the next run knows
// what belongs to its release.
func (g *garbage) run(ctx context.Context, opt CleanOptions) error {
	if g.report.Nothing() {
		return g.sweep(ctx, opt, nil)
	}
	if err := g.mayDelete(ctx); err != nil {
		return err
	}
	going := map[digest.Digest]bool{}
	for _, f := range g.report.Releases {
		if len(f.Keep) == 0 {
			going[f.Head.Digest] = true
			g.t.Record.drop(f.Head.Digest, "registry gc: "+f.Remove, g.t.Now)
		}
	}
	if err := opt.Store.Save(ctx, g.t.Record); err != nil {
		return err
	}
	first, blobs, heads, last := g.inOrder(going)
	if err := g.remove(ctx, opt, first, blobs); err != nil {
		return err
	}
	if err := g.remove(ctx, opt, heads, last); err != nil {
		return err
	}
	g.t.Record.freed(going, g.t.Now)
	return opt.Store.Save(ctx, g.t.Record)
}

// inOrder sorts what goes: manifests, the indexes that name them before them, and their blobs; then heads and the blobs of these.
func (g *garbage) inOrder(going map[digest.Digest]bool) (manifests, blobs, heads, last []*lot) {
	var indexes []*lot
	for _, l := range g.sorted() {
		switch {
		case len(l.keep) > 0:
		case l.manifest && going[l.Digest]:
			heads = append(heads, l)
		case l.manifest && isIndex(l.MediaType):
			indexes = append(indexes, l)
		case l.manifest:
			manifests = append(manifests, l)
		case l.last:
			last = append(last, l)
		default:
			blobs = append(blobs, l)
		}
	}
	return append(indexes, manifests...), blobs, heads, last
}

// mayDelete finds out, before anything is changed, whether the registry lets anybody delete: by a manifest that cannot be there.
func (g *garbage) mayDelete(ctx context.Context) error {
	none := ocispec.Descriptor{MediaType: "application/vnd.docker.distribution.manifest.v2+json", // one that is not read first
		Digest: digest.Digest("sha256:" + strings.Repeat("0", 64)), Size: 1}
	err := g.t.Registry.Delete(ctx, bundle.ReleaseRepo(g.t.Record.Product), none)
	if errors.Is(err, registry.ErrNoDelete) {
		return fmt.Errorf("registry %s: nothing was changed: %w", g.t.Registry.Host(), registry.ErrNoDelete)
	}
	return err
}

// remove deletes manifests, then frees blobs: all of those that are needed nowhere at once, where the registry does that.
func (g *garbage) remove(ctx context.Context, opt CleanOptions, manifests, blobs []*lot) error {
	for _, l := range manifests {
		if err := g.t.Registry.Delete(ctx, l.repo, l.Descriptor); err != nil {
			return err
		}
	}
	if g.report.Frees {
		return g.sweep(ctx, opt, slices.Concat(manifests, blobs))
	}
	for _, l := range blobs {
		if err := g.t.Registry.Delete(ctx, l.repo, l.Descriptor); err != nil {
			return err
		}
	}
	return nil
}

// sweep lets the embedded registry free what no manifest names any more. What a load that was cut off has brought in stays.
func (g *garbage) sweep(ctx context.Context, opt CleanOptions, gone []*lot) error {
	if !g.report.Frees {
		return nil
	}
	var o registry.SweepOrder
	for _, l := range gone {
		o.Free = append(o.Free, l.Digest)
	}
	if opt.Journal != "" {
		u, err := ReadJournal(opt.Journal)
		if err != nil {
			return err
		}
		if u != nil {
			o.Keep = u.Done
		}
	}
	got, err := g.t.Registry.Sweep(ctx, o)
	if err != nil {
		return err
	}
	if g.report.Swept == nil {
		g.report.Swept = &registry.Swept{}
	}
	s := g.report.Swept
	s.Blobs, s.Uploads, s.Bytes = s.Blobs+got.Blobs, s.Uploads+got.Uploads, s.Bytes+got.Bytes
	return nil
}
