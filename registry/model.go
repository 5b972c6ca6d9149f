package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
)

// Fetched is a model that PullModel wrote. Bytes are those of its layers; Shared, those that came from the node's cache.
type Fetched struct {
	Files  []string
	Bytes  int64
	Shared int64
}

// PullOptions say how a model is pulled.
type PullOptions struct {
	Options
	Cache ModelCache
	// CacheOnly fills the cache and writes nothing into the folder.
	CacheOnly bool
	// Note is told what went wrong with the cache and was done without it. nil: nobody is told.
	Note func(error)
}

// SplitModel takes a model's reference, HOST/REPO@sha256:DIGEST, apart into its host and the rest.
func SplitModel(ref string) (host, rest string, err error) {
	path, dgst, ok := strings.Cut(ref, "@")
	host, _, ok2 := strings.Cut(path, "/")
	if !ok || !ok2 || bundle.CheckDigest(digest.Digest(dgst)) != nil {
		return "", "", fmt.Errorf("model reference %.200q is not HOST/REPO@sha256:DIGEST: only a digest says which bytes are meant", ref)
	}
	return host, ref[len(host)+1:], nil
}

// PullModel writes a model's files into dir. The reference must be pinned by digest (HOST/REPO@sha256:..), which commits
// to every byte. Files appear in dir only after their whole layer agreed with its digest; a pull that was cut off leaves
// what it has in the folder .wcbundle-parts, and the next one goes on there.
func PullModel(ctx context.Context, ref, dir string, opt PullOptions) (Fetched, error) {
	host, rest, err := SplitModel(ref)
	if err != nil {
		return Fetched{}, err
	}
	repo, dgst, _ := strings.Cut(rest, "@")
	opt.Host = host
	r, err := New(opt.Options)
	if err != nil {
		return Fetched{}, err
	}
	desc, err := r.Resolve(ctx, repo, dgst)
	if err != nil {
		return Fetched{}, err
	}
	raw, err := r.Fetch(ctx, repo, desc, bundle.MaxManifest)
	if err != nil {
		return Fetched{}, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil || m.ArtifactType != bundle.ArtifactModel {
		return Fetched{}, fmt.Errorf("%s is not a model (%s)", ref, bundle.ArtifactModel)
	}
	layers, err := modelLayers(repo, m.Layers)
	if err != nil {
		return Fetched{}, err
	}
	if opt.CacheOnly {
		return fillCache(ctx, r, layers, opt)
	}
	return pullLayers(ctx, r, layers, dir, opt)
}

// modelLayer is a layer with the one file that it holds.
type modelLayer struct {
	ocispec.Descriptor
	repo string
	name string // local and clean, with slashes
}

// partsDir is the folder in a model's folder where files lie until they are whole.
const partsDir = ".wcbundle-parts"

// maxModelName bounds a file's name, which becomes a path on the node.
const maxModelName = 1024

// modelLayers checks the names of a model's files before any of it is fetched.
func modelLayers(repo string, layers []ocispec.Descriptor) ([]modelLayer, error) {
	var out []modelLayer
	seen := map[string]bool{}
	for _, l := range layers {
		name := l.Annotations[bundle.AnnotationModelPath]
		if len(name) > maxModelName || !filepath.IsLocal(name) || filepath.Clean(name) != name || name == "." || strings.ContainsAny(name, "\x00\\") {
			return nil, fmt.Errorf("layer %s names the file %.120q, which is outside the model", l.Digest, name)
		}
		if first, _, _ := strings.Cut(name, "/"); first == partsDir || seen[name] {
			return nil, fmt.Errorf("layer %s names the file %.120q, which is taken", l.Digest, name)
		}
		if err := bundle.CheckDigest(l.Digest); err != nil {
			return nil, err
		}
		seen[name] = true
		out = append(out, modelLayer{l, repo, name})
	}
	return out, nil
}

func pullLayers(ctx context.Context, r *Registry, layers []modelLayer, dir string, opt PullOptions) (Fetched, error) {
	var out Fetched
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return out, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return out, err
	}
	defer root.Close()
	if err := root.MkdirAll(partsDir, 0o700); err != nil {
		return out, err
	}
	parts, err := root.OpenRoot(partsDir)
	if err != nil {
		return out, err
	}
	defer parts.Close()
	for _, l := range layers {
		shared, err := pullFile(ctx, r, l, parts, opt)
		if err != nil {
			return out, err
		}
		if err := root.MkdirAll(filepath.Dir(l.name), 0o755); err != nil {
			return out, err
		}
		if err := root.Rename(filepath.Join(partsDir, l.Digest.Encoded()), l.name); err != nil {
			return out, err
		}
		if shared {
			out.Shared += l.Size
		}
		out.Files, out.Bytes = append(out.Files, l.name), out.Bytes+l.Size
	}
	return out, root.RemoveAll(partsDir)
}

// pullFile puts the layer's file, whole and checked, under its digest into parts: from the cache, or else from the registry.
func pullFile(ctx context.Context, r *Registry, l modelLayer, parts *os.Root, opt PullOptions) (shared bool, err error) {
	if opt.Cache.Dir != "" {
		shared, err = opt.Cache.place(ctx, r, l, parts)
		if err == nil || !withoutCache(ctx, err) {
			return shared, err
		}
		if opt.Note != nil {
			opt.Note(fmt.Errorf("going on without the node's cache: %w", err))
		}
	}
	t := &taking{r: r, layer: l, dir: parts}
	_, err = t.take(ctx)
	return false, err
}

// fillCache brings all layers into the cache.
func fillCache(ctx context.Context, r *Registry, layers []modelLayer, opt PullOptions) (Fetched, error) {
	var out Fetched
	if opt.Cache.Dir == "" {
		return out, fmt.Errorf("no cache is named that could be filled")
	}
	for _, l := range layers {
		e, err := opt.Cache.ensure(ctx, r, l, false)
		if err != nil {
			return out, err
		}
		if e.found {
			out.Shared += l.Size
		}
		out.Files, out.Bytes = append(out.Files, l.name), out.Bytes+l.Size
		e.release()
	}
	return out, nil
}
