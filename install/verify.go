package install

import (
	"context"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

// Evidence is what Verify found: who signed what.
type Evidence struct {
	Path     string        `json:"path"`
	Kind     string        `json:"kind"` // bundle | patch
	Name     string        `json:"name"`
	Version  string        `json:"version"`
	Channel  string        `json:"channel"`
	Sequence uint64        `json:"sequence"`
	Head     digest.Digest `json:"head"`
	Bases    []string      `json:"bases,omitempty"`
	Signers  []string      `json:"signers"`
	Issued   string        `json:"issued"`
	Expires  string        `json:"expires,omitempty"`
	Fixes    []PlanFix     `json:"fixes,omitempty"` // vulnerabilities, by the release's VEX document
	Blobs    int           `json:"blobs"`
	Bytes    int64         `json:"bytes"`
}

// Verify checks a bundle or patch to its last byte: signatures under p, then every blob in the file against the digest
// that the signed head or root gives it, and that nothing else is in the file.
func Verify(ctx context.Context, f *bundle.File, p sign.Policy, progress bundle.Progress) (Evidence, error) {
	if f.IsPatch() {
		v, err := bundle.OpenPatch(ctx, f, p)
		if err != nil {
			return Evidence{}, err
		}
		return verifyPatch(ctx, f, v, progress)
	}
	v, err := bundle.Open(ctx, f, p)
	if err != nil {
		return Evidence{}, err
	}
	ev := evidence(f, "bundle", v, v.Signers())
	var all []ocispec.Descriptor
	for _, b := range linesOf(v) {
		all = append(all, b.Descriptor)
	}
	return ev.check(ctx, f, all, progress)
}

// check hashes what was signed and the signatures themselves, and refuses a file that holds anything else.
func (ev Evidence) check(ctx context.Context, f *bundle.File, signed []ocispec.Descriptor, progress bundle.Progress) (Evidence, error) {
	frame, err := f.Frame(ctx)
	if err != nil {
		return ev, err
	}
	all := append(signed, frame...)
	if err := nothingElse(f, all); err != nil {
		return ev, err
	}
	ev.Blobs, ev.Bytes, err = checkAll(ctx, f, all, progress)
	return ev, err
}

func verifyPatch(ctx context.Context, f *bundle.File, v bundle.VerifiedPatch, progress bundle.Progress) (Evidence, error) {
	ev := evidence(f, "patch", v.Target(), v.Signers())
	for _, b := range v.Patch().Bases {
		ev.Bases = append(ev.Bases, b.Version)
	}
	all := []ocispec.Descriptor{}
	for _, d := range v.Carried() {
		all = append(all, d)
	}
	return ev.check(ctx, f, all, progress)
}

// nothingElse refuses a file with blobs that neither the signed content nor the signatures account for.
func nothingElse(f *bundle.File, all []ocispec.Descriptor) error {
	known := map[digest.Digest]bool{}
	for _, d := range all {
		known[d.Digest] = true
	}
	blobs, err := f.Blobs()
	if err != nil {
		return err
	}
	for _, d := range blobs {
		if !known[d] {
			return &bundle.FormError{Path: f.Path, Reason: fmt.Sprintf("blob %s belongs to nothing that was signed", d)}
		}
	}
	return nil
}

func evidence(f *bundle.File, kind string, v bundle.Verified, signers []string) Evidence {
	r := v.Release()
	return Evidence{Path: f.Path, Kind: kind, Name: r.Name, Version: r.Version, Channel: r.Channel, Sequence: r.Sequence,
		Head: v.Head().Digest, Signers: signers, Issued: v.IssuedAt(), Expires: r.Expires, Fixes: planFixes(v)}
}

// checkBuffer is how much of a blob is read at once: what stays in a core's cache between the read and the hash.
const checkBuffer = 256 << 10

// checkAll hashes the blobs one after the other: a medium is read in one sweep.
func checkAll(ctx context.Context, f *bundle.File, all []ocispec.Descriptor, progress bundle.Progress) (int, int64, error) {
	var done, total int64
	for _, d := range all {
		total += d.Size
	}
	if progress == nil {
		progress = func(string, int64, int64) {}
	}
	seen, buf := map[digest.Digest]bool{}, make([]byte, checkBuffer)
	for _, d := range all {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		err := checkBlob(ctx, f.Content(d), buf, func(n int64) { progress(string(d.Digest), done+n, total) })
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", f.Path, err)
		}
		done += d.Size
	}
	return len(seen), done, nil
}

// checkBlob reads a blob to its end, where its check is. It tells the bytes read so far.
func checkBlob(ctx context.Context, c bundle.Content, buf []byte, read func(n int64)) error {
	r, err := c.OpenVerified(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	for sum := int64(0); ; {
		n, err := r.Read(buf)
		sum += int64(n)
		read(sum)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}
