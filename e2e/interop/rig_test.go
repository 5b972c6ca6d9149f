//go:build e2e

package interop

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// rig is the commands, the keys and two registries on loopback: ours, which has no referrers API, and one that has.
type rig struct {
	t      *testing.T
	dir    string
	ours   string
	cosign map[string]string // by version
	plain  string            // host:port of wcbundle registry serve
	api    string            // host:port of a registry with the referrers API
	count  int
}

var (
	versions   = []string{"2.6.5", "3.1.3"}
	algorithms = []string{"ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-3072"}
)

const password = "interop"

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), ours: os.Getenv("INTEROP_BINARY"),
		cosign: map[string]string{"2.6.5": os.Getenv("INTEROP_COSIGN2"), "3.1.3": os.Getenv("INTEROP_COSIGN3")}}
	for _, path := range []string{r.ours, r.cosign["2.6.5"], r.cosign["3.1.3"]} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("a command is missing: run make e2e (%v)", err)
		}
	}
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	t.Cleanup(server.Close)
	r.api = strings.TrimPrefix(server.URL, "http://")
	r.plain = r.serve()
	for _, a := range algorithms {
		r.wcbundle(0, "keys", "generate", "--prefix", a, "--algorithm", a)
	}
	r.wcbundle(0, "keys", "generate", "--prefix", "other")
	r.write("root.json", `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`)
	r.write("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n")
	r.write("chart/templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\n")
	return r
}

// serve runs our registry and reads from its output where it listens.
func (r *rig) serve() string {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, r.ours, "registry", "serve", "--addr", "127.0.0.1:0", "--dir", filepath.Join(r.dir, "registry"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	at := strings.Index(line, "127.0.0.1:")
	if err != nil || at < 0 {
		r.t.Fatalf("the registry says %q, %v", line, err)
	}
	return strings.Fields(line[at:])[0]
}

func (r *rig) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// run runs a command in the rig's folder and returns its exit code and output. Nothing is decided by what it prints: cosign's
// sentences are not to be relied on.
func (r *rig) run(state, path string, args ...string) (int, string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(r.dir, "home"), "COSIGN_PASSWORD=" + password,
		"WCBUNDLE_PASSWORD=" + password, "WCBUNDLE_STATE_DIR=" + filepath.Join(r.dir, "state", state)}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		r.t.Fatalf("%s %v: %v", path, args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// wcbundle runs our binary and wants an exit code.
func (r *rig) wcbundle(code int, args ...string) string { return r.atSite("", code, args...) }

func (r *rig) atSite(state string, code int, args ...string) string {
	r.t.Helper()
	got, out := r.run(state, r.ours, args...)
	if got != code {
		r.t.Fatalf("wcbundle %v: exit code %d, want %d\n%s", args, got, code, out)
	}
	return out
}

// verify asks a cosign whether a key signed a reference; the answer is a cell of a table.
func (r *rig) verify(version, key string, args ...string) string {
	r.t.Helper()
	code, _ := r.run("", r.cosign[version], append([]string{"verify", "--key", key + ".pub", "--insecure-ignore-tlog=true"}, args...)...)
	if code == 0 {
		return "yes"
	}
	return "no"
}

func (r *rig) inRegistry(version, key, ref string) string {
	return r.verify(version, key, "--private-infrastructure", ref)
}

func (r *rig) withRoot(version, key, ref string) string {
	return r.verify(version, key, "--private-infrastructure", "--trusted-root", "root.json", ref)
}

// product writes a definition of a release and builds it; images are lines of the definition.
func (r *rig) product(code int, name, version string, images ...string) (file, output string) {
	r.t.Helper()
	r.count++
	definition := fmt.Sprintf("%s-%d.yaml", name, r.count)
	sequence := 1 + strings.Count(version, "1.1.")
	r.write(definition, fmt.Sprintf("apiVersion: bundle.wordcab.com/v1alpha1\nkind: Bundle\nmetadata: {name: %s, version: %s, channel: stable, sequence: %d}\n"+
		"charts: [{name: shop, source: ./chart, release: shop, namespace: shop}]\nimages: [%s]\n", name, version, sequence, strings.Join(images, ", ")))
	file = fmt.Sprintf("%s-%d.wcb", name, r.count)
	return file, r.wcbundle(code, "build", "-f", definition, "--out", file)
}

// site sets a site up that trusts the key and loads into a registry; it returns the site's name.
func (r *rig) site(product, key, registry string) string {
	r.t.Helper()
	r.count++
	site := fmt.Sprintf("site-%d", r.count)
	r.wcbundle(0, "trust", "init", "--product", product, "--release-key", key+".pub", "--out", site+".json")
	r.atSite(site, 0, "trust", "accept", "--yes", "--site", site, "--registry", registry, site+".json")
	return site
}

// image pushes a new image and returns its reference by digest.
func (r *rig) image(registry, repo string) string {
	r.t.Helper()
	ref, err := name.ParseReference(registry + "/" + repo + ":v1")
	if err != nil {
		r.t.Fatal(err)
	}
	img, err := random.Image(300, 1)
	if err != nil {
		r.t.Fatal(err)
	}
	img = mutate.MediaType(img, types.OCIManifestSchema1)
	if err := remote.Write(ref, img); err != nil {
		r.t.Fatal(err)
	}
	return r.digest(ref, img)
}

// index pushes an index of two platforms and returns its reference by digest.
func (r *rig) index(registry, repo string) string {
	r.t.Helper()
	ref, err := name.ParseReference(registry + "/" + repo + ":v1")
	if err != nil {
		r.t.Fatal(err)
	}
	ix := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		img, err := random.Image(300, 1)
		if err != nil {
			r.t.Fatal(err)
		}
		ix = mutate.AppendManifests(ix, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	if err := remote.WriteIndex(ref, ix); err != nil {
		r.t.Fatal(err)
	}
	return r.digest(ref, ix)
}

func (r *rig) digest(ref name.Reference, x interface{ Digest() (v1.Hash, error) }) string {
	r.t.Helper()
	d, err := x.Digest()
	if err != nil {
		r.t.Fatal(err)
	}
	return ref.Context().Digest(d.String()).Name()
}

// extract unpacks a bundle into a folder: it is an OCI layout.
func (r *rig) extract(file string) string {
	r.t.Helper()
	dir := strings.TrimSuffix(file, ".wcb") + ".layout"
	if err := os.Mkdir(filepath.Join(r.dir, dir), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if code, out := r.run("", "tar", "-xf", file, "-C", dir); code != 0 {
		r.t.Fatal(out)
	}
	return dir
}
