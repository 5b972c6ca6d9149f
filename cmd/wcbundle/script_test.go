package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"wcbundle":      func() { os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) },
		"wcbundle-peak": runAndTellPeak,
	})
}

// TestScripts runs the sessions of testdata/script: one story each, by the real command line. Each has a product folder
// with a small chart, an image and a model, and a registry on loopback, $REGISTRY.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("WCBUNDLE_PASSWORD", "test")
			env.Setenv("WCBUNDLE_STATE_DIR", filepath.Join(env.WorkDir, "state"))
			env.Setenv("UNSHARE", "-rm") // a mount namespace; root needs no user namespace for it
			if os.Getuid() == 0 {
				env.Setenv("UNSHARE", "-m")
			}
			now := time.Now().UTC()
			env.Setenv("TODAY", now.Format(time.DateOnly))
			env.Setenv("TOMORROW", now.AddDate(0, 0, 1).Format(time.DateOnly))
			env.Setenv("TONIGHT", now.Add(12*time.Hour).Format(time.RFC3339))
			env.Setenv("SOON", time.Now().UTC().AddDate(0, 0, 30).Format(time.RFC3339))
			env.Setenv("LATER", time.Now().UTC().AddDate(0, 0, 200).Format(time.RFC3339))
			if err := writeProduct(env.WorkDir); err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(context.Background())
			ready, done := make(chan string, 1), make(chan error, 1)
			go func() {
				done <- registry.Serve(ctx, registry.ServeOptions{Addr: "127.0.0.1:0", Dir: filepath.Join(env.WorkDir, "registry"),
					Ready: func(addr string) { ready <- addr }})
			}()
			select {
			case addr := <-ready:
				env.Setenv("REGISTRY", addr)
			case err := <-done:
				cancel()
				return err
			}
			env.Defer(func() { cancel(); <-done })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": checkCode, "refused": checkRefused, "same": checkSame, "flip": flipByte, "cut": cutFile, "vex": writeVEX,
			"made": made, "site": newSite, "cptree": copyTree, "forge": forge, "proxy": between, "elsewhere": checkElsewhere, "lied": checkLied,
			"damage": damage, "plant": plant, "registry-whole": checkWhole, "spoil": spoil, "zeros": zeroFile, "blob-of": blobOf,
			"wrong-delta": wrongDelta, "push-other": pushOther, "hostile-model": hostileModel, "chart-bomb": chartBomb,
			"layout": listLayout, "referrers": listReferrers, "expand": expandRegistry, "cosigned": cosignImage, "tags": listTags, "secured": secured, "expand-secured": expandSecured,
			"modelref": modelRef,
		},
	})
}

// checkCode runs a command and wants an exit code, or one of some: code 14 wcbundle load x.wcp, code 0,12 wcbundle load x.wcp
func checkCode(ts *testscript.TestScript, neg bool, args []string) {
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		_, text, _ := strings.Cut(err.Error(), "exit status ")
		if got = text; text == "" {
			ts.Fatalf("no exit code in %q", err)
		}
	}
	if slices.Contains(strings.Split(args[0], ","), got) == neg {
		ts.Fatalf("exit code %s, want %s (negated: %v)", got, args[0], neg)
	}
}

// checkRefused is checkCode for what must leave the site as it is: its record, and the manifests, tags and blobs of its registry.
// Blobs that nothing names may have come.
func checkRefused(ts *testscript.TestScript, neg bool, args []string) {
	before := siteFiles(ts)
	checkCode(ts, neg, args)
	after := siteFiles(ts)
	for path, sum := range before {
		if after[path] != sum {
			ts.Fatalf("%v was refused, and %s changed", args[1:], path)
		}
		delete(after, path)
	}
	for path := range after {
		if !strings.Contains(path, "/blobs/") && !strings.Contains(path, "/_layers/") {
			ts.Fatalf("%v was refused, and %s is new", args[1:], path)
		}
	}
}

// siteFiles are the digests of the files of the site's record and registry.
func siteFiles(ts *testscript.TestScript) map[string]string {
	out := map[string]string{}
	for _, root := range []string{ts.Getenv("WCBUNDLE_STATE_DIR"), ts.MkAbs("registry")} {
		ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() || strings.Contains(path, "/_uploads/") || d.Name() == "load.journal" {
				return err
			}
			b, err := os.ReadFile(path)
			out[filepath.ToSlash(path)] = fmt.Sprintf("%x", sha256.Sum256(b))
			return err
		}))
	}
	return out
}

// modelRef sets MODEL to where a bundle's first model is in the registry: modelref BUNDLE
func modelRef(ts *testscript.TestScript, _ bool, args []string) {
	f, err := bundle.OpenFile(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	r, err := f.ReleaseUnverified(context.Background())
	ts.Check(err)
	repo, err := bundle.RepoOf(r.Models[0].Ref)
	ts.Check(err)
	ts.Setenv("MODEL", ts.Getenv("REGISTRY")+"/"+repo+"@"+string(r.Models[0].Manifest.Digest))
}

// writeVEX writes an OpenVEX document about an image of a bundle: vex FILE BUNDLE REFERENCE STATUS ID...
func writeVEX(ts *testscript.TestScript, _ bool, args []string) {
	f, err := bundle.OpenFile(ts.MkAbs(args[1]))
	ts.Check(err)
	defer f.Close()
	r, err := f.ReleaseUnverified(context.Background())
	ts.Check(err)
	doc := map[string]any{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/vex/1", "author": "Security", "timestamp": "2026-11-01T00:00:00Z", "version": 1}
	var statements []any
	for _, i := range r.Images {
		if i.Ref != args[2] {
			continue
		}
		product := map[string]any{"@id": "pkg:oci/app@" + strings.Replace(string(i.Manifest.Digest), ":", "%3A", 1)}
		for _, id := range args[4:] {
			st := map[string]any{"vulnerability": map[string]any{"name": id}, "products": []any{product}, "status": args[3]}
			if args[3] == "affected" {
				st["action_statement"] = "load the drop"
			}
			statements = append(statements, st)
		}
	}
	doc["statements"] = statements
	raw, err := json.Marshal(doc)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), raw, 0o644))
}

// checkSame compares two files byte for byte.
func checkSame(ts *testscript.TestScript, neg bool, args []string) {
	if (ts.ReadFile(args[0]) == ts.ReadFile(args[1])) == neg {
		ts.Fatalf("%s and %s: same is not %v", args[0], args[1], !neg)
	}
}

// flipByte turns a bit of the last occurrence of a text: flip FILE TEXT
func flipByte(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	i := strings.LastIndex(string(b), args[1])
	if i < 0 {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	b[i] ^= 1
	ts.Check(os.WriteFile(path, b, 0o644))
}

// cutFile keeps the first half of a file.
func cutFile(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	st, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.Truncate(path, st.Size()/2))
}
