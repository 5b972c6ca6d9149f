// Package fuzzseeds holds every fuzz target to its seeds: without them a first run of fuzzing starts from nothing.
package fuzzseeds

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var target = regexp.MustCompile(`(?m)^func (Fuzz[A-Za-z0-9_]*)\(`)

// least is how many seeds a target has at least: a valid one and a hostile one.
const least = 2

func TestEveryTargetHasSeeds(t *testing.T) {
	found := 0
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !regexp.MustCompile(`_test\.go$`).MatchString(path) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range target.FindAllSubmatch(text, -1) {
			found++
			checkSeeds(t, filepath.Join(filepath.Dir(path), "testdata", "fuzz", string(m[1])))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if found < 30 {
		t.Fatalf("only %d targets were found: the search is broken", found)
	}
}

func checkSeeds(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if len(files) < least {
		t.Errorf("%s has %d seeds, want %d or more: one that is valid, one that is not", dir, len(files), least)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, []byte("go test fuzz v1\n")) {
			t.Errorf("%s is no seed", filepath.Join(dir, f.Name()))
		}
	}
}
