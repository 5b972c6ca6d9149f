package bundle

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/sign"
)

// entry is one line of a tar made by hand.
type entry struct {
	name string
	body string
	kind byte
	size int64 // claimed, where it differs from the body
}

func writeTar(t *testing.T, entries ...entry) string {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body)), Typeflag: tar.TypeReg}
		if e.kind != 0 {
			h.Typeflag, h.Linkname, h.Size = e.kind, "/etc/passwd", 0
		}
		if e.size != 0 {
			h.Size = e.size
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := tw.Write([]byte(e.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Flush(); err != nil && entries[len(entries)-1].size == 0 {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.wcb")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenFileRefuses(t *testing.T) {
	index := entry{name: "index.json", body: `{"schemaVersion":2,"manifests":[]}`}
	blob := "blobs/sha256/" + strings.Repeat("ab", 32)
	for name, c := range map[string]struct {
		entries []entry
		says    string
	}{
		"not a tar":         {nil, "not a tar"},
		"no index":          {[]entry{{name: blob, body: "x"}}, "no index.json"},
		"traversal":         {[]entry{index, {name: "../../etc/cron.d/x", body: "x"}}, "no place"},
		"absolute":          {[]entry{index, {name: "/etc/passwd", body: "x"}}, "no place"},
		"symlink":           {[]entry{index, {name: blob, kind: tar.TypeSymlink}}, "not a regular file"},
		"hard link":         {[]entry{index, {name: blob, kind: tar.TypeLink}}, "not a regular file"},
		"device":            {[]entry{index, {name: blob, kind: tar.TypeChar}}, "not a regular file"},
		"blob twice":        {[]entry{index, {name: blob, body: "x"}, {name: blob, body: "y"}}, "twice"},
		"upper-case digest": {[]entry{index, {name: "blobs/sha256/" + strings.Repeat("AB", 32), body: "x"}}, "no place"},
		"other algorithm":   {[]entry{index, {name: "blobs/sha512/" + strings.Repeat("ab", 64), body: "x"}}, "no place"},
		"ends in a blob":    {[]entry{index, {name: blob, body: "x", size: 1 << 40}}, "copy it again"},
		"digest in index":   {[]entry{{name: "index.json", body: `{"manifests":[{"digest":"sha256:../../x","size":1}]}`}}, "not sha256"},
		"index twice":       {[]entry{index, index}, "no place"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			if c.entries != nil {
				path = writeTar(t, c.entries...)
			} else if err := os.WriteFile(path, []byte("hello, this is no tar at all"), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := OpenFile(path)
			var form *FormError
			if !errors.As(err, &form) || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want a *FormError with %q", err, c.says)
			}
		})
	}
}

func TestFolderWithLinkedBlobIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), []byte(`{"manifests":[]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("x")
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "blobs", "sha256", d.Encoded())); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Section(ocispec.Descriptor{Digest: d, Size: 1}); !errors.Is(err, ErrNoBlob) {
		t.Fatalf("a linked blob was opened: %v", err)
	}
}

func TestVerifyReader(t *testing.T) {
	good := bytesContent("x/y", []byte("the bytes")).Descriptor
	for name, c := range map[string]struct {
		body string
		ok   bool
	}{"equal": {"the bytes", true}, "other": {"the bytez", false}, "short": {"the byte", false}, "long": {"the bytes and more", false}, "empty": {"", false}} {
		r, err := VerifyReader(strings.NewReader(c.body), good)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		var bad *DigestError
		if c.ok != (err == nil) || !c.ok && !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
		if int64(len(got)) > good.Size {
			t.Errorf("%s: %d bytes were given out, %d were signed", name, len(got), good.Size)
		}
	}
}

func TestWriteFileKeepsTheOldOneOnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.wcb")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := NewLayout()
	c := bytesContent("x/y", []byte("good"))
	c.Open = bytesContent("x/y", []byte("evil")).Open
	l.Add(c)
	if err := l.WriteFile(context.Background(), path, nil); !errors.As(err, new(*DigestError)) {
		t.Fatalf("wrong bytes were written: %v", err)
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != "old" {
		t.Fatalf("the old file is gone: %q, %v", b, err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Fatalf("a temporary file stayed: %v, %v", left, err)
	}
}

func TestRepoOf(t *testing.T) {
	for ref, want := range map[string]string{
		"nginx":                         "docker.io/library/nginx",
		"ghcr.io/a/b:1":                 "ghcr.io/a/b",
		"registry.example.com:5000/a/b": "registry.example.com-5000/a/b",
		"r.io/a@sha256:" + strings.Repeat("0", 64): "r.io/a",
	} {
		if got, err := RepoOf(ref); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", ref, got, err, want)
		}
	}
	if _, err := RepoOf("../../etc"); err == nil {
		t.Error("a path was taken for a reference")
	}
}

// TestT23ClaimedSizes claims sizes that no memory has. All are refused before memory is taken for them.
func TestT23ClaimedSizes(t *testing.T) {
	const huge = 1 << 62
	hex := strings.Repeat("ab", 32)
	index := entry{name: "index.json", body: fmt.Sprintf(
		`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":%q,"digest":"sha256:%s","size":%d}]}`, ArtifactRelease, hex, huge)}
	blob := entry{name: "blobs/sha256/" + hex, body: "x"}
	release := `{"name":"a","version":"1.0.0","channel":"stable","sequence":1,"platforms":["linux/amd64"],"upgrade":{},"charts":[],"images":[],` +
		fmt.Sprintf(`"closure":[{"mediaType":"a/b","digest":"sha256:%s","size":%d,"kind":"layer"}]}`, hex, huge)
	for name, refuse := range map[string]func() error{
		"a tar's entry": func() error {
			claimed := blob
			claimed.size = huge
			_, err := OpenFile(writeTar(t, entry{name: "index.json", body: "{}"}, claimed))
			return err
		},
		"an entry of index.json": func() error {
			f, err := OpenFile(writeTar(t, index, blob))
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = Open(t.Context(), f, sign.Policy{})
			return err
		},
		"a line of the closure": func() error { _, err := ParseRelease([]byte(release)); return err },
		"a descriptor": func() error {
			_, err := bytesContent("a/b", []byte("x")).with(huge).ReadBytes(t.Context(), huge)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := refuse()
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Fatal("accepted")
			}
			if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
				t.Errorf("%d bytes of memory were taken before: %v", took, err)
			}
			t.Log(err)
		})
	}
}

// with claims another size.
func (c Content) with(size int64) Content {
	c.Size = size
	return c
}

func FuzzOpenFile(f *testing.F) {
	f.Add([]byte("not a tar"))
	tarOf := func(l *Layout) []byte {
		var b bytes.Buffer
		if err := l.WriteTar(context.Background(), &b, nil); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	f.Add(tarOf(NewLayout()))
	l := NewLayout()
	head := l.AddFirst(ocispec.MediaTypeImageManifest, []byte("{}"))
	head.ArtifactType = ArtifactRelease
	l.Index.Manifests = append(l.Index.Manifests, head)
	good := tarOf(l)
	f.Add(good)
	f.Add(bytes.Replace(good, []byte("blobs/sha256/"), []byte("../../sha256/"), 1))
	f.Add(good[:1600])
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		file, err := OpenFile(path)
		if err != nil {
			return
		}
		defer file.Close()
		if _, err := file.Blobs(); err != nil {
			t.Fatal(err)
		}
		root, err := file.Root()
		if err != nil {
			return
		}
		if _, err := Open(t.Context(), file, sign.Policy{}); err == nil {
			t.Fatal("opened without a policy")
		}
		for _, read := range []func() ([]byte, error){
			func() ([]byte, error) { return file.TrustChain(t.Context()) },
			func() ([]byte, error) { return file.Envelope(t.Context(), root.Digest) },
		} {
			if b, err := read(); err == nil && len(b) > MaxEnvelope {
				t.Fatalf("%d bytes were read", len(b))
			}
		}
	})
}

func FuzzParseRelease(f *testing.F) {
	f.Add([]byte(`{"name":"a","version":"1.0.0","channel":"stable","sequence":1,"platforms":["linux/amd64"],"upgrade":{},"charts":[],"images":[],"closure":[]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseRelease(data)
		if err != nil {
			return
		}
		again, err := marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		r2, err := ParseRelease(again)
		if err != nil {
			t.Fatalf("what parses does not parse again: %v", err)
		}
		third, err := marshal(r2)
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("encoding is not stable: %s\n%s", again, third)
		}
	})
}

func FuzzParsePatch(f *testing.F) {
	f.Add([]byte(`{"name":"a","target":{},"bases":[],"plan":[],"peak":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := ParsePatch(data); err == nil && len(p.Bases) == 0 {
			t.Fatal("a patch without bases was accepted")
		}
	})
}
