package main

import (
	"os"
	"path/filepath"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// madeOnce are the files that most sessions start with, made by the first that asks.
var madeOnce struct {
	sync.Mutex
	files map[string][]byte
}

// madeFiles: keys of the roles root, release and security and of a stranger; a policy with these roles and its chain; two signed
// releases, the patch between them, and the second release without a signature.
var madeFiles = []string{"root.key", "root.pub", "release.key", "release.pub", "security.key", "security.pub", "stranger.key", "stranger.pub",
	"trust.json", "trust-chain.json", "r1.wcb", "r2.wcb", "p.wcp", "unsigned.wcb"}

// made gives a session the files of madeFiles.
func made(ts *testscript.TestScript, _ bool, _ []string) {
	madeOnce.Lock()
	defer madeOnce.Unlock()
	if madeOnce.files == nil {
		madeOnce.files = makeFiles(ts)
		return
	}
	for name, b := range madeOnce.files {
		ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o600))
	}
}

func makeFiles(ts *testscript.TestScript) map[string][]byte {
	for _, key := range []string{"root", "release", "security", "stranger"} {
		ts.Check(ts.Exec("wcbundle", "keys", "generate", "--prefix", key))
	}
	for _, args := range [][]string{
		{"trust", "init", "--product", "shop", "--root-key", "root.pub", "--release-key", "release.pub", "--security-key", "security.pub",
			"--security-image", "registry.example.com/shop/*", "--out", "trust.json"},
		{"trust", "sign", "--key", "root.key", "trust.json"},
		{"build", "-f", "r1/bundle.yaml", "--out", "r1.wcb"},
		{"build", "-f", "r2/bundle.yaml", "--out", "unsigned.wcb"},
		{"build", "-f", "r2/bundle.yaml", "--out", "r2.wcb"},
		{"sign", "--key", "release.key", "r1.wcb"},
		{"sign", "--key", "release.key", "r2.wcb"},
		{"patch", "--from", "r1.wcb", "--to", "r2.wcb", "--out", "p.wcp"},
		{"sign", "--key", "release.key", "p.wcp"},
	} {
		ts.Check(ts.Exec("wcbundle", args...))
	}
	files := map[string][]byte{}
	for _, name := range madeFiles {
		b, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		files[name] = b
	}
	return files
}

// newSite is made, and a site that has accepted the policy and loaded the first release.
func newSite(ts *testscript.TestScript, neg bool, args []string) {
	made(ts, neg, args)
	ts.Check(ts.Exec("wcbundle", "trust", "accept", "--site", "t", "--registry", ts.Getenv("REGISTRY"), "--yes", "trust.json"))
	ts.Check(ts.Exec("wcbundle", "load", "r1.wcb"))
}

// copyTree copies a folder: cptree FROM TO
func copyTree(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.RemoveAll(ts.MkAbs(args[1])))
	ts.Check(os.CopyFS(ts.MkAbs(args[1]), os.DirFS(filepath.Clean(ts.MkAbs(args[0])))))
}
