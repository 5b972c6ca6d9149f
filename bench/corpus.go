package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A Corpus is the list of public packages and of the pairs made from them, as kept in corpus.json.
type Corpus struct {
	Sources []Source `json:"sources"`
	Pairs   []Pair   `json:"pairs"`
}

// A Source is one file of a package registry.
type Source struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"` // gomod, npm or deb
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256,omitempty"` // of the package file, recorded by the first fetch
}

// A Pair is an old and a new file.
type Pair struct {
	Name  string `json:"name"`
	Class string `json:"class"` // exec, layer, gzlayer, weights or same
	What  string `json:"what"`  // one line for the page
	Note  string `json:"note,omitempty"`
	Old   File   `json:"old"`
	New   File   `json:"new"`
}

// A File says how one file of a pair is made. Op is one of
//
//	extract  the member Path of the package From
//	gunzip   the package From without its gzip
//	tree     a tar of the Go module From with the modification time MTime, as an image build writes it
//	merge    one tar of the files of the Debian packages in Merge
//	gzip     the file From (PAIR/old or PAIR/new) compressed by Go 1.26's compress/gzip
//	tensors  a safetensors file of a TensorFlow.js model: Path and Index are members of the package From
//	trained  the state From of the training run in the format Path
type File struct {
	Op     string   `json:"op"`
	From   string   `json:"from,omitempty"`
	Path   string   `json:"path,omitempty"`
	Index  string   `json:"index,omitempty"`
	Merge  []string `json:"merge,omitempty"`
	MTime  int64    `json:"mtime,omitempty"` // seconds since 1970
	SHA256 string   `json:"sha256,omitempty"`
}

var errDigest = errors.New("the digest differs from the one in corpus.json")

func loadCorpus(path string) (*Corpus, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := new(Corpus)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func (c *Corpus) save(path string) error {
	data, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

func (c *Corpus) source(id string) (*Source, error) {
	for i := range c.Sources {
		if c.Sources[i].ID == id {
			return &c.Sources[i], nil
		}
	}
	return nil, fmt.Errorf("corpus.json has no source %q", id)
}

// pin compares the digest of a file with the recorded one, or records it where there is none.
func pin(path string, want *string) error {
	got, err := fileDigest(path)
	if err != nil {
		return err
	}
	if *want == "" {
		*want = got
	}
	if *want != got {
		return fmt.Errorf("%s: %w: %s, want %s", path, errDigest, got, *want)
	}
	return nil
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// writeFile makes the file path with what write writes; a file that is not complete never has that name.
func writeFile(path string, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".part")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
