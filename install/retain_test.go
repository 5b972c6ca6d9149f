package install

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/revision"
	"github.com/wordcab/wcbundle/rollout"
)

var testNow = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func headOf(version string) ocispec.Descriptor {
	return ocispec.Descriptor{Digest: digest.FromString(version), Size: 1}
}

// loadsOf are loads of these versions in this order, one a day; sequence is the place, channel security where the version ends in s.
func loadsOf(versions ...string) (out []Loaded) {
	for i, v := range versions {
		channel, name := "stable", v
		if strings.HasSuffix(v, "s") {
			channel, name = "security", strings.TrimSuffix(v, "s")
		}
		out = append(out, Loaded{Version: name, Channel: channel, Sequence: uint64(i + 1), Head: headOf(name), At: testNow.AddDate(0, -12, i)})
	}
	return out
}

func nowRuns(version string) *Installed { return &Installed{Version: version, Head: headOf(version)} }

// TestFates is the table of all reasons for which a release stays, and of what goes.
func TestFates(t *testing.T) {
	known := Use{Known: true}
	revisions := func(r ...UsedRevision) Use { return Use{Known: true, Revisions: r} }
	models := func(m ...bundle.Model) *bundle.Release { return &bundle.Release{Models: m} }
	type releases = map[digest.Digest]*bundle.Release
	for name, c := range map[string]struct {
		record   Record
		use      Use
		releases releases
		want     string // version:reasons, in order; - goes, d was dropped
	}{
		"nothing runs: all of it waits":                {Record{Loads: loadsOf("1", "2")}, known, nil, "1:waits 2:waits"},
		"what runs stays, older goes, newer waits":     {Record{Loads: loadsOf("1", "2", "3"), Installed: nowRuns("2")}, known, nil, "1:- 2:runs 3:waits"},
		"no cluster was asked":                         {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, Use{}, nil, "1:unknown 2:runs,unknown"},
		"no cluster was asked, and a person said so":   {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, Use{Blind: true}, nil, "1:- 2:runs"},
		"a revision inside the window":                 {Record{Loads: loadsOf("1", "2", "3"), Installed: nowRuns("3")}, revisions(UsedRevision{Number: 1, Version: "2", Because: BecauseRevision}), nil, "1:- 2:revision 3:runs"},
		"the cluster runs what the record does not":    {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, revisions(UsedRevision{Number: 4, Version: "1", Because: BecauseRuns}), nil, "1:runs 2:runs"},
		"a revision that an operation works on":        {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, revisions(UsedRevision{Number: 4, Version: "1", Because: BecauseOperation}), nil, "1:operation 2:runs"},
		"an open operation by version":                 {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, Use{Known: true, Operation: &rollout.State{ID: "x", Bundle: rollout.BundleRef{Version: "1"}}}, nil, "1:operation 2:runs"},
		"an open operation by digest":                  {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, Use{Known: true, Operation: &rollout.State{ID: "x", Bundle: rollout.BundleRef{Digest: string(headOf("1").Digest)}}}, nil, "1:operation 2:runs"},
		"promised by the newest inventory":             {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2"), Promised: &Promised{At: testNow, Heads: []digest.Digest{headOf("1").Digest}}}, known, nil, "1:promised 2:runs"},
		"a security release waits beside a stable":     {Record{Loads: loadsOf("1s", "2"), Installed: nowRuns("2")}, known, nil, "1:waits 2:runs"},
		"a security release that what runs contains":   {Record{Loads: withContains(loadsOf("1s", "2"), 1, "1"), Installed: nowRuns("2")}, known, nil, "1:- 2:runs"},
		"an older security release":                    {Record{Loads: loadsOf("1s", "2s"), Installed: nowRuns("2")}, known, nil, "1:- 2:runs"},
		"a newer security release":                     {Record{Loads: loadsOf("1s", "2s"), Installed: nowRuns("1")}, known, nil, "1:runs 2:waits"},
		"a stable release before a security that runs": {Record{Loads: loadsOf("1", "2s", "3"), Installed: nowRuns("2")}, known, nil, "1:- 2:runs 3:waits"},
		"what runs is not in the record":               {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("0")}, known, nil, "1:waits 2:waits"},
		"dropped, and its content is there": {Record{Loads: loadsOf("2"), Dropped: []Dropped{{Version: "1", Head: headOf("1")}, {Version: "0", Head: headOf("0"), Freed: testNow},
			{Version: "2", Head: headOf("2"), Back: testNow}}}, known, nil, "2:waits 1:d"},
		"a default that is not retired": {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, known,
			releases{headOf("1").Digest: models(bundle.Model{ID: "old", Default: true}), headOf("2").Digest: models(bundle.Model{ID: "new", Default: true, Supersedes: "old"})}, "1:model 2:runs"},
		"the newest load of such a default is enough": {Record{Loads: loadsOf("1", "2", "3"), Installed: nowRuns("3")}, known,
			releases{headOf("1").Digest: models(bundle.Model{ID: "old", Default: true}), headOf("2").Digest: models(bundle.Model{ID: "old", Default: true}), headOf("3").Digest: models(bundle.Model{ID: "new"})}, "1:- 2:model 3:runs"},
		"a default that what runs has too": {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, known,
			releases{headOf("1").Digest: models(bundle.Model{ID: "old", Default: true}), headOf("2").Digest: models(bundle.Model{ID: "old"})}, "1:- 2:runs"},
		"a model that never was a default": {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, known,
			releases{headOf("1").Digest: models(bundle.Model{ID: "old"}), headOf("2").Digest: models(bundle.Model{ID: "new"})}, "1:- 2:runs"},
		"retired more than two quarters ago": {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, known,
			releases{headOf("1").Digest: models(bundle.Model{ID: "old", Default: true}), headOf("2").Digest: {Retired: []bundle.Retired{{ID: "old", Since: "2"}}}}, "1:- 2:runs"},
		"retired lately": {Record{Loads: recent(loadsOf("1", "2")), Installed: nowRuns("2")}, known,
			releases{headOf("1").Digest: models(bundle.Model{ID: "old", Default: true}), headOf("2").Digest: {Retired: []bundle.Retired{{ID: "old", Since: "2"}}}}, "1:model 2:runs"},
		"retired since a version that the site dropped long ago": {Record{Loads: recent(loadsOf("1", "3")), Installed: nowRuns("3"), Dropped: []Dropped{{Version: "2", Head: headOf("2"), Loaded: testNow.AddDate(0, -7, 0), Freed: testNow}}}, known,
			releases{headOf("1").Digest: models(bundle.Model{ID: "old", Default: true}), headOf("3").Digest: {Retired: []bundle.Retired{{ID: "old", Since: "2"}}}}, "1:- 3:runs"},
		"retired since a version that the site never had": {Record{Loads: loadsOf("1", "2"), Installed: nowRuns("2")}, known,
			releases{headOf("1").Digest: models(bundle.Model{ID: "old", Default: true}), headOf("2").Digest: {Retired: []bundle.Retired{{ID: "old", Since: "1.5"}}}}, "1:model 2:runs"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range Fates(&c.record, c.use, c.releases, testNow) {
				text := "-"
				if f.Dropped {
					text = "d"
				}
				if len(f.Keep) > 0 {
					var why []string
					for _, r := range f.Keep {
						why = append(why, string(r.Because))
					}
					text = strings.Join(why, ",")
				}
				if (f.Remove == "") != (len(f.Keep) > 0) {
					t.Errorf("release %s is kept for %v and removed because %q", f.Version, f.Keep, f.Remove)
				}
				got = append(got, f.Version+":"+text)
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
}

func withContains(loads []Loaded, i int, version string) []Loaded {
	loads[i].Contains = []bundle.Contained{{Version: version, Fixes: []string{"CVE-2026-0001"}}}
	return loads
}

// recent are the same loads, of this month.
func recent(loads []Loaded) []Loaded {
	for i := range loads {
		loads[i].At = testNow.AddDate(0, 0, i-20)
	}
	return loads
}

// TestWindow: which revisions stay. Failed ones do not count, nor do those that are as another that stays.
func TestWindow(t *testing.T) {
	rev := func(n int, status, outcome, manifest string) revision.Revision {
		return revision.Revision{Number: n, Status: status, Outcome: outcome, ManifestDigest: manifest}
	}
	history := []revision.Revision{
		rev(1, "superseded", revision.OutcomeSucceeded, "a"), rev(2, "superseded", revision.OutcomeForeign, "b"), rev(3, "superseded", revision.OutcomeSucceeded, "c"),
		rev(4, "failed", revision.OutcomeFailed, "x"), rev(5, "superseded", revision.OutcomeRolledBack, "y"), rev(6, "superseded", revision.OutcomeSucceeded, "d"),
		rev(7, "superseded", revision.OutcomeSucceeded, "e"), rev(8, "deployed", revision.OutcomeSucceeded, "d"),
	}
	for name, c := range map[string]struct {
		history []revision.Revision
		op      *rollout.State
		keep    int
		want    string
	}{
		"none":                  {nil, nil, 3, ""},
		"three":                 {history, nil, 3, "2:revision 3:revision 7:revision 8:runs"},
		"one":                   {history, nil, 1, "7:revision 8:runs"},
		"more than there are":   {history, nil, 9, "1:revision 2:revision 3:revision 7:revision 8:runs"},
		"someone died in the 9": {append(slices.Clone(history), rev(9, "pending-upgrade", "rolling", "f")), nil, 1, "7:revision 8:runs 9:operation"},
		"an operation is open":  {history, &rollout.State{Helm: rollout.HelmRef{Before: 8, FromRevision: 8, Revision: 5, RollbackTarget: 1}}, 1, "1:operation 5:operation 7:revision 8:runs"},
	} {
		t.Run(name, func(t *testing.T) {
			got := window(c.history, c.op, c.keep)
			var words []string
			for n := range 20 {
				if why, ok := got[n]; ok {
					words = append(words, fmt.Sprintf("%d:%s", n, why))
				}
			}
			if text := strings.Join(words, " "); text != c.want {
				t.Errorf("got %s, want %s", text, c.want)
			}
		})
	}
	// Whatever window keeps, the revision to which rollback --to previous goes is in it.
	if prev, err := revision.Previous(history); err != nil || window(history, nil, 1)[prev.Number] == "" {
		t.Errorf("previous is %d (%v), outside the window", prev.Number, err)
	}
}

// TestCheckDrop: what can be dropped, and what the refusal says.
func TestCheckDrop(t *testing.T) {
	r := &Record{Loads: loadsOf("1", "2", "3"), Installed: nowRuns("2")}
	for name, c := range map[string]struct {
		version string
		use     Use
		want    string // of the error; "" = it may be dropped
	}{
		"waits":              {"3", Use{Known: true}, ""},
		"earlier":            {"1", Use{Known: true}, ""},
		"not there":          {"4", Use{Known: true}, "release 4 is not loaded"},
		"runs":               {"2", Use{Known: true}, "release 2 is in use: it runs"},
		"runs, no cluster":   {"2", Use{Blind: true}, "release 2 is in use: it runs"},
		"not asked":          {"1", Use{}, "only the cluster knows"},
		"blind":              {"1", Use{Blind: true}, ""},
		"in a revision":      {"1", Use{Known: true, Revisions: []UsedRevision{{Number: 7, Version: "1", Because: BecauseRevision}}}, "rollback can go back to revision 7"},
		"an open operation":  {"3", Use{Known: true, Operation: &rollout.State{ID: "op-1", Bundle: rollout.BundleRef{Version: "3"}}}, "operation op-1 is open"},
		"of another version": {"3", Use{Known: true, Operation: &rollout.State{ID: "op-1", Bundle: rollout.BundleRef{Version: "1"}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.CheckDrop(c.version, c.use)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	fresh := &Record{Loads: loadsOf("1")}
	if _, err := fresh.CheckDrop("1", Use{}); err != nil {
		t.Errorf("nothing was ever applied: %v", err)
	}
	var used *UsedError
	if _, err := r.CheckDrop("2", Use{Known: true}); !errors.As(err, &used) || used.Why[0].Because != BecauseRuns {
		t.Errorf("got %v", err)
	}
}

// TestDropKeepsEvidence: what was dropped is remembered, what was accepted stays, and the record does not grow for ever.
func TestDropKeepsEvidence(t *testing.T) {
	r := &Record{Loads: loadsOf("1", "2"), Accepted: map[string]Accepted{"stable": {Sequence: 2}}, Promised: &Promised{Heads: []digest.Digest{headOf("1").Digest, headOf("2").Digest}}}
	r.drop(headOf("2").Digest, "why", testNow)
	if d := r.Dropped[0]; len(r.Loads) != 1 || d.Version != "2" || d.Why != "why" || !d.At.Equal(testNow) || !d.pending() || r.Accepted["stable"].Sequence != 2 || len(r.Promised.Heads) != 1 {
		t.Fatalf("%+v", r)
	}
	for i := range 3 * maxDropped {
		version := fmt.Sprint("x", i)
		r.Loads = append(r.Loads, loadsOf(version)...)
		r.drop(headOf(version).Digest, "why", testNow)
		r.freed(map[digest.Digest]bool{headOf(version).Digest: true}, testNow)
	}
	if len(r.Dropped) != maxDropped+1 || !r.Dropped[0].pending() || r.Dropped[maxDropped].Version != fmt.Sprint("x", 3*maxDropped-1) {
		t.Errorf("%d dropped loads are remembered, the first is %+v", len(r.Dropped), r.Dropped[0])
	}
	r.back(headOf("2").Digest, testNow)
	if slices.ContainsFunc(r.Dropped, Dropped.pending) {
		t.Error("a load that is back counts as garbage")
	}
}
