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
	keep := map[digest.Digest]bool{digest.FromString("{}"): true, d.Digest: true}
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
	l.Index.Manifests = append(stay, d)
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
		if !keep[b.Digest] {
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

// Attachment is a signature that travels with a file: a manifest with its tag and the small blobs behind it.
type Attachment struct {
	Tag      string
	Manifest ocispec.Descriptor
	Blobs    []ocispec.Descriptor
}

// Attachments are the envelope and the cosign signature of the file's head. They are evidence that others may check;
// nothing here was verified.
func (f *File) Attachments(ctx context.Context, head digest.Digest) ([]Attachment, error) {
	var out []Attachment
	for _, d := range f.Index.Manifests {
		tag := d.Annotations[ocispec.AnnotationRefName]
		envelope := d.ArtifactType == ArtifactEnvelope && d.Annotations[AnnotationSubject] == string(head)
		cosign := d.Annotations[annotationCosignKind] == cosignSignatures && tag == "sha256-"+head.Encoded()+".sig"
		if !envelope && !cosign {
			continue
		}
		raw, err := f.Fetch(ctx, d, MaxManifest)
		if err != nil {
			return nil, err
		}
		var m ocispec.Manifest
		if err := unmarshalManifest(raw, &m); err != nil {
			return nil, err
		}
		a := Attachment{Tag: tag, Manifest: plain(d), Blobs: append([]ocispec.Descriptor{m.Config}, m.Layers...)}
		if envelope {
			a.Tag = EnvelopeTag(head)
		}
		if len(a.Blobs) > 65 {
			return nil, f.fail("a signature has more than 64 layers")
		}
		out = append(out, a)
	}
	return out, nil
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
