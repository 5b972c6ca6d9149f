package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SiteRegistry names the image that a site's registry is brought up from: its entrypoint is the static wcbundle program, which a cluster
// runs before it has anywhere to pull an image from.
type SiteRegistry struct {
	Image string `json:"image"` // the reference of one of the images
}

// maxProgram is how many bytes the registry's program may have.
const maxProgram = 512 << 20

// Opener gives the bytes of a descriptor, unchecked.
type Opener func(context.Context, ocispec.Descriptor) (io.ReadCloser, error)

// RegistryProgram writes the program of the release's registry image to out, for one of its platforms, and returns its architecture
// (GOARCH). Every byte is checked on the way; the program must be static, for it runs where there is nothing else.
func (r *Release) RegistryProgram(ctx context.Context, open Opener, out *os.File) (string, error) {
	if r.Registry == nil {
		return "", fmt.Errorf("release %s names no image for a site's registry", r.Version)
	}
	for _, i := range r.Images {
		if i.Ref != r.Registry.Image {
			continue
		}
		arch, err := programOf(ctx, open, i.Manifest, r.Platforms, out)
		if err != nil {
			return "", fmt.Errorf("registry image %s: %w", i.Ref, err)
		}
		return arch, nil
	}
	return "", fmt.Errorf("the registry's image %s is none of the release's", r.Registry.Image)
}

func programOf(ctx context.Context, open Opener, d ocispec.Descriptor, platforms []string, out *os.File) (string, error) {
	read := func(d ocispec.Descriptor, v any) error {
		c := Content{Descriptor: d, Open: func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, d) }}
		raw, err := c.ReadBytes(ctx, MaxManifest)
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, v)
	}
	if isIndex(d.MediaType) {
		var ix ocispec.Index
		if err := read(d, &ix); err != nil {
			return "", err
		}
		at := slices.IndexFunc(ix.Manifests, func(m ocispec.Descriptor) bool {
			return m.Platform != nil && slices.Contains(platforms, m.Platform.OS+"/"+m.Platform.Architecture)
		})
		if at < 0 {
			return "", fmt.Errorf("its index has nothing for %v", platforms)
		}
		d = ix.Manifests[at]
	}
	var m ocispec.Manifest
	if err := read(d, &m); err != nil {
		return "", err
	}
	var cfg ocispec.Image
	if err := read(m.Config, &cfg); err != nil {
		return "", err
	}
	if len(cfg.Config.Entrypoint) == 0 {
		return "", errors.New("it has no entrypoint")
	}
	for _, l := range slices.Backward(m.Layers) {
		found, err := fileOf(ctx, open, l, cfg.Config.Entrypoint[0], out)
		if err != nil {
			return "", err
		}
		if found {
			return cfg.Architecture, static(out, cfg.Architecture)
		}
	}
	return "", fmt.Errorf("none of its layers has %s", cfg.Config.Entrypoint[0])
}

// fileOf looks for a file in a layer and writes it to out.
func fileOf(ctx context.Context, open Opener, l ocispec.Descriptor, name string, out *os.File) (found bool, err error) {
	c := Content{Descriptor: l, Open: func(ctx context.Context) (io.ReadCloser, error) { return open(ctx, l) }}
	raw, err := c.OpenVerified(ctx)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	var r io.Reader = raw
	switch {
	case strings.HasSuffix(l.MediaType, "gzip"):
		if r, err = gzip.NewReader(raw); err != nil {
			return false, err
		}
	case !strings.HasSuffix(l.MediaType, "tar"):
		return false, fmt.Errorf("its layer %s is neither a tar nor a gzip file but %s", l.Digest, l.MediaType)
	}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, fmt.Errorf("its layer %s: %w", l.Digest, err)
		}
		if h.Typeflag != tar.TypeReg || path.Clean("/"+h.Name) != path.Clean("/"+name) {
			continue
		}
		if h.Size > maxProgram {
			return false, fmt.Errorf("%s has %d bytes, more than %d", name, h.Size, maxProgram)
		}
		if _, err := io.Copy(out, tr); err != nil {
			return false, err
		}
		found = true
	}
	if _, err := io.Copy(io.Discard, raw); err != nil { // to the end: only there the digest is known
		return false, err
	}
	return found, nil
}

// static wants a Linux program that needs no loader and no libraries.
func static(f *os.File, arch string) error {
	e, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("its entrypoint is no Linux program: %w", err)
	}
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]
	if e.Machine != machine || machine == elf.EM_NONE {
		return fmt.Errorf("its entrypoint is for %s, its config says %.20q", e.Machine, arch)
	}
	for _, p := range e.Progs {
		if p.Type == elf.PT_INTERP {
			return errors.New("its entrypoint is not static: it would need libraries that no node has to have")
		}
	}
	return nil
}

// checkRegistry lets a build fail whose registry could not be brought up at a site.
func (b *builder) checkRegistry(ctx context.Context) error {
	if b.release.Registry == nil {
		return nil
	}
	tmp, err := os.CreateTemp("", "wcbundle-program-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	_, err = b.release.RegistryProgram(ctx, b.layout.open, tmp)
	return err
}
