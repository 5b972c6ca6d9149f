package install

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

// depot is a site with a real registry, into which releases are put without their signatures: gc asks for none.
type depot struct {
	t     *testing.T
	reg   *registry.Registry
	rec   *Record
	store FileStore
}

// newDepot serves the embedded registry; behind is what stands in front of it, nil for nothing.
func newDepot(t *testing.T, behind func(http.Handler) http.Handler) depot {
	t.Helper()
	h, err := registry.Handler(t.Context(), registry.ServeOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if behind != nil {
		h = behind(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	reg, err := registry.New(registry.Options{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	return depot{t, reg, &Record{APIVersion: RecordVersion, Site: "s", Product: "shop", Trust: []byte(`{}`), Registry: Address{Push: host, Pull: host}},
		FileStore{filepath.Join(t.TempDir(), "site.json")}}
}

func (d depot) target() Target { return Target{Registry: d.reg, Record: d.rec, Now: testNow} }

func (d depot) put(repo, mediaType string, b []byte) ocispec.Descriptor {
	d.t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	if err := d.reg.Push(context.Background(), repo, desc, bytes.NewReader(b)); err != nil {
		d.t.Fatal(err)
	}
	return desc
}

func (d depot) putJSON(repo, mediaType string, v any) ocispec.Descriptor {
	d.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.put(repo, mediaType, b)
}

// image puts an image of these layers.
func (d depot) image(repo string, layers ...string) (ocispec.Descriptor, []ocispec.Descriptor) {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: d.put(repo, ocispec.MediaTypeImageConfig, []byte(`{"of":"`+layers[0]+`"}`))}
	for _, l := range layers {
		m.Layers = append(m.Layers, d.put(repo, ocispec.MediaTypeImageLayer, []byte(l)))
	}
	return d.putJSON(repo, ocispec.MediaTypeImageManifest, m), append(m.Layers, m.Config)
}

const appRepo = "registry.example.com/shop/app"

// load puts a release of one image into the registry and the record.
func (d depot) load(version string, layers ...string) ocispec.Descriptor {
	d.t.Helper()
	man, blobs := d.image(appRepo, layers...)
	rel := bundle.Release{Name: "shop", Version: version + ".0.0", Channel: "stable", Sequence: uint64(len(d.rec.Loads) + 1), Platforms: []string{"linux/amd64"},
		Images: []bundle.Image{{Ref: appRepo + ":" + version, Manifest: man}}, Charts: []bundle.Chart{}}
	for _, b := range blobs {
		rel.Closure = append(rel.Closure, bundle.Blob{Descriptor: b, Kind: bundle.KindBlob, Repos: []string{appRepo}})
	}
	rel.Closure = append(rel.Closure, bundle.Blob{Descriptor: man, Kind: bundle.KindManifest, Repos: []string{appRepo}})
	head := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: bundle.ArtifactRelease,
		Config: d.put("shop/release", ocispec.DescriptorEmptyJSON.MediaType, []byte("{}")), Layers: []ocispec.Descriptor{d.putJSON("shop/release", bundle.MediaRelease, rel)}}
	h := d.putJSON("shop/release", ocispec.MediaTypeImageManifest, head)
	d.rec.Loads = append(d.rec.Loads, Loaded{Version: rel.Version, Channel: rel.Channel, Sequence: rel.Sequence, Head: h, At: testNow})
	return man
}

func (d depot) tag(repo, tag string, m ocispec.Descriptor) {
	d.t.Helper()
	raw, err := d.reg.Fetch(context.Background(), repo, m, 1<<20)
	if err == nil {
		err = d.reg.Tag(context.Background(), repo, m, raw, tag)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// gc decides by use and removes.
func (d depot) gc(use Use) *GCReport {
	d.t.Helper()
	g, err := judge(d.t.Context(), d.target(), use)
	if err == nil {
		err = g.run(d.t.Context(), CleanOptions{Store: Stores{d.store}})
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return g.report
}

// whole reads every byte of a release by digest.
func (d depot) whole(head ocispec.Descriptor) error {
	s, err := readStock(context.Background(), d.reg, "shop", head)
	if err != nil {
		return err
	}
	if s.release == nil {
		return errors.New("its head is gone")
	}
	for _, h := range s.all() {
		r, err := d.reg.Open(context.Background(), h.repo, h.Descriptor)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		r.Close()
	}
	return nil
}

func (d depot) has(text string) bool {
	d.t.Helper()
	ok, err := d.reg.Has(context.Background(), appRepo, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromString(text), Size: int64(len(text))})
	if err != nil {
		d.t.Fatal(err)
	}
	return ok
}

// unswept is a registry that is not the embedded one: it does not know the order to sweep.
func unswept(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/wcbundle/") {
			http.NotFound(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// TestGC: what runs, what waits and what a revision names can be read to the last byte afterwards, and rollback's own check says so;
// what nothing needs is gone; and what no load has brought is as it was, with what it shares with us.
func TestGC(t *testing.T) {
	for name, behind := range map[string]func(http.Handler) http.Handler{"embedded": nil, "another registry": unswept} {
		t.Run(name, func(t *testing.T) {
			d := newDepot(t, behind)
			ctx := t.Context()
			d.load("1", "one", "shared")
			named := d.load("2", "two", "named by a revision")
			d.load("3", "three", "shared")
			d.load("4", "four", "of a stranger")
			d.load("5", "five", "shared")
			d.load("6", "six")
			d.rec.Installed = &Installed{Version: "5.0.0", Head: d.rec.Loads[4].Head}
			stranger, _ := d.image(appRepo, "stranger", "of a stranger")
			d.tag(appRepo, "theirs", stranger)
			other, _ := d.image("other/app", "other")
			d.tag("other/app", "1", other)
			kept := []ocispec.Descriptor{d.rec.Loads[2].Head, d.rec.Loads[4].Head, d.rec.Loads[5].Head}
			manifest := "image: \"" + d.rec.Registry.Pull + "/" + appRepo + "@" + string(named.Digest) + "\"\n"
			use := Use{Known: true, Revisions: []UsedRevision{
				{Number: 7, Version: "3.0.0", Because: BecauseRevision}, {Number: 8, Version: "5.0.0", Because: BecauseRuns},
				{Number: 2, Because: BecauseRevision, Refs: pinnedRefs(manifest, d.rec.Registry.Pull)}}}
			rep := d.gc(use)
			if !slices.Equal(rep.Foreign, []string{"other/app", appRepo + ":theirs"}) {
				t.Errorf("foreign is %v", rep.Foreign)
			}
			for _, head := range kept {
				if err := d.whole(head); err != nil {
					t.Errorf("%s, which is kept: %v", head.Digest, err)
				}
			}
			if missing, err := missingContent(ctx, d.target(), manifest); err != nil || len(missing) > 0 {
				t.Errorf("rollback would miss %v, %v", missing, err)
			}
			for text, want := range map[string]bool{"one": false, "two": true, "named by a revision": true, "shared": true, "three": true, "four": false, "of a stranger": true, "stranger": true, "five": true, "six": true} {
				if got := d.has(text); got != want {
					t.Errorf("layer %q: there is %v, want %v", text, got, want)
				}
			}
			if _, err := d.reg.Resolve(ctx, "other/app", "1"); err != nil {
				t.Error(err)
			}
			if len(d.rec.Loads) != 3 || len(d.rec.Dropped) != 3 || slices.ContainsFunc(d.rec.Dropped, Dropped.pending) {
				t.Errorf("the record has %d loads and dropped %+v", len(d.rec.Loads), d.rec.Dropped)
			}
			if (rep.Swept != nil) != (behind == nil) || behind == nil && rep.Swept.Blobs != rep.Removed.Blobs {
				t.Errorf("swept %+v of %+v", rep.Swept, rep.Removed)
			}
			if again := d.gc(use); !again.Nothing() || again.Swept != nil && again.Swept.Blobs > 0 {
				t.Errorf("a second run finds %+v", again)
			}
		})
	}
}

// TestGCExplains: every blob is in the report, with who needs it or why it goes, and sums count each once.
func TestGCExplains(t *testing.T) {
	d := newDepot(t, nil)
	d.load("1", "one", "shared")
	d.load("2", "two", "shared")
	d.rec.Installed = &Installed{Version: "2.0.0", Head: d.rec.Loads[1].Head}
	rep, err := PlanGC(t.Context(), d.target(), CleanOptions{Blind: true})
	if err != nil {
		t.Fatal(err)
	}
	why := map[digest.Digest]string{}
	total := map[digest.Digest]int64{}
	for _, b := range rep.Blobs {
		why[b.Digest] += fmt.Sprint(b.Keep, b.Remove)
		total[b.Digest] = b.Size
	}
	for text, want := range map[string]string{"one": "[] [1.0.0]", "two": "[{runs release 2.0.0: it runs}] []", "shared": "[{runs release 2.0.0: it runs}] [1.0.0]"} {
		if got := why[digest.FromString(text)]; got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	var blobs int
	var bytes int64
	for _, s := range append(rep.Sums, rep.Removed) {
		blobs, bytes = blobs+s.Blobs, bytes+s.Bytes
	}
	var all int64
	for _, n := range total {
		all += n
	}
	if blobs != len(total) || bytes != all {
		t.Errorf("the sums have %d blobs, %d bytes; there are %d, %d", blobs, bytes, len(total), all)
	}
	if len(d.rec.Loads) != 2 || !d.has("one") {
		t.Error("a dry run changed something")
	}
}

// TestGCRefuses: nothing is removed, and the record stays, where what is kept cannot be read or the registry lets nobody delete.
func TestGCRefuses(t *testing.T) {
	allowed := true
	d := newDepot(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodDelete && !allowed {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	d.load("1", "one")
	d.load("2", "two")
	d.rec.Installed = &Installed{Version: "2.0.0", Head: d.rec.Loads[1].Head}
	if err := d.store.Save(t.Context(), &Record{APIVersion: RecordVersion, Generation: 1, Trust: []byte(`{}`), Product: "shop", Loads: d.rec.Loads, Installed: d.rec.Installed}); err != nil {
		t.Fatal(err)
	}
	yes := func(*GCReport) (bool, error) { return true, nil }
	opt := CleanOptions{Store: Stores{d.store}, Blind: true, Journal: filepath.Join(t.TempDir(), "load.journal")}
	refused := func(want error) {
		t.Helper()
		if _, err := GC(t.Context(), d.target(), opt, yes); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		r, err := d.store.Load(t.Context())
		if err != nil || len(r.Loads) != 2 || r.Generation != 1 || !d.has("one") {
			t.Errorf("something changed: %+v, %v", r, err)
		}
	}
	allowed = false
	refused(registry.ErrNoDelete)
	allowed = true
	f, err := lockJournal(opt.Journal)
	if err != nil {
		t.Fatal(err)
	}
	refused(ErrLoading)
	f.Close()
	if _, err := GC(t.Context(), d.target(), opt, func(*GCReport) (bool, error) { return false, nil }); err != nil {
		t.Error(err)
	}
	refused0 := errors.New("nobody to ask")
	if _, err := GC(t.Context(), d.target(), opt, func(*GCReport) (bool, error) { return false, refused0 }); !errors.Is(err, refused0) {
		t.Error(err)
	}
	if err := d.reg.Delete(t.Context(), "shop/release", d.rec.Loads[1].Head); err != nil {
		t.Fatal(err)
	}
	var missing *MissingError
	if _, err := GC(t.Context(), d.target(), opt, yes); !errors.As(err, &missing) || missing.Version != "2.0.0" || !d.has("one") {
		t.Errorf("what is kept cannot be read: %v", err)
	}
}

// TestGCKeepsWhatALoadHasBrought: blobs that a load which was cut off has brought in are not freed, however old they are.
func TestGCKeepsWhatALoadHasBrought(t *testing.T) {
	d := newDepot(t, nil)
	d.load("1", "one", "of both")
	d.rec.drop(d.rec.Loads[0].Head.Digest, "test", testNow)
	if err := d.store.Save(t.Context(), d.rec); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "load.journal")
	j, err := OpenJournal(path, digest.FromString("head"), "r:5000", "2.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Add(digest.FromString("of both")), j.Close(false)); err != nil {
		t.Fatal(err)
	}
	d.rec.Generation++
	opt := CleanOptions{Store: Stores{d.store}, Journal: path}
	if _, err := GC(t.Context(), d.target(), opt, func(*GCReport) (bool, error) { return true, nil }); err != nil {
		t.Fatal(err)
	}
	if d.has("one") || !d.has("of both") {
		t.Errorf("one: %v, of both: %v", d.has("one"), d.has("of both"))
	}
	u, err := ReadJournal(path)
	if err != nil || u == nil || u.What != "2.0.0" || u.Blobs != 1 || u.Running {
		t.Errorf("the journal says %+v, %v", u, err)
	}
}

// TestEdge56NoAnswer: a registry that does not answer lacks nothing.
func TestEdge56NoAnswer(t *testing.T) {
	var away atomic.Bool
	d := newDepot(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if away.Load() {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	man := d.load("1", "one")
	away.Store(true)
	if gone, err := missingContent(t.Context(), d.target(), "image: "+d.rec.Registry.Pull+"/"+appRepo+"@"+string(man.Digest)); err == nil {
		t.Errorf("a registry that refuses is said to lack %v", gone)
	}
}

// TestEdge56ContentGone: what a revision's manifest takes from the registry and the registry does not have is named, with all the rest.
func TestEdge56ContentGone(t *testing.T) {
	d := newDepot(t, nil)
	man := d.load("1", "one", "two")
	manifest := "image: " + d.rec.Registry.Pull + "/" + appRepo + "@" + string(man.Digest)
	if gone, err := missingContent(t.Context(), d.target(), manifest); err != nil || len(gone) != 0 {
		t.Fatalf("all is there, and %v, %v", gone, err)
	}
	_, layers := d.image(appRepo, "one", "two")
	if err := d.reg.Delete(t.Context(), appRepo, layers[1]); err != nil {
		t.Fatal(err)
	}
	gone, err := missingContent(t.Context(), d.target(), manifest)
	if err != nil || len(gone) != 1 || !strings.Contains(gone[0], string(layers[1].Digest)) {
		t.Errorf("gone %v, %v", gone, err)
	}
	whole := d.putJSON(appRepo, ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{man}})
	manifest = "image: " + d.rec.Registry.Pull + "/" + appRepo + "@" + string(whole.Digest)
	if gone, err := missingContent(t.Context(), d.target(), manifest); err != nil || len(gone) != 1 || !strings.Contains(gone[0], string(layers[1].Digest)) {
		t.Errorf("gone of an index %v, %v", gone, err)
	}
	e := &ImpossibleError{Revision: 7, Reasons: []string{"the registry lacks x", "the cluster does not serve y any more"}}
	if text := e.Error(); !strings.Contains(text, "revision 7") || !strings.Contains(text, "lacks x") || !strings.Contains(text, "serve y") {
		t.Errorf("not every reason is told: %s", text)
	}
}
