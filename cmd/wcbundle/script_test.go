package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wordcab/wcbundle/registry"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"wcbundle": func() { os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)) },
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
			"code": checkCode, "same": checkSame, "flip": flipByte, "cut": cutFile,
		},
	})
}

// checkCode runs a command and wants an exit code: code 14 wcbundle load x.wcp
func checkCode(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		_, text, _ := strings.Cut(err.Error(), "exit status ")
		if got, err = strconv.Atoi(strings.Fields(text)[0]); err != nil {
			ts.Fatalf("no exit code in %q", text)
		}
	}
	if (got == want) == neg {
		ts.Fatalf("exit code %d, want %d (negated: %v)", got, want, neg)
	}
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
