package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/delta"
	"github.com/wordcab/wcbundle/registry"
)

const registryBlobs = "registry/docker/registry/v2/blobs/sha256"

// named lists the descriptors of a media type in any JSON of the medium, largest first.
func (m *medium) named(mediaType string) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if v["mediaType"] == mediaType {
				text, _ := v["digest"].(string)
				size, _ := v["size"].(float64)
				d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.Digest(text), Size: int64(size)}
				if text != "" && len(out) > 0 && out[0].Size < d.Size {
					out = append([]ocispec.Descriptor{d}, out...)
				} else if text != "" {
					out = append(out, d)
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	for _, n := range m.names {
		var v any
		if b := m.data[n]; len(b) > 0 && b[0] == '{' && json.Unmarshal(b, &v) == nil {
			walk(v)
		}
	}
	return out
}

// damage turns a bit in the largest blob of a media type in a file, or of a repository in the registry:
// damage FILE MEDIATYPE, damage registry REPOSITORY
func damage(ts *testscript.TestScript, _ bool, args []string) {
	if args[0] != "registry" {
		m, err := readMedium(ts.MkAbs(args[0]))
		ts.Check(err)
		found := m.named(args[1])
		if len(found) == 0 {
			ts.Fatalf("%s has nothing of %s", args[0], args[1])
		}
		b := m.data["blobs/sha256/"+found[0].Digest.Encoded()]
		b[len(b)/2] ^= 1
		ts.Check(m.write(ts.MkAbs(args[0])))
		return
	}
	layers, err := os.ReadDir(ts.MkAbs("registry/docker/registry/v2/repositories/" + args[1] + "/_layers/sha256"))
	ts.Check(err)
	path, largest := "", []byte(nil)
	for _, l := range layers {
		p := ts.MkAbs(filepath.Join(registryBlobs, l.Name()[:2], l.Name(), "data"))
		b, err := os.ReadFile(p)
		ts.Check(err)
		if len(b) > len(largest) {
			path, largest = p, b
		}
	}
	largest[len(largest)/2] ^= 1
	ts.Check(os.WriteFile(path, largest, 0o644))
}

// plant puts wrong content of the right size under a digest into the registry's store: plant BUNDLE REPOSITORY
func plant(ts *testscript.TestScript, _ bool, args []string) {
	f, err := bundle.OpenFile(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	r, err := f.ReleaseUnverified(context.Background())
	ts.Check(err)
	for _, b := range r.Closure {
		if b.Kind != bundle.KindBlob || b.Repos[0] != args[1] {
			continue
		}
		hex := b.Digest.Encoded()
		data := ts.MkAbs(filepath.Join(registryBlobs, hex[:2], hex, "data"))
		link := ts.MkAbs("registry/docker/registry/v2/repositories/" + args[1] + "/_layers/sha256/" + hex + "/link")
		for path, content := range map[string][]byte{data: make([]byte, b.Size), link: []byte(b.Digest)} {
			ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
			ts.Check(os.WriteFile(path, content, 0o644))
		}
	}
}

// checkWhole hashes every blob in the registry's store.
func checkWhole(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(wholeRegistry(ts.MkAbs("registry")))
}

func wholeRegistry(dir string) error {
	return filepath.WalkDir(filepath.Join(dir, "docker/registry/v2/blobs"), func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && d.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && sumOf(b) != filepath.Base(filepath.Dir(path)) {
			err = fmt.Errorf("the registry holds something else under %s", filepath.Base(filepath.Dir(path)))
		}
		return err
	})
}

// spoil turns every bit of the second half of a file.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	b := []byte(ts.ReadFile(args[0]))
	for i := len(b) / 2; i < len(b); i++ {
		b[i] ^= 0xff
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
}

// zeroFile writes a file of zeros: zeros FILE BYTES
func zeroFile(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), make([]byte, n), 0o644))
}

// blobOf sets $BLOB to the path of the blob of a media type in a layout folder: blob-of DIR MEDIATYPE
func blobOf(ts *testscript.TestScript, _ bool, args []string) {
	m := &medium{data: map[string][]byte{}}
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		m.names = append(m.names, path)
		m.data[path], err = os.ReadFile(path)
		return err
	}))
	found := m.named(args[1])
	if len(found) == 0 {
		ts.Fatalf("%s has nothing of %s", args[0], args[1])
	}
	ts.Setenv("BLOB", ts.MkAbs(filepath.Join(args[0], "blobs/sha256", found[0].Digest.Encoded())))
}

// wrongDelta puts into a patch, for each delta, one that makes the target with one byte changed: wrong-delta PATCH KEY BASE TARGET
func wrongDelta(ts *testscript.TestScript, _ bool, args []string) {
	p, err := readMedium(ts.MkAbs(args[0]))
	ts.Check(err)
	base, err := readMedium(ts.MkAbs(args[2]))
	ts.Check(err)
	target, err := readMedium(ts.MkAbs(args[3]))
	ts.Check(err)
	plan, err := bundle.ParsePatch(p.data["blobs/sha256/"+p.named(bundle.MediaPatch)[0].Digest.Encoded()])
	ts.Check(err)
	for _, l := range plan.Plan {
		if l.How != bundle.HowDelta {
			continue
		}
		var bases []delta.Base
		for _, f := range l.From {
			bases = append(bases, bytes.NewReader(base.data["blobs/sha256/"+f.Digest.Encoded()]))
		}
		want := bytes.Clone(target.data["blobs/sha256/"+l.Target.Digest.Encoded()])
		want[len(want)-1] ^= 1
		var out bytes.Buffer
		_, err := delta.Make(context.Background(), &out, bases, bytes.NewReader(want), delta.MakeOptions{ScratchDir: ts.MkAbs(".")})
		ts.Check(err)
		p.set("blobs/sha256/"+l.Delta.Digest.Encoded(), out.Bytes())
	}
	ts.Check(p.rebind(forgerKeys(ts, args[1])...))
	ts.Check(p.write(ts.MkAbs(args[0])))
}

func push(ts *testscript.TestScript, repo, mediaType string, b []byte, tag string) ocispec.Descriptor {
	r, err := registry.New(registry.Options{Host: ts.Getenv("REGISTRY")})
	ts.Check(err)
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	ts.Check(r.Push(context.Background(), repo, d, bytes.NewReader(b)))
	if tag != "" {
		ts.Check(r.Tag(context.Background(), repo, d, b, tag))
	}
	return d
}

// pushOther lets a tag point at an image that no release has: push-other REFERENCE
func pushOther(ts *testscript.TestScript, _ bool, args []string) {
	repo, err := bundle.RepoOf(args[0])
	ts.Check(err)
	man := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: push(ts, repo, ocispec.MediaTypeImageConfig, []byte(`{"os":"linux"}`), ""), Layers: []ocispec.Descriptor{}}
	man.SchemaVersion = 2
	raw, err := json.Marshal(man)
	ts.Check(err)
	push(ts, repo, man.MediaType, raw, bundle.TagOf(args[0]))
}

// hostileModel pushes a model whose one layer holds another entry than it should, as $MODEL: hostile-model NAME TYPE [LINK]
func hostileModel(ts *testscript.TestScript, _ bool, args []string) {
	layer := sparseTar(args[0])
	if args[1] != "sparse" {
		var out bytes.Buffer
		tw := tar.NewWriter(&out)
		h := tar.Header{Name: args[0], Mode: 0o644, Typeflag: map[string]byte{"file": tar.TypeReg, "symlink": tar.TypeSymlink, "hardlink": tar.TypeLink}[args[1]]}
		if len(args) > 2 {
			h.Linkname = args[2]
		} else {
			h.Size = 4
		}
		ts.Check(tw.WriteHeader(&h))
		if h.Size > 0 {
			_, err := tw.Write([]byte("evil"))
			ts.Check(err)
		}
		ts.Check(tw.Close())
		layer = out.Bytes()
	}
	const repo = "shop/hostile"
	d := push(ts, repo, bundle.MediaModelWeight, layer, "")
	d.Annotations = map[string]string{bundle.AnnotationModelPath: args[0]}
	man := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: bundle.ArtifactModel,
		Config: push(ts, repo, bundle.MediaModelConfig, []byte("{}"), ""), Layers: []ocispec.Descriptor{d}}
	man.SchemaVersion = 2
	raw, err := json.Marshal(man)
	ts.Check(err)
	ts.Setenv("MODEL", ts.Getenv("REGISTRY")+"/"+repo+"@"+string(push(ts, repo, man.MediaType, raw, "").Digest))
}

// sparseTar is a tar of one file of a gibibyte that is nothing but a hole (PAX, GNU sparse format 1.0).
func sparseTar(name string) []byte {
	const size = 1 << 30
	record := func(k, v string) string {
		n := len(k) + len(v) + 3
		for len(strconv.Itoa(n))+len(k)+len(v)+3 != n {
			n++
		}
		return fmt.Sprintf("%d %s=%s\n", n, k, v)
	}
	pax := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", name) + record("GNU.sparse.realsize", strconv.Itoa(size))
	holes := fmt.Sprintf("1\n%d\n0\n", size)
	out := append(tarBlock("pax", len(pax), 'x'), padded(pax)...)
	out = append(out, tarBlock(name, 512, '0')...)
	return append(append(out, padded(holes)...), make([]byte, 1024)...)
}

func padded(s string) []byte { return append([]byte(s), make([]byte, (512-len(s)%512)%512)...) }

func tarBlock(name string, size int, kind byte) []byte {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00        ", size, 0))
	b[156] = kind
	copy(b[257:], "ustar\x0000")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

// chartBomb writes a chart of a few kilobytes that unpacks to 300 MiB: chart-bomb FILE
func chartBomb(ts *testscript.TestScript, _ bool, args []string) {
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	add := func(name string, b []byte) {
		ts.Check(tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(b))}))
		_, err := tw.Write(b)
		ts.Check(err)
	}
	add("shop/Chart.yaml", []byte("apiVersion: v2\nname: shop\nversion: 1.0.0\n"))
	for i := range 100 {
		add(fmt.Sprintf("shop/files/%d", i), bytes.Repeat([]byte{' '}, 3<<20))
	}
	ts.Check(errors.Join(tw.Close(), zw.Close()))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o644))
	if out.Len() > 1<<20 || !strings.HasSuffix(args[0], "gz") {
		ts.Fatalf("the bomb has %d bytes", out.Len())
	}
}
