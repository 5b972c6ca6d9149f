package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/wordcab/wcbundle/delta"
)

// PatchOptions are what Diff takes beside the files.
type PatchOptions struct {
	Level    delta.Level
	Parallel int    // processors to use; two deltas are made at once, each needs about 1.5 bytes of memory per byte of its unpacked bases and 256 MiB; default 1
	Scratch  string // folder for deltas in the making and unpacked bases
	Progress func(PatchLine, int64)
}

// MaxBasesPerDelta is how many base blobs one delta is made from.
const MaxBasesPerDelta = 3

// Diff makes the patch that turns any of the base bundles into target. Both are read through their digests; target must be
// signed, because its signatures travel along. The temporary files behind the layout live in opt.Scratch until cleanup.
func Diff(ctx context.Context, target *File, bases []*File, opt PatchOptions) (*Layout, *Patch, error) {
	d := &differ{opt: opt, layout: NewLayout(), have: map[digest.Digest]baseBlob{}, sketches: map[digest.Digest]func() (*delta.Sketch, error){}}
	for _, b := range bases {
		if err := d.addBase(ctx, b); err != nil {
			return nil, nil, err
		}
	}
	if err := d.setTarget(ctx, target); err != nil {
		return nil, nil, err
	}
	wanted := d.wanted()
	made, err := d.makeAll(ctx, wanted)
	if err != nil {
		return nil, nil, err
	}
	for i, b := range wanted {
		d.patch.Plan = append(d.patch.Plan, d.line(b, made[i]))
	}
	if err := d.seal(); err != nil {
		return nil, nil, err
	}
	return d.layout, &d.patch, nil
}

type baseBlob struct {
	Blob
	file *File
}

type differ struct {
	opt     PatchOptions
	layout  *Layout
	patch   Patch
	have    map[digest.Digest]baseBlob
	target  *File
	head    ocispec.Descriptor
	own     []ocispec.Descriptor
	release *Release
	bases   []*Release
	layers  []ocispec.Descriptor // what the patch's root names

	mu       sync.Mutex
	sketches map[digest.Digest]func() (*delta.Sketch, error) // of base blobs, each made once
}

func (d *differ) addBase(ctx context.Context, f *File) error {
	head, _, r, err := readUnverified(ctx, f)
	if err != nil {
		return fmt.Errorf("base %s: %w", f.Path, err)
	}
	d.bases = append(d.bases, r)
	d.patch.Bases = append(d.patch.Bases, PatchEnd{Version: r.Version, Sequence: r.Sequence, Head: plain(head)})
	if len(d.patch.Bases) > 1 {
		return d.onlyCommon(r)
	}
	for _, b := range r.Closure {
		d.have[b.Digest] = baseBlob{b, f}
	}
	return nil
}

// onlyCommon keeps the blobs that every base has, because a site has just one of them.
func (d *differ) onlyCommon(r *Release) error {
	for k := range d.have {
		if r.Line(k) == nil {
			delete(d.have, k)
		}
	}
	if len(d.have) == 0 {
		return errors.New("the bases have no blob in common: make a patch for each")
	}
	return nil
}

func readUnverified(ctx context.Context, f *File) (ocispec.Descriptor, *ocispec.Manifest, *Release, error) {
	head, err := f.HeadOf()
	if err != nil {
		return head, nil, nil, err
	}
	if f.IsPatch() {
		return head, nil, nil, f.fail("it is a patch; a whole bundle is needed here")
	}
	raw, err := f.Fetch(ctx, head, MaxManifest)
	if err != nil {
		return head, nil, nil, err
	}
	man, r, err := f.unverifiedRelease(ctx, raw)
	return head, man, r, err
}

func (d *differ) setTarget(ctx context.Context, f *File) error {
	head, man, r, err := readUnverified(ctx, f)
	if err != nil {
		return fmt.Errorf("target %s: %w", f.Path, err)
	}
	env, err := f.Envelope(ctx, head.Digest)
	if err != nil {
		return err
	}
	if env == nil {
		return fmt.Errorf("%s is not signed: sign it first, its signatures travel in the patch", f.Path)
	}
	for _, b := range d.patch.Bases {
		if b.Head.Digest == head.Digest {
			return fmt.Errorf("%s is the base and the target", f.Path)
		}
	}
	if err := d.checkVEX(ctx, f, man, r); err != nil {
		return fmt.Errorf("target %s: %w", f.Path, err)
	}
	d.target, d.head, d.release = f, head, r
	d.own = append([]ocispec.Descriptor{man.Config}, man.Layers...)
	d.patch.Name = r.Name
	d.patch.Target = PatchEnd{Version: r.Version, Sequence: r.Sequence, Head: plain(head)}
	return d.copySignatures(ctx)
}

// checkVEX finds a VEX document that speaks of neither end of the patch while it can still be mended.
func (d *differ) checkVEX(ctx context.Context, f *File, man *ocispec.Manifest, r *Release) error {
	claims, err := readVEX(ctx, man.Layers, r, f.Fetch)
	if err != nil {
		return err
	}
	return claims.within(r, d.bases...)
}

// copySignatures takes over the target's head entry, all that index.json lists about its signatures, and the trust chain.
func (d *differ) copySignatures(ctx context.Context) error {
	for _, m := range d.target.Index.Manifests {
		if m.ArtifactType == ArtifactBundle || m.ArtifactType == ArtifactTrust {
			continue
		}
		d.layout.Index.Manifests = append(d.layout.Index.Manifests, m)
	}
	if chain, err := d.target.TrustChain(ctx); err != nil {
		return err
	} else if chain != nil {
		if err := d.layout.AddTrustChain(chain); err != nil {
			return err
		}
	}
	atts, err := d.target.Attachments(ctx, d.head.Digest)
	if err != nil {
		return err
	}
	for _, a := range atts {
		for _, b := range append(a.Blobs, a.Manifest) {
			d.layout.Add(d.target.Content(b))
			d.layout.first = append(d.layout.first, b.Digest)
		}
	}
	return nil
}

// wanted lists the target's blobs: the head and its own first, then the closure by digest.
func (d *differ) wanted() []Blob {
	var out []Blob
	for _, o := range append([]ocispec.Descriptor{d.head}, d.own...) {
		if !slices.ContainsFunc(out, func(b Blob) bool { return b.Digest == o.Digest }) {
			out = append(out, Blob{Descriptor: plain(o), Kind: KindManifest})
		}
	}
	for _, b := range d.release.Closure {
		if !slices.ContainsFunc(out, func(o Blob) bool { return o.Digest == b.Digest }) {
			out = append(out, b)
		}
	}
	return out
}

// made is a finished delta in a scratch file.
type made struct {
	path   string
	desc   ocispec.Descriptor
	from   []ocispec.Descriptor
	header delta.Header
}

// makeAll makes the deltas that may pay, some at a time. The result is in the order of wanted; nil where there is none.
func (d *differ) makeAll(ctx context.Context, wanted []Blob) ([]*made, error) {
	out := make([]*made, len(wanted))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(min(max(d.opt.Parallel, 1), 2))
	for i, b := range wanted {
		if _, ok := d.have[b.Digest]; ok || b.Kind != KindBlob || b.Size <= smallBlob {
			continue
		}
		g.Go(func() (err error) {
			if out[i], err = d.try(ctx, b); err != nil {
				return fmt.Errorf("making the delta for %s: %w", b.Digest, err)
			}
			return nil
		})
	}
	return out, g.Wait()
}

// line decides how a target blob travels and puts what travels into the layout.
func (d *differ) line(b Blob, m *made) PatchLine {
	line := PatchLine{Target: plain(b.Descriptor), How: HowFull}
	if _, ok := d.have[b.Digest]; ok {
		line.How = HowBase
		d.tell(line, 0)
		return line
	}
	if m == nil {
		d.layout.Add(d.target.Content(line.Target))
		d.layers = append(d.layers, line.Target)
		d.tell(line, line.Target.Size)
		return line
	}
	line.How, line.Delta, line.From, line.Codec = HowDelta, &m.desc, m.from, m.header.Codec
	var fetched int64
	for _, f := range m.from {
		fetched += f.Size
	}
	d.patch.Peak.Memory = max(d.patch.Peak.Memory, m.header.Memory)
	d.patch.Peak.Scratch = max(d.patch.Peak.Scratch, m.header.Scratch+fetched)
	d.layout.Add(Content{Descriptor: m.desc, Open: func(context.Context) (io.ReadCloser, error) { return os.Open(m.path) }})
	d.layers = append(d.layers, m.desc)
	d.tell(line, m.desc.Size)
	return line
}

func (d *differ) tell(l PatchLine, bytes int64) {
	if d.opt.Progress != nil {
		d.opt.Progress(l, bytes)
	}
}

// try makes a delta from the likeliest base blobs; nil where there are none or it saves less than a twentieth.
func (d *differ) try(ctx context.Context, b Blob) (*made, error) {
	target, err := d.target.Section(b.Descriptor)
	if err != nil {
		return nil, err
	}
	defer target.Close()
	from, err := d.basesFor(ctx, b, target)
	if err != nil || len(from) == 0 {
		return nil, err
	}
	m := &made{}
	var bases []delta.Base
	for _, f := range from {
		s, err := f.file.Section(f.Descriptor)
		if err != nil {
			return nil, err
		}
		defer s.Close()
		bases = append(bases, s)
		m.from = append(m.from, plain(f.Descriptor))
	}
	out, err := os.CreateTemp(d.opt.Scratch, "delta-*")
	if err != nil {
		return nil, fmt.Errorf("creating a scratch file: %w", err)
	}
	defer out.Close()
	if m.header, err = delta.Make(ctx, out, bases, target, delta.MakeOptions{ScratchDir: d.opt.Scratch, Level: d.opt.Level, Parallel: d.opt.Parallel}); err != nil {
		return nil, err
	}
	if err := sameBytes(m.header, b, from); err != nil {
		return nil, err
	}
	m.path = out.Name()
	if m.desc, err = describe(out); err != nil {
		return nil, err
	}
	if m.desc.Size > b.Size-b.Size/20 {
		return nil, os.Remove(m.path)
	}
	return m, nil
}

func describe(f *os.File) (ocispec.Descriptor, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ocispec.Descriptor{}, err
	}
	h := digest.SHA256.Digester()
	n, err := io.Copy(h.Hash(), f)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: MediaDelta, Digest: h.Digest(), Size: n}, nil
}

// sameBytes checks that the delta was made from and for the bytes that the descriptors name: a damaged input file must not
// become a patch that no site can apply.
func sameBytes(h delta.Header, b Blob, from []baseBlob) error {
	if got := digest.NewDigestFromBytes(digest.SHA256, h.TargetSHA256[:]); got != b.Digest {
		return &DigestError{Want: b.Descriptor, Got: got, Size: h.TargetSize}
	}
	for i, f := range from {
		if got := digest.NewDigestFromBytes(digest.SHA256, h.Bases[i].SHA256[:]); got != f.Digest {
			return &DigestError{Want: f.Descriptor, Got: got, Size: h.Bases[i].Size}
		}
	}
	return nil
}

// seal writes patch.json and the patch's root.
func (d *differ) seal() error {
	raw, err := marshal(d.patch)
	if err != nil {
		return fmt.Errorf("encoding patch.json: %w", err)
	}
	if _, err := ParsePatch(raw); err != nil {
		return err
	}
	root := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactPatch,
		Config: d.layout.AddFirst(MediaPatch, raw), Layers: d.layers,
	}
	rawRoot, err := marshal(root)
	if err != nil {
		return fmt.Errorf("encoding the patch's root: %w", err)
	}
	desc := d.layout.AddFirst(ocispec.MediaTypeImageManifest, rawRoot)
	desc.ArtifactType = ArtifactPatch
	tag := d.patch.Bases[0].Version + "-to-" + d.patch.Target.Version
	d.layout.Index.Manifests = append([]ocispec.Descriptor{named(desc, tag)}, d.layout.Index.Manifests...)
	return nil
}

func unmarshalManifest(b []byte, m *ocispec.Manifest) error {
	if err := json.Unmarshal(b, m); err != nil {
		return fmt.Errorf("reading a manifest: %w", err)
	}
	return nil
}
