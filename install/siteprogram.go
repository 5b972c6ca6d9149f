package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

// Program is a registry's program that was taken out of a verified release.
type Program struct {
	Version string // of the release
	Arch    string // GOARCH
}

// ErrPatchProgram is returned for a patch: the image in it may be a delta.
var ErrPatchProgram = errors.New("a patch does not carry the registry's program whole: load it, then leave the file out")

// ProgramOfFile writes the registry's program of a bundle to out.
func ProgramOfFile(ctx context.Context, f *bundle.File, p sign.Policy, out *os.File) (Program, error) {
	if f.IsPatch() {
		return Program{}, ErrPatchProgram
	}
	v, err := bundle.Open(ctx, f, p)
	if err != nil {
		return Program{}, err
	}
	arch, err := v.Release().RegistryProgram(ctx, func(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) { return f.Section(d) }, out)
	return Program{v.Release().Version, arch}, err
}

// ProgramOfSite writes the registry's program of a loaded release to out; the newest where t names none.
func ProgramOfSite(ctx context.Context, t Target, out *os.File) (Program, error) {
	l := t.Record.Latest()
	if t.Version != "" {
		l = t.Record.ofVersion(t.Version)
	}
	if l == nil {
		return Program{}, errors.New("no release is loaded that the registry's program could be taken from: name a bundle")
	}
	v, err := openLoaded(ctx, t, l)
	if err != nil {
		return Program{}, err
	}
	rel := v.Release()
	arch, err := rel.RegistryProgram(ctx, func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		line := rel.Line(d.Digest)
		if line == nil || len(line.Repos) == 0 {
			return nil, fmt.Errorf("%s belongs to no repository of the release", d.Digest)
		}
		return t.Registry.Open(ctx, line.Repos[0], d)
	}, out)
	return Program{rel.Version, arch}, err
}
