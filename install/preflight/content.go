package preflight

import (
	"fmt"
	"sort"
	"strings"
)

// imgPresent asks two things: is every image that the chart renders in the release, and is every image of the release
// in the registry.
func (c *checker) imgPresent(string) {
	if c.badManifest() {
		return
	}
	known, digests := map[string]bool{}, map[string]bool{}
	for _, list := range [][]Content{c.w.Images, c.w.Models} { // an image volume may mount a model
		for _, x := range list {
			known[x.Ref], known[orText(x.Rendered, x.Ref)] = true, true
			digests[x.Digest] = true
		}
	}
	for _, m := range c.w.Mounts {
		known[m] = true
	}
	users := map[string][]string{}
	for _, u := range c.ren.images {
		_, digest, pinned := strings.Cut(u.image, "@")
		if !known[u.image] && !(pinned && digest != "" && digests[digest]) {
			users[u.image] = append(users[u.image], u.subject)
		}
	}
	for _, image := range sortedKeys(users) {
		c.add(Result{Verdict: Fail, Subject: image,
			Message: fmt.Sprintf("image %s, which %s asks for, is not in the release", orText(image, `""`), listText(unique(users[image]))),
			Remedy:  "take the value out that names it, or ask for a bundle that has it"})
	}
	c.present("image", c.w.Images)
	if len(c.w.Images) == 0 && len(users) == 0 {
		c.pass("the release has no images")
	}
}

func (c *checker) modelPresent(string) {
	c.present("model", c.w.Models)
	if len(c.w.Models) == 0 {
		c.pass("the release has no models")
	}
}

func (c *checker) present(noun string, list []Content) {
	have := 0
	for _, x := range list {
		r := Result{Subject: x.Ref, Evidence: map[string]string{"digest": x.Digest}}
		switch x.Presence {
		case Present:
			have++
			continue
		case Absent:
			r.Verdict = Fail
			r.Message = fmt.Sprintf("%s %s (%s) is not in the registry", noun, x.Ref, shortDigest(x.Digest))
			r.Remedy = "load the bundle again: wcbundle load"
		default:
			r.Verdict = Unknown
			r.Message = fmt.Sprintf("%s %s: the registry could not be asked: %s", noun, x.Ref, orText(x.Cause, "not asked"))
			r.Remedy = "check that the registry answers, then run preflight again"
		}
		c.add(r)
	}
	if have > 0 {
		c.pass(fmt.Sprintf("%d of %d %ss are in the registry", have, len(list), noun))
	}
}

func shortDigest(d string) string {
	if algo, hex, ok := strings.Cut(d, ":"); ok && len(hex) > 12 {
		return algo + ":" + hex[:12]
	}
	return orText(d, "no digest")
}

func unique(list []string) []string {
	seen := map[string]bool{}
	for _, s := range list {
		seen[s] = true
	}
	out := sortedKeys(seen)
	sort.Strings(out)
	return out
}

func (c *checker) deltaSpace(string) {
	c.space("scratch", c.w.Scratch, "free space there, or name another place with --scratch")
	c.space("memory", c.w.Memory, "load on a machine with more memory, or take the full bundle instead of the patch")
}

func (c *checker) space(noun string, s Space, remedy string) {
	r := Result{Subject: noun, Evidence: s}
	where := ""
	if s.Where != "" {
		where = " at " + s.Where
	}
	switch {
	case s.Need <= 0:
		r.Verdict, r.Message = Pass, "no "+noun+" is needed"
	case !s.Known:
		r.Verdict, r.Remedy = Unknown, remedy
		r.Message = fmt.Sprintf("loading needs %s %s%s; how much is free is unknown", bytesText(s.Need), noun, where)
	case s.Free < s.Need:
		r.Verdict, r.Remedy = Fail, remedy
		r.Message = fmt.Sprintf("loading needs %s %s%s, %s free", bytesText(s.Need), noun, where, bytesText(s.Free))
	default:
		r.Verdict = Pass
		r.Message = fmt.Sprintf("loading needs %s %s%s, %s free", bytesText(s.Need), noun, where, bytesText(s.Free))
	}
	c.add(r)
}
