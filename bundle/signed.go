package bundle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/sign"
)

// AnnotationKey on a sigstore bundle's entry in index.json is the id of the key that signed.
const AnnotationKey = "bundle.wordcab.com/key"

// StatementOf reads from a file what its signature has to say: for a bundle about its head, for a patch about its root.
// Every line of the file is not checked here; only what the statement repeats.
func StatementOf(ctx context.Context, f *File, issued time.Time) (ocispec.Descriptor, sign.Statement, error) {
	root, err := f.Root()
	if err != nil {
		return root, sign.Statement{}, err
	}
	raw, err := f.Fetch(ctx, root, MaxManifest)
	if err != nil {
		return root, sign.Statement{}, err
	}
	if root.ArtifactType == ArtifactPatch {
		st, err := f.patchStatement(ctx, raw, issued)
		return root, st, err
	}
	man, r, err := f.unverifiedRelease(ctx, raw)
	if err != nil {
		return root, sign.Statement{}, err
	}
	return root, r.statement(man.Layers[0].Digest, issued), nil
}

func (f *File) unverifiedRelease(ctx context.Context, head []byte) (*ocispec.Manifest, *Release, error) {
	man, err := parseHead(head)
	if err != nil {
		return nil, nil, err
	}
	raw, err := f.Fetch(ctx, man.Layers[0], MaxRelease)
	if err != nil {
		return nil, nil, err
	}
	r, err := ParseRelease(raw)
	return man, r, err
}

func (r *Release) statement(d digest.Digest, issued time.Time) sign.Statement {
	return sign.Statement{
		Kind: sign.KindRelease, Name: r.Name, Version: r.Version, Channel: r.Channel, Epoch: r.Epoch, Sequence: r.Sequence,
		Sites: r.Sites, IssuedAt: issued.UTC().Format(time.RFC3339), Expires: r.Expires, ReleaseDigest: string(d),
	}
}

func (f *File) patchStatement(ctx context.Context, root []byte, issued time.Time) (sign.Statement, error) {
	var v ocispec.Manifest
	if err := unmarshalManifest(root, &v); err != nil {
		return sign.Statement{}, err
	}
	raw, err := f.Fetch(ctx, v.Config, MaxRelease)
	if err != nil {
		return sign.Statement{}, err
	}
	p, err := ParsePatch(raw)
	if err != nil {
		return sign.Statement{}, err
	}
	headRaw, err := f.Fetch(ctx, p.Target.Head, MaxManifest)
	if err != nil {
		return sign.Statement{}, err
	}
	_, r, err := f.unverifiedRelease(ctx, headRaw)
	if err != nil {
		return sign.Statement{}, err
	}
	st := r.statement(v.Config.Digest, issued)
	st.Kind, st.Target = sign.KindPatch, string(p.Target.Head.Digest)
	for _, b := range p.Bases {
		st.Bases = append(st.Bases, string(b.Head.Digest))
	}
	return st, nil
}

// AddEnvelope puts an envelope about subject into the layout, in place of one that is there.
func (l *Layout) AddEnvelope(subject ocispec.Descriptor, envelope []byte) error {
	man := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactEnvelope,
		Config: l.AddFirst(MediaEmpty, []byte("{}")),
		Layers: []ocispec.Descriptor{l.AddFirst(MediaEnvelope, envelope)},
	}
	raw, err := marshal(man)
	if err != nil {
		return fmt.Errorf("encoding the envelope's manifest: %w", err)
	}
	d := l.AddFirst(ocispec.MediaTypeImageManifest, raw)
	d.ArtifactType = ArtifactEnvelope
	d.Annotations = map[string]string{AnnotationSubject: string(subject.Digest), ocispec.AnnotationRefName: EnvelopeTag(subject.Digest)}
	return l.replace(d, func(m ocispec.Descriptor) bool {
		return m.ArtifactType == ArtifactEnvelope && m.Annotations[AnnotationSubject] == string(subject.Digest)
	})
}

// replace lists a signature in index.json in place of those that old tells, whose blobs go with them.
func (l *Layout) replace(d ocispec.Descriptor, old func(ocispec.Descriptor) bool) error {
	keep := map[digest.Digest]bool{d.Digest: true}
	raw, err := l.contents[d.Digest].ReadBytes(context.Background(), MaxManifest)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := unmarshalManifest(raw, &m); err != nil {
		return err
	}
	for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		keep[b.Digest] = true
	}
	if err := l.remove(old, keep); err != nil {
		return err
	}
	l.Index.Manifests = append(l.Index.Manifests, d)
	return nil
}

// remove takes from index.json what old tells, with its blobs but those to keep.
func (l *Layout) remove(old func(ocispec.Descriptor) bool, keep map[digest.Digest]bool) error {
	var stay []ocispec.Descriptor
	for _, e := range l.Index.Manifests {
		if !old(e) {
			stay = append(stay, e)
			continue
		}
		if err := l.drop(e, keep); err != nil {
			return err
		}
	}
	l.Index.Manifests = stay
	return nil
}

func (l *Layout) drop(e ocispec.Descriptor, keep map[digest.Digest]bool) error {
	c, ok := l.contents[e.Digest]
	if !ok {
		return nil
	}
	raw, err := c.ReadBytes(context.Background(), MaxManifest)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := unmarshalManifest(raw, &m); err != nil {
		return err
	}
	for _, b := range append([]ocispec.Descriptor{e, m.Config}, m.Layers...) {
		if !keep[b.Digest] && b.Digest != digest.FromString("{}") { // the empty config is everyone's
			delete(l.contents, b.Digest)
			l.first = slices.DeleteFunc(l.first, func(d digest.Digest) bool { return d == b.Digest })
		}
	}
	return nil
}

// EnvelopeTag is the tag under which a registry holds the envelope about d.
func EnvelopeTag(d digest.Digest) string { return "sha256-" + d.Encoded() + ".wcb" }

// AddCosign puts a cosign signature of the head into the layout, in place of one that is there.
func (l *Layout) AddCosign(sig sign.CosignSignature) error {
	if len(sig.Manifest) == 0 {
		return errors.New("the cosign signature is empty")
	}
	for _, b := range sig.Blobs {
		l.AddFirst("application/octet-stream", b)
	}
	d := l.AddFirst(ocispec.MediaTypeImageManifest, sig.Manifest)
	d.Annotations = map[string]string{annotationCosignKind: cosignSignatures, ocispec.AnnotationRefName: sig.Tag}
	return l.replace(d, func(m ocispec.Descriptor) bool { return m.Annotations[annotationCosignKind] == cosignSignatures })
}

// AddSigstore puts a sigstore bundle by one key about the head into the layout, in place of one by the same key.
func (l *Layout) AddSigstore(keyID string, sig sign.SigstoreSignature) error {
	if len(sig.Manifest) == 0 {
		return errors.New("the sigstore bundle is empty")
	}
	for _, b := range sig.Blobs {
		l.AddFirst("application/octet-stream", b)
	}
	d := l.AddFirst(ocispec.MediaTypeImageManifest, sig.Manifest)
	d.ArtifactType, d.Annotations = sign.MediaSigstore, map[string]string{AnnotationKey: keyID}
	return l.replace(d, func(m ocispec.Descriptor) bool {
		return m.ArtifactType == sign.MediaSigstore && m.Annotations[AnnotationKey] == keyID
	})
}

// DropCosign takes out what is there for cosign, in either form. The envelope stays.
func (l *Layout) DropCosign() error {
	return l.remove(func(m ocispec.Descriptor) bool {
		return m.ArtifactType == sign.MediaSigstore || m.Annotations[annotationCosignKind] == cosignSignatures
	}, nil)
}

// CosignSignature is the head's signature in cosign's simple signing form, with no manifest where the file has none. It is
// not checked.
func (f *File) CosignSignature(ctx context.Context, head ocispec.Descriptor) (sign.CosignSignature, error) {
	out := sign.CosignSignature{Tag: sign.CosignTag(head)}
	atts, err := f.Attachments(ctx, head.Digest)
	if err != nil {
		return out, err
	}
	for _, a := range atts {
		if a.Tag != out.Tag {
			continue
		}
		if out.Manifest, err = f.Fetch(ctx, a.Manifest, MaxEnvelope); err != nil {
			return out, err
		}
		for _, b := range a.Blobs {
			raw, err := f.Fetch(ctx, b, MaxEnvelope)
			if err != nil {
				return out, err
			}
			out.Blobs = append(out.Blobs, raw)
		}
	}
	return out, nil
}

// Attachment is a signature that travels with a file: a manifest with its tag and the small blobs behind it. Without a tag
// it has the head as its subject, and registries list it by that.
type Attachment struct {
	Tag      string
	Manifest ocispec.Descriptor
	Blobs    []ocispec.Descriptor
}

// maxAttachments bounds them: an envelope, a cosign signature, and a sigstore bundle by each signer.
const maxAttachments = 2 + sign.MaxSignatures

// Attachments are the envelope and the cosign signatures, in both forms, of the file's head. They are evidence that others
// may check; nothing here was verified.
func (f *File) Attachments(ctx context.Context, head digest.Digest) ([]Attachment, error) {
	var out []Attachment
	seen := 0
	for _, d := range f.Index.Manifests {
		tag, ok := attachmentTag(d, head)
		if !ok {
			continue
		}
		if seen++; seen > maxAttachments {
			return nil, f.fail("index.json lists more than %d signatures", maxAttachments)
		}
		raw, err := f.Fetch(ctx, d, MaxManifest)
		if err != nil {
			return nil, err
		}
		var m ocispec.Manifest
		if err := unmarshalManifest(raw, &m); err != nil {
			return nil, err
		}
		if tag == "" && (m.Subject == nil || m.Subject.Digest != head) {
			continue
		}
		a := Attachment{Tag: tag, Manifest: plain(d), Blobs: append([]ocispec.Descriptor{m.Config}, m.Layers...)}
		if len(a.Blobs) > 65 {
			return nil, f.fail("a signature has more than 64 layers")
		}
		out = append(out, a)
	}
	return out, nil
}

// attachmentTag tells a signature about head by its entry in index.json, and under which tag registries hold it.
func attachmentTag(d ocispec.Descriptor, head digest.Digest) (string, bool) {
	cosign := "sha256-" + head.Encoded() + ".sig"
	switch {
	case d.ArtifactType == ArtifactEnvelope && d.Annotations[AnnotationSubject] == string(head):
		return EnvelopeTag(head), true
	case d.Annotations[annotationCosignKind] == cosignSignatures && d.Annotations[ocispec.AnnotationRefName] == cosign:
		return cosign, true
	}
	return "", d.ArtifactType == sign.MediaSigstore
}

// Frame lists the blobs that hold a file together: what index.json names, and the blobs of roots and signatures.
func (f *File) Frame(ctx context.Context) ([]ocispec.Descriptor, error) {
	var out []ocispec.Descriptor
	for _, d := range f.Index.Manifests {
		out = append(out, d)
		raw, err := f.Fetch(ctx, d, MaxManifest)
		if err != nil {
			return nil, err
		}
		var m ocispec.Manifest
		if err := unmarshalManifest(raw, &m); err != nil {
			return nil, err
		}
		switch {
		case d.ArtifactType == ArtifactBundle:
		case d.ArtifactType == ArtifactPatch:
			out = append(out, m.Config)
		case len(m.Layers) <= 64:
			out = append(append(out, m.Config), m.Layers...)
		}
	}
	return out, nil
}

// ReleaseUnverified is what a file's release.json says, for looking at a file before anyone is trusted. What is installed
// comes from Open and OpenPatch only.
func (f *File) ReleaseUnverified(ctx context.Context) (*Release, error) {
	head, err := f.HeadOf()
	if err != nil {
		return nil, err
	}
	raw, err := f.Fetch(ctx, head, MaxManifest)
	if err != nil {
		return nil, err
	}
	_, r, err := f.unverifiedRelease(ctx, raw)
	return r, err
}
