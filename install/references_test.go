package install

import (
	"fmt"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

func testReferences() map[string]string {
	to := func(repo string) string { return "10.96.0.50:5000/" + repo + "@" + someDigest }
	return map[string]string{
		"registry.example.com/shop/app:1":               to("registry.example.com/shop/app"),
		"registry.example.com/shop/app:1.0":             to("registry.example.com/shop/app-1.0"),
		"registry.example.com:8443/shop/app:1":          to("registry.example.com_8443/shop/app"),
		"registry.example.com/shop/model@" + someDigest: to("registry.example.com/shop/model"),
		"example.com/shop/app:1":                        to("example.com/shop/app"),
		"redis":                                         to("docker.io/library/redis"),
		"postgres:16":                                   to("docker.io/library/postgres"),
		"library/nginx":                                 to("docker.io/library/nginx"),
	}
}

func TestRewriteInText(t *testing.T) {
	refs := testReferences()
	const app, app10, port, bare = "registry.example.com/shop/app:1", "registry.example.com/shop/app:1.0", "registry.example.com:8443/shop/app:1", "example.com/shop/app:1"
	model := "registry.example.com/shop/model@" + someDigest
	other := "sha256:" + strings.Repeat("f", 64)
	for text, want := range map[string]string{
		app:                            refs[app],
		app10:                          refs[app10],
		port:                           refs[port],
		bare:                           refs[bare],
		model:                          refs[model],
		app + ".5":                     app + ".5",
		app + "-rc":                    app + "-rc",
		"x" + app:                      "x" + app,
		"my." + bare:                   "my." + bare,
		"x-" + bare:                    "x-" + bare,
		app + "/more":                  app + "/more",
		"--image=" + app:               "--image=" + refs[app],
		app + "," + app10 + ";" + port: refs[app] + "," + refs[app10] + ";" + refs[port],
		`{"image":"` + app + `","keep":["` + app + `2"]}`: `{"image":"` + refs[app] + `","keep":["` + app + `2"]}`,
		"image: " + app + "\nmodel: '" + model + "'\n":    "image: " + refs[app] + "\nmodel: '" + refs[model] + "'\n",
		"docker://" + app:                          "docker://" + refs[app],
		"oci://x/" + app:                           "oci://x/" + app,
		app + "@" + someDigest:                     refs[app],
		app + "@" + other:                          app + "@" + other,
		"registry.example.com/shop/model@" + other: "registry.example.com/shop/model@" + other,
		"runs " + app + ".":                        "runs " + app + ".",
		"redis":                                    "redis",
		"redis:6379/0 postgres:16 library/nginx docker redis": "redis:6379/0 postgres:16 library/nginx docker redis",
		"postgres:16": "postgres:16",
		refs[app]:     refs[app],
	} {
		in := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {text: %q}\n", text)
		out, err := Rewrite([]byte(in), refs, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := textAt(t, out, "data", "text"); got != want {
			t.Errorf("%q became\n%q, want\n%q", text, got, want)
		}
	}
}

// A short reference is rewritten where a key says that it is an image, and a name that is the same word is not.
func TestRewriteShortReferences(t *testing.T) {
	refs := testReferences()
	in := "kind: Deployment\nmetadata: {name: redis, labels: {app: redis}}\nspec: {image: redis, initImage: 'postgres:16', image2: redis, v: {image: {reference: library/nginx}}, host: 'postgres:16', sideImages: [redis], hosts: [redis]}\n"
	out, err := Rewrite([]byte(in), refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"metadata.name": "redis", "metadata.labels.app": "redis", "spec.image": refs["redis"], "spec.initImage": refs["postgres:16"],
		"spec.image2": "redis", "spec.v.image.reference": refs["library/nginx"], "spec.host": "postgres:16"} {
		if got := textAt(t, out, strings.Split(path, ".")...); got != want {
			t.Errorf("%s became %q, want %q", path, got, want)
		}
	}
	if !strings.Contains(string(out), "sideImages: ["+refs["redis"]+"]") && !strings.Contains(string(out), "sideImages: ['"+refs["redis"]+"']") || !strings.Contains(string(out), "hosts: [redis]") {
		t.Errorf("lists became\n%s", out)
	}
}

func TestLeftAlone(t *testing.T) {
	refs := testReferences()
	in := "kind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: 'asr:registry.example.com/shop/app:1,x'\n  b: runs registry.example.com/shop/app:1.\n" +
		"  c: registry.example.com/shop/app:1.5\n  d: registry.example.com/shop/app:1@sha256:" + strings.Repeat("f", 64) + "\n  e: --image=registry.example.com/shop/app:1\n  f: redis.\n"
	out, err := Rewrite([]byte(in), refs, nil)
	if err != nil {
		t.Fatal(err)
	}
	left, err := LeftAlone(out, refs)
	if err != nil {
		t.Fatal(err)
	}
	var where []string
	for _, l := range left {
		where = append(where, l.Where+" "+l.Ref)
	}
	want := []string{"ConfigMap/c data.a registry.example.com/shop/app:1", "ConfigMap/c data.b registry.example.com/shop/app:1", "ConfigMap/c data.d registry.example.com/shop/app:1"}
	if strings.Join(where, "\n") != strings.Join(want, "\n") {
		t.Errorf("left\n%s\nwant\n%s", strings.Join(where, "\n"), strings.Join(want, "\n"))
	}
}

func textAt(t *testing.T, manifest []byte, path ...string) string {
	t.Helper()
	found := ""
	_, err := eachDocument(manifest, func(doc *yaml.Node) {
		n := doc.Content[0]
		for _, key := range path {
			n = child(n, key)
		}
		found = textOf(n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
