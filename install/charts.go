package install

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"sigs.k8s.io/yaml"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install/revision"
)

// Charts packs and renders charts with Helm, without a cluster: the build side's half of Helm.
type Charts struct{}

var _ bundle.Charts = Charts{}

// Pack makes a chart folder or archive into one deterministic archive. The gzip in it stores without compressing: its
// bytes then depend on no compressor, and a delta sees the text.
func (Charts) Pack(p string) (bundle.PackedChart, error) {
	if err := noLinks(p); err != nil {
		return bundle.PackedChart{}, err
	}
	c, err := loader.Load(p)
	if err != nil {
		return bundle.PackedChart{}, fmt.Errorf("loading %s: %w", p, err)
	}
	if err := c.Validate(); err != nil {
		return bundle.PackedChart{}, fmt.Errorf("%s: %w", p, err)
	}
	if err := action.CheckDependencies(c, c.Metadata.Dependencies); err != nil {
		return bundle.PackedChart{}, fmt.Errorf("%s: %w (run helm dependency build where there is a network)", p, err)
	}
	meta, err := json.Marshal(c.Metadata)
	if err != nil {
		return bundle.PackedChart{}, fmt.Errorf("encoding Chart.yaml: %w", err)
	}
	archive, err := archiveChart(c)
	if err != nil {
		return bundle.PackedChart{}, fmt.Errorf("packing %s: %w", p, err)
	}
	return bundle.PackedChart{Name: c.Name(), Version: c.Metadata.Version, Metadata: meta, Archive: archive}, nil
}

// noLinks refuses a chart folder with a link in it: Helm would follow it, and what it leads to would travel.
func noLinks(dir string) error {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			name, err := filepath.Rel(root, p)
			return errors.Join(fmt.Errorf("chart %s: %s is a link: put the file itself there", dir, name), err)
		}
		return nil
	})
}

func archiveChart(c *chart.Chart) ([]byte, error) {
	files := append([]*chart.File{}, c.Raw...)
	sort.Slice(files, func(i, j int) bool { return files[i].Name < files[j].Name })
	var out bytes.Buffer
	zw, err := gzip.NewWriterLevel(&out, gzip.NoCompression)
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(zw)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: path.Join(c.Name(), f.Name), Mode: 0o644, Size: int64(len(f.Data))}
		if err := tw.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := tw.Write(f.Data); err != nil {
			return nil, err
		}
	}
	if err := tw.Close(); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// renderKubeVersion is the Kubernetes that the build side renders for: the SDK alone would say 1.20, which charts refuse.
const renderKubeVersion = "v1.34.0"

// Render is bundle.Charts' Render.
func (Charts) Render(ctx context.Context, c bundle.PackedChart, values map[string]any, release, namespace string) ([]byte, error) {
	r, err := revision.RenderOffline(ctx, revision.RenderRequest{Chart: c.Archive, Values: values, Release: release, Namespace: namespace, KubeVersion: renderKubeVersion})
	if err != nil {
		return nil, err
	}
	docs := []string{r.Manifest}
	for _, h := range r.Hooks {
		if !testHook(h) {
			docs = append(docs, h)
		}
	}
	return []byte(strings.Join(docs, "\n---\n")), nil
}

// testHook tells a hook that only helm test runs, which no site does: its images need not travel.
func testHook(manifest string) bool {
	var doc struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if yaml.Unmarshal([]byte(manifest), &doc) != nil {
		return false
	}
	for _, event := range strings.Split(doc.Metadata.Annotations["helm.sh/hook"], ",") {
		if !strings.HasPrefix(strings.TrimSpace(event), "test") {
			return false
		}
	}
	return true
}
