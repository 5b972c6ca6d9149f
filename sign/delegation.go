package sign

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// MaxDropDays is how long a release or patch of channel security is valid at most, in days.
const MaxDropDays = 90

const maxPatterns = 64

// Delegation is what the security role may change in a release that a site has accepted. What it does not name stays as it
// is. A pattern is one of path.Match: * stands for any characters but a slash.
type Delegation struct {
	Images   []string `json:"images"`           // patterns of image names, without tag or digest; at least one
	Models   []string `json:"models,omitempty"` // patterns of model ids
	Charts   bool     `json:"charts,omitempty"` // the chart with all that it can do, hooks and CRDs included; its values, the pools
	MaxBytes int64    `json:"maxBytes"`         // sum of the blobs that are new to the site
	MaxDays  int      `json:"maxDays"`          // from issuedAt to expires; 1 to MaxDropDays
}

// checkAllow checks the form of a role's delegation.
func (r TrustRole) checkAllow(name string) error {
	if name != "security" {
		if r.Allow != nil {
			return fmt.Errorf("%s.allow: only role security has one", name)
		}
		return nil
	}
	switch a := r.Allow; {
	case a == nil || len(a.Images) == 0:
		return errors.New("security.allow.images: want at least one pattern, such as registry.example.com/wordcab/*")
	case a.MaxBytes < 1 || a.MaxBytes > maxInteger:
		return errors.New("security.allow.maxBytes: want 1 to 2^53")
	case a.MaxDays < 1 || a.MaxDays > MaxDropDays:
		return fmt.Errorf("security.allow.maxDays: want 1 to %d", MaxDropDays)
	}
	if err := checkPatterns("security.allow.images", r.Allow.Images); err != nil {
		return err
	}
	return checkPatterns("security.allow.models", r.Allow.Models)
}

func checkPatterns(field string, patterns []string) error {
	if len(patterns) > maxPatterns {
		return fmt.Errorf("%s: more than %d patterns", field, maxPatterns)
	}
	once := map[string]bool{}
	for _, p := range patterns {
		if _, err := path.Match(p, ""); err != nil || p == "" || len(p) > 256 || once[p] {
			return fmt.Errorf("%s: %q is empty, here twice or not a pattern such as registry.example.com/wordcab/*", field, clip(p))
		}
		once[p] = true
	}
	return nil
}

// sorted is a copy with its lists in order.
func (d *Delegation) sorted() *Delegation {
	if d == nil {
		return nil
	}
	c := *d
	c.Images, c.Models = sorted(d.Images), sorted(d.Models)
	return &c
}

// String says in words what may be changed.
func (d Delegation) String() string {
	text := "images " + strings.Join(d.Images, ", ")
	if len(d.Models) > 0 {
		text += "; models " + strings.Join(d.Models, ", ")
	}
	if d.Charts {
		text += "; the chart"
	}
	return fmt.Sprintf("%s; %d MiB of it new at most, in drops valid for %d days at most", text, d.MaxBytes>>20, d.MaxDays)
}

// Image reports whether an image of that reference may be changed or added.
func (d Delegation) Image(ref string) bool { return matches(d.Images, nameOf(ref)) }

// Model reports whether a model with that id may be changed or added.
func (d Delegation) Model(id string) bool { return matches(d.Models, id) }

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); err == nil && ok {
			return true
		}
	}
	return false
}

// nameOf is a reference without its digest and tag.
func nameOf(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		ref = ref[:i]
	}
	return ref
}
