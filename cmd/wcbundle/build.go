package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/delta"
	"github.com/wordcab/wcbundle/install"
)

func buildCommands() []*cli.Command {
	definition := &cli.StringFlag{Name: "file", Aliases: []string{"f"}, Value: "bundle.yaml", Usage: "the definition"}
	return []*cli.Command{
		{
			Name: "init", Usage: "write a bundle.yaml to start from", Category: "build side",
			Description: "Example:\n   wcbundle init --name wordcab",
			Flags:       []cli.Flag{definition, &cli.StringFlag{Name: "name", Value: "product", Usage: "the product's name"}},
			Action:      initDefinition,
		},
		{
			Name: "lint", Usage: "check a definition without building", Category: "build side",
			Description: "Example:\n   wcbundle lint -f bundle.yaml",
			Flags:       []cli.Flag{definition},
			Action: func(c *cli.Context) error {
				d, err := bundle.LoadDefinition(c.String("file"))
				if err == nil {
					fmt.Fprintf(c.App.Writer, "%s: %s %s is well-formed\n", c.String("file"), d.Metadata.Name, d.Metadata.Version)
				}
				return err
			},
		},
		{
			Name: "build", Usage: "make a bundle from a definition", Category: "build side",
			Description: "Renders the chart with its values and variants, finds its images, and writes them, the chart and the\n" +
				"models as one deterministic file. The same inputs give the same bytes.\n\n" +
				"Example:\n   wcbundle build -f bundle.yaml --out wordcab-2.9.0.wcb",
			Flags:  []cli.Flag{definition, outFlag("the bundle to write; default NAME-VERSION-ARCH.wcb"), outputFlag},
			Action: build,
		},
		{
			Name: "patch", Usage: "make a patch that turns a release into another", Category: "build side",
			Description: "Carries binary deltas inside layers and weight files; what it rebuilds has the original digests.\n\n" +
				"Example:\n   wcbundle patch --from wordcab-2.8.0.wcb --to wordcab-2.9.0.wcb --out wordcab-2.8.0-to-2.9.0.wcp\n" +
				"   wcbundle patch --have inventory.json --have-key site.pub --from wordcab-2.7.0.wcb --from wordcab-2.8.0.wcb --to wordcab-2.9.0.wcb",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "from", Usage: "a bundle that sites may have; may be repeated", Required: true},
				&cli.StringFlag{Name: "to", Usage: "the signed bundle that they shall have", Required: true},
				&cli.StringFlag{Name: "have", Usage: "a site's inventory: of --from, take what that site holds"},
				&cli.StringFlag{Name: "have-key", Usage: "the site's public key, with which the inventory was signed"},
				outFlag("the patch to write; default NAME-BASE-to-TARGET-ARCH.wcp"), levelFlag, scratchFlag, outputFlag,
			},
			Action: patch,
		},
		{
			Name: "inspect", Usage: "show what a file says of itself, trusted or not", ArgsUsage: "FILE", Category: "build side",
			Description: "Example:\n   wcbundle inspect wordcab-2.9.0.wcb",
			Flags:       []cli.Flag{outputFlag},
			Action:      inspect,
		},
	}
}

func outFlag(usage string) cli.Flag { return &cli.StringFlag{Name: "out", Usage: usage} }

var scratchFlag = &cli.StringFlag{Name: "scratch", EnvVars: []string{"WCBUNDLE_SCRATCH"}, Usage: "folder for temporary files (default: the system's)"}

const definitionTemplate = `# yaml-language-server: $schema=bundle.schema.json
apiVersion: bundle.wordcab.com/v1alpha1
kind: Bundle
metadata: {name: %[1]s, version: 1.0.0, channel: stable, sequence: 1}
platforms: [linux/amd64]
upgrade: {from: ">=1.0.0", maxMinorSkip: 6}
charts:
- {name: %[1]s, source: ./chart, release: %[1]s, namespace: %[1]s, values: []}
images: []   # what rendering cannot see, and where images are taken from: {ref: ..., source: "oci:./images/NAME", key: vendor.pub}
models: []   # {id: asr-large-v4, ref: registry.example.com/models/asr:4, source: ./models/asr-large-v4}
pools: []    # {name: asr, order: 10, workloads: [{kind: Deployment, name: asr}], gates: {post: [], soak: 1m}}
`

func initDefinition(c *cli.Context) error {
	path := c.String("file")
	if err := bundle.CheckName("--name", c.String("name")); err != nil {
		return usageError{err.Error()}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, definitionTemplate, c.String("name")); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "wrote %s; put the chart into ./chart and run wcbundle lint\n", path)
	return f.Close()
}

func build(c *cli.Context) error {
	path := c.String("file")
	def, err := bundle.LoadDefinition(path)
	if err != nil {
		return err
	}
	created, err := sourceDate()
	if err != nil {
		return err
	}
	l, rep, err := bundle.Build(c.Context, def, bundle.BuildOptions{Dir: filepath.Dir(path), Charts: install.Charts{}, Created: created})
	if err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		out = fmt.Sprintf("%s-%s-%s.wcb", def.Metadata.Name, def.Metadata.Version, arch(rep.Release.Platforms))
	}
	m := newMeter(c, "writing "+out)
	err = l.WriteFile(c.Context, out, m.at)
	m.end()
	if err != nil {
		return err
	}
	sum := buildSummary{Path: out, Name: def.Metadata.Name, Version: def.Metadata.Version, Head: string(rep.Head.Digest), Bytes: rep.Bytes,
		Blobs: len(rep.Release.Closure), Images: len(rep.Release.Images), Models: len(rep.Release.Models), Discovered: rep.Discovered,
		Notes: rep.Notes}
	for _, i := range rep.Release.Images {
		sum.Referrers += len(i.Referrers)
	}
	return show(c, sum, sum.table)
}

type buildSummary struct {
	Path       string   `json:"path"`
	Name       string   `json:"name"`
	Version    string   `json:"version"`
	Head       string   `json:"head"`
	Bytes      int64    `json:"bytes"`
	Blobs      int      `json:"blobs"`
	Images     int      `json:"images"`
	Models     int      `json:"models"`
	Referrers  int      `json:"referrers,omitempty"` // signatures and the like of the images
	Discovered []string `json:"discovered,omitempty"`
	Notes      []string `json:"notes,omitempty"`
}

func (s buildSummary) table(w io.Writer) error {
	fmt.Fprintf(w, "bundle\t%s\nrelease\t%s %s\nhead\t%s\nsize\t%s in %d blobs\n", s.Path, s.Name, s.Version, s.Head, size(s.Bytes), s.Blobs)
	fmt.Fprintf(w, "content\t%d images, %d models\n", s.Images, s.Models)
	for _, d := range s.Discovered {
		fmt.Fprintf(w, "found\t%s (by rendering; not listed in the definition)\n", d)
	}
	if s.Referrers > 0 {
		fmt.Fprintf(w, "attached\t%d signatures, attestations and the like of the images\n", s.Referrers)
	}
	for _, n := range s.Notes {
		fmt.Fprintf(w, "note\t%s\n", n)
	}
	_, err := fmt.Fprintf(w, "next\twcbundle sign --key KEY %s\n", s.Path)
	return err
}

// sourceDate is SOURCE_DATE_EPOCH (reproducible-builds.org), or the zero time without it.
func sourceDate() (time.Time, error) {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return time.Time{}, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, usageError{fmt.Sprintf("SOURCE_DATE_EPOCH=%q is not a number of seconds", s)}
	}
	return time.Unix(n, 0), nil
}

func arch(platforms []string) string {
	if len(platforms) != 1 {
		return "multi"
	}
	_, a, _ := strings.Cut(platforms[0], "/")
	return strings.ReplaceAll(a, "/", "-")
}

func patch(c *cli.Context) (err error) {
	frugal(frugalMake)
	target, err := bundle.OpenFile(c.String("to"))
	if err != nil {
		return err
	}
	defer target.Close()
	bases, done, err := openPatchBases(c, target)
	if err != nil {
		return err
	}
	defer done()
	scratch, clean, err := scratchDir(c)
	if err != nil {
		return err
	}
	defer clean()
	level, err := delta.ParseLevel(c.String("level"))
	if err != nil {
		return usageError{err.Error()}
	}
	sum := patchSummary{}
	l, p, err := bundle.Diff(c.Context, target, bases, bundle.PatchOptions{Scratch: scratch, Level: level, Parallel: runtime.GOMAXPROCS(0), Progress: func(line bundle.PatchLine, n int64) {
		sum.count(line, n)
		if line.How == bundle.HowDelta {
			fmt.Fprintf(c.App.ErrWriter, "delta %s: %s -> %s (%s)\n", line.Target.Digest.Encoded()[:12], size(line.Target.Size), size(n), line.Codec)
		}
	}})
	if err != nil {
		return err
	}
	sum.Path, sum.Peak = c.String("out"), p.Peak
	if sum.Path == "" {
		sum.Path = fmt.Sprintf("%s-%s-to-%s.wcp", p.Name, p.Bases[0].Version, p.Target.Version)
	}
	sum.Target, sum.Bytes = p.Target.Version, l.Size()
	for _, b := range p.Bases {
		sum.Bases = append(sum.Bases, b.Version)
	}
	if err := l.WriteFile(c.Context, sum.Path, nil); err != nil {
		return err
	}
	return show(c, sum, sum.table)
}

// scratchDir makes a folder for temporary files, and what removes it.
func scratchDir(c *cli.Context) (string, func(), error) {
	parent := c.String("scratch")
	if parent != "" {
		if err := os.MkdirAll(parent, 0o700); err != nil {
			return "", nil, err
		}
	}
	dir, err := os.MkdirTemp(parent, "wcbundle-")
	if err != nil {
		return "", nil, fmt.Errorf("making a scratch folder: %w", err)
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

type patchSummary struct {
	Path     string           `json:"path"`
	Bases    []string         `json:"bases"`
	Target   string           `json:"target"`
	Bytes    int64            `json:"bytes"`
	TargetB  int64            `json:"targetBytes"`
	Base     int              `json:"base"`  // blobs that the site has
	Full     int              `json:"full"`  // blobs that travel whole
	Delta    int              `json:"delta"` // blobs that are rebuilt
	FullB    int64            `json:"fullBytes"`
	DeltaB   int64            `json:"deltaBytes"`
	RebuiltB int64            `json:"rebuiltBytes"`
	Peak     bundle.PatchPeak `json:"peak"`
}

func (s *patchSummary) count(l bundle.PatchLine, n int64) {
	s.TargetB += l.Target.Size
	switch l.How {
	case bundle.HowBase:
		s.Base++
	case bundle.HowFull:
		s.Full++
		s.FullB += n
	case bundle.HowDelta:
		s.Delta++
		s.DeltaB += n
		s.RebuiltB += l.Target.Size
	}
}

func (s *patchSummary) table(w io.Writer) error {
	fmt.Fprintf(w, "patch\t%s\nfrom\t%s\nto\t%s\n", s.Path, strings.Join(s.Bases, ", "), s.Target)
	fmt.Fprintf(w, "size\t%s instead of %s (%.1f %%)\n", size(s.Bytes), size(s.TargetB), 100*float64(s.Bytes)/float64(max(s.TargetB, 1)))
	fmt.Fprintf(w, "blobs\t%d at the site, %d rebuilt from %s of deltas into %s, %d whole (%s)\n", s.Base, s.Delta, size(s.DeltaB), size(s.RebuiltB), s.Full, size(s.FullB))
	fmt.Fprintf(w, "applying needs\t%s memory and %s scratch for one delta\n", size(s.Peak.Memory), size(s.Peak.Scratch))
	_, err := fmt.Fprintf(w, "next\twcbundle sign --key KEY %s\n", s.Path)
	return err
}

func inspect(c *cli.Context) error {
	f, err := bundle.OpenFile(c.Args().First())
	if err != nil {
		return err
	}
	defer f.Close()
	about, err := describeFile(c.Context, f)
	if err != nil {
		return err
	}
	return show(c, about, about.table)
}

// fileAbout is what a file says of itself.
type fileAbout struct {
	Kind     string             `json:"kind"`
	Root     string             `json:"root"`
	Name     string             `json:"name"`
	Version  string             `json:"version"`
	Channel  string             `json:"channel"`
	Sequence uint64             `json:"sequence"`
	Bases    []string           `json:"bases,omitempty"`
	Expires  string             `json:"expires,omitempty"`
	Contains []bundle.Contained `json:"contains,omitempty"` // releases of channel security whose fixes are in it
	Signed   bool               `json:"signed"`
	Blobs    int                `json:"blobs"`
}

func describeFile(ctx context.Context, f *bundle.File) (fileAbout, error) {
	root, st, err := bundle.StatementOf(ctx, f, time.Unix(0, 0))
	if err != nil {
		return fileAbout{}, err
	}
	env, err := f.Envelope(ctx, root.Digest)
	if err != nil {
		return fileAbout{}, err
	}
	blobs, err := f.Blobs()
	if err != nil {
		return fileAbout{}, err
	}
	r, err := f.ReleaseUnverified(ctx)
	if err != nil {
		return fileAbout{}, err
	}
	return fileAbout{Expires: r.Expires, Contains: r.Contains, Kind: st.Kind, Root: string(root.Digest), Name: st.Name, Version: st.Version, Channel: st.Channel, Sequence: st.Sequence,
		Bases: st.Bases, Signed: env != nil, Blobs: len(blobs)}, nil
}

func (a fileAbout) table(w io.Writer) error {
	fmt.Fprintf(w, "kind\t%s\nroot\t%s\nrelease\t%s %s (channel %s, sequence %d)\n", a.Kind, a.Root, a.Name, a.Version, a.Channel, a.Sequence)
	if a.Expires != "" {
		fmt.Fprintf(w, "expires\t%s\n", a.Expires)
	}
	for _, c := range a.Contains {
		fmt.Fprintf(w, "contains\t%s: %s\n", c.Version, strings.Join(c.Fixes, ", "))
	}
	for _, b := range a.Bases {
		fmt.Fprintf(w, "base\t%s\n", b)
	}
	_, err := fmt.Fprintf(w, "signed\t%v (not checked here: wcbundle verify does)\nblobs\t%d\n", a.Signed, a.Blobs)
	return err
}
