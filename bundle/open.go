package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/internal/strict"
	"github.com/wordcab/wcbundle/sign"
)

// AnnotationSubject on an envelope's entry in index.json names the digest that the envelope is about.
const AnnotationSubject = "bundle.wordcab.com/subject"

// Annotations by which cosign finds an image and its signatures in a layout.
const (
	annotationCosignKind = "kind"
	cosignImage          = "dev.cosignproject.cosign/image"
	cosignSignatures     = "dev.cosignproject.cosign/sigs"
)

// Root is the signed manifest at the top: a patch's root or, in a bundle, the head.
func (f *File) Root() (ocispec.Descriptor, error) {
	if d, err := f.one(ArtifactPatch); err == nil {
		return d, nil
	}
	return f.one(ArtifactRelease)
}

// IsPatch tells a patch from a bundle by what index.json says.
func (f *File) IsPatch() bool {
	d, err := f.Root()
	return err == nil && d.ArtifactType == ArtifactPatch
}

// HeadOf is the head that a file carries: a bundle's own, a patch's target.
func (f *File) HeadOf() (ocispec.Descriptor, error) { return f.one(ArtifactRelease) }

func (f *File) one(artifactType string) (ocispec.Descriptor, error) {
	var found []ocispec.Descriptor
	for _, d := range f.Index.Manifests {
		if d.ArtifactType == artifactType {
			found = append(found, d)
		}
	}
	if len(found) != 1 {
		return ocispec.Descriptor{}, f.fail("index.json lists %d manifests of type %s where one is wanted: not a bundle", len(found), artifactType)
	}
	d := found[0]
	return ocispec.Descriptor{MediaType: d.MediaType, ArtifactType: d.ArtifactType, Digest: d.Digest, Size: d.Size}, nil
}

// Envelope gives the envelope that claims to be about subject, or nil where the file has none. It is not checked.
func (f *File) Envelope(ctx context.Context, subject digest.Digest) ([]byte, error) {
	for _, d := range f.Index.Manifests {
		if d.ArtifactType != ArtifactEnvelope || d.Annotations[AnnotationSubject] != string(subject) {
			continue
		}
		b, err := f.Fetch(ctx, d, MaxManifest)
		if err != nil {
			return nil, err
		}
		return envelopeIn(ctx, b, f.Fetch)
	}
	return nil, nil
}

func envelopeIn(ctx context.Context, manifest []byte, fetch Fetch) ([]byte, error) {
	var m ocispec.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil || len(m.Layers) != 1 || m.Layers[0].MediaType != MediaEnvelope {
		return nil, errors.New("the envelope's manifest is not well-formed")
	}
	return fetch(ctx, m.Layers[0], MaxEnvelope)
}

// OpenEnvelope reads an envelope from the manifest that carries it.
func OpenEnvelope(ctx context.Context, manifest []byte, fetch Fetch) ([]byte, error) {
	return envelopeIn(ctx, manifest, fetch)
}

// Open verifies the head that the file carries under p and reads its release.
func Open(ctx context.Context, f *File, p sign.Policy) (Verified, error) {
	head, err := f.HeadOf()
	if err != nil {
		return Verified{}, err
	}
	o, err := f.openSigned(ctx, head, p)
	if err != nil {
		return Verified{}, err
	}
	return ReadRelease(ctx, o, f.Fetch)
}

func (f *File) openSigned(ctx context.Context, subject ocispec.Descriptor, p sign.Policy) (sign.Opened, error) {
	b, err := f.Fetch(ctx, subject, MaxManifest)
	if err != nil {
		return sign.Opened{}, err
	}
	env, err := f.Envelope(ctx, subject.Digest)
	if err != nil {
		return sign.Opened{}, err
	}
	return sign.Open(env, b, p)
}

// VerifiedPatch is a patch whose root was accepted, with its verified target. Only OpenPatch makes one.
type VerifiedPatch struct {
	opened sign.Opened
	patch  *Patch
	target Verified
	carry  map[digest.Digest]ocispec.Descriptor
}

// Patch is what patch.json says.
func (v VerifiedPatch) Patch() *Patch { return v.patch }

// Target is the release that the patch rebuilds.
func (v VerifiedPatch) Target() Verified { return v.target }

// Signers are the ids of the keys whose signatures counted.
func (v VerifiedPatch) Signers() []string { return v.opened.Signers() }

// Carried are the blobs that the signed root names: deltas, and target blobs that travel whole.
func (v VerifiedPatch) Carried() map[digest.Digest]ocispec.Descriptor { return v.carry }

// OpenPatch verifies a patch and the target that travels in it, each by its own envelope, and binds one to the other.
func OpenPatch(ctx context.Context, f *File, p sign.Policy) (VerifiedPatch, error) {
	root, err := f.one(ArtifactPatch)
	if err != nil {
		return VerifiedPatch{}, err
	}
	o, err := f.openSigned(ctx, root, p)
	if err != nil {
		return VerifiedPatch{}, err
	}
	v := VerifiedPatch{opened: o, carry: map[digest.Digest]ocispec.Descriptor{}}
	if err := v.read(ctx, f); err != nil {
		return VerifiedPatch{}, malformed("the patch", err)
	}
	// A release of channel security comes in this way only: the policy is told that this one does.
	p.Installed = append(slices.Clone(p.Installed), o.Statement().Target)
	if v.target, err = Open(ctx, f, p); err != nil {
		return VerifiedPatch{}, fmt.Errorf("the patch's target: %w", err)
	}
	return v, malformed("the patch", v.bind())
}

func (v *VerifiedPatch) read(ctx context.Context, f *File) error {
	var m ocispec.Manifest
	if err := strict.JSON(v.opened.SubjectBytes(), &m); err != nil {
		return fmt.Errorf("reading the patch's root: %w", err)
	}
	if m.ArtifactType != ArtifactPatch || m.Config.MediaType != MediaPatch || m.Subject != nil {
		return fmt.Errorf("the patch's root is not a %s", ArtifactPatch)
	}
	raw, err := f.Fetch(ctx, m.Config, MaxRelease)
	if err != nil {
		return err
	}
	if v.patch, err = ParsePatch(raw); err != nil {
		return err
	}
	st := v.opened.Statement()
	if st.Kind != sign.KindPatch || st.ReleaseDigest != string(m.Config.Digest) || st.Target != string(v.patch.Target.Head.Digest) {
		return errors.New("the signature is not about this patch.json")
	}
	for _, l := range m.Layers {
		v.carry[l.Digest] = l
	}
	return nil
}

// bind checks the plan against the target's closure: each blob once, nothing else, whole or delta only if carried.
func (v *VerifiedPatch) bind() error {
	if v.target.Head().Digest != v.patch.Target.Head.Digest {
		return fmt.Errorf("the patch is for head %s and carries %s", v.patch.Target.Head.Digest, v.target.Head().Digest)
	}
	patch, target := v.opened.Statement(), v.target.opened.Statement()
	if patch.Version != target.Version || patch.Channel != target.Channel || patch.Sequence != target.Sequence || patch.Epoch != target.Epoch {
		return fmt.Errorf("the patch is signed for %s (channel %s, sequence %d, epoch %d), its target for %s (%s, %d, %d)",
			patch.Version, patch.Channel, patch.Sequence, patch.Epoch, target.Version, target.Channel, target.Sequence, target.Epoch)
	}
	want := map[digest.Digest]int64{v.target.Head().Digest: v.target.Head().Size}
	for _, d := range v.target.Own() {
		want[d.Digest] = d.Size
	}
	for _, b := range v.target.Release().Closure {
		want[b.Digest] = b.Size
	}
	for _, l := range v.patch.Plan {
		size, ok := want[l.Target.Digest]
		if !ok || size != l.Target.Size {
			return fmt.Errorf("the patch makes %s, which the target does not have", l.Target.Digest)
		}
		delete(want, l.Target.Digest)
		if err := v.carries(l); err != nil {
			return err
		}
	}
	for d := range want {
		return fmt.Errorf("the patch has no line for %s of the target", d)
	}
	return nil
}

func (v *VerifiedPatch) carries(l PatchLine) error {
	need := l.Target
	switch l.How {
	case HowBase:
		return nil
	case HowDelta:
		need = *l.Delta
	}
	if c, ok := v.carry[need.Digest]; !ok || c.Size != need.Size {
		return fmt.Errorf("the patch's root does not name %s, which its plan needs", need.Digest)
	}
	return nil
}

// ParsePatch reads patch.json strictly.
func ParsePatch(b []byte) (*Patch, error) {
	if len(b) > MaxRelease {
		return nil, fmt.Errorf("patch.json is longer than %d bytes", MaxRelease)
	}
	var p Patch
	if err := strict.JSON(b, &p); err != nil {
		return nil, fmt.Errorf("reading patch.json: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("patch.json: %w", err)
	}
	return &p, nil
}

func (p *Patch) check() error {
	if err := CheckName("name", p.Name); err != nil {
		return err
	}
	if len(p.Bases) == 0 || len(p.Bases) > 64 || len(p.Plan) > MaxClosure {
		return fmt.Errorf("%d bases and %d lines are out of range", len(p.Bases), len(p.Plan))
	}
	for _, b := range append([]PatchEnd{p.Target}, p.Bases...) {
		if err := CheckDigest(b.Head.Digest); err != nil {
			return err
		}
	}
	for _, l := range p.Plan {
		if err := l.check(); err != nil {
			return err
		}
	}
	return nil
}

func (l PatchLine) check() error {
	all := append([]ocispec.Descriptor{l.Target}, l.From...)
	switch {
	case l.How == HowDelta && (l.Delta == nil || len(l.From) == 0 || len(l.From) > 256):
		return fmt.Errorf("line %s: a delta needs its delta and its bases", l.Target.Digest)
	case l.How == HowDelta:
		all = append(all, *l.Delta)
	case l.How != HowBase && l.How != HowFull:
		return fmt.Errorf("line %s: %.20q is none of base, full, delta", l.Target.Digest, l.How)
	case l.Delta != nil || len(l.From) > 0:
		return fmt.Errorf("line %s: %s has no delta", l.Target.Digest, l.How)
	}
	for _, d := range all {
		if err := CheckDigest(d.Digest); err != nil {
			return err
		}
		if d.Size < 0 || d.Size > 1<<46 {
			return fmt.Errorf("line %s: size %d is out of range", l.Target.Digest, d.Size)
		}
	}
	return nil
}
