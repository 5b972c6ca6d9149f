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
		{"registry", s.base.Registry, s.next.Registry},
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

// part is an image or a model of a release.
type part struct {
	name    string // by which the two releases are compared
	ref     string
	raw     []byte // all that release.json says of it
	allowed bool
}

func (s drop) images() error {
	of := func(r *Release) (out []part, err error) {
		for _, i := range r.Images {
			raw, err := marshal(i)
			if err != nil {
				return nil, err
			}
			out = append(out, part{i.Ref, i.Ref, raw, s.allow.Image(i.Ref)})
		}
		return out, nil
	}
	return s.compare("images", of)
}

func (s drop) models() error {
	of := func(r *Release) (out []part, err error) {
		for _, m := range r.Models {
			raw, err := marshal(m)
			if err != nil {
				return nil, err
			}
			out = append(out, part{m.ID, m.Ref, raw, s.allow.Model(m.ID)})
		}
		return out, nil
	}
	return s.compare("models", of)
}

// compare finds what is changed, added or taken away, and opens the repositories of what may be.
func (s drop) compare(field string, of func(*Release) ([]part, error)) error {
	old, err := of(s.base)
	if err != nil {
		return err
	}
	next, err := of(s.next)
	if err != nil {
		return err
	}
	left := map[string][]byte{}
	for _, p := range old {
		left[p.name] = p.raw
	}
	for _, p := range next {
		before := left[p.name]
		delete(left, p.name)
		if bytes.Equal(before, p.raw) {
			continue
		}
		if !p.allowed {
			return beyond(field, "%s is changed, and no pattern of security.allow.%s allows it", p.name, field)
		}
		if err := s.open(p.ref); err != nil {
			return err
		}
	}
	for _, p := range old {
		if _, gone := left[p.name]; gone {
			return beyond(field, "%s of %s is taken away", p.name, s.base.Version)
		}
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
