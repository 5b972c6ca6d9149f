package registry

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
)

// Fetched is a model that PullModel wrote. Bytes are those of its layers.
type Fetched struct {
	Files []string
	Bytes int64
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
// none and is run again.
func PullModel(ctx context.Context, ref, dir string, opt Options) (Fetched, error) {
	host, rest, err := SplitModel(ref)
	if err != nil {
		return Fetched{}, err
	}
	repo, dgst, _ := strings.Cut(rest, "@")
	opt.Host = host
	r, err := New(opt)
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
	return pullLayers(ctx, r, repo, m.Layers, dir)
}

func pullLayers(ctx context.Context, r *Registry, repo string, layers []ocispec.Descriptor, dir string) (Fetched, error) {
	var out Fetched
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return out, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return out, err
	}
	defer root.Close()
	for _, l := range layers {
		name := l.Annotations[bundle.AnnotationModelPath]
		if !filepath.IsLocal(name) {
			return out, fmt.Errorf("layer %s names the file %.120q, which is outside the model", l.Digest, name)
		}
		if err := pullLayer(ctx, r, repo, l, root, name); err != nil {
			return out, err
		}
		out.Files, out.Bytes = append(out.Files, name), out.Bytes+l.Size
	}
	return out, nil
}

// pullLayer writes the one file of a layer beside its place, and moves it there when the layer's digest was right.
func pullLayer(ctx context.Context, r *Registry, repo string, l ocispec.Descriptor, root *os.Root, name string) (err error) {
	rc, err := r.Open(ctx, repo, l)
	if err != nil {
		return err
	}
	defer rc.Close()
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	part := name + ".part"
	f, err := root.Create(part)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), root.Remove(part))
		}
	}()
	tr := tar.NewReader(rc)
	h, err := tr.Next()
	if err != nil || h.Typeflag != tar.TypeReg || h.Name != name || h.Size > l.Size { // larger than its layer: a sparse file
		return fmt.Errorf("layer %s is not a tar of the one file %.120q", l.Digest, name)
	}
	if _, err = io.Copy(f, tr); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	if _, err = io.Copy(io.Discard, rc); err != nil { // to the end: only there the digest is known
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return root.Rename(part, name)
}
