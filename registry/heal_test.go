package registry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// embedded is the embedded registry on a folder, and a client of it.
func embedded(t *testing.T, dir string) (*Registry, *httptest.Server) {
	t.Helper()
	app, err := Handler(t.Context(), ServeOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(app)
	t.Cleanup(srv.Close)
	r, err := New(Options{Host: strings.TrimPrefix(srv.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	return r, srv
}

func descriptorOf(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

func push(t *testing.T, r *Registry, repo string, d ocispec.Descriptor, b []byte) {
	t.Helper()
	if err := r.Push(context.Background(), repo, d, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	}
}

// imageOf pushes an image of one blob.
func imageOf(t *testing.T, r *Registry, repo string, blob []byte) (ocispec.Descriptor, []byte) {
	t.Helper()
	d := descriptorOf(ocispec.MediaTypeImageLayer, blob)
	push(t, r, repo, d, blob)
	push(t, r, repo, ocispec.DescriptorEmptyJSON, []byte("{}"))
	m := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` +
		string(ocispec.DescriptorEmptyJSON.Digest) + `","size":2},"layers":[{"mediaType":"` + d.MediaType + `","digest":"` + string(d.Digest) + `","size":` + strconv.FormatInt(d.Size, 10) + `}]}`)
	md := descriptorOf(ocispec.MediaTypeImageManifest, m)
	push(t, r, repo, md, m)
	return md, m
}

// TestHeal: data that a disk has spoiled are forgotten when the blob is deleted, so that pushing it again brings the right bytes; in every
// repository that has the blob. Without the healer the registry keeps the spoiled file.
func TestHeal(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	r, srv := embedded(t, dir)
	blob := bytes.Repeat([]byte("weights"), 10_000)
	d := descriptorOf(ocispec.MediaTypeImageLayer, blob)
	manifest, raw := imageOf(t, r, "shop/other", blob)
	push(t, r, "shop/app", d, blob)
	for _, spoil := range []func(string) error{
		func(path string) error { return os.WriteFile(path, bytes.ToUpper(blob), 0o600) }, // the same length
		func(path string) error { return os.Truncate(path, 10) },
		func(path string) error { return os.Truncate(path, 0) },
	} {
		path := blobData(dir, d.Digest.Encoded())
		if err := spoil(path); err != nil {
			t.Fatal(err)
		}
		if got, err := readAll(ctx, r, "shop/app", d); err == nil {
			t.Fatalf("the damage is not seen: %d bytes", len(got))
		}
		if err := r.Delete(ctx, "shop/app", d); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the damaged data are still there: %v", err)
		}
		push(t, r, "shop/app", d, blob)
		for _, repo := range []string{"shop/app", "shop/other"} {
			if got, err := readAll(ctx, r, repo, d); err != nil || !bytes.Equal(got, blob) {
				t.Fatalf("%s: %d bytes, %v", repo, len(got), err)
			}
		}
	}

	// What is whole stays for the other repositories; deleting twice is no error.
	for range 2 {
		if err := r.Delete(ctx, "shop/app", d); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := r.Has(ctx, "shop/app", d); ok || err != nil {
		t.Fatalf("deleted, and there: %v, %v", ok, err)
	}
	if got, err := readAll(ctx, r, "shop/other", d); err != nil || !bytes.Equal(got, blob) {
		t.Fatalf("the other repository lost it: %v", err)
	}

	// A run that was killed after the deletion deletes again, which answers 404: the damage is found all the same.
	if err := os.WriteFile(blobData(dir, d.Digest.Encoded()), []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, "shop/app", d); err != nil {
		t.Fatal(err)
	}
	push(t, r, "shop/app", d, blob)

	// A damaged manifest.
	if err := os.WriteFile(blobData(dir, manifest.Digest.Encoded()), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Delete(ctx, "shop/other", manifest); err != nil {
		t.Fatal(err)
	}
	push(t, r, "shop/other", manifest, raw)
	if got, err := r.Fetch(ctx, "shop/other", manifest, 1<<20); err != nil || !bytes.Equal(got, raw) {
		t.Fatalf("the manifest is %q, %v", got, err)
	}

	// Names that lead elsewhere are no digests.
	outside := dir + "/docker/registry/v2/blobs/secret"
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodDelete, srv.URL+"/v2/shop/app/blobs/sha256:..%2f..%2fsecret", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := os.Stat(outside); err != nil || resp.StatusCode < 400 {
		t.Fatalf("%s, %v", resp.Status, err)
	}
}

// TestDeleteRefused: a registry that lets nobody delete says so, by an error of its own, and the healer does not look at the data.
func TestDeleteRefused(t *testing.T) {
	_, srv := embedded(t, t.TempDir())
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			w.WriteHeader(http.StatusMethodNotAllowed)
			io.WriteString(w, `{"errors":[{"code":"UNSUPPORTED","message":"The operation is unsupported."}]}`)
			return
		}
		httputil.NewSingleHostReverseProxy(u).ServeHTTP(w, r)
	}))
	defer front.Close()
	r, err := New(Options{Host: strings.TrimPrefix(front.URL, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	manifest, _ := imageOf(t, r, "shop/app", []byte("blob"))
	for _, d := range []ocispec.Descriptor{manifest, descriptorOf(ocispec.MediaTypeImageLayer, []byte("blob"))} {
		if err := r.Delete(t.Context(), "shop/app", d); !errors.Is(err, ErrNoDelete) {
			t.Errorf("%s: %v", d.MediaType, err)
		}
	}
}

func readAll(ctx context.Context, r *Registry, repo string, d ocispec.Descriptor) ([]byte, error) {
	rc, err := r.Open(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}
