package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// AnnotationModelPath on a weight layer names the file in it (CNCF ModelPack).
const AnnotationModelPath = "org.cncf.model.filepath"

// modelConfig is the config of a ModelPack artifact: the part that we fill.
type modelConfig struct {
	Descriptor struct {
		Name    string `json:"name"`
		Version string `json:"version,omitempty"`
	} `json:"descriptor"`
	ModelFS struct {
		Type    string          `json:"type"`
		DiffIDs []digest.Digest `json:"diffIds"`
	} `json:"modelfs"`
	Config struct{} `json:"config"`
}

// collectModel packs a model: each file is one uncompressed tar layer, so that equal files are one blob, a delta sees the
// raw weights and an image volume can mount the layers.
func (b *builder) collectModel(ctx context.Context, m ModelSource) error {
	files, err := modelFiles(inDir(b.opt.Dir, m.Source))
	if err != nil {
		return fmt.Errorf("model %s: %w", m.ID, err)
	}
	ref := m.Ref
	if ref == "" {
		ref = fmt.Sprintf("models.local/%s:%s", strings.ToLower(m.ID), b.release.Version)
	}
	repo, err := RepoOf(ref)
	if err != nil {
		return err
	}
	man := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactModel,
	}
	var cfg modelConfig
	cfg.Descriptor.Name, cfg.ModelFS.Type = m.ID, "layers"
	for _, f := range files {
		c, err := f.content(ctx)
		if err != nil {
			return fmt.Errorf("model %s: packing %s: %w", m.ID, f.name, err)
		}
		b.add(c, KindBlob, repo)
		d := c.Descriptor
		d.Annotations = map[string]string{AnnotationModelPath: f.name}
		man.Layers = append(man.Layers, d)
		cfg.ModelFS.DiffIDs = append(cfg.ModelFS.DiffIDs, d.Digest)
	}
	if man.Config, err = b.addJSON(MediaModelConfig, cfg, KindBlob, repo); err != nil {
		return err
	}
	desc, err := b.addJSON(ocispec.MediaTypeImageManifest, man, KindManifest, repo)
	if err != nil {
		return err
	}
	b.release.Models = append(b.release.Models, Model{
		ID: m.ID, Ref: ref, Manifest: desc, Default: m.Default, Supersedes: m.Supersedes, Requires: m.Requires,
	})
	return nil
}

// modelFile is one file of a model: its slash-separated name in the model and its path on disk.
type modelFile struct {
	name, path string
	size       int64
}

func modelFiles(root string) ([]modelFile, error) {
	st, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return []modelFile{{filepath.Base(root), root, st.Size()}}, nil
	}
	var out []modelFile
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := os.Stat(p) // follows links: model hubs keep files as links into a cache
		if err != nil {
			return err
		}
		if !st.Mode().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a folder", p)
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		out = append(out, modelFile{path.Clean(filepath.ToSlash(rel)), p, st.Size()})
		return nil
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("%s is empty", root)
	}
	return out, err
}

// content is the file as a tar of one entry. It is read once to learn its digest, and again each time it is opened.
func (f modelFile) content(ctx context.Context) (Content, error) {
	var head bytes.Buffer
	tw := tar.NewWriter(&head)
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: f.size}); err != nil {
		return Content{}, err
	}
	tail := make([]byte, (512-f.size%512)%512+1024)
	open := func(context.Context) (io.ReadCloser, error) {
		r, err := os.Open(f.path)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(head.Bytes()), r, bytes.NewReader(tail)), r}, nil
	}
	r, err := open(ctx)
	if err != nil {
		return Content{}, err
	}
	defer r.Close()
	h := digest.SHA256.Digester()
	n, err := io.Copy(h.Hash(), &ctxReader{ctx, r})
	if err != nil {
		return Content{}, err
	}
	return Content{Descriptor: ocispec.Descriptor{MediaType: weightType(f.name), Digest: h.Digest(), Size: n}, Open: open}, nil
}

func weightType(name string) string {
	switch path.Ext(name) {
	case ".json", ".yaml", ".txt", ".model":
		return "application/vnd.cncf.model.weight.config.v1.tar"
	case ".md":
		return "application/vnd.cncf.model.doc.v1.tar"
	}
	return MediaModelWeight
}
