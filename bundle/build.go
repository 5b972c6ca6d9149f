package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"gopkg.in/yaml.v3"
)

// Charts is what building needs of Helm.
type Charts interface {
	// Pack makes a chart folder or archive into one deterministic archive.
	Pack(path string) (PackedChart, error)
	// Render gives the manifests, hooks included, that the chart makes with these values, without a cluster.
	Render(ctx context.Context, c PackedChart, values map[string]any, release, namespace string) ([]byte, error)
}

// PackedChart is a chart as one archive (tar in gzip) with its Chart.yaml as JSON.
type PackedChart struct {
	Name, Version string
	Metadata      []byte
	Archive       []byte
}

// BuildOptions are what Build takes beside the definition.
type BuildOptions struct {
	Dir     string    // where the definition's relative paths start
	Charts  Charts    // required
	Created time.Time // zero: release.json says no time, so that builds repeat
}

// BuildReport says what Build found.
type BuildReport struct {
	Head       ocispec.Descriptor
	Release    *Release
	Discovered []string // images that rendering found and the definition does not list
	Notes      []string // what does not travel or could not be looked up
	Bytes      int64
}

// Build makes a release: it renders the chart with its values and each variant, adds every image found there and every
// one listed with their manifests untouched, packs chart and models and writes the head with the closure. The same
// inputs give the same bytes.
func Build(ctx context.Context, def *Definition, opt BuildOptions) (*Layout, BuildReport, error) {
	if opt.Charts == nil {
		return nil, BuildReport{}, errors.New("building without Helm: BuildOptions.Charts is nil")
	}
	b := &builder{opt: opt, layout: NewLayout(), lines: map[digest.Digest]*Blob{}, release: releaseOf(def, opt.Created)}
	var err error
	if b.release.Pools, err = embedBodies(def.Pools, opt.Dir); err != nil {
		return nil, BuildReport{}, err
	}
	found := map[string]bool{}
	for _, c := range def.Charts {
		if err := b.collectChart(ctx, c, found); err != nil {
			return nil, BuildReport{}, err
		}
	}
	images, discovered := union(def, found)
	for _, i := range images {
		if err := b.collectImage(ctx, i); err != nil {
			return nil, BuildReport{}, err
		}
	}
	if err := b.checkRegistry(ctx); err != nil {
		return nil, BuildReport{}, err
	}
	for _, m := range def.Models {
		if err := b.collectModel(ctx, m); err != nil {
			return nil, BuildReport{}, err
		}
	}
	head, err := b.seal(def)
	if err != nil {
		return nil, BuildReport{}, err
	}
	return b.layout, BuildReport{Head: head, Release: b.release, Discovered: discovered, Notes: b.notes, Bytes: b.layout.Size()}, nil
}

type builder struct {
	opt     BuildOptions
	layout  *Layout
	lines   map[digest.Digest]*Blob
	release *Release
	notes   []string
}

func releaseOf(def *Definition, created time.Time) *Release {
	r := &Release{
		Name: def.Metadata.Name, Version: def.Metadata.Version, Channel: def.Metadata.Channel,
		Sequence: def.Metadata.Sequence, Epoch: def.Metadata.Epoch,
		Expires: def.Metadata.Expires, Sites: def.Metadata.Sites, Platforms: def.Platforms, Upgrade: def.Upgrade,
		Retired: def.Retired, Pools: def.Pools, Registry: def.Registry,
	}
	if def.Security != nil {
		r.Contains = def.Security.Contains
	}
	if !created.IsZero() {
		r.Created = created.UTC().Format(time.RFC3339)
	}
	if len(r.Platforms) == 0 {
		r.Platforms = []string{"linux/amd64"}
	}
	return r
}

// add puts content into the layout and a line into the closure; a blob of several repositories has one line.
func (b *builder) add(c Content, kind, repo string) {
	b.layout.Add(c)
	l, ok := b.lines[c.Digest]
	if !ok {
		l = &Blob{Descriptor: plain(c.Descriptor), Kind: kind}
		b.lines[c.Digest] = l
	}
	if !slices.Contains(l.Repos, repo) {
		l.Repos = append(l.Repos, repo)
		sort.Strings(l.Repos)
	}
}

func (b *builder) addJSON(mediaType string, v any, kind, repo string) (ocispec.Descriptor, error) {
	raw, err := marshal(v)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encoding %s: %w", mediaType, err)
	}
	c := bytesContent(mediaType, raw)
	b.add(c, kind, repo)
	return c.Descriptor, nil
}

func (b *builder) collectChart(ctx context.Context, c ChartSource, found map[string]bool) error {
	pack, err := b.opt.Charts.Pack(inDir(b.opt.Dir, c.Source))
	if err != nil {
		return fmt.Errorf("chart %s: %w", c.Name, err)
	}
	if pack.Name != c.Name {
		return fmt.Errorf("chart %s: its Chart.yaml says name: %s", c.Name, pack.Name)
	}
	values, err := b.values(c.Values)
	if err != nil {
		return err
	}
	for _, variant := range append([][]string{nil}, c.Variants...) {
		more, err := b.values(append(slices.Clone(c.Values), variant...))
		if err != nil {
			return err
		}
		manifest, err := b.opt.Charts.Render(ctx, pack, more, c.Release, c.Namespace)
		if err != nil {
			return fmt.Errorf("rendering chart %s with %v: %w", c.Name, append(slices.Clone(c.Values), variant...), err)
		}
		if err := discover(manifest, found); err != nil {
			return fmt.Errorf("looking for images in chart %s: %w", c.Name, err)
		}
	}
	return b.addChart(c, pack, values)
}

func (b *builder) addChart(c ChartSource, pack PackedChart, values map[string]any) error {
	repo := chartRepo(b.release.Name, pack.Name)
	man := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := bytesContent(MediaHelmConfig, pack.Metadata)
	archive := bytesContent(MediaHelmChart, pack.Archive)
	b.add(config, KindBlob, repo)
	b.add(archive, KindBlob, repo)
	man.Config, man.Layers = config.Descriptor, []ocispec.Descriptor{archive.Descriptor}
	desc, err := b.addJSON(ocispec.MediaTypeImageManifest, man, KindManifest, repo)
	if err != nil {
		return err
	}
	chart := Chart{Name: pack.Name, Version: pack.Version, Release: c.Release, Namespace: c.Namespace, Manifest: desc, Content: archive.Descriptor}
	if len(values) > 0 {
		raw, err := yaml.Marshal(values)
		if err != nil {
			return fmt.Errorf("encoding the values of chart %s: %w", c.Name, err)
		}
		chart.Values = string(raw)
	}
	b.release.Charts = append(b.release.Charts, chart)
	return nil
}

// values reads value files and merges them, the later over the earlier.
func (b *builder) values(files []string) (map[string]any, error) {
	out := map[string]any{}
	for _, f := range files {
		raw, err := os.ReadFile(inDir(b.opt.Dir, f))
		if err != nil {
			return nil, fmt.Errorf("reading values: %w", err)
		}
		v, err := ParseValues(f, raw)
		if err != nil {
			return nil, err
		}
		out = MergeValues(out, v)
	}
	return out, nil
}

// ParseValues reads a value file.
func ParseValues(name string, raw []byte) (map[string]any, error) {
	var v map[string]any
	if err := yaml.Unmarshal(raw, &v); err != nil {
		return nil, fmt.Errorf("%s is not a value file: %w", name, err)
	}
	return v, nil
}

// MergeValues lays over above base as Helm does: maps are merged, all else is replaced.
func MergeValues(base, over map[string]any) map[string]any {
	out := make(map[string]any, len(base)+len(over))
	for k, v := range base {
		out[k] = v
	}
	for k, v := range over {
		b, ok1 := out[k].(map[string]any)
		o, ok2 := v.(map[string]any)
		if ok1 && ok2 {
			out[k] = MergeValues(b, o)
			continue
		}
		out[k] = v
	}
	return out
}

// union is what the definition lists and what rendering found, each reference once, in order.
func union(def *Definition, found map[string]bool) ([]ImageSource, []string) {
	out := slices.Clone(def.Images)
	known := map[string]bool{}
	for _, i := range def.Images {
		known[i.Ref] = true
	}
	for _, m := range def.Models {
		known[m.Ref] = true
	}
	var discovered []string
	for ref := range found {
		if !known[ref] {
			discovered = append(discovered, ref)
		}
	}
	sort.Strings(discovered)
	for _, ref := range discovered {
		out = append(out, ImageSource{Ref: ref})
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Ref < out[j].Ref })
	return out, discovered
}

// seal writes release.json, the head and the carrier.
func (b *builder) seal(def *Definition) (ocispec.Descriptor, error) {
	for _, l := range b.lines {
		b.release.Closure = append(b.release.Closure, *l)
	}
	sort.Slice(b.release.Closure, func(i, j int) bool { return b.release.Closure[i].Digest < b.release.Closure[j].Digest })
	raw, err := marshal(b.release)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encoding release.json: %w", err)
	}
	if _, err := ParseRelease(raw); err != nil {
		return ocispec.Descriptor{}, err
	}
	head := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactRelease,
		Config: b.layout.AddFirst(MediaEmpty, []byte("{}")),
		Layers: []ocispec.Descriptor{b.layout.AddFirst(MediaRelease, raw)},
	}
	vex, err := b.vex(def)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if vex != nil {
		head.Layers = append(head.Layers, b.layout.AddFirst(MediaVEX, vex))
	}
	rawHead, err := marshal(head)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("encoding the head: %w", err)
	}
	desc := b.layout.AddFirst(ocispec.MediaTypeImageManifest, rawHead)
	desc.ArtifactType = ArtifactRelease
	return desc, b.carrier(desc)
}

// vex is the definition's VEX document, checked against what was built; nil where it names none.
func (b *builder) vex(def *Definition) ([]byte, error) {
	if def.Security == nil || def.Security.VEX == "" {
		return nil, nil
	}
	path := inDir(b.opt.Dir, def.Security.VEX)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading security.vex: %w", err)
	}
	claims, err := parseVEX(raw)
	if err == nil {
		err = claims.within(b.release)
	}
	if err == nil && b.release.Channel == "security" && len(claims.fixes) == 0 {
		err = errors.New("no statement has the status fixed, and a release of channel security is there to fix something")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, nil
}

// carrier lists head, charts, images and models for tools that copy graphs. Nothing is decided by it.
func (b *builder) carrier(head ocispec.Descriptor) error {
	ix := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: ArtifactBundle,
		Manifests: []ocispec.Descriptor{head},
	}
	for _, c := range b.release.Charts {
		ix.Manifests = append(ix.Manifests, named(c.Manifest, c.Name+"-"+c.Version))
	}
	for _, i := range b.release.Images {
		ix.Manifests = append(ix.Manifests, named(i.Manifest, i.Ref))
		for _, r := range i.Referrers {
			if r.Tag == "" {
				ix.Manifests = append(ix.Manifests, r.Manifest)
			} else {
				ix.Manifests = append(ix.Manifests, named(r.Manifest, r.Tag))
			}
		}
	}
	for _, m := range b.release.Models {
		ix.Manifests = append(ix.Manifests, named(m.Manifest, m.Ref))
	}
	raw, err := marshal(ix)
	if err != nil {
		return fmt.Errorf("encoding the carrier: %w", err)
	}
	carrier := b.layout.AddFirst(ocispec.MediaTypeImageIndex, raw)
	carrier.ArtifactType = ArtifactBundle
	headEntry := named(head, "head")
	headEntry.Annotations[annotationCosignKind] = cosignImage
	b.layout.Index.Manifests = []ocispec.Descriptor{named(carrier, b.release.Version), headEntry}
	return nil
}

func named(d ocispec.Descriptor, ref string) ocispec.Descriptor {
	d.Annotations = map[string]string{ocispec.AnnotationRefName: ref}
	return d
}
