package install

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/wordcab/wcbundle/bundle"
)

// References maps each image and model reference of a release, as charts write it, to the same content in the site's
// registry, pinned by digest.
func References(r *bundle.Release, pull string) (map[string]string, error) {
	out := map[string]string{}
	put := func(ref string, digest string) error {
		repo, err := bundle.RepoOf(ref)
		if err != nil {
			return err
		}
		out[ref] = pull + "/" + repo + "@" + digest
		return nil
	}
	for _, i := range r.Images {
		if err := put(i.Ref, string(i.Manifest.Digest)); err != nil {
			return nil, err
		}
	}
	for _, m := range r.Models {
		if err := put(m.Ref, string(m.Manifest.Digest)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Rewrite leads the known references in rendered manifests to the site's registry, wherever they stand: image fields, arguments, environment,
// custom resources, and inside longer text such as --image=REF, lists and configuration files in ConfigMaps. A reference is one only as a
// whole word: next to it stands nothing that could be part of a reference. A short one, such as redis or redis:7, says too little
// to be known by itself: it is rewritten only as the value of a key that is called image or images, or ends so. Everything else keeps its place.
// Mounts has what image volumes name instead.
func Rewrite(manifests []byte, refs, mounts map[string]string) ([]byte, error) {
	return eachDocument(manifests, func(doc *yaml.Node) {
		eachText(doc, "", func(n *yaml.Node, path string) {
			if to := mounts[n.Value]; to != "" && (path == "image.reference" || strings.HasSuffix(path, ".image.reference")) {
				n.Value = to
				return
			}
			rewriter(refs).rewrite(n, path)
		})
	})
}

// Left is a known reference in rendered manifests that Rewrite leaves as it is, because what stands next to it might be part of it.
type Left struct {
	Where string `json:"where"` // kind/name and field
	Text  string `json:"text"`  // the word that it stands in
	Ref   string `json:"ref"`
}

func (l Left) String() string { return fmt.Sprintf("%s: %s, in %s", l.Where, l.Ref, l.Text) }

// maxLeft is how many of them are listed.
const maxLeft = 50

// LeftAlone lists what Rewrite has left in manifests that it has rewritten.
func LeftAlone(manifests []byte, refs map[string]string) ([]Left, error) {
	var out []Left
	_, err := eachDocument(manifests, func(doc *yaml.Node) {
		root := doc.Content[0]
		name := textOf(child(root, "kind")) + "/" + textOf(child(child(root, "metadata"), "name"))
		eachText(root, "", func(n *yaml.Node, path string) {
			for _, word := range words.FindAllString(n.Value, -1) {
				if ref := rewriter(refs).inside(word); ref != "" && len(out) < maxLeft {
					out = append(out, Left{Where: name + " " + path, Text: word, Ref: ref})
				}
			}
		})
	})
	return out, err
}

// eachText visits the values that are text, with the path that leads to each. Keys are not text.
func eachText(n *yaml.Node, path string, visit func(n *yaml.Node, path string)) {
	if n.Kind == yaml.ScalarNode {
		visit(n, path)
		return
	}
	for i, c := range n.Content {
		switch {
		case n.Kind == yaml.SequenceNode:
			eachText(c, fmt.Sprintf("%s[%d]", path, i), visit)
		case n.Kind != yaml.MappingNode:
			eachText(c, path, visit)
		case i%2 == 1:
			eachText(c, strings.TrimPrefix(path+"."+n.Content[i-1].Value, "."), visit)
		}
	}
}

// rewriter knows references and where they lead.
type rewriter map[string]string

// words are the longest runs of what references are made of.
var words = regexp.MustCompile(`[A-Za-z0-9._/:@-]+`)

var imageKey = regexp.MustCompile(`(?i)(image|images\[[0-9]+\]|image\.reference)$`)

func (r rewriter) rewrite(n *yaml.Node, path string) {
	if to, ok := r[n.Value]; ok && imageKey.MatchString(path) {
		n.Value = to
		return
	}
	if !strings.Contains(n.Value, "/") {
		return
	}
	n.Value = words.ReplaceAllStringFunc(n.Value, r.word)
}

// word leads one word of a text to the site's registry, if it is a reference: as it is, behind a scheme, or with the digest to which it leads.
func (r rewriter) word(word string) string {
	scheme, ref, ok := strings.Cut(word, "://")
	if ok {
		scheme += "://"
	} else {
		scheme, ref = "", word
	}
	to, ok := r[ref]
	if !ok {
		tagged, digest, pinned := strings.Cut(ref, "@")
		if to = r[tagged]; !pinned || !strings.HasSuffix(to, "@"+digest) {
			return word
		}
		ref = tagged
	}
	if !telling(ref) {
		return word
	}
	return scheme + to
}

// inside finds a reference in a word that is none: with something before it that ends in : @ or /, or with a dot, a colon or a digest after it.
func (r rewriter) inside(word string) string {
	found := ""
	for ref := range r {
		if at := strings.Index(word, ref); at >= 0 && telling(ref) && len(ref) > len(found) {
			before, after := word[:at], word[at+len(ref):]
			if (before == "" || strings.ContainsAny(before[len(before)-1:], ":@/")) && (strings.Trim(after, ".:") == "" || after[0] == '@') {
				found = ref
			}
		}
	}
	return found
}

// telling is a reference that is known by itself: it has a repository with a path, and a tag or a digest.
func telling(ref string) bool {
	at := strings.LastIndexByte(ref, '/')
	return at > 0 && strings.ContainsAny(ref[at:], ":@") || strings.Contains(ref, "@sha256:")
}

// Unpinned lists image references in manifests that lead anywhere but to the site's registry by digest: what a node
// without a route out could never pull.
func Unpinned(manifests []byte, pull string) ([]string, error) {
	found, err := bundle.ImageRefs(manifests)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(ref string) bool {
		return strings.HasPrefix(ref, pull+"/") && strings.Contains(ref, "@sha256:")
	}), nil
}
