package registry

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
)

// FuzzPullModel pulls a model whose manifest and layer were made by an enemy who knows their digests. Whatever they say, nothing
// may be written outside of the model's folder, and no link or device.
func FuzzPullModel(f *testing.F) {
	f.Add("weights.bin", oneFile("weights.bin", tar.TypeReg), false)
	f.Add("../../evil", oneFile("../../evil", tar.TypeReg), false)
	f.Add("a", oneFile("a", tar.TypeSymlink), true)
	f.Add("a/b", []byte("not a tar"), true)
	f.Fuzz(func(t *testing.T, name string, layer []byte, damaged bool) {
		manifest, err := json.Marshal(ocispec.Manifest{ArtifactType: bundle.ArtifactModel, MediaType: ocispec.MediaTypeImageManifest,
			Layers: []ocispec.Descriptor{{MediaType: bundle.MediaModelWeight, Digest: digest.FromBytes(layer), Size: int64(len(layer)),
				Annotations: map[string]string{bundle.AnnotationModelPath: name}}}})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(blobServer(manifest, layer, damaged))
		defer server.Close()
		outer := t.TempDir()
		dir := filepath.Join(outer, "a", "model")
		if err := os.Mkdir(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		var cache ModelCache
		if len(layer)%2 == 1 {
			cache = ModelCache{Dir: filepath.Join(dir, "cache"), Limit: 1 << 30}
		}
		ref := strings.TrimPrefix(server.URL, "http://") + "/shop/model@" + string(digest.FromBytes(manifest))
		got, err := PullModel(t.Context(), ref, dir, PullOptions{Options: Options{PlainHTTP: true}, Cache: cache})
		if err == nil && damaged && len(layer) > 0 {
			t.Fatalf("a damaged layer was taken: %v", got)
		}
		onlyInside(t, outer, dir)
	})
}

// oneFile is a tar of one entry.
func oneFile(name string, kind byte) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	h := &tar.Header{Typeflag: kind, Name: name, Mode: 0o644, Linkname: "/etc/passwd"}
	if kind == tar.TypeReg {
		h.Linkname, h.Size = "", 1
	}
	if err := tw.WriteHeader(h); err != nil {
		panic(err)
	}
	if kind == tar.TypeReg {
		if _, err := tw.Write([]byte("x")); err != nil {
			panic(err)
		}
	}
	if err := tw.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// onlyInside wants nothing but plain files and folders under outer, and none of the files beside dir.
func onlyInside(t *testing.T, outer, dir string) {
	t.Helper()
	err := filepath.WalkDir(outer, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if !e.Type().IsRegular() || !strings.HasPrefix(p, dir+string(filepath.Separator)) {
			t.Errorf("%s was written", p)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// blobServer answers with two blobs by digest. A damaged layer has the right length.
func blobServer(manifest, layer []byte, damaged bool) http.HandlerFunc {
	sent := bytes.Clone(layer)
	if damaged && len(sent) > 0 {
		sent[len(sent)-1] ^= 1
	}
	return func(w http.ResponseWriter, r *http.Request) {
		body := sent
		switch path.Base(r.URL.Path) {
		case string(digest.FromBytes(manifest)):
			body = manifest
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		case string(digest.FromBytes(layer)):
			w.Header().Set("Content-Type", "application/octet-stream")
		default:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}
}
