package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	"gopkg.in/yaml.v3"
)

// discover adds to found every image reference in rendered manifests: the values of keys named image, wherever they are,
// custom resources included, and the references of image volumes.
func discover(manifests []byte, found map[string]bool) error {
	dec := yaml.NewDecoder(bytes.NewReader(manifests))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("rendered manifests are not YAML: %w", err)
		}
		discoverIn(&doc, found)
	}
}

func discoverIn(n *yaml.Node, found map[string]bool) {
	if n.Kind != yaml.MappingNode {
		for _, c := range n.Content {
			discoverIn(c, found)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Value == "image" && v.Kind == yaml.ScalarNode && isRef(v.Value):
			found[v.Value] = true
		case k.Value == "image" && v.Kind == yaml.MappingNode:
			if r := mapping(v, "reference"); r != nil && isRef(r.Value) {
				found[r.Value] = true
			}
		}
		discoverIn(v, found)
	}
}

func mapping(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func isRef(s string) bool {
	_, err := name.ParseReference(s)
	return err == nil && s != ""
}

// ImageRefs lists the image references in rendered manifests, sorted.
func ImageRefs(manifests []byte) ([]string, error) {
	found := map[string]bool{}
	if err := discover(manifests, found); err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(found)), nil
}
