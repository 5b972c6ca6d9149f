package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A fetcher downloads packages with the package managers of the machine and makes the pairs from them.
type fetcher struct {
	dir    string // the corpus folder
	bench  string // the folder of this module
	corpus *Corpus
	files  map[string]string // package file by source id
}

// fetch makes every pair whose name is chosen. Files that exist are only checked against their digest.
func (f *fetcher) fetch(chosen func(string) bool) error {
	f.files = map[string]string{}
	for i := range f.corpus.Pairs {
		p := &f.corpus.Pairs[i]
		if !chosen(p.Name) {
			continue
		}
		for _, half := range []struct {
			name string
			file *File
		}{{"old", &p.Old}, {"new", &p.New}} {
			path := filepath.Join(f.dir, p.Name, half.name)
			if _, err := os.Stat(path); err != nil {
				fmt.Fprintln(os.Stderr, "making", p.Name+"/"+half.name)
				if err := f.make(path, half.file); err != nil {
					return fmt.Errorf("%s/%s: %w", p.Name, half.name, err)
				}
			}
			if err := pin(path, &half.file.SHA256); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *fetcher) make(path string, file *File) error {
	switch file.Op {
	case "gzip":
		return f.goGzip(filepath.Join(f.dir, filepath.FromSlash(file.From)), path)
	case "merge":
		return f.merge(path, file)
	case "trained":
		return f.trained(path, file)
	}
	pkg, src, err := f.pkg(file.From)
	if err != nil {
		return err
	}
	return writeFile(path, func(w io.Writer) error {
		switch file.Op {
		case "extract":
			return extract(w, src.Kind, pkg, file.Path)
		case "gunzip":
			return gunzip(w, pkg)
		case "tree":
			return treeTar(w, pkg, file.MTime)
		case "tensors":
			return tensors(w, src.Kind, pkg, file)
		}
		return fmt.Errorf("unknown op %q", file.Op)
	})
}

func (f *fetcher) merge(path string, file *File) error {
	var debs []string
	for _, id := range file.Merge {
		pkg, _, err := f.pkg(id)
		if err != nil {
			return err
		}
		debs = append(debs, pkg)
	}
	return writeFile(path, func(w io.Writer) error { return mergeDebs(w, debs) })
}

// goGzip compresses with the Go release that the corpus names, not with the one that built this program:
// Go 1.27 writes other bytes than Go 1.26.
func (f *fetcher) goGzip(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeFile(to, func(w io.Writer) error {
		cmd := goCommand(f.bench, go126, "run", "./cmd/gzwrite", "-writer", "go", "-level", "-1")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, w, os.Stderr
		return cmd.Run()
	})
}

// The Go releases that write the streams of the corpus.
const (
	go126 = "go1.26.11"
	go127 = "go1.27.4"
)

// goCommand is the go command of a certain release, run in the folder of this module.
func goCommand(dir, release string, args ...string) *exec.Cmd {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOTOOLCHAIN="+release, "GOFLAGS=-trimpath -buildvcs=false", "CGO_ENABLED=0")
	return cmd
}

// pkg returns the file of a package, downloading it if it is not there.
func (f *fetcher) pkg(id string) (string, *Source, error) {
	src, err := f.corpus.source(id)
	if err != nil {
		return "", nil, err
	}
	if path, ok := f.files[id]; ok {
		return path, src, nil
	}
	var path string
	switch src.Kind {
	case "gomod":
		path, err = downloadModule(src)
	case "npm", "deb":
		path, err = f.download(src)
	default:
		err = fmt.Errorf("unknown kind %q", src.Kind)
	}
	if err != nil {
		return "", nil, fmt.Errorf("package %s: %w", id, err)
	}
	if err := pin(path, &src.SHA256); err != nil {
		return "", nil, err
	}
	f.files[id] = path
	return path, src, nil
}

// downloadModule returns the zip file of a Go module in the module cache.
func downloadModule(src *Source) (string, error) {
	dir, err := os.MkdirTemp("", "wcbench")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module empty\n\ngo 1.26.0\n"), 0o644); err != nil {
		return "", err
	}
	out, err := goCommand(dir, "local", "mod", "download", "-json", src.Name+"@"+src.Version).Output()
	if err != nil {
		return "", withStderr(err)
	}
	var mod struct{ Zip string }
	if err := json.Unmarshal(out, &mod); err != nil {
		return "", err
	}
	return mod.Zip, nil
}

// download keeps one folder per package, so that the only file in it is the package.
func (f *fetcher) download(src *Source) (string, error) {
	dir := filepath.Join(f.dir, ".packages", src.ID)
	if path, err := onlyFile(dir); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var cmd *exec.Cmd
	if src.Kind == "npm" {
		cmd = exec.Command("npm", "pack", "--silent", src.Name+"@"+src.Version)
	} else {
		cmd = exec.Command("apt-get", "download", "-qq", src.Name+"="+src.Version)
	}
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return onlyFile(dir)
}

func onlyFile(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) != 1 {
		return "", fmt.Errorf("%s: %d files, want one package", dir, len(entries))
	}
	return filepath.Join(dir, entries[0].Name()), nil
}

func withStderr(err error) error {
	if e, ok := err.(*exec.ExitError); ok {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(e.Stderr))
	}
	return err
}
