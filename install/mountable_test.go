package install

import (
	"encoding/json"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
)

func modelManifest(t *testing.T, layerTypes ...string) []byte {
	t.Helper()
	m := ocispec.Manifest{ArtifactType: bundle.ArtifactModel, MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: bundle.MediaModelConfig, Digest: digest.FromString("config"), Size: 6}}
	for _, mt := range layerTypes {
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: mt, Digest: digest.FromString(mt), Size: 1024,
			Annotations: map[string]string{bundle.AnnotationModelPath: mt}})
	}
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMountable: what containerd mounts is an image whose diff ids are the model's layers. With the model's own config it mounts an empty
// folder and says nothing.
func TestMountable(t *testing.T) {
	model := bundle.Model{ID: "asr", Ref: "r.io/models/asr:1"}
	raw := modelManifest(t, bundle.MediaModelWeight, "application/vnd.cncf.model.doc.v1.tar")
	m, err := mountable(model, raw, []string{"linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	byDigest := map[digest.Digest][]byte{}
	for _, d := range m.docs {
		if d.Digest != digest.FromBytes(d.bytes) || d.Size != int64(len(d.bytes)) {
			t.Errorf("%s is not what it says", d.Digest)
		}
		byDigest[d.Digest] = d.bytes
	}
	var image ocispec.Manifest
	var config ocispec.Image
	if err := json.Unmarshal(byDigest[m.Root.Digest], &image); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(byDigest[image.Config.Digest], &config); err != nil {
		t.Fatal(err)
	}
	if image.Config.MediaType != ocispec.MediaTypeImageConfig || config.RootFS.Type != "layers" || config.OS != "linux" || config.Architecture != "amd64" ||
		len(image.Layers) != 2 || len(config.RootFS.DiffIDs) != 2 {
		t.Fatalf("%+v of %+v", image, config)
	}
	for i, l := range image.Layers {
		if l.MediaType != ocispec.MediaTypeImageLayer || config.RootFS.DiffIDs[i] != l.Digest || l.Size != 1024 {
			t.Errorf("layer %+v, diff id %s", l, config.RootFS.DiffIDs[i])
		}
	}
	// The digest is what nodes are told: it must be the same for ever, or a rollback asks for what no registry has.
	if m.Root.Digest != "sha256:96ae899644ccd551196016daa92667cda4a98cbeb1fb7cd0e530a9fdce70198f" {
		t.Errorf("the form's digest is %s", m.Root.Digest)
	}
	if got := mountReferences([]Mountable{m}, "10.0.0.1:5000"); got[model.Ref] != "10.0.0.1:5000/r.io/models/asr@"+string(m.Root.Digest) {
		t.Errorf("%v", got)
	}
	two, err := mountable(model, raw, []string{"linux/amd64", "linux/arm64"})
	if err != nil || two.Root.MediaType != ocispec.MediaTypeImageIndex || len(two.docs) != 5 {
		t.Errorf("for two platforms: %+v, %v", two, err)
	}
	if _, err := mountable(model, modelManifest(t, "application/vnd.cncf.model.weight.v1.tar+gzip"), []string{"linux/amd64"}); err == nil {
		t.Error("a compressed layer's digest was taken for that of its content")
	}
}
