package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/wordcab/wcbundle/bundle"
)

// TestStores is the one suite for the places of the site record.
func TestStores(t *testing.T) {
	for name, s := range map[string]Store{
		"file":      FileStore{Path: filepath.Join(t.TempDir(), "deep", "site.json")},
		"configmap": ConfigMapStore{Client: fake.NewSimpleClientset(), Namespace: "n"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			if _, err := s.Load(ctx); !errors.Is(err, ErrNoRecord) {
				t.Fatalf("an empty place gave %v", err)
			}
			r := &Record{APIVersion: RecordVersion, Generation: 1, Site: "a", Product: "p", Trust: []byte(`{}`)}
			if err := s.Save(ctx, r); err != nil {
				t.Fatal(err)
			}
			if err := s.Save(ctx, r); err == nil {
				t.Fatal("the same generation was written twice: a concurrent writer would be lost")
			}
			r.Generation = 2
			if err := s.Save(ctx, r); err != nil {
				t.Fatal(err)
			}
			got, err := s.Load(ctx)
			if err != nil || got.Generation != 2 || got.Site != "a" {
				t.Fatalf("got %+v, %v", got, err)
			}
		})
	}
}

func TestT11HigherGenerationWins(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	a, b := FileStore{filepath.Join(dir, "a")}, FileStore{filepath.Join(dir, "b")}
	old := &Record{APIVersion: RecordVersion, Generation: 3, Site: "old", Trust: []byte(`{}`)}
	fresh := &Record{APIVersion: RecordVersion, Generation: 7, Site: "fresh", Trust: []byte(`{}`)}
	if err := errors.Join(a.Save(ctx, old), b.Save(ctx, fresh)); err != nil {
		t.Fatal(err)
	}
	for _, s := range []Stores{{a, b}, {b, a}} {
		if r, err := s.Load(ctx); err != nil || r.Site != "fresh" {
			t.Fatalf("got %+v, %v", r, err)
		}
	}
	if err := os.Remove(b.Path); err != nil {
		t.Fatal(err)
	}
	if r, err := (Stores{a, b}).Load(ctx); err != nil || r.Site != "old" {
		t.Fatalf("one copy lost: %+v, %v", r, err)
	}
	if err := (Stores{}).Save(ctx, old); err == nil {
		t.Fatal("a record was saved nowhere without an error")
	}
}

func TestDamagedRecordStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	for _, text := range []string{"", "{", `{"apiVersion":"bundle.wordcab.com/site.v9"}`, `{"apiVersion":"bundle.wordcab.com/site.v1","generations":1}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := (FileStore{path}).Load(context.Background()); err == nil || errors.Is(err, ErrNoRecord) {
			t.Errorf("%q: %v: a damaged record must not look like none", text, err)
		}
	}
}

func TestRewrite(t *testing.T) {
	in := `apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {note: "r.io/a:1 is replaced inside text"}}
spec:
  containers:
  - image: r.io/a:1
    args: [pull, "r.io/m:2"]
    env: [{name: IMG, value: "r.io/a:1"}]
  volumes: [{name: m, image: {reference: "r.io/m:2"}}]
---
kind: Pool
spec: {runtime: {image: r.io/a:1}, r.io/a:1: key}
`
	out, err := Rewrite([]byte(in), map[string]string{"r.io/a:1": "reg/r.io/a@sha256:x", "r.io/m:2": "reg/r.io/m@sha256:y"}, map[string]string{"r.io/m:2": "reg/r.io/m@sha256:mounted"})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(out), "reg/r.io/a@sha256:x"); n != 4 {
		t.Errorf("%d references were rewritten, want 4:\n%s", n, out)
	}
	for _, want := range []string{"reg/r.io/m@sha256:y", `{reference: "reg/r.io/m@sha256:mounted"}`, "reg/r.io/a@sha256:x is replaced inside text", "'r.io/a:1': key"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
	stray, err := Unpinned([]byte(in), "reg")
	if err != nil || len(stray) != 2 {
		t.Errorf("stray images: %v, %v", stray, err)
	}
}

func TestZeroValuesAreRefused(t *testing.T) {
	ctx := context.Background()
	if _, err := Load(ctx, &bundle.File{}, bundle.Verified{}, LoadOptions{}); err == nil {
		t.Error("an unverified bundle was loaded")
	}
	if _, err := Apply(ctx, Target{}, &Plan{}, ApplyOptions{}); err == nil {
		t.Error("an unverified plan was applied")
	}
	if _, err := (&Record{}).Policy(time.Now()); err == nil {
		t.Error("a record without a trust policy made a policy")
	}
}
