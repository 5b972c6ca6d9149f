package revision

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
	"time"
)

// archive packs entries into a chart archive; a name that ends in -> TEXT is a link.
func archive(t *testing.T, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(files[i+1]))}
		if name, to, link := strings.Cut(files[i], " -> "); link {
			h = &tar.Header{Name: name, Linkname: to, Mode: 0o777, Typeflag: tar.TypeSymlink}
			files[i+1] = ""
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestT40T41T42T43HostileCharts gives the site's chart loader archives that a signed release could carry if its maker was deceived.
func TestT40T41T42T43HostileCharts(t *testing.T) {
	const meta = "apiVersion: v2\nname: shop\nversion: 1.0.0\n"
	bomb := []string{"shop/Chart.yaml", meta}
	for i := range 100 {
		bomb = append(bomb, "shop/files/"+string(rune('a'+i%26))+string(rune('a'+i/26)), strings.Repeat(" ", 3<<20))
	}
	for name, tgz := range map[string][]byte{
		"T41 a schema that reads a file":         archive(t, "shop/Chart.yaml", meta, "shop/values.schema.json", `{"$ref":"file:///dev/zero"}`),
		"T41 a schema that reads beside":         archive(t, "shop/Chart.yaml", meta, "shop/values.schema.json", `{"properties":{"a":{"$ref":"../../etc/passwd"}}}`),
		"T41 a schema that asks the network":     archive(t, "shop/Chart.yaml", meta, "shop/values.schema.json", `{"allOf":[{"$ref":"http://127.0.0.1:1/x"}]}`),
		"T41 a metaschema that reads a file":     archive(t, "shop/Chart.yaml", meta, "shop/values.schema.json", `{"$schema":"file:///etc/passwd"}`),
		"T41 a base that is a file":              archive(t, "shop/Chart.yaml", meta, "shop/values.schema.json", `{"$id":"file:///etc/"}`),
		"T41 in a subchart":                      archive(t, "shop/Chart.yaml", meta, "shop/charts/sub/Chart.yaml", "apiVersion: v2\nname: sub\nversion: 1.0.0\n", "shop/charts/sub/values.schema.json", `{"$ref":"file:///dev/zero"}`),
		"T41 no JSON":                            archive(t, "shop/Chart.yaml", meta, "shop/values.schema.json", `{`),
		"T43 300 MiB out of kilobytes":           archive(t, bomb...),
		"T40 a name that leaves":                 archive(t, "shop/Chart.yaml", meta, "../../etc/cron.d/evil", "x"),
		"T40 a chart that is called a dot":       archive(t, "./Chart.yaml", "apiVersion: v2\nname: .\nversion: 1.0.0\n"),
		"no archive":                             []byte("chart"),
		"T20 an archive that ends in the middle": archive(t, "shop/Chart.yaml", meta)[:60],
	} {
		began := time.Now()
		if ch, err := loadChart(tgz); err == nil {
			if ch.Validate() == nil {
				t.Errorf("%s: loaded", name)
			}
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: it took %v", name, took)
		}
	}
	// T42: a link in an archive is a file without content for Helm; nothing is followed.
	ch, err := loadChart(archive(t, "shop/Chart.yaml", meta, "shop/Chart.lock -> /etc/passwd", "", "shop/templates/x -> /etc/passwd", ""))
	if err == nil {
		for _, f := range ch.Raw {
			if strings.Contains(string(f.Data), "root:") {
				t.Errorf("T42: %s holds what the link leads to", f.Name)
			}
		}
	}
	// What a schema may say.
	if _, err := loadChart(archive(t, "shop/Chart.yaml", meta, "shop/values.schema.json",
		`{"$schema":"http://json-schema.org/draft-07/schema#","$id":"https://example.com/shop","properties":{"a":{"$ref":"#/$defs/a"}},"$defs":{"a":{"type":"string"}}}`)); err != nil {
		t.Errorf("a schema that stays within itself: %v", err)
	}
}
