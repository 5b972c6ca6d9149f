package bundle

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/wordcab/wcbundle/sign"
)

// Stands checks a verified release of channel security against the release of the site on which it stands: it changes nothing
// but what the policy allows the security role, removes nothing, and its VEX document speaks of these two. Of other channels
// nothing is asked. Errors are *sign.UntrustedError with reason sign.WrongScope; base must be one that the site accepted.
func (v Verified) Stands(base *Release, t *sign.Trust) error {
	r := v.release
	if r == nil || r.Channel != "security" {
		return nil
	}
	allow, ok := t.Allow()
	if !ok {
		return beyond("channel", "the policy has no security role")
	}
	s := drop{base: base, next: r, allow: allow, repos: map[string]bool{ReleaseRepo(r.Name): true}}
	for _, check := range []func() error{s.frame, s.images, s.models, s.blobs} {
		if err := check(); err != nil {
			return err
		}
	}
	if err := v.vex.within(r, base); err != nil {
		return beyond("vex", "%v", err)
	}
	return nil
}

func beyond(field, format string, a ...any) error {
	return &sign.UntrustedError{Reason: sign.WrongScope, Field: field, Detail: fmt.Sprintf(format, a...)}
}

// drop is one release of channel security and the one on which it stands.
type drop struct {
	base, next *Release
	allow      sign.Delegation
	repos      map[string]bool // repositories into which new blobs may come
}

// frame compares all that is neither image nor model nor blob.
func (s drop) frame() error {
	if s.next.Name != s.base.Name {
		return beyond("name", "%s stands on %s", s.next.Name, s.base.Name)
	}
	if s.allow.Charts {
		for _, c := range s.next.Charts {
			s.repos[chartRepo(s.next.Name, c.Name)] = true
		}
		return nil
	}
	for _, f := range []struct {
		name      string
		base, new any
	}{
		{"charts", s.base.Charts, s.next.Charts}, {"pools", s.base.Pools, s.next.Pools},
		{"platforms", s.base.Platforms, s.next.Platforms}, {"retired", s.base.Retired, s.next.Retired},
	} {
		old, err := marshal(f.base)
		if err != nil {
			return err
		}
		new, err := marshal(f.new)
		if err != nil {
			return err
		}
		if !bytes.Equal(old, new) {
			return beyond(f.name, "they differ from those of %s, and security.allow.charts is not set", s.base.Version)
		}
	}
	return nil
}

func (s drop) images() error {
	old := map[string][]byte{}
	for _, i := range s.base.Images {
		raw, err := marshal(i)
		if err != nil {
			return err
		}
		old[i.Ref] = raw
	}
	for _, i := range s.next.Images {
		raw, err := marshal(i)
		if err != nil {
			return err
		}
		before := old[i.Ref]
		delete(old, i.Ref)
		if bytes.Equal(before, raw) {
			continue
		}
		if !s.allow.Image(i.Ref) {
			return beyond("images", "%s is changed, and no pattern of security.allow.images allows it", i.Ref)
		}
		if err := s.open(i.Ref); err != nil {
			return err
		}
	}
	for ref := range old {
		return beyond("images", "%s of %s is taken away", ref, s.base.Version)
	}
	return nil
}

func (s drop) models() error {
	old := map[string][]byte{}
	for _, m := range s.base.Models {
		raw, err := marshal(m)
		if err != nil {
			return err
		}
		old[m.ID] = raw
	}
	for _, m := range s.next.Models {
		raw, err := marshal(m)
		if err != nil {
			return err
		}
		before := old[m.ID]
		delete(old, m.ID)
		if bytes.Equal(before, raw) {
			continue
		}
		if !s.allow.Model(m.ID) {
			return beyond("models", "%s is changed, and no pattern of security.allow.models allows it", m.ID)
		}
		if err := s.open(m.Ref); err != nil {
			return err
		}
	}
	for id := range old {
		return beyond("models", "%s of %s is taken away", id, s.base.Version)
	}
	return nil
}

// open lets new blobs come into the repository of a reference that may be changed.
func (s drop) open(ref string) error {
	repo, err := RepoOf(ref)
	s.repos[repo] = true
	return err
}

// blobs looks at every blob that the base does not have: where it goes, and how much they are together.
func (s drop) blobs() error {
	var size int64
	for _, b := range s.next.Closure {
		if old := s.base.Line(b.Digest); old != nil && subset(b.Repos, old.Repos) {
			continue
		}
		for _, repo := range b.Repos {
			if !s.repos[repo] {
				return beyond("closure", "%s is new in repository %s, which the security role may not change", b.Digest, repo)
			}
		}
		if size += b.Size; size > s.allow.MaxBytes {
			return beyond("closure", "more than %d bytes are new, which is security.allow.maxBytes", s.allow.MaxBytes)
		}
	}
	return nil
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
