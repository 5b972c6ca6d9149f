package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/internal/strict"
	"github.com/wordcab/wcbundle/sign"
)

// Names of forms become tags, repository paths and file names, so they are held to one narrow spelling.
var (
	nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	repoForm = regexp.MustCompile(`^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)
	idForm   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,127})$`)
)

// CheckName accepts a DNS label: what products, channels, pools, releases and namespaces are called.
func CheckName(what, s string) error {
	if !nameForm.MatchString(s) {
		return fmt.Errorf("%s %.80q: lower-case letters, digits and dashes only, at most 63", what, s)
	}
	return nil
}

// ParseRelease reads release.json strictly. Marshal is its exact inverse for what Build writes.
func ParseRelease(b []byte) (*Release, error) {
	if len(b) > MaxRelease {
		return nil, fmt.Errorf("release.json is longer than %d bytes", MaxRelease)
	}
	var r Release
	if err := strict.JSON(b, &r); err != nil {
		return nil, fmt.Errorf("reading release.json: %w", err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("release.json: %w", err)
	}
	return &r, nil
}

func (r *Release) check() error {
	if err := checkMetadata(r.Name, r.Version, r.Channel, r.Sequence); err != nil {
		return err
	}
	if _, err := time.Parse(time.RFC3339, r.Created); r.Created != "" && err != nil {
		return fmt.Errorf("created: %w", err)
	}
	if len(r.Closure) > MaxClosure {
		return fmt.Errorf("the closure has more than %d lines", MaxClosure)
	}
	known := map[digest.Digest]int64{}
	for _, b := range r.Closure {
		if err := b.check(); err != nil {
			return err
		}
		if _, twice := known[b.Digest]; twice {
			return fmt.Errorf("the closure names %s twice", b.Digest)
		}
		known[b.Digest] = b.Size
	}
	return r.checkNamed(known)
}

func (b *Blob) check() error {
	if err := CheckDigest(b.Digest); err != nil {
		return err
	}
	if b.Size < 0 || b.Size > 1<<46 {
		return fmt.Errorf("blob %s: size %d is out of range", b.Digest, b.Size)
	}
	if b.Kind != KindManifest && b.Kind != KindBlob {
		return fmt.Errorf("blob %s: kind %.20q is neither manifest nor blob", b.Digest, b.Kind)
	}
	if b.Kind == KindManifest && b.Size > MaxManifest {
		return fmt.Errorf("manifest %s is longer than %d bytes", b.Digest, MaxManifest)
	}
	if len(b.Repos) == 0 {
		return fmt.Errorf("blob %s belongs to no repository", b.Digest)
	}
	if len(b.URLs) > 0 || len(b.Data) > 0 {
		return fmt.Errorf("blob %s: urls and data are not allowed in a closure", b.Digest)
	}
	for _, p := range b.Repos {
		if !repoForm.MatchString(p) || len(p) > 200 {
			return fmt.Errorf("blob %s: repository %.80q is not well-formed", b.Digest, p)
		}
	}
	return nil
}

// Kinds of closure lines.
const (
	KindManifest = "manifest"
	KindBlob     = "blob"
)

func (r *Release) checkNamed(known map[digest.Digest]int64) error {
	named := func(what string, d ocispec.Descriptor) error {
		if size, ok := known[d.Digest]; !ok || size != d.Size {
			return fmt.Errorf("%s %s is not in the closure", what, d.Digest)
		}
		return nil
	}
	for _, c := range r.Charts {
		for _, n := range [][2]string{{"chart release", c.Release}, {"namespace", c.Namespace}} {
			if err := CheckName(n[0], n[1]); err != nil {
				return err
			}
		}
		if err := named("chart", c.Manifest); err != nil {
			return err
		}
		if err := named("chart content", c.Content); err != nil {
			return err
		}
	}
	for _, i := range r.Images {
		if err := named("image "+i.Ref, i.Manifest); err != nil {
			return err
		}
		for _, x := range i.Referrers {
			if err := named("referrer of image "+i.Ref, x.Manifest); err != nil {
				return err
			}
		}
	}
	if err := r.checkReferrers(); err != nil {
		return err
	}
	for _, m := range r.Models {
		if !idForm.MatchString(m.ID) {
			return fmt.Errorf("model id %.80q is not well-formed", m.ID)
		}
		if err := named("model "+m.ID, m.Manifest); err != nil {
			return err
		}
	}
	if err := checkContains(r.Contains); err != nil {
		return err
	}
	for _, p := range r.Pools {
		for _, g := range p.Gates.Post {
			if g.HTTP != nil && g.HTTP.BodyFile != "" {
				return fmt.Errorf("pool %s: gate %s: a release has no files beside it", p.Name, g.ID)
			}
		}
	}
	return checkPools(r.Pools)
}

func checkContains(contains []Contained) error {
	versions, n := map[string]bool{}, 0
	for _, c := range contains {
		if _, err := semver.StrictNewVersion(c.Version); err != nil || versions[c.Version] {
			return fmt.Errorf("contains: %.80q is no version such as 2.9.1, or is there twice", c.Version)
		}
		versions[c.Version] = true
		if len(c.Fixes) == 0 {
			return fmt.Errorf("contains: %s: fixes is empty: name what it fixes, such as CVE-2026-1234", c.Version)
		}
		for _, id := range c.Fixes {
			if n++; n > maxFixes || !vulnForm.MatchString(id) {
				return fmt.Errorf("contains: %s: %.80q is no name such as CVE-2026-1234, or there are more than %d", c.Version, id, maxFixes)
			}
		}
	}
	return nil
}

func checkMetadata(name, version, channel string, sequence uint64) error {
	if err := CheckName("name", name); err != nil {
		return err
	}
	if _, err := semver.StrictNewVersion(version); err != nil || !idForm.MatchString(version) {
		return fmt.Errorf("version %.80q is not a semantic version such as 2.9.0 (build metadata is not allowed)", version)
	}
	if channel != "stable" && channel != "security" {
		return fmt.Errorf("channel %.40q is neither stable nor security", channel)
	}
	if sequence == 0 || sequence >= 1<<53 {
		return fmt.Errorf("sequence %d is not between 1 and 2^53", sequence)
	}
	return nil
}

func checkPools(pools []Pool) error {
	seen := map[string]bool{}
	for _, p := range pools {
		if err := CheckName("pool", p.Name); err != nil {
			return err
		}
		if seen[p.Name] {
			return fmt.Errorf("pool %s is there twice", p.Name)
		}
		seen[p.Name] = true
		if err := p.check(); err != nil {
			return err
		}
		if err := checkGates(p); err != nil {
			return err
		}
	}
	return nil
}

// Bound checks that a verified statement and the release.json behind it say the same, field by field.
func (r *Release) bound(st sign.Statement) error {
	for _, f := range []struct{ field, signed, got string }{
		{"name", st.Name, r.Name}, {"version", st.Version, r.Version}, {"channel", st.Channel, r.Channel},
		{"sequence", fmt.Sprint(st.Sequence), fmt.Sprint(r.Sequence)}, {"epoch", fmt.Sprint(st.Epoch), fmt.Sprint(r.Epoch)},
		{"expires", st.Expires, r.Expires}, {"sites", fmt.Sprint(st.Sites), fmt.Sprint(r.Sites)},
	} {
		if f.signed != f.got {
			return fmt.Errorf("%s: the signature says %.80q, release.json says %.80q", f.field, f.signed, f.got)
		}
	}
	return nil
}

// Verified is a release whose head was accepted by sign.Open and whose release.json is the one that the head names.
// Only ReadRelease makes one; its zero value is refused everywhere.
type Verified struct {
	opened  sign.Opened
	release *Release
	own     []ocispec.Descriptor
	vex     vexClaims
}

// Release is what release.json says; nil for the zero value.
func (v Verified) Release() *Release { return v.release }

// Head is the head's descriptor.
func (v Verified) Head() ocispec.Descriptor { return v.opened.Subject() }

// HeadBytes is the head as it was signed.
func (v Verified) HeadBytes() []byte { return v.opened.SubjectBytes() }

// Signers are the ids of the keys whose signatures counted.
func (v Verified) Signers() []string { return v.opened.Signers() }

// IssuedAt is when the release was signed, RFC 3339.
func (v Verified) IssuedAt() string { return v.opened.Statement().IssuedAt }

// Fixes are the vulnerabilities that the release's VEX document says it fixes, sorted by id.
func (v Verified) Fixes() []Fix { return v.vex.fixes }

// Own lists what belongs to the head itself: release.json, the empty config, a VEX document. They are not lines of the
// closure.
func (v Verified) Own() []ocispec.Descriptor { return v.own }

// ReadRelease reads the release behind an accepted head. fetch gives a small blob, already checked against its descriptor.
func ReadRelease(ctx context.Context, o sign.Opened, fetch Fetch) (Verified, error) {
	if !o.Valid() {
		return Verified{}, fmt.Errorf("release is not verified")
	}
	man, err := parseHead(o.SubjectBytes())
	if err != nil {
		return Verified{}, malformed("the head", err)
	}
	raw, err := fetch(ctx, man.Layers[0], MaxRelease)
	if err != nil {
		return Verified{}, err
	}
	r, err := ParseRelease(raw)
	if err != nil {
		return Verified{}, &ContentError{"the release", err}
	}
	if st := o.Statement(); st.ReleaseDigest != string(man.Layers[0].Digest) || st.Kind != sign.KindRelease {
		return Verified{}, &ContentError{"the release", fmt.Errorf("the signature is not about this release.json (%s)", man.Layers[0].Digest)}
	}
	if err := r.bound(o.Statement()); err != nil {
		return Verified{}, &ContentError{"the release", err}
	}
	claims, err := readVEX(ctx, man.Layers, r, fetch)
	if err != nil {
		return Verified{}, malformed("the release", err)
	}
	return Verified{opened: o, release: r, own: append([]ocispec.Descriptor{man.Config}, man.Layers...), vex: claims}, nil
}

// Fetch gives a small blob's bytes after checking them against d; it refuses more than max bytes.
type Fetch func(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error)

// Fetch reads a small blob of the file, checked.
func (f *File) Fetch(ctx context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
	return f.Content(d).ReadBytes(ctx, max)
}

// parseHead reads the head manifest: one fixed shape and nothing else.
func parseHead(b []byte) (*ocispec.Manifest, error) {
	var m ocispec.Manifest
	if err := strict.JSON(b, &m); err != nil {
		return nil, fmt.Errorf("reading the head: %w", err)
	}
	switch {
	case m.MediaType != ocispec.MediaTypeImageManifest || m.ArtifactType != ArtifactRelease:
		return nil, fmt.Errorf("the head is not a %s", ArtifactRelease)
	case len(m.Layers) == 0 || len(m.Layers) > 64 || m.Layers[0].MediaType != MediaRelease:
		return nil, fmt.Errorf("the head's first layer is not release.json")
	case m.Subject != nil:
		return nil, fmt.Errorf("the head has a subject, which no head has")
	}
	return &m, nil
}

// Closure gives the line of a digest, or nil.
func (r *Release) Line(d digest.Digest) *Blob {
	for i := range r.Closure {
		if r.Closure[i].Digest == d {
			return &r.Closure[i]
		}
	}
	return nil
}

// marshal is the one encoding of our JSON forms.
func marshal(v any) ([]byte, error) { return json.Marshal(v) }
