//go:build e2e

package interop

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// documented wants each row in docs/interop.md, so that the page says what was observed.
func documented(t *testing.T, rows []string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/interop.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(page), "\n")
	for _, row := range rows {
		if !slices.Contains(lines, row) {
			t.Errorf("docs/interop.md lacks this row, which was observed:\n%s", row)
		}
	}
}

func row(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |" }

// TestCosignVerifiesOurs: each form by a key of each kind, in both registries and in the layout, by both versions.
func TestCosignVerifiesOurs(t *testing.T) {
	r := newRig(t)
	var rows []string
	for _, form := range []string{"legacy", "bundle", "both"} {
		for _, key := range algorithms {
			product := "shop-" + form + "-" + key
			file, _ := r.product(0, product, "1.0.0")
			r.wcbundle(0, "sign", "--signature-format", form, "--key", key+".key", file)
			layout := r.extract(file)
			cells := map[string][]string{}
			for _, registry := range []string{r.plain, r.api} {
				r.atSite(r.site(product, key, registry), 0, "load", file)
				ref := registry + "/" + product + "/release:1.0.0"
				for _, v := range versions {
					cells[registry] = append(cells[registry], r.inRegistry(v, key, ref), r.withRoot(v, key, ref), r.verify(v, key, "--local-image", layout))
					if r.inRegistry(v, "other", ref)+r.withRoot(v, "other", ref)+r.verify(v, "other", "--local-image", layout) != "nonono" {
						t.Errorf("%s by %s: cosign %s accepts another key", form, key, v)
					}
				}
			}
			if !slices.Equal(cells[r.plain], cells[r.api]) {
				t.Errorf("%s by %s: %v without the referrers API, %v with it", form, key, cells[r.plain], cells[r.api])
			}
			rows = append(rows, row(append([]string{form, key}, cells[r.plain]...)...))
		}
	}
	documented(t, rows)
}

// TestPatchCarriesSignatures: what a patch brings verifies as if the bundle had been loaded; so does what two keys signed, one later.
func TestPatchCarriesSignatures(t *testing.T) {
	r := newRig(t)
	from, _ := r.product(0, "patched", "1.0.0")
	to, _ := r.product(0, "patched", "1.1.0")
	for _, file := range []string{from, to} {
		r.wcbundle(0, "sign", "--signature-format", "both", "--key", "ecdsa-p256.key", file)
		r.wcbundle(0, "sign", "--signature-format", "both", "--add", "--key", "ed25519.key", file)
	}
	r.wcbundle(0, "patch", "--from", from, "--to", to, "--out", "p.wcp")
	r.wcbundle(0, "sign", "--key", "ecdsa-p256.key", "p.wcp")
	for _, registry := range []string{r.plain, r.api} {
		site := r.site("patched", "ecdsa-p256", registry)
		r.atSite(site, 0, "load", from)
		r.atSite(site, 0, "load", "p.wcp")
		for _, v := range versions {
			for _, key := range []string{"ecdsa-p256", "ed25519"} {
				if r.withRoot(v, key, registry+"/patched/release:1.1.0") != "yes" {
					t.Errorf("cosign %s does not verify %s's signature that a patch brought to %s", v, key, registry)
				}
			}
		}
	}
}

// signing is how upstream signs.
type signing struct {
	name, version string
	args          []string
}

var signings = []signing{
	{"2.6.5", "2.6.5", []string{"sign", "--tlog-upload=false", "--yes"}},
	{"2.6.5 --new-bundle-format", "2.6.5", []string{"sign", "--new-bundle-format", "--tlog-upload=false", "--yes"}},
	{"3.1.3", "3.1.3", []string{"sign", "--use-signing-config=false", "--tlog-upload=false", "--yes"}},
	{"3.1.3 --new-bundle-format=false", "3.1.3", []string{"sign", "--new-bundle-format=false", "--use-signing-config=false", "--tlog-upload=false", "--yes"}},
}

func (r *rig) sign(s signing, key, ref string) {
	r.t.Helper()
	if code, out := r.run("", r.cosign[s.version], append(append([]string{}, s.args...), "--key", key+".key", ref)...); code != 0 {
		r.t.Fatalf("cosign %s sign: exit code %d\n%s", s.name, code, out)
	}
}

// answers are what both versions say of a reference, each without and with a trusted root.
func (r *rig) answers(key, ref string) []string {
	r.t.Helper()
	var out []string
	for _, v := range versions {
		out = append(out, r.inRegistry(v, key, ref), r.withRoot(v, key, ref))
	}
	return out
}

// carry builds a product with the image under a key, loads it into a registry and returns where the image is there.
func (r *rig) carry(source, key, registry string) string {
	r.t.Helper()
	r.count++
	ref := "registry.example.com/carried/" + strings.ReplaceAll(key, "-", "") + ":" + strings.Repeat("i", r.count)
	product := fmt.Sprintf("carrier-%d", r.count) // of its own: a site that has releases and no record is refused
	file, out := r.product(0, product, "1.0.0", "{ref: '"+ref+"', source: '"+source+"', key: "+key+".pub}")
	if strings.Contains(out, "note") {
		r.t.Errorf("%s: %s", source, out)
	}
	r.wcbundle(0, "sign", "--key", "ecdsa-p256.key", file)
	site := r.site(product, "ecdsa-p256", registry)
	r.atSite(site, 0, "verify", file)
	r.atSite(site, 0, "load", file)
	return registry + "/" + ref
}

// TestWeVerifyCosigns: build accepts an image by the key that upstream signed with and by no other, and upstream says of the
// image in the site's registry what it says of it in the source.
func TestWeVerifyCosigns(t *testing.T) {
	r := newRig(t)
	var rows []string
	for i, s := range signings {
		for _, key := range algorithms {
			ref := r.image(r.plain, "vendor/"+key+"/"+string(rune('a'+i)))
			r.sign(s, key, ref)
			r.product(11, "carrier", "1.0.0", "{ref: 'a.example.com/b:1', source: '"+ref+"', key: other.pub}")
			at := r.carry(ref, key, r.api)
			source, site := r.answers(key, ref), r.answers(key, at)
			if !slices.Equal(source, site) {
				t.Errorf("cosign %s, %s: %v in the source, %v at the site", s.name, key, source, site)
			}
			if key == "ecdsa-p384" {
				for _, v := range versions {
					if r.verify(v, key, "--private-infrastructure", "--trusted-root", "root.json", "--signature-digest-algorithm", "sha384", at) != "yes" {
						t.Errorf("cosign %s, %s: not verified by %s with SHA-384", s.name, key, v)
					}
				}
			}
			rows = append(rows, row(append([]string{s.name, key, "yes"}, site...)...))
		}
	}
	documented(t, rows)
}

// TestRegistriesOnTheWay: between registries with and without the referrers API, each way.
func TestRegistriesOnTheWay(t *testing.T) {
	r := newRig(t)
	for i, s := range signings {
		for _, from := range []string{r.plain, r.api} {
			for _, to := range []string{r.plain, r.api} {
				ref := r.image(from, "way/"+string(rune('a'+i)))
				r.sign(s, "ecdsa-p256", ref)
				if at := r.carry(ref, "ecdsa-p256", to); !slices.Equal(r.answers("ecdsa-p256", ref), r.answers("ecdsa-p256", at)) || r.inRegistry("3.1.3", "ecdsa-p256", at) != "yes" {
					t.Errorf("cosign %s, from %s to %s: the site's registry says something else", s.name, from, to)
				}
			}
		}
	}
}

// TestSavedLayouts: what upstream saves into a folder is a source as well.
func TestSavedLayouts(t *testing.T) {
	r := newRig(t)
	for i, s := range signings {
		ref := r.image(r.plain, "saved/"+string(rune('a'+i)))
		r.sign(s, "ecdsa-p256", ref)
		dir, version := "saved-"+string(rune('a'+i)), s.version
		if i == 1 {
			version = "3.1.3" // 2.6.5 does not save the sigstore bundles that it makes
		}
		if code, out := r.run("", r.cosign[version], "save", "--dir", dir, ref); code != 0 {
			t.Fatal(out)
		}
		r.product(11, "carrier", "1.0.0", "{ref: 'a.example.com/b:1', source: 'oci:"+dir+"', key: other.pub}")
		at := r.carry("oci:"+dir, "ecdsa-p256", r.plain)
		if r.inRegistry("3.1.3", "ecdsa-p256", at) != "yes" || r.withRoot("2.6.5", "ecdsa-p256", at) != "yes" {
			t.Errorf("cosign %s: what was saved does not verify at the site", s.name)
		}
	}
}

// TestAttestations: they travel and verify at the site. cosign verify takes one for a signature of the image; build does not.
func TestAttestations(t *testing.T) {
	r := newRig(t)
	r.write("sbom.json", `{"spdxVersion":"SPDX-2.3","name":"x"}`)
	for i, args := range [][]string{
		{"attest", "--tlog-upload=false", "--yes"},
		{"attest", "--use-signing-config=false", "--tlog-upload=false", "--yes"},
	} {
		ref := r.image(r.plain, "attested/"+versions[i])
		args = append(args, "--key", "ecdsa-p256.key", "--type", "spdxjson", "--predicate", "sbom.json", ref)
		if code, out := r.run("", r.cosign[versions[i]], args...); code != 0 {
			t.Fatal(out)
		}
		line := "{ref: 'registry.example.com/attested:" + versions[i] + "', source: '" + ref + "'"
		code := 10 // cosign 2 puts it under a tag of its own: there is no signature
		if versions[i] == "3.1.3" {
			code = 11 // a sigstore bundle by the key, but not about the image itself
			if r.inRegistry("3.1.3", "ecdsa-p256", ref) != "yes" {
				t.Error("cosign verify no longer takes an attestation for a signature: docs/interop.md says that it does")
			}
		}
		r.product(code, "attested", "1.0.0", line+", key: ecdsa-p256.pub}")
		product := fmt.Sprintf("attested-%d", i)
		file, _ := r.product(0, product, "1.0.0", line+"}")
		r.wcbundle(0, "sign", "--key", "ecdsa-p256.key", file)
		r.atSite(r.site(product, "ecdsa-p256", r.api), 0, "load", file)
		at := r.api + "/registry.example.com/attested:" + versions[i]
		if code, out := r.run("", r.cosign[versions[i]], "verify-attestation", "--key", "ecdsa-p256.pub", "--insecure-ignore-tlog=true",
			"--private-infrastructure", "--type", "spdxjson", at); code != 0 {
			t.Errorf("cosign %s: the attestation does not verify at the site:\n%s", versions[i], out)
		}
	}
}

// TestSignedIndex: upstream signs the index. It counts for build; it travels when the whole index does.
func TestSignedIndex(t *testing.T) {
	r := newRig(t)
	for i, s := range signings {
		ref := r.index(r.plain, "index/"+string(rune('a'+i)))
		r.sign(s, "ecdsa-p256", ref)
		_, out := r.product(0, "one", "1.0.0", "{ref: 'registry.example.com/one:1', source: '"+ref+"', key: ecdsa-p256.pub}")
		if !strings.Contains(out, "its signatures are about its index") {
			t.Errorf("cosign %s: the build does not say that the index's signatures stay behind:\n%s", s.name, out)
		}
		_, digest, _ := strings.Cut(ref, "@")
		product := fmt.Sprintf("whole-%d", i)
		file, _ := r.product(0, product, "1.0.0", "{ref: 'registry.example.com/whole@"+digest+"', source: '"+ref+"', key: ecdsa-p256.pub}")
		r.wcbundle(0, "sign", "--key", "ecdsa-p256.key", file)
		r.atSite(r.site(product, "ecdsa-p256", r.plain), 0, "load", file)
		if at := r.plain + "/registry.example.com/whole@" + digest; r.inRegistry("3.1.3", "ecdsa-p256", at) != "yes" || r.withRoot("2.6.5", "ecdsa-p256", at) != "yes" {
			t.Errorf("cosign %s: the signed index does not verify at the site", s.name)
		}
	}
}
