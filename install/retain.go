package install

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/rollout"
)

// DefaultKeep is how many revisions besides the current one rollback can go back to, as far as gc is concerned.
const DefaultKeep = 3

// callableFor is how long a model stays callable after it is no longer a default: two quarters.
const callableFor = 6 // months

// maxDropped is how many loads the record remembers whose content is gone.
const maxDropped = 50

// Dropped is evidence of a load that the site has no more.
type Dropped struct {
	Version  string             `json:"version"`
	Channel  string             `json:"channel"`
	Sequence uint64             `json:"sequence"`
	Head     ocispec.Descriptor `json:"head"`
	Loaded   time.Time          `json:"loaded"`
	At       time.Time          `json:"at"`
	Why      string             `json:"why"`
	Freed    time.Time          `json:"freed,omitzero"` // when its content was removed from the registry
	Back     time.Time          `json:"back,omitzero"`  // when it was loaded again
}

// pending tells that its content is still in the registry, for nothing.
func (d Dropped) pending() bool { return d.Freed.IsZero() && d.Back.IsZero() }

// Promised are the releases that the newest inventory names: the vendor may make patches from them.
type Promised struct {
	At    time.Time       `json:"at"`
	Heads []digest.Digest `json:"heads"`
}

// Because is a reason for which a release is kept.
type Because string

// The reasons, in the order in which they are told.
const (
	BecauseRuns      Because = "runs"
	BecauseOperation Because = "operation" // an open one
	BecauseRevision  Because = "revision"  // rollback can go back to it
	BecauseWaits     Because = "waits"     // to be applied
	BecausePromised  Because = "promised"  // by the newest inventory
	BecauseModel     Because = "model"     // that is still callable
	BecauseUnknown   Because = "unknown"   // the cluster was not asked
	BecauseForeign   Because = "foreign"   // of a blob: something that no load brought needs it
)

var becauseOrder = []Because{BecauseRuns, BecauseOperation, BecauseRevision, BecauseWaits, BecausePromised, BecauseModel, BecauseUnknown, BecauseForeign}

// Reason is why a release is kept, for scripts and for people.
type Reason struct {
	Because Because `json:"because"`
	Text    string  `json:"text"`
}

// Fate is what becomes of a load.
type Fate struct {
	Version  string             `json:"version"`
	Channel  string             `json:"channel"`
	Sequence uint64             `json:"sequence"`
	Head     ocispec.Descriptor `json:"head"`
	Keep     []Reason           `json:"keep,omitempty"`   // none: it goes
	Remove   string             `json:"remove,omitempty"` // why it goes
	Dropped  bool               `json:"dropped,omitempty"`
}

func (f *Fate) has(b ...Because) bool {
	return slices.ContainsFunc(f.Keep, func(r Reason) bool { return slices.Contains(b, r.Because) })
}

func (f *Fate) keep(b Because, format string, args ...any) {
	f.Keep = append(f.Keep, Reason{b, fmt.Sprintf(format, args...)})
}

// Use is what a site's cluster needs of what was loaded.
type Use struct {
	Known     bool // false: no cluster was asked, and every load is kept
	Blind     bool // a person said to go by the record alone
	Revisions []UsedRevision
	Operation *rollout.State // the open one, or nil
}

// UsedRevision is a Helm revision whose content must stay.
type UsedRevision struct {
	Number  int
	Version string // of the release that made it; "" = not one of ours
	Because Because
	Refs    []PinnedRef // what its manifest names in the site's registry
}

// PinnedRef is a reference by digest into the site's registry.
type PinnedRef struct {
	Repo   string
	Digest digest.Digest
}

// window picks the revisions whose content must stay: the current one, the newest good ones besides it as far as they differ in
// manifest or values, and whatever an open operation touches.
func window(history []revision.Revision, op *rollout.State, keep int) map[int]Because {
	out := map[int]Because{}
	same := func(r revision.Revision) string { return r.ManifestDigest + r.ValuesDigest }
	seen := map[string]bool{}
	if cur, ok := revision.Current(history); ok {
		out[cur.Number], seen[same(cur)] = BecauseRuns, true
	}
	for i := len(history) - 1; i >= 0; i-- {
		r := history[i]
		if _, there := out[r.Number]; there || !r.Good() || seen[same(r)] || len(seen) > keep {
			continue
		}
		out[r.Number], seen[same(r)] = BecauseRevision, true
	}
	for _, r := range history { // someone is at it, or died there
		if _, there := out[r.Number]; !there && r.Pending() {
			out[r.Number] = BecauseOperation
		}
	}
	if op == nil {
		return out
	}
	h := op.Helm
	for _, n := range []int{h.Before, h.FromRevision, h.Revision, h.RollbackTarget, h.RevertBefore, h.RollbackRevision} {
		if _, there := out[n]; !there && n > 0 {
			out[n] = BecauseOperation
		}
	}
	return out
}

// Fates decides about every load of the record, those that were dropped and still have content included. The releases are what is
// known of the loads; one that is not there has no models.
func Fates(r *Record, use Use, releases map[digest.Digest]*bundle.Release, now time.Time) []Fate {
	var out []Fate
	for i := range r.Loads {
		l := &r.Loads[i]
		f := Fate{Version: l.Version, Channel: l.Channel, Sequence: l.Sequence, Head: l.Head}
		r.keepUsed(&f, use)
		if r.waits(i) {
			f.keep(BecauseWaits, "it waits to be applied")
		}
		if p := r.Promised; p != nil && slices.Contains(p.Heads, l.Head.Digest) {
			f.keep(BecausePromised, "the inventory of %s promises it", p.At.Format(time.DateOnly))
		}
		out = append(out, f)
	}
	r.keepModels(out, releases, now)
	for i := range out {
		f := &out[i]
		switch {
		case !use.Known && !use.Blind:
			f.keep(BecauseUnknown, "the cluster was not asked which revisions use it")
		case len(f.Keep) == 0:
			f.Remove = "nothing needs it: it does not run, no revision inside the rollback window uses it, and it does not wait"
		}
	}
	for _, d := range r.Dropped {
		if d.pending() {
			out = append(out, Fate{Version: d.Version, Channel: d.Channel, Sequence: d.Sequence, Head: d.Head, Dropped: true, Remove: "it was dropped on " + d.At.Format(time.DateOnly) + ": " + d.Why})
		}
	}
	return out
}

// keepUsed says what runs, and what the cluster uses. A version that was loaded twice is kept in both.
func (r *Record) keepUsed(f *Fate, use Use) {
	if i := r.Installed; i != nil && i.Head.Digest == f.Head.Digest {
		f.keep(BecauseRuns, "it runs")
	}
	if op := use.Operation; op != nil && (op.Bundle.Version == f.Version || op.Bundle.Digest == string(f.Head.Digest)) {
		f.keep(BecauseOperation, "operation %s is open", op.ID)
	}
	for _, v := range use.Revisions {
		switch {
		case v.Version != f.Version:
		case v.Because == BecauseRuns && f.has(BecauseRuns):
		case v.Because == BecauseRuns:
			f.keep(BecauseRuns, "revision %d runs", v.Number)
		case v.Because == BecauseRevision:
			f.keep(BecauseRevision, "rollback can go back to revision %d", v.Number)
		default:
			f.keep(BecauseOperation, "revision %d is being worked on", v.Number)
		}
	}
}

// waits tells whether a load may still be applied: it is newer than what runs, or of channel security and its fixes do not run.
// Where nothing runs, or something that was not loaded, everything waits.
func (r *Record) waits(i int) bool {
	l, runs := &r.Loads[i], r.running()
	if runs == nil {
		return true
	}
	if runs.Head.Digest == l.Head.Digest {
		return false
	}
	if l.Channel == "security" {
		contained := slices.ContainsFunc(runs.Contains, func(c bundle.Contained) bool { return c.Version == l.Version })
		return !contained && (runs.Channel != "security" || l.Sequence > runs.Sequence)
	}
	if runs.Channel == l.Channel {
		return l.Sequence > runs.Sequence
	}
	return i > slices.IndexFunc(r.Loads, func(x Loaded) bool { return x.Head.Digest == runs.Head.Digest })
}

// keepModels keeps the newest load of each model that was a default, that what runs and what is kept do not have, and that is not
// retired for two quarters yet.
func (r *Record) keepModels(fates []Fate, releases map[digest.Digest]*bundle.Release, now time.Time) {
	runs := r.running()
	if runs == nil || releases[runs.Head.Digest] == nil {
		return
	}
	running := releases[runs.Head.Digest]
	there := map[string]bool{}
	see := func(rel *bundle.Release) {
		if rel != nil {
			for _, m := range rel.Models {
				there[m.ID] = true
			}
		}
	}
	see(running)
	for i := range fates {
		if len(fates[i].Keep) > 0 {
			see(releases[fates[i].Head.Digest])
		}
	}
	for i := len(fates) - 1; i >= 0; i-- {
		rel := releases[fates[i].Head.Digest]
		if rel == nil || len(fates[i].Keep) > 0 {
			continue
		}
		for _, m := range rel.Models {
			if text, ok := r.callable(m.ID, running, now); m.Default && !there[m.ID] && ok {
				fates[i].keep(BecauseModel, "model %s %s", m.ID, text)
			}
		}
		if len(fates[i].Keep) > 0 {
			see(rel)
		}
	}
}

// callable tells whether a model that was a default may still be called, by what the running release says of it.
func (r *Record) callable(id string, running *bundle.Release, now time.Time) (string, bool) {
	i := slices.IndexFunc(running.Retired, func(x bundle.Retired) bool { return x.ID == id })
	if i < 0 {
		return "was a default and is not retired", true
	}
	since, known := r.loadedAt(running.Retired[i].Since)
	if !known {
		return "is retired since " + running.Retired[i].Since + ", and when that was is not known", true
	}
	until := since.AddDate(0, callableFor, 0)
	return "is callable until " + until.Format(time.DateOnly), now.Before(until)
}

// loadedAt is when the site first had a version.
func (r *Record) loadedAt(version string) (time.Time, bool) {
	var at time.Time
	first := func(v string, t time.Time) {
		if v == version && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, l := range r.Loads {
		first(l.Version, l.At)
	}
	for _, d := range r.Dropped {
		first(d.Version, d.Loaded)
	}
	return at, !at.IsZero()
}

// drop takes a load out of the record and keeps evidence of it. What was accepted stays accepted.
func (r *Record) drop(head digest.Digest, why string, now time.Time) {
	i := slices.IndexFunc(r.Loads, func(l Loaded) bool { return l.Head.Digest == head })
	if i < 0 {
		return
	}
	l := r.Loads[i]
	r.Loads = slices.Delete(r.Loads, i, i+1)
	r.Dropped = append(r.Dropped, Dropped{Version: l.Version, Channel: l.Channel, Sequence: l.Sequence, Head: l.Head, Loaded: l.At,
		At: now.UTC().Truncate(time.Second), Why: why})
	if r.Promised != nil {
		r.Promised.Heads = slices.DeleteFunc(r.Promised.Heads, func(d digest.Digest) bool { return d == head })
	}
}

// freed notes that the content of dropped loads is gone.
func (r *Record) freed(heads map[digest.Digest]bool, now time.Time) {
	for i := range r.Dropped {
		if d := &r.Dropped[i]; d.pending() && heads[d.Head.Digest] {
			d.Freed = now.UTC().Truncate(time.Second)
		}
	}
	r.forget()
}

// back notes that a load that was dropped is here again.
func (r *Record) back(head digest.Digest, now time.Time) {
	for i := range r.Dropped {
		if d := &r.Dropped[i]; d.pending() && d.Head.Digest == head {
			d.Back = now.UTC().Truncate(time.Second)
		}
	}
	r.forget()
}

// forget leaves out the oldest dropped loads that nothing is to be done about.
func (r *Record) forget() {
	done := 0
	for _, d := range r.Dropped {
		if !d.pending() {
			done++
		}
	}
	r.Dropped = slices.DeleteFunc(r.Dropped, func(d Dropped) bool {
		if d.pending() || done <= maxDropped {
			return false
		}
		done--
		return true
	})
}

// fulfils tells that a patch starts from what the newest inventory promised: the promise is kept. A drop of channel security may come at
// any time, and is not what the inventory was for.
func (r *Record) fulfils(v bundle.VerifiedPatch) bool {
	return r.Promised != nil && v.Target().Release().Channel != "security" && slices.ContainsFunc(v.Patch().Bases, func(b bundle.PatchEnd) bool {
		return slices.Contains(r.Promised.Heads, b.Head.Digest)
	})
}

// sizeOf is the bytes of a release's content.
func sizeOf(v bundle.Verified) (n int64) {
	for _, b := range linesOf(v) {
		n += b.Size
	}
	return n + v.Head().Size
}

// byBecause sorts reasons as they are told.
func byBecause(a, b Reason) int {
	return cmp.Compare(slices.Index(becauseOrder, a.Because), slices.Index(becauseOrder, b.Because))
}
