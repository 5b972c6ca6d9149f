package bundle

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/openvex/go-vex/pkg/vex"
	"github.com/package-url/packageurl-go"

	"github.com/wordcab/wcbundle/internal/strict"
	"github.com/wordcab/wcbundle/sign"
)

// Limits of a VEX document.
const (
	MaxVEX        = 1 << 20 // bytes
	maxStatements = 10_000
	maxFixes      = 1024 // vulnerabilities that a release names: its own, and again those of what it contains
)

// vulnForm is how a vulnerability is called: CVE-2026-1234, GHSA-xxxx, or the vendor's own name for it.
var vulnForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

// Fix is a vulnerability that a release fixes, as its VEX document says.
type Fix struct {
	ID string          `json:"id"` // such as CVE-2026-1234
	In []digest.Digest `json:"in"` // manifests of the release in which it is fixed
}

// vexClaims is what we take from a VEX document.
type vexClaims struct {
	fixes    []Fix           // sorted by id
	affected []digest.Digest // products that have a vulnerability: the release's own, or a base's
}

// parseVEX reads an OpenVEX document (OpenVEX specification 0.2.0). Every product must say a sha256 digest: as version of a
// package URL pkg:oci/NAME@sha256%3AHEX in @id or identifiers.purl, or as hash sha-256.
func parseVEX(raw []byte) (vexClaims, error) {
	if len(raw) > MaxVEX {
		return vexClaims{}, fmt.Errorf("the VEX document is longer than %d bytes", MaxVEX)
	}
	var any any // go-vex takes the last of two equal keys
	if err := strict.JSON(raw, &any); err != nil {
		return vexClaims{}, fmt.Errorf("the VEX document: %w", err)
	}
	doc, err := vex.Parse(raw)
	if err != nil {
		return vexClaims{}, fmt.Errorf("the VEX document: %w", err)
	}
	if !strings.HasPrefix(doc.Context, vex.Context) || len(doc.Statements) == 0 || len(doc.Statements) > maxStatements {
		return vexClaims{}, fmt.Errorf("the VEX document: want @context %s/v0.2.0 and 1 to %d statements", vex.Context, maxStatements)
	}
	var c vexClaims
	for i, st := range doc.Statements {
		if err := c.add(st); err != nil {
			return vexClaims{}, fmt.Errorf("the VEX document: statement %d: %w", i+1, err)
		}
	}
	if len(c.fixes) > maxFixes {
		return vexClaims{}, fmt.Errorf("the VEX document fixes more than %d vulnerabilities", maxFixes)
	}
	slices.SortFunc(c.fixes, func(a, b Fix) int { return strings.Compare(a.ID, b.ID) })
	return c, nil
}

func (c *vexClaims) add(st vex.Statement) error {
	if err := st.Validate(); err != nil {
		return err
	}
	id := string(st.Vulnerability.Name)
	if !vulnForm.MatchString(id) {
		return fmt.Errorf("vulnerability.name %.80q is no name such as CVE-2026-1234", id)
	}
	if len(st.Products) == 0 {
		return fmt.Errorf("%s: no products", id)
	}
	var in []digest.Digest
	for _, p := range st.Products {
		d, err := productDigest(p.Component)
		if err != nil {
			return fmt.Errorf("%s: %w", id, err)
		}
		in = append(in, d)
	}
	if st.Status != vex.StatusFixed {
		if st.Status == vex.StatusAffected {
			c.affected = append(c.affected, in...)
		}
		return nil
	}
	i := slices.IndexFunc(c.fixes, func(f Fix) bool { return f.ID == id })
	if i < 0 {
		i, c.fixes = len(c.fixes), append(c.fixes, Fix{ID: id})
	}
	c.fixes[i].In = append(c.fixes[i].In, in...)
	return nil
}

func productDigest(p vex.Component) (digest.Digest, error) {
	if h, ok := p.Hashes[vex.SHA256]; ok {
		d := digest.Digest("sha256:" + string(h))
		return d, CheckDigest(d)
	}
	for _, text := range []string{p.ID, p.Identifiers[vex.PURL]} {
		u, err := packageurl.FromString(text)
		if err != nil || u.Type != packageurl.TypeOCI {
			continue
		}
		d := digest.Digest(u.Version)
		return d, CheckDigest(d)
	}
	return "", fmt.Errorf("product %.120q says no digest: want @id pkg:oci/NAME@sha256%%3AHEX", p.ID)
}

// within checks that what the document says is fixed is in the release, and what is affected in the release or in a base.
func (c vexClaims) within(r *Release, bases ...*Release) error {
	for _, f := range c.fixes {
		for _, d := range f.In {
			if r.Line(d) == nil {
				return fmt.Errorf("the VEX document says that %s is fixed in %s, which is not in release %s: its images are %s", f.ID, d, r.Version, imageDigests(r))
			}
		}
	}
	if len(bases) == 0 {
		return nil
	}
	for _, d := range c.affected {
		if r.Line(d) == nil && !slices.ContainsFunc(bases, func(b *Release) bool { return b.Line(d) != nil }) {
			return fmt.Errorf("the VEX document speaks of %s, which is neither in release %s nor in %s, on which it stands", d, r.Version, bases[0].Version)
		}
	}
	return nil
}

// imageDigests lists a release's images for a message.
func imageDigests(r *Release) string {
	var out []string
	for i, img := range r.Images {
		if i == 10 {
			out = append(out, "...")
			break
		}
		out = append(out, img.Ref+" "+string(img.Manifest.Digest))
	}
	return strings.Join(out, ", ")
}

// readVEX reads the VEX document among a head's layers, if there is one. A release of channel security must have one that
// fixes something.
func readVEX(ctx context.Context, layers []ocispec.Descriptor, r *Release, fetch Fetch) (vexClaims, error) {
	var c vexClaims
	n := 0
	for _, l := range layers {
		if l.MediaType != MediaVEX {
			continue
		}
		if n++; n > 1 {
			return c, fmt.Errorf("the head has more than one VEX document")
		}
		raw, err := fetch(ctx, l, MaxVEX)
		if err != nil {
			return c, err
		}
		if c, err = parseVEX(raw); err != nil {
			return c, err
		}
	}
	if err := c.within(r); err != nil {
		return c, err
	}
	if r.Channel == "security" && len(c.fixes) == 0 {
		return c, &sign.UntrustedError{Reason: sign.WrongScope, Field: "vex", Detail: "a release of channel security must say in a VEX document what it fixes"}
	}
	return c, nil
}
