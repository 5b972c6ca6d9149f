package install

import (
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/install/revision"
)

// TestObserved: the record follows what Helm says runs, once its operation has ended; a run that died before it told is caught up with.
func TestObserved(t *testing.T) {
	head := func(v string) ocispec.Descriptor { return ocispec.Descriptor{Digest: digest.FromString(v)} }
	loads := []Loaded{{Version: "1.0.0", Head: head("1")}, {Version: "2.0.0", Head: head("2")}}
	was := Installed{Version: "2.0.0", Head: head("2"), Release: "shop", Namespace: "n", Revision: 2}
	rev := func(n int, status, outcome, version string) revision.Revision {
		return revision.Revision{Number: n, Status: status, Outcome: outcome, Bundle: version, Updated: time.Unix(1000, 0)}
	}
	ended := []revision.Revision{rev(1, "superseded", revision.OutcomeSucceeded, "1.0.0"), rev(2, "deployed", revision.OutcomeSucceeded, "2.0.0")}
	back := rev(3, "deployed", revision.OutcomeSucceeded, "1.0.0")
	rolling := rev(3, "deployed", revision.OutcomeRolling, "1.0.0")
	foreign := rev(3, "deployed", revision.OutcomeForeign, "1.0.0")
	strange := rev(3, "deployed", revision.OutcomeSucceeded, "9.0.0")
	for name, tc := range map[string]struct {
		history []revision.Revision
		version string
		number  int
		news    bool
	}{
		"as it was":                       {ended, "2.0.0", 2, false},
		"a rollback that nobody told of":  {append(ended[:2:2], back), "1.0.0", 3, true},
		"one that is under way":           {append(ended[:2:2], rolling), "2.0.0", 2, false},
		"plain helm's":                    {append(ended[:2:2], foreign), "2.0.0", 2, false},
		"a release that was never loaded": {append(ended[:2:2], strange), "2.0.0", 2, false},
		"nothing runs":                    {nil, "2.0.0", 2, false},
		"no revision is deployed":         {ended[:1:1], "2.0.0", 2, false},
	} {
		i := was
		r := Record{Loads: loads, Installed: &i}
		if news := r.observed("shop", "n", tc.history); news != tc.news || r.Installed.Version != tc.version || r.Installed.Revision != tc.number {
			t.Errorf("%s: news %t, %s as revision %d", name, news, r.Installed.Version, r.Installed.Revision)
		}
	}
	r := Record{Loads: loads}
	if !r.observed("shop", "n", ended) || r.Installed == nil || r.Installed.Version != "2.0.0" || r.Installed.Head.Digest != head("2").Digest {
		t.Errorf("an install that nobody told of: %+v", r.Installed)
	}
}
