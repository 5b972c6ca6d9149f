package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// What load is held to.
const (
	loadFactor = 1.3   // of the time to hash and write the same bytes
	loadRSS    = 300e6 // bytes
	loadExtra  = 0.05  // of the bundle
	loadAgain  = 1.0   // seconds per 100 blobs that are there
	craneTool  = "github.com/google/go-containerregistry/cmd/crane@v0.22.1"
)

// The layers of the image that is loaded, in MiB, and how many tiny ones the second image has.
var (
	loadLayers = []int{1536, 256, 256, 256, 256, 256, 256}
	loadQuick  = []int{32, 8, 8}
)

const loadMany = 300

// A LoadRow is the full load of one image into an empty registry on loopback, beside programs that push the same image there. The
// registry is ours for all of them, a new one each time.
type LoadRow struct {
	Machine Machine `json:"machine"`
	Version string  `json:"version"` // of ours
	Crane   string  `json:"crane"`
	Skopeo  string  `json:"skopeo,omitempty"` // "" where it is not installed
	Size    int64   `json:"size"`             // of the bundle
	Layers  int     `json:"layers"`
	Rounds  int     `json:"rounds"`
	Load    Cost    `json:"load"`
	Push    Cost    `json:"push"`           // crane push
	Copy    *Cost   `json:"copy,omitempty"` // skopeo copy
	Write   Cost    `json:"write"`          // reading, hashing and writing the bundle's bytes, with fsync, in one thread
	Extra   int64   `json:"extra"`          // bytes on disk at most beyond the registry's copy of the bundle
	Many    int     `json:"many"`           // blobs of a second bundle
	Again   Cost    `json:"again"`          // loading it when all of them are there
}

// Per100 is the seconds that a hundred blobs take that are there.
func (l *LoadRow) Per100() float64 { return l.Again.Wall * 100 / float64(max(l.Many, 1)) }

// Than is how many times the wall time of the other program load takes.
func (l *LoadRow) Than(other Cost) float64 { return l.Load.Wall / max(other.Wall, 1e-3) }

// writeCommand is the hidden first argument that makes this program hash and write a file.
const writeCommand = "hash-and-write"

func hashAndWrite(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(sum, out)}, struct{ io.Reader }{in}, make([]byte, 1<<20)); err != nil {
		return err
	}
	return out.Sync()
}

// bench is one load benchmark at work.
type loadBench struct {
	o    *options
	dir  string
	row  *LoadRow
	argv map[string]func(host string) []string
	env  []string
}

func (o *options) load() (*LoadRow, error) {
	if o.wcbundle == "" {
		return nil, errors.New("load needs -wcbundle")
	}
	dir, err := os.MkdirTemp("", "wcbench-load")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	b := &loadBench{o: o, dir: dir, row: &LoadRow{Machine: thisMachine(), Rounds: max(o.runs, 3)}}
	b.env = append(os.Environ(), "WCBUNDLE_PASSWORD=bench", "WCBUNDLE_STATE_DIR="+filepath.Join(dir, "state"), "TMPDIR="+filepath.Join(dir, "tmp"))
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "tmp"), 0o755), b.prepare()); err != nil {
		return nil, err
	}
	if err := b.rounds(); err != nil {
		return nil, err
	}
	if err := b.extra(); err != nil {
		return nil, err
	}
	return b.row, b.again()
}

// prepare builds the two bundles and finds the other programs.
func (b *loadBench) prepare() (err error) {
	layers := loadLayers
	if b.o.quick {
		layers = loadQuick
	}
	if b.row.Version, err = programVersion(b.o.wcbundle)(); err != nil {
		return err
	}
	if err := b.tool("go", "install", craneTool); err != nil {
		return err
	}
	b.row.Crane = craneTool[strings.LastIndex(craneTool, "@")+1:]
	b.row.Skopeo, err = debian("skopeo")()
	if err != nil {
		b.row.Skopeo = ""
	}
	if err := b.ours("keys", "generate", "--prefix", "key"); err != nil {
		return err
	}
	var sizes []int
	for _, mib := range layers {
		sizes = append(sizes, mib<<20)
	}
	if err := b.bundle("large", sizes); err != nil {
		return err
	}
	if b.row.Layers = len(layers); b.o.quick {
		return b.bundle("many", make([]int, 30))
	}
	return b.bundle("many", make([]int, loadMany))
}

func (b *loadBench) tool(argv ...string) error {
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "GOBIN="+filepath.Join(b.dir, "bin"), "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", argv, err, tail(out))
	}
	return nil
}

func (b *loadBench) ours(args ...string) error {
	c := exec.Command(b.o.wcbundle, args...)
	c.Dir, c.Env = b.dir, b.env
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("wcbundle %v: %w: %s", args, err, tail(out))
	}
	return nil
}

// bundle makes NAME/image, an OCI layout, and NAME.wcb with it, signed, and trust-NAME.json.
func (b *loadBench) bundle(name string, layers []int) error {
	dir := filepath.Join(b.dir, name)
	if err := writeLayout(filepath.Join(dir, "image"), layers); err != nil {
		return err
	}
	for path, text := range map[string]string{
		"bundle.yaml": "apiVersion: bundle.wordcab.com/v1alpha1\nkind: Bundle\nmetadata: {name: " + name + ", version: 1.0.0, channel: stable, sequence: 1}\n" +
			"charts:\n- {name: verify, source: ./chart, release: verify, namespace: verify}\n" +
			"images:\n- {ref: \"registry.example.com/bench/" + name + ":1\", source: \"oci:./image\"}\n",
		"chart/Chart.yaml": verifyChart, "chart/templates/verify.yaml": verifyObject,
	} {
		path = filepath.Join(dir, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	if err := b.ours("build", "-f", name+"/bundle.yaml", "--out", name+".wcb"); err != nil {
		return err
	}
	if err := b.ours("sign", "--key", "key.key", name+".wcb"); err != nil {
		return err
	}
	return b.ours("trust", "init", "--product", name, "--release-key", "key.pub", "--out", "trust-"+name+".json")
}

// serve runs a registry on a new folder until stop is called.
func (b *loadBench) serve() (host string, stop func(), err error) {
	dir := filepath.Join(b.dir, "registry")
	if err := os.RemoveAll(dir); err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, b.o.wcbundle, "registry", "serve", "--addr", "127.0.0.1:0", "--dir", dir)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		cancel()
		return "", nil, err
	}
	stop = func() { cancel(); c.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("the registry did not start: %w", err)
	}
	return strings.TrimSpace(line[strings.LastIndexByte(line, ' '):]), stop, nil
}

// site sets a site up that uses the registry.
func (b *loadBench) site(name, host string) error {
	if err := os.RemoveAll(filepath.Join(b.dir, "state")); err != nil {
		return err
	}
	return b.ours("trust", "accept", "--site", "bench", "--registry", host, "--yes", "trust-"+name+".json")
}

func (b *loadBench) measure(argv ...string) (Cost, error) {
	for _, e := range b.env[len(b.env)-3:] {
		name, value, _ := strings.Cut(e, "=")
		os.Setenv(name, value)
	}
	return measure(argv...)
}

func (b *loadBench) loadOnce(name, host string) (Cost, error) {
	if err := b.site(name, host); err != nil {
		return Cost{}, err
	}
	return b.measure(b.o.wcbundle, "load", filepath.Join(b.dir, name+".wcb"))
}

// rounds runs the programs in turns, after one round that fills the page cache and does not count.
func (b *loadBench) rounds() error {
	file := filepath.Join(b.dir, "large.wcb")
	st, err := os.Stat(file)
	if err != nil {
		return err
	}
	b.row.Size = st.Size()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	image := filepath.Join(b.dir, "large", "image")
	programs := []struct {
		name string
		run  func(host string) (Cost, error)
	}{
		{"load", func(host string) (Cost, error) { return b.loadOnce("large", host) }},
		{"crane", func(host string) (Cost, error) {
			return b.measure(filepath.Join(b.dir, "bin", "crane"), "push", image, host+"/bench/large:1")
		}},
		{"write", func(string) (Cost, error) {
			to := filepath.Join(b.dir, "written")
			defer os.Remove(to)
			return b.measure(self, writeCommand, file, to)
		}},
	}
	if b.row.Skopeo != "" {
		programs = append(programs, struct {
			name string
			run  func(host string) (Cost, error)
		}{"skopeo", func(host string) (Cost, error) {
			return b.measure("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--preserve-digests", "oci:"+image, "docker://"+host+"/bench/large:1")
		}})
	}
	costs := map[string][]Cost{}
	for round := range b.row.Rounds + 1 {
		for _, p := range programs {
			c, err := b.oneRun(p.run)
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "load: %-7s %6.2f s, %6.2f s CPU, %4d MB\n", p.name, c.Wall, c.CPU, c.RSS/1e6)
			if round > 0 {
				costs[p.name] = append(costs[p.name], c)
			}
		}
	}
	b.row.Load, b.row.Push, b.row.Write = medianCost(costs["load"]), medianCost(costs["crane"]), medianCost(costs["write"])
	for _, c := range costs["load"] {
		b.row.Load.RSS = max(b.row.Load.RSS, c.RSS) // a limit holds in every run
	}
	if b.row.Skopeo != "" {
		c := medianCost(costs["skopeo"])
		b.row.Copy = &c
	}
	return nil
}

func (b *loadBench) oneRun(run func(host string) (Cost, error)) (Cost, error) {
	host, stop, err := b.serve()
	if err != nil {
		return Cost{}, err
	}
	defer stop()
	return run(host)
}

// extra looks, while a load runs, how much is on disk in the registry's folder, the site's and that for temporary files together.
func (b *loadBench) extra() error {
	host, stop, err := b.serve()
	if err != nil {
		return err
	}
	defer stop()
	var most atomic.Int64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			most.Store(max(most.Load(), onDisk(filepath.Join(b.dir, "registry"))+onDisk(filepath.Join(b.dir, "state"))+onDisk(filepath.Join(b.dir, "tmp"))))
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	_, err = b.loadOnce("large", host)
	close(done)
	<-ended
	b.row.Extra = max(0, most.Load()-b.row.Size)
	return err
}

// onDisk sums the blocks of the files below a folder. Files that come and go meanwhile are no error.
func onDisk(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if st, err := d.Info(); err == nil {
			n += st.Size()
		}
		return nil
	})
	return n
}

// again measures a load of many small blobs that are all there.
func (b *loadBench) again() error {
	host, stop, err := b.serve()
	if err != nil {
		return err
	}
	defer stop()
	if _, err := b.loadOnce("many", host); err != nil {
		return err
	}
	var all []Cost
	for range b.row.Rounds {
		c, err := b.measure(b.o.wcbundle, "load", "-o", "json", filepath.Join(b.dir, "many.wcb"))
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	b.row.Again = medianCost(all)
	c := exec.Command(b.o.wcbundle, "load", "-o", "json", filepath.Join(b.dir, "many.wcb"))
	c.Env = b.env
	out, err := c.Output()
	if err != nil {
		return withStderr(err)
	}
	var rep struct{ Blobs int }
	err = json.Unmarshal(out, &rep)
	b.row.Many = rep.Blobs
	return err
}

// writeLayout writes an OCI layout of one image. Its layers are gzip files, so that no program recompresses them, of random bytes.
func writeLayout(dir string, layers []int) error {
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return err
	}
	type desc map[string]any
	put := func(mediaType string, v any) (desc, error) {
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(raw)
		hex := hex.EncodeToString(sum[:])
		return desc{"mediaType": mediaType, "digest": "sha256:" + hex, "size": len(raw)}, os.WriteFile(filepath.Join(blobs, hex), raw, 0o644)
	}
	var list []desc
	var plain []string
	for i, n := range layers {
		d, diff, size, err := writeLayer(blobs, i, n)
		if err != nil {
			return err
		}
		list = append(list, desc{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:" + d, "size": size})
		plain = append(plain, "sha256:"+diff)
	}
	cfg, err := put("application/vnd.oci.image.config.v1+json", desc{"architecture": "amd64", "os": "linux", "rootfs": desc{"type": "layers", "diff_ids": plain}})
	if err != nil {
		return err
	}
	const manifest = "application/vnd.oci.image.manifest.v1+json"
	man, err := put(manifest, desc{"schemaVersion": 2, "mediaType": manifest, "config": cfg, "layers": list})
	if err != nil {
		return err
	}
	index, err := json.Marshal(desc{"schemaVersion": 2, "manifests": []any{man}})
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "index.json"), index, 0o644),
		os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644))
}

func writeLayer(blobs string, number, n int) (digest, diff string, size int64, err error) {
	f, err := os.CreateTemp(blobs, "layer-*")
	if err != nil {
		return "", "", 0, err
	}
	defer f.Close()
	sum, inner := sha256.New(), sha256.New()
	buf := bufio.NewWriterSize(f, 1<<20)
	zw, err := gzip.NewWriterLevel(io.MultiWriter(sum, buf), gzip.NoCompression)
	if err != nil {
		return "", "", 0, err
	}
	tw := tar.NewWriter(io.MultiWriter(inner, zw))
	body := io.LimitReader(rand.New(rand.NewSource(int64(number))), int64(n))
	if n == 0 {
		n = 512
		body = bytes.NewReader(bytes.Repeat([]byte{byte(number)}, n))
	}
	err = tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("layer/%d", number), Mode: 0o644, Size: int64(n)})
	if err == nil {
		_, err = io.Copy(tw, body)
	}
	if err = errors.Join(err, tw.Close(), zw.Close(), buf.Flush(), f.Close()); err != nil {
		return "", "", 0, err
	}
	st, err := os.Stat(f.Name())
	if err != nil {
		return "", "", 0, err
	}
	name := hex.EncodeToString(sum.Sum(nil))
	return name, hex.EncodeToString(inner.Sum(nil)), st.Size(), os.Rename(f.Name(), filepath.Join(blobs, name))
}

// loadTargets judge the row.
func loadTargets(r *Results) []verdict {
	names := []string{"load: time of crane push", "load: time of skopeo copy", "load: time to hash and write the bytes", "load: memory", "load: extra disk", "load: again, per 100 blobs"}
	wants := []string{"<= 1.00", "<= 1.00", "<= 1.30", "< 300 MB", "< 5 %", "< 1 s"}
	l := r.Load
	if l == nil {
		var out []verdict
		for i, n := range names {
			out = append(out, missing(n, wants[i]))
		}
		return out
	}
	how := fmt.Sprintf("a bundle of %s", megabytes(l.Size))
	ratio := func(i int, limit float64, other Cost) verdict {
		x := l.Than(other)
		return judge(names[i], wants[i], x <= limit, fmt.Sprintf("%s (%s)", number(x), how))
	}
	all := []verdict{ratio(0, 1, l.Push)}
	if l.Copy != nil {
		all = append(all, ratio(1, 1, *l.Copy))
	} else {
		all = append(all, missing(names[1], wants[1]))
	}
	share := float64(l.Extra) / float64(max(l.Size, 1))
	all = append(all, ratio(2, loadFactor, l.Write),
		judge(names[3], wants[3], l.Load.RSS < loadRSS, fmt.Sprintf("%.0f MB (%s)", float64(l.Load.RSS)/mega, how)),
		judge(names[4], wants[4], share < loadExtra, fmt.Sprintf("%.1f %% (%s)", share*100, how)),
		judge(names[5], wants[5], l.Per100() < loadAgain, fmt.Sprintf("%.2f s (%d blobs)", l.Per100(), l.Many)))
	if l.Size < 1<<30 {
		for i := range all {
			all[i].state = "incomplete"
		}
	}
	return all
}
