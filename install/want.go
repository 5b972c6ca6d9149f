package install

import (
	"context"
	"slices"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/preflight"
	"github.com/wordcab/wcbundle/rollout"
)

// want is what preflight judges: the release, its rendered chart, and what the registry says that it has.
func (p *Plan) want(ctx context.Context, t Target) (preflight.Want, error) {
	rel := p.verified.Release()
	w := preflight.Want{
		Target: rel.Version, Installed: p.Running, From: rel.Upgrade.From, MaxMinorSkip: rel.Upgrade.MaxMinorSkip,
		Waypoints: rel.Upgrade.Waypoints, Manifest: p.manifest,
	}
	refs, err := References(rel, t.Record.Registry.Pull)
	if err != nil {
		return w, err
	}
	there := presence(ctx, t, p.verified)
	for _, i := range rel.Images {
		w.Images = append(w.Images, content(i.Ref, refs[i.Ref], string(i.Manifest.Digest), there))
	}
	for _, m := range rel.Models {
		w.Models = append(w.Models, content(m.Ref, refs[m.Ref], string(m.Manifest.Digest), there))
	}
	for _, mounted := range mountReferences(p.mounts, t.Record.Registry.Pull) {
		w.Mounts = append(w.Mounts, mounted)
	}
	for _, pool := range poolsOf(rel) {
		w.Pools = append(w.Pools, preflightPool(pool, slices.Contains(p.Stays, pool.Name)))
	}
	if w.RunTime, err = p.wantRunTime(ctx, t); err != nil {
		return w, err
	}
	free, err := FreeSpace(t.Scratch)
	w.Scratch = preflight.Space{Where: t.Scratch, Need: p.scratchNeed(t), Free: free, Known: err == nil}
	return w, nil
}

func content(ref, rendered, digest string, there map[string]found) preflight.Content {
	repo, err := bundle.RepoOf(ref)
	if err != nil {
		return preflight.Content{Ref: ref, Rendered: rendered, Digest: digest, Cause: err.Error()}
	}
	f := there[repo]
	return preflight.Content{Ref: ref, Rendered: rendered, Digest: digest, Presence: f.presence, Cause: f.cause}
}

type found struct {
	presence preflight.Presence
	cause    string
}

// presence asks the registry for every blob of every repository of the release. A repository is present when all of its
// lines are.
func presence(ctx context.Context, t Target, v bundle.Verified) map[string]found {
	out := map[string]found{}
	for _, b := range v.Release().Closure {
		for _, repo := range b.Repos {
			f, seen := out[repo]
			if seen && f.presence != preflight.Present {
				continue
			}
			ok, err := t.Registry.Has(ctx, repo, b.Descriptor)
			switch {
			case err != nil:
				out[repo] = found{preflight.PresenceUnknown, err.Error()}
			case ok:
				out[repo] = found{preflight.Present, ""}
			default:
				out[repo] = found{preflight.Absent, string(b.Digest) + " is missing"}
			}
		}
	}
	return out
}

func preflightPool(p rollout.Pool, stays bool) preflight.Pool {
	q := preflight.Pool{Name: p.Name, Order: p.Order, MaxSurge: p.MaxSurge, MaxUnavailable: p.MaxUnavailable, Unchanged: stays}
	for _, w := range p.Workloads {
		q.Workloads = append(q.Workloads, preflight.WorkloadRef{Kind: w.Kind, Name: w.Name})
	}
	return q
}

// scratchNeed is the room that rebuilding the release's largest blob from its base would take: base and unpacked base. It
// is what the next delta on this release wants too.
func (p *Plan) scratchNeed(t Target) int64 {
	for _, l := range t.Record.Loads {
		if l.Version == p.Version && l.By == "patch" {
			return l.Scratch
		}
	}
	return 0
}
