package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// source is where an image's graph is read from.
type source interface {
	content.Fetcher
	content.Resolver
}

// openSource opens what an images line names: oci:DIR[:TAG], docker-archive:FILE or a registry reference. It returns the
// source and the reference to resolve in it.
func openSource(ctx context.Context, dir, src string) (source, string, error) {
	kind, rest, _ := strings.Cut(src, ":")
	switch kind {
	case "oci":
		return openLayoutDir(ctx, dir, rest)
	case "docker-archive":
		return openDockerArchive(inDir(dir, rest))
	}
	return openRemote(src)
}

func openLayoutDir(ctx context.Context, dir, rest string) (source, string, error) {
	path, tag := rest, ""
	if _, err := os.Stat(inDir(dir, rest)); err != nil {
		if i := strings.LastIndexByte(rest, ':'); i > 0 {
			path, tag = rest[:i], rest[i+1:]
		}
	}
	abs := inDir(dir, path)
	store, err := oci.NewFromFS(ctx, os.DirFS(abs))
	if err != nil {
		return nil, "", fmt.Errorf("reading the OCI layout %s: %w", path, err)
	}
	s := layoutSource{ReadOnlyStore: store, dir: os.DirFS(abs)}
	s.about = sync.OnceValues(func() (map[string][]ocispec.Descriptor, error) { return findSubjects(s.dir) })
	b, err := os.ReadFile(inDir(abs, ocispec.ImageIndexFile))
	if err == nil {
		err = json.Unmarshal(b, &s.index)
	}
	if err != nil {
		return nil, "", fmt.Errorf("reading the OCI layout %s: %w", path, err)
	}
	if tag != "" {
		return s, tag, nil
	}
	images := s.images(ctx)
	if len(images) != 1 {
		return nil, "", fmt.Errorf("the OCI layout %s has %d images: name one as oci:%s:TAG", path, len(images), path)
	}
	return s, string(images[0].Digest), nil
}

// openDockerArchive reads the one image of a docker save file. Such a file has no registry manifest; the one made here is
// deterministic.
func openDockerArchive(path string) (source, string, error) {
	img, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		return nil, "", fmt.Errorf("reading the docker archive %s: %w", path, err)
	}
	man, err := img.RawManifest()
	if err != nil {
		return nil, "", fmt.Errorf("reading the docker archive %s: %w", path, err)
	}
	cfg, err := img.RawConfigFile()
	if err != nil {
		return nil, "", fmt.Errorf("reading the docker archive %s: %w", path, err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(man, &m); err != nil {
		return nil, "", fmt.Errorf("reading the docker archive %s: %w", path, err)
	}
	l := &lazySource{blobs: map[digest.Digest]func() (io.ReadCloser, error){}}
	layers, err := img.Layers()
	if err != nil {
		return nil, "", fmt.Errorf("reading the docker archive %s: %w", path, err)
	}
	for i, d := range m.Layers {
		l.blobs[d.Digest] = layers[i].Compressed
	}
	l.blobs[m.Config.Digest] = bytesOpener(cfg)
	desc := bytesContent(m.MediaType, man).Descriptor
	l.blobs[desc.Digest] = bytesOpener(man)
	l.root = desc
	return l, "root", nil
}

func bytesOpener(b []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(b))), nil }
}

// lazySource serves blobs by digest from openers.
type lazySource struct {
	root  ocispec.Descriptor
	blobs map[digest.Digest]func() (io.ReadCloser, error)
}

func (l *lazySource) Resolve(context.Context, string) (ocispec.Descriptor, error) { return l.root, nil }

func (l *lazySource) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	open, ok := l.blobs[d.Digest]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNoBlob, d.Digest)
	}
	return open()
}

// openRemote reads from a registry with the credentials that docker login left. Plain http is spoken on loopback only.
func openRemote(ref string) (source, string, error) {
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, "", fmt.Errorf("source %.120q is neither oci:, docker-archive: nor a reference: %w", ref, err)
	}
	repo, err := remote.NewRepository(r.Context().RegistryStr() + "/" + r.Context().RepositoryStr())
	if err != nil {
		return nil, "", fmt.Errorf("source %s: %w", ref, err)
	}
	repo.PlainHTTP = r.Context().Scheme() == "http" && strings.HasPrefix(r.Context().RegistryStr(), "127.")
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return nil, "", fmt.Errorf("reading the registry credentials: %w", err)
	}
	repo.Client = &auth.Client{Client: retry.DefaultClient, Cache: auth.NewCache(), Credential: credentials.Credential(store)}
	repo.ReferrerListMaxPages = MaxReferrers
	return remoteSource{repo}, r.Identifier(), nil
}

// collectImage walks an image's graph and adds all of it to the layout and, as closure lines, to the release.
func (b *builder) collectImage(ctx context.Context, i ImageSource) error {
	src := i.Source
	if src == "" {
		src = i.Ref
	}
	s, ref, err := openSource(ctx, b.opt.Dir, src)
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Ref, err)
	}
	root, err := s.Resolve(ctx, ref)
	if err != nil {
		return fmt.Errorf("image %s: finding %s: %w", i.Ref, src, err)
	}
	found := plain(root)
	if root, err = b.choosePlatform(ctx, s, i.Ref, found); err != nil {
		return fmt.Errorf("image %s: %w", i.Ref, err)
	}
	if i.Key != "" {
		if err := b.checkKey(ctx, s, i, found, root); err != nil {
			return err
		}
	}
	repo, err := RepoOf(i.Ref)
	if err != nil {
		return err
	}
	if err := b.walk(ctx, s, root, repo); err != nil {
		return fmt.Errorf("image %s: %w", i.Ref, err)
	}
	about, err := b.collectReferrers(ctx, s, i.Ref, found, root)
	if err != nil {
		return fmt.Errorf("image %s: %w", i.Ref, err)
	}
	b.release.Images = append(b.release.Images, Image{Ref: i.Ref, Manifest: root, Referrers: about})
	return nil
}

// plain keeps of a descriptor what identifies bytes.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// choosePlatform replaces an index by its manifest for the one platform of the definition. With more platforms, or where
// the chart pins the index by digest, the whole index travels.
func (b *builder) choosePlatform(ctx context.Context, s source, ref string, d ocispec.Descriptor) (ocispec.Descriptor, error) {
	if !isIndex(d.MediaType) || len(b.release.Platforms) != 1 || strings.Contains(ref, "@") {
		return d, nil
	}
	raw, err := fetchAll(ctx, s, d)
	if err != nil {
		return d, err
	}
	var ix ocispec.Index
	if err := json.Unmarshal(raw, &ix); err != nil {
		return d, fmt.Errorf("reading its index: %w", err)
	}
	for _, m := range ix.Manifests {
		if m.Platform != nil && m.Platform.OS+"/"+m.Platform.Architecture == b.release.Platforms[0] {
			return plain(m), nil
		}
	}
	return d, fmt.Errorf("its index has nothing for %s", b.release.Platforms[0])
}

func isIndex(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageIndex || mediaType == "application/vnd.docker.distribution.manifest.list.v2+json"
}

// IsManifest tells manifests and indexes, which a registry takes by its manifest API, from blobs.
func IsManifest(mediaType string) bool {
	return isIndex(mediaType) || mediaType == ocispec.MediaTypeImageManifest ||
		mediaType == "application/vnd.docker.distribution.manifest.v2+json"
}

func fetchAll(ctx context.Context, s content.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	c := Content{Descriptor: d, Open: func(ctx context.Context) (io.ReadCloser, error) { return s.Fetch(ctx, d) }}
	return c.ReadBytes(ctx, MaxManifest)
}

func (b *builder) walk(ctx context.Context, s source, d ocispec.Descriptor, repo string) error {
	if err := CheckDigest(d.Digest); err != nil {
		return err
	}
	c := Content{Descriptor: plain(d), Open: func(ctx context.Context) (io.ReadCloser, error) { return s.Fetch(ctx, d) }}
	if !IsManifest(d.MediaType) {
		if len(d.URLs) > 0 {
			return fmt.Errorf("layer %s lies outside the registry (urls): such layers cannot travel", d.Digest)
		}
		b.add(c, KindBlob, repo)
		return nil
	}
	raw, err := c.ReadBytes(ctx, MaxManifest)
	if err != nil {
		return err
	}
	if err := CheckManifest(d, raw); err != nil {
		return err
	}
	b.add(bytesContent(d.MediaType, raw), KindManifest, repo)
	next, err := content.Successors(ctx, s, d)
	if err != nil {
		return fmt.Errorf("reading manifest %s: %w", d.Digest, err)
	}
	for _, n := range next {
		if err := b.walk(ctx, s, n, repo); err != nil {
			return err
		}
	}
	return nil
}
