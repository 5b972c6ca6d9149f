package install

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/wordcab/wcbundle/bundle"
)

// UndoError says that a release would take fixes away which the site runs.
type UndoError struct {
	Version string             // the release that lacks them
	Running string             // what runs
	Lost    []bundle.Contained // releases of channel security, and what is lost of each
}

func (e *UndoError) Error() string {
	var parts []string
	for _, l := range e.Lost {
		parts = append(parts, fmt.Sprintf("%s (fixed by %s)", strings.Join(l.Fixes, ", "), l.Version))
	}
	return fmt.Sprintf("release %s would undo fixes that %s runs with: %s", e.Version, e.Running, strings.Join(parts, "; "))
}

// fixed is what a release brings of fixes: its own, and those of what it contains.
func fixed(l *Loaded) []bundle.Contained {
	if l == nil {
		return nil
	}
	out := slices.Clone(l.Contains)
	if len(l.Fixes) > 0 {
		out = append(out, bundle.Contained{Version: l.Version, Fixes: l.Fixes})
	}
	return out
}

// lost lists what a site would lose that goes from one release to another: of each release of channel security that the first
// is or contains, the fixes that the second does not have. A fix is kept by its name, whatever release brings it. The fixes that a
// stable release's own VEX document names are not asked for again: a later stable release stands on it.
func lost(from, to *Loaded) []bundle.Contained {
	kept := map[string]bool{}
	for _, c := range fixed(to) {
		for _, id := range c.Fixes {
			kept[id] = true
		}
	}
	var out []bundle.Contained
	for _, c := range fixed(from) {
		if from.Channel != "security" && c.Version == from.Version {
			continue
		}
		gone := slices.DeleteFunc(slices.Clone(c.Fixes), func(id string) bool { return kept[id] })
		if len(gone) > 0 {
			out = append(out, bundle.Contained{Version: c.Version, Fixes: gone})
		}
	}
	return out
}

// undoes is an *UndoError where a release would take fixes away from what runs, else nil. What runs is what the record says was
// installed and what the cluster says, by its version, should the two differ.
func (r *Record) undoes(to *Loaded, cluster string) error {
	for _, from := range []*Loaded{r.running(), r.ofVersion(cluster)} {
		if from == nil || from.Head.Digest == to.Head.Digest {
			continue
		}
		if gone := lost(from, to); len(gone) > 0 {
			return &UndoError{Version: to.Version, Running: from.Version, Lost: gone}
		}
	}
	return nil
}

// ofVersion is the newest load of a version, or nil.
func (r *Record) ofVersion(version string) *Loaded {
	for i := len(r.Loads) - 1; i >= 0; i-- {
		if r.Loads[i].Version == version {
			return &r.Loads[i]
		}
	}
	return nil
}

// PlanFix is a vulnerability that a release fixes, and in which of its images.
type PlanFix struct {
	ID string   `json:"id"`
	In []string `json:"in"` // references, or digests of what no reference names
}

// planFixes names the images behind a release's fixes.
func planFixes(v bundle.Verified) []PlanFix {
	names := map[digest.Digest]string{}
	for _, i := range v.Release().Images {
		names[i.Manifest.Digest] = i.Ref
	}
	for _, m := range v.Release().Models {
		names[m.Manifest.Digest] = m.Ref
	}
	var out []PlanFix
	for _, f := range v.Fixes() {
		p := PlanFix{ID: f.ID}
		for _, d := range f.In {
			name := names[d]
			if name == "" {
				name = string(d)
			}
			p.In = append(p.In, name)
		}
		out = append(out, p)
	}
	return out
}

// running is the load behind what is installed, or nil.
func (r *Record) running() *Loaded {
	if r.Installed == nil {
		return nil
	}
	return r.loaded(r.Installed.Head.Digest)
}

// Open lists the fixes that lie loaded at the site, in releases of channel security, and that what runs does not have.
func (r *Record) Open() []bundle.Contained {
	var out []bundle.Contained
	for i := range r.Loads {
		if l := &r.Loads[i]; l.Channel == "security" {
			out = append(out, lost(l, orNothing(r.running()))...)
		}
	}
	return out
}

func orNothing(l *Loaded) *Loaded {
	if l == nil {
		return &Loaded{}
	}
	return l
}
