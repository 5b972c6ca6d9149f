package bundle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/wordcab/wcbundle/sign"
)

// vendor is a registry with one repository, and a key that its images are signed with.
type vendor struct {
	t    testing.TB
	host string
	repo *remote.Repository
	key  sign.Signer
	dir  string // holds vendor.pub and other.pub
}

const vendorApp = "vendor/app"

func newVendor(t testing.TB, h http.Handler) *vendor {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	v := &vendor{t: t, host: strings.TrimPrefix(server.URL, "http://"), dir: t.TempDir(), key: newTestKey(t)}
	v.repo = v.repository(vendorApp)
	v.writeKey("vendor.pub", v.key)
	v.writeKey("other.pub", newTestKey(t))
	return v
}

func plainRegistry(api bool) http.Handler {
	return registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(api))
}

func newTestKey(t testing.TB) sign.Signer {
	t.Helper()
	raw, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sign.NewSigner(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (v *vendor) repository(path string) *remote.Repository {
	v.t.Helper()
	r, err := remote.NewRepository(v.host + "/" + path)
	if err != nil {
		v.t.Fatal(err)
	}
	r.PlainHTTP = true
	return r
}

func (v *vendor) writeKey(name string, s sign.Signer) {
	v.t.Helper()
	k, err := sign.NewPublicKey(s.Public())
	if err != nil {
		v.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.dir, name), k.PEM(), 0o644); err != nil {
		v.t.Fatal(err)
	}
}

func (v *vendor) push(mediaType string, b []byte, tags ...string) ocispec.Descriptor {
	v.t.Helper()
	d := content.NewDescriptorFromBytes(mediaType, b)
	if err := v.repo.Push(context.Background(), d, bytes.NewReader(b)); err != nil {
		v.t.Fatal(err)
	}
	for _, tag := range tags {
		if err := v.repo.Tag(context.Background(), d, tag); err != nil {
			v.t.Fatal(err)
		}
	}
	return d
}

func (v *vendor) pushJSON(mediaType string, form any, tags ...string) ocispec.Descriptor {
	v.t.Helper()
	raw, err := json.Marshal(form)
	if err != nil {
		v.t.Fatal(err)
	}
	return v.push(mediaType, raw, tags...)
}

// manifest is one about nothing, or about a subject, with one layer.
func (v *vendor) manifest(layer string, subject *ocispec.Descriptor) ocispec.Manifest {
	return ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: v.push(ocispec.MediaTypeImageConfig, []byte(`{"os":"linux","architecture":"amd64","l":"`+layer+`"}`)),
		Layers: []ocispec.Descriptor{v.push(ocispec.MediaTypeImageLayer, []byte(layer))}, Subject: subject,
	}
}

func (v *vendor) image(tag string) ocispec.Descriptor {
	return v.pushJSON(ocispec.MediaTypeImageManifest, v.manifest("layer of "+tag, nil), tag)
}

// index is one of two platforms.
func (v *vendor) index(tag string) ocispec.Descriptor {
	amd, arm := v.image(tag+"-amd64"), v.image(tag+"-arm64")
	amd.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	arm.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm64"}
	return v.pushJSON(ocispec.MediaTypeImageIndex, ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{amd, arm}}, tag)
}

func (v *vendor) signLegacy(subject ocispec.Descriptor, s sign.Signer) sign.CosignSignature {
	v.t.Helper()
	sig, err := sign.SignCosign(subject, v.host+"/"+vendorApp, s)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, b := range sig.Blobs {
		v.push("application/octet-stream", b)
	}
	v.push(ocispec.MediaTypeImageManifest, sig.Manifest, sig.Tag)
	return sig
}

func (v *vendor) signSigstore(subject ocispec.Descriptor, s sign.Signer) sign.SigstoreSignature {
	v.t.Helper()
	sig, err := sign.SignSigstore(subject, time.Unix(0, 0), s)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, b := range sig.Blobs {
		v.push("application/octet-stream", b)
	}
	v.push(ocispec.MediaTypeImageManifest, sig.Manifest)
	return sig
}

// build collects one image from the vendor's repository, as Build does.
func (v *vendor) build(i ImageSource) (*builder, error) {
	b := &builder{layout: NewLayout(), lines: map[digest.Digest]*Blob{}, release: &Release{Platforms: []string{"linux/amd64"}}, opt: BuildOptions{Dir: v.dir}}
	return b, b.collectImage(context.Background(), i)
}

// built is build for what must succeed, with the layout read to its last byte and the release checked.
func (v *vendor) built(ref, tag, key string) (*builder, Image) {
	v.t.Helper()
	b, err := v.build(ImageSource{Ref: ref, Source: v.host + "/" + vendorApp + ":" + tag, Key: key})
	if err != nil {
		v.t.Fatal(err)
	}
	if err := b.layout.WriteTar(context.Background(), io.Discard, nil); err != nil {
		v.t.Fatal(err)
	}
	for _, l := range b.lines {
		b.release.Closure = append(b.release.Closure, *l)
	}
	if err := b.release.checkReferrers(); err != nil {
		v.t.Fatal(err)
	}
	return b, b.release.Images[0]
}

func (i Image) listed() string {
	var out []string
	for _, r := range i.Referrers {
		end := "referrer"
		if r.Tag != "" {
			end = r.Tag[strings.LastIndexByte(r.Tag, '.')+1:]
		}
		out = append(out, end)
	}
	return strings.Join(out, " ")
}

func TestSignaturesOfAnImageTravel(t *testing.T) {
	for _, api := range []bool{false, true} {
		v := newVendor(t, plainRegistry(api))
		d := v.image("1.0")
		if b, i := v.built("registry.example.com/app:1.0", "1.0", ""); len(i.Referrers) != 0 || len(b.notes) != 0 {
			t.Errorf("api %v: nothing is there: %v, %q", api, i.Referrers, b.notes)
		}
		v.signLegacy(d, v.key)
		v.signSigstore(d, v.key)
		v.pushJSON(ocispec.MediaTypeImageManifest, v.manifest("attestation", nil), cosignTag(d, "att"))
		v.pushJSON(ocispec.MediaTypeImageManifest, v.manifest("sbom", &d))
		b, i := v.built("registry.example.com/app:1.0", "1.0", "vendor.pub")
		if got := i.listed(); got != "referrer referrer att sig" || len(b.notes) != 0 {
			t.Errorf("api %v: %q travel, noted %q", api, got, b.notes)
		}
		for _, r := range i.Referrers {
			if l := b.lines[r.Manifest.Digest]; l == nil || l.Kind != KindManifest || l.Repos[0] != "registry.example.com/app" {
				t.Errorf("api %v: line %v", api, l)
			}
		}
	}
}

func TestKeyOfAnImage(t *testing.T) {
	v := newVendor(t, plainRegistry(true))
	other := newTestKey(t)
	legacy, bundled, both, wrong := v.image("legacy"), v.image("bundled"), v.image("both"), v.image("wrong")
	v.image("unsigned")
	v.signLegacy(legacy, v.key)
	v.signSigstore(bundled, other)
	v.signSigstore(bundled, v.key)
	v.signLegacy(both, other)
	v.signSigstore(both, v.key)
	v.signLegacy(wrong, other)
	v.signSigstore(wrong, other)
	moved := v.signLegacy(v.image("another"), v.key)
	replayed := v.image("replayed")
	v.push(ocispec.MediaTypeImageManifest, moved.Manifest, cosignTag(replayed, "sig"))
	v.attachPayload(v.image("sbom-only"), func(hex string) string {
		return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + hex + `"}}],"predicateType":"https://spdx.dev/Document","predicate":{}}`
	})
	v.attachPayload(v.image("other-subject"), func(string) string {
		return `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + legacy.Digest.Encoded() +
			`"}}],"predicateType":"` + sign.PredicateCosign + `","predicate":{}}`
	})
	for _, tag := range []string{"legacy", "bundled", "both"} {
		v.built("registry.example.com/app:1", tag, "vendor.pub")
	}
	for tag, want := range map[string]sign.Reason{
		"wrong": sign.WrongKey, "unsigned": sign.Unsigned, "replayed": sign.WrongKey, "sbom-only": sign.WrongPredicate, "other-subject": sign.WrongSubject,
	} {
		_, err := v.build(ImageSource{Ref: "registry.example.com/app:1", Source: v.host + "/" + vendorApp + ":" + tag, Key: "vendor.pub"})
		var key *ImageKeyError
		var refused *sign.UntrustedError
		if !errors.As(err, &key) || !errors.As(err, &refused) || refused.Reason != want || key.Key != "vendor.pub" {
			t.Errorf("%s: %v, want %q", tag, err, want)
		}
	}
	for key, says := range map[string]string{"other.pub": "is not signed by other.pub", "none.pub": "no such file"} {
		if _, err := v.build(ImageSource{Ref: "a/b:1", Source: v.host + "/" + vendorApp + ":legacy", Key: key}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// attachPayload attaches a sigstore bundle over any payload, rightly signed by the vendor.
func (v *vendor) attachPayload(subject ocispec.Descriptor, payload func(hex string) string) {
	v.t.Helper()
	const kind = "application/vnd.in-toto+json"
	p := payload(subject.Digest.Encoded())
	sig, err := v.key.Sign(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(p), p))
	if err != nil {
		v.t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"mediaType": sign.MediaSigstore, "verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": ""}},
		"dsseEnvelope": map[string]any{"payload": []byte(p), "payloadType": kind, "signatures": []any{map[string]any{"sig": sig}}}})
	if err != nil {
		v.t.Fatal(err)
	}
	v.pushJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: sign.MediaSigstore, Config: v.push(MediaEmpty, []byte("{}")), Layers: []ocispec.Descriptor{v.push(sign.MediaSigstore, raw)}, Subject: &subject})
}

// TestSignedIndex: cosign signs the index. It counts for the key; it travels only with the whole index.
func TestSignedIndex(t *testing.T) {
	v := newVendor(t, plainRegistry(false))
	d := v.index("2.0")
	v.signLegacy(d, v.key)
	v.signSigstore(d, v.key)
	b, i := v.built("registry.example.com/app:2.0", "2.0", "vendor.pub")
	if len(i.Referrers) != 0 || i.Manifest.MediaType != ocispec.MediaTypeImageManifest {
		t.Errorf("travels: %+v", i)
	}
	if len(b.notes) != 1 || !strings.Contains(b.notes[0], "registry.example.com/app:2.0@"+string(d.Digest)) {
		t.Errorf("noted: %q", b.notes)
	}
	b, i = v.built("registry.example.com/app:2.0@"+string(d.Digest), "2.0", "vendor.pub")
	if i.listed() != "referrer sig" || i.Manifest.Digest != d.Digest || len(b.notes) != 0 {
		t.Errorf("travels: %+v, noted %q", i, b.notes)
	}
	amd, err := v.repo.Resolve(context.Background(), "2.0-amd64")
	if err != nil {
		t.Fatal(err)
	}
	v.signLegacy(amd, v.key)
	if b, i = v.built("registry.example.com/app:2.0", "2.0", "vendor.pub"); i.listed() != "sig" || len(b.notes) != 0 {
		t.Errorf("travels: %+v, noted %q", i, b.notes)
	}
	if _, i = v.built("registry.example.com/app:2.0@"+string(d.Digest), "2.0", ""); i.listed() != "referrer sig sig" {
		t.Errorf("travels: %+v", i)
	}
}

// hostileReferrers answers the referrers API in its own way, and everything else as a registry does.
func hostileReferrers(answer http.HandlerFunc) http.Handler {
	inner := plainRegistry(false)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/referrers/") {
			answer(w, r)
			return
		}
		inner.ServeHTTP(w, r)
	})
}

func TestHostileLists(t *testing.T) {
	list := func(n int, link string) http.HandlerFunc {
		ix := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
		for i := range n {
			ix.Manifests = append(ix.Manifests, content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, []byte(fmt.Sprint(i))))
		}
		raw, _ := json.Marshal(ix)
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			if link != "" {
				w.Header().Set("Link", "<"+link+">; rel=\"next\"")
			}
			_, _ = w.Write(raw)
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		noted  string
	}{
		"10 000 referrers":   {list(10_000, ""), "more than 64 manifests refer to it"},
		"pages without end":  {list(0, "/v2/vendor/app/referrers/x"), "64 pages"},
		"none of them there": {list(3, ""), "does not travel"},
		"a page of HTML":     {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }, ""},
		"not JSON": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			fmt.Fprint(w, "{")
		}, "decode"},
		"forbidden": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }, "403"},
		"longer than allowed": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			_, _ = w.Write(bytes.Repeat([]byte(" "), 5<<20))
		}, "decode"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVendor(t, hostileReferrers(c.answer))
			d := v.image("1.0")
			v.signLegacy(d, v.key)
			b, i := v.built("a/b:1", "1.0", "vendor.pub") // what is under the tag is enough
			if i.listed() != "sig" || (c.noted == "") != (len(b.notes) == 0) || c.noted != "" && !strings.Contains(b.notes[0], c.noted) {
				t.Errorf("%q travels, noted %q, want %q", i.listed(), b.notes, c.noted)
			}
			if _, err := v.build(ImageSource{Ref: "a/b:1", Source: v.host + "/" + vendorApp + ":1.0", Key: "other.pub"}); err == nil {
				t.Error("another key is accepted")
			}
		})
	}
}

func TestWhatCannotTravelIsNoted(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(v *vendor, m *ocispec.Manifest, d ocispec.Descriptor)
		noted string
	}{
		"blob is not there": {func(_ *vendor, m *ocispec.Manifest, _ ocispec.Descriptor) {
			m.Layers[0].Digest = digest.FromString("no")
		}, "not found"},
		"blob of another size": {func(_ *vendor, m *ocispec.Manifest, _ ocispec.Descriptor) { m.Layers[0].Size++ }, "bytes and not"},
		"blob is a manifest":   {func(_ *vendor, m *ocispec.Manifest, d ocispec.Descriptor) { m.Layers[0] = d }, "something else in the release"},
		"blob elsewhere":       {func(_ *vendor, m *ocispec.Manifest, _ ocispec.Descriptor) { m.Layers[0].URLs = []string{"http://x"} }, "urls"},
		"negative size":        {func(_ *vendor, m *ocispec.Manifest, _ ocispec.Descriptor) { m.Layers[0].Size = -1 }, "out of range"},
		"too many blobs": {func(_ *vendor, m *ocispec.Manifest, _ ocispec.Descriptor) {
			for range 300 {
				m.Layers = append(m.Layers, m.Layers[0])
			}
		}, "names 302 blobs"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVendor(t, plainRegistry(false))
			d := v.image("1.0")
			m := v.manifest("about it", nil)
			c.spoil(v, &m, d)
			v.pushJSON(ocispec.MediaTypeImageManifest, m, cosignTag(d, "sig"))
			b, i := v.built("a/b:1", "1.0", "")
			if len(i.Referrers) != 0 || len(b.notes) != 1 || !strings.Contains(b.notes[0], c.noted) {
				t.Errorf("travels %v, noted %q, want %q", i.Referrers, b.notes, c.noted)
			}
		})
	}
}

// TestLayoutSource reads layouts as cosign saves them.
func TestLayoutSource(t *testing.T) {
	v := newVendor(t, plainRegistry(false))
	d := v.image("1.0")
	sig, bundled := v.signLegacy(d, v.key), v.signSigstore(d, v.key)
	entry := func(raw []byte, kind string) ocispec.Descriptor {
		e := content.NewDescriptorFromBytes(ocispec.MediaTypeImageManifest, raw)
		if kind != "" {
			e.Annotations = map[string]string{annotationCosignKind: kind}
		}
		return e
	}
	marked := d
	marked.Annotations = map[string]string{annotationCosignKind: cosignImage}
	for name, c := range map[string]struct {
		entries []ocispec.Descriptor
		want    string
	}{
		"cosign 2":            {[]ocispec.Descriptor{marked, entry(sig.Manifest, cosignSignatures)}, "referrer sig"},
		"cosign 3":            {[]ocispec.Descriptor{marked}, "referrer"},
		"listed by others":    {[]ocispec.Descriptor{d, entry(bundled.Manifest, "")}, "referrer"},
		"two images, no name": {[]ocispec.Descriptor{marked, v.image("other"), entry(sig.Manifest, cosignSignatures)}, "has 2 images"},
	} {
		t.Run(name, func(t *testing.T) {
			v.writeLayout(filepath.Join(v.dir, "layout"), c.entries, d, sig, bundled)
			b, err := v.build(ImageSource{Ref: "a/b:1", Source: "oci:layout", Key: "vendor.pub"})
			if err != nil {
				if !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if got := b.release.Images[0].listed(); got != c.want || len(b.notes) != 0 {
				t.Errorf("%q travel, want %q; noted %q", got, c.want, b.notes)
			}
			if _, err := v.build(ImageSource{Ref: "a/b:1", Source: "oci:layout", Key: "other.pub"}); err == nil {
				t.Error("another key is accepted")
			}
		})
	}
}

func (v *vendor) writeLayout(dir string, entries []ocispec.Descriptor, image ocispec.Descriptor, sig sign.CosignSignature, bundled sign.SigstoreSignature) {
	v.t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		v.t.Fatal(err)
	}
	raw, err := content.FetchAll(context.Background(), v.repo, image)
	if err != nil {
		v.t.Fatal(err)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		v.t.Fatal(err)
	}
	blobs := append([][]byte{raw, sig.Manifest, bundled.Manifest}, append(sig.Blobs, bundled.Blobs...)...)
	for _, d := range append(blobsOf(m), entries...) {
		b, err := content.FetchAll(context.Background(), v.repo, d)
		if err != nil {
			v.t.Fatal(err)
		}
		blobs = append(blobs, b)
	}
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, Manifests: entries})
	if err != nil {
		v.t.Fatal(err)
	}
	files := map[string][]byte{"index.json": index, "oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	for _, b := range blobs {
		files[blobPath(digest.FromBytes(b))] = b
	}
	for name, b := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			v.t.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			v.t.Fatal(err)
		}
	}
}

func TestReleaseRefusesReferrers(t *testing.T) {
	image, about, blob := digest.FromString("image"), digest.FromString("about"), digest.FromString("blob")
	r := Release{Closure: []Blob{{Descriptor: ocispec.Descriptor{Digest: image}, Kind: KindManifest},
		{Descriptor: ocispec.Descriptor{Digest: about}, Kind: KindManifest}, {Descriptor: ocispec.Descriptor{Digest: blob}, Kind: KindBlob}}}
	many := make([]Referrer, MaxReferrers+1)
	for name, c := range map[string]struct {
		all []Referrer
		ok  bool
	}{
		"a tag of cosign":       {[]Referrer{{Manifest: ocispec.Descriptor{Digest: about}, Tag: "sha256-" + image.Encoded() + ".sig"}}, true},
		"no tag":                {[]Referrer{{Manifest: ocispec.Descriptor{Digest: about}}}, true},
		"an image's tag":        {[]Referrer{{Manifest: ocispec.Descriptor{Digest: about}, Tag: "latest"}}, false},
		"about something else":  {[]Referrer{{Manifest: ocispec.Descriptor{Digest: about}, Tag: "sha256-" + strings.Repeat("0", 64) + ".sig"}}, false},
		"the list of referrers": {[]Referrer{{Manifest: ocispec.Descriptor{Digest: about}, Tag: "sha256-" + image.Encoded()}}, false},
		"a blob":                {[]Referrer{{Manifest: ocispec.Descriptor{Digest: blob}}}, false},
		"not in the closure":    {[]Referrer{{Manifest: ocispec.Descriptor{Digest: digest.FromString("none")}}}, false},
		"too many":              {many, false},
	} {
		r.Images = []Image{{Ref: "a/b:1", Manifest: ocispec.Descriptor{Digest: image}, Referrers: c.all}}
		if err := r.checkReferrers(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseAttached(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:` + strings.Repeat("a", 64) + `","size":2},"layers":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseAttached(raw)
		if err != nil {
			return
		}
		for _, b := range blobsOf(m) {
			if CheckDigest(b.Digest) != nil || b.Size < 0 || len(b.URLs) > 0 {
				t.Fatalf("accepted %v", b)
			}
		}
		if m.Subject != nil && subjectOf(raw) != string(m.Subject.Digest) {
			t.Fatalf("subject %q and %q", subjectOf(raw), m.Subject.Digest)
		}
	})
}

// TestAttachmentsAreCounted: index.json is not signed, so what it lists is bounded before any of it is read.
func TestAttachmentsAreCounted(t *testing.T) {
	head := digest.FromString("head")
	about := func(subject digest.Digest) []byte {
		raw, err := json.Marshal(ocispec.Manifest{ArtifactType: sign.MediaSigstore, Config: bytesContent(MediaEmpty, []byte("{}")).Descriptor,
			Subject: &ocispec.Descriptor{Digest: subject}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	open := func(subject digest.Digest, n int) *File {
		d := bytesContent(ocispec.MediaTypeImageManifest, about(subject)).Descriptor
		d.ArtifactType = sign.MediaSigstore
		var ix ocispec.Index
		for range n {
			ix.Manifests = append(ix.Manifests, d)
		}
		raw, err := json.Marshal(ix)
		if err != nil {
			t.Fatal(err)
		}
		f, err := OpenFile(writeTar(t, entry{name: "index.json", body: string(raw)}, entry{name: blobPath(d.Digest), body: string(about(subject))}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	ctx := context.Background()
	if got, err := open(head, 2).Attachments(ctx, head); err != nil || len(got) != 2 || got[0].Tag != "" {
		t.Errorf("two: %v, %v", got, err)
	}
	if got, err := open(digest.FromString("other"), 2).Attachments(ctx, head); err != nil || len(got) != 0 {
		t.Errorf("about something else: %v, %v", got, err)
	}
	var form *FormError
	if _, err := open(head, 10_000).Attachments(ctx, head); !errors.As(err, &form) {
		t.Errorf("10 000: %v", err)
	}
}
