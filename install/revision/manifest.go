package revision

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"helm.sh/helm/v3/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// maxDocs bounds the documents of a manifest.
const maxDocs = 10_000

// doc is one document of a manifest: its text, and what it says. obj is nil for a document that says nothing.
type doc struct {
	text []byte
	obj  *unstructured.Unstructured
}

// id names an object within a namespace, whatever the version of its group.
type id struct{ group, kind, namespace, name string }

func (d doc) id() id { return idOf(d.obj) }

func idOf(o *unstructured.Unstructured) id {
	return id{o.GroupVersionKind().Group, o.GetKind(), o.GetNamespace(), o.GetName()}
}

// splitManifest reads the documents of a manifest in order.
func splitManifest(manifest []byte) ([]doc, error) {
	r := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(manifest)))
	var out []doc
	for {
		text, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading manifest: %w", err)
		}
		if len(out) == maxDocs {
			return nil, fmt.Errorf("reading manifest: more than %d documents", maxDocs)
		}
		var m map[string]any
		if err := yaml.Unmarshal(text, &m); err != nil {
			return nil, fmt.Errorf("reading manifest: document %d: %w", len(out)+1, err)
		}
		d := doc{text: text}
		if len(m) != 0 {
			d.obj = &unstructured.Unstructured{Object: m}
		}
		out = append(out, d)
	}
}

func joinManifest(docs []doc) []byte {
	var b bytes.Buffer
	for _, d := range docs {
		b.WriteString("---\n")
		b.Write(bytes.TrimRight(bytes.TrimPrefix(d.text, []byte("---\n")), "\n")) // the reader leaves the first separator
		b.WriteByte('\n')
	}
	return b.Bytes()
}

func byID(docs []doc) map[id]*unstructured.Unstructured {
	out := make(map[id]*unstructured.Unstructured, len(docs))
	for _, d := range docs {
		if d.obj != nil {
			out[d.id()] = d.obj
		}
	}
	return out
}

// at is where the API server keeps an object. errNoKind when it does not serve the kind.
func (c *Client) at(o *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	mapper, err := c.get.ToRESTMapper()
	if err != nil {
		return nil, err
	}
	gvk := o.GroupVersionKind()
	m, err := mapper.RESTMapping(schema.GroupKind{Group: gvk.Group, Kind: gvk.Kind}, gvk.Version)
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return c.dyn.Resource(m.Resource), nil
	}
	ns := o.GetNamespace()
	if ns == "" {
		ns = c.namespace
	}
	return c.dyn.Resource(m.Resource).Namespace(ns), nil
}

// live reads what the cluster has of an object; nil if it has none.
func (c *Client) live(ctx context.Context, o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	at, err := c.at(o)
	if meta.IsNoMatchError(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("finding %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	got, err := at.Get(ctx, o.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return got, nil
}

// prune deletes what revision from has and revision to has not, if it is still the release's and not to be kept. What holds data stays.
func (o *Operation) prune(ctx context.Context, from, to int) error {
	cfg, err := o.c.helm(nil)
	if err != nil {
		return err
	}
	manifests := [2][]doc{}
	for i, n := range []int{from, to} {
		rel, err := cfg.Releases.Get(o.req.Release, n)
		if err != nil {
			return fmt.Errorf("reading revision %d: %w", n, err)
		}
		if manifests[i], err = splitManifest([]byte(rel.Manifest)); err != nil {
			return fmt.Errorf("revision %d: %w", n, err)
		}
	}
	stays := byID(manifests[1])
	for _, d := range manifests[0] {
		if d.obj == nil || stays[d.id()] != nil || holdsData(d.obj.GroupVersionKind()) {
			continue
		}
		if err := o.c.deleteOwned(ctx, d.obj, o.req.Release); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) deleteOwned(ctx context.Context, o *unstructured.Unstructured, releaseName string) error {
	live, err := c.live(ctx, o)
	if err != nil || live == nil {
		return err
	}
	ann := live.GetAnnotations()
	if ann["meta.helm.sh/release-name"] != releaseName || ann[kube.ResourcePolicyAnno] == kube.KeepPolicy {
		return nil
	}
	at, err := c.at(o)
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	uid := live.GetUID()
	err = at.Delete(ctx, o.GetName(), metav1.DeleteOptions{PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid}})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	return nil
}
