package install

import (
	"bytes"

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

// Rewrite replaces every string in rendered manifests that is exactly a known reference: image fields, arguments,
// environment, custom resources; mounts has what image volumes name instead. Everything else keeps its place.
func Rewrite(manifests []byte, refs, mounts map[string]string) ([]byte, error) {
	return eachDocument(manifests, func(doc *yaml.Node) { rewriteIn(doc, refs, mounts) })
}

func rewriteIn(n *yaml.Node, refs, mounts map[string]string) {
	if n.Kind == yaml.ScalarNode {
		if to, ok := refs[n.Value]; ok {
			n.Value = to
		}
		return
	}
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 { // a key
			continue
		}
		if n.Kind == yaml.MappingNode && n.Content[i-1].Value == "image" {
			if ref := child(c, "reference"); ref != nil && mounts[ref.Value] != "" { // an image volume
				ref.Value = mounts[ref.Value]
			}
		}
		rewriteIn(c, refs, mounts)
	}
}

// Unpinned lists image references in manifests that lead anywhere but to the site's registry by digest: what a node
// without a route out could never pull.
func Unpinned(manifests []byte, pull string) ([]string, error) {
	found, err := bundle.ImageRefs(manifests)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, ref := range found {
		if len(ref) <= len(pull) || ref[:len(pull)+1] != pull+"/" || !bytes.Contains([]byte(ref), []byte("@sha256:")) {
			out = append(out, ref)
		}
	}
	return out, nil
}
