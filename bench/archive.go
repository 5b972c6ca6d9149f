package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"sort"
	"strings"
	"time"
)

// extract writes the member of a package whose name matches pattern (path.Match) to w.
func extract(w io.Writer, kind, pkg, pattern string) error {
	switch kind {
	case "gomod":
		return extractZip(w, pkg, pattern)
	case "npm":
		f, err := os.Open(pkg)
		if err != nil {
			return err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		return extractTar(w, z, pattern)
	}
	return withDeb(pkg, func(r io.Reader) error { return extractTar(w, r, pattern) })
}

func extractZip(w io.Writer, pkg, name string) error {
	z, err := zip.OpenReader(pkg)
	if err != nil {
		return err
	}
	defer z.Close()
	for _, f := range z.File {
		if _, rest, ok := strings.Cut(f.Name, "linux-amd64/"); ok && rest == name {
			r, err := f.Open()
			if err != nil {
				return err
			}
			_, err = io.Copy(w, r)
			return err
		}
	}
	return fmt.Errorf("%s: %w", name, fs.ErrNotExist)
}

func extractTar(w io.Writer, r io.Reader, pattern string) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", pattern, fs.ErrNotExist)
		}
		if err != nil {
			return err
		}
		ok, err := path.Match(pattern, path.Clean(h.Name))
		if err != nil {
			return err
		}
		if ok && h.Typeflag == tar.TypeReg {
			_, err := io.Copy(w, t)
			return err
		}
	}
}

// withDeb gives the tar of a Debian package's files to read. read need not read to the end.
func withDeb(pkg string, read func(io.Reader) error) error {
	cmd := exec.Command("dpkg-deb", "--fsys-tarfile", pkg)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := read(out); err != nil {
		out.Close()
		return errors.Join(err, cmd.Wait())
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		return err
	}
	return cmd.Wait()
}

func gunzip(w io.Writer, pkg string) error {
	f, err := os.Open(pkg)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, z)
	return err
}

// treeTar writes the files of a toolchain module as a layer: sorted names, folders before files, one time for all.
func treeTar(w io.Writer, pkg string, mtime int64) error {
	z, err := zip.OpenReader(pkg)
	if err != nil {
		return err
	}
	defer z.Close()
	files := map[string]*zip.File{}
	for _, f := range z.File {
		_, rest, ok := strings.Cut(f.Name, "linux-amd64/")
		if !ok {
			return fmt.Errorf("unexpected name %q in the module", f.Name)
		}
		name := "usr/local/go/" + rest
		files[name] = f
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			files[d+"/"] = nil
		}
	}
	t := tar.NewWriter(w)
	for _, name := range sorted(files) {
		if err := addZipFile(t, name, files[name], time.Unix(mtime, 0)); err != nil {
			return err
		}
	}
	return t.Close()
}

func addZipFile(t *tar.Writer, name string, f *zip.File, mtime time.Time) error {
	h := &tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: mtime}
	if f == nil {
		return t.WriteHeader(h)
	}
	h.Typeflag, h.Size, h.Mode = tar.TypeReg, int64(f.UncompressedSize64), 0o644
	if strings.HasPrefix(name, "usr/local/go/bin/") || strings.HasPrefix(name, "usr/local/go/pkg/tool/") {
		h.Mode = 0o755
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	_, err = io.Copy(t, r)
	return err
}

// mergeDebs writes one tar with the files of all packages, sorted by name, as a layer of an image has them.
// Of a name in several packages the first one counts.
func mergeDebs(w io.Writer, debs []string) error {
	type member struct {
		header *tar.Header
		data   []byte
	}
	members := map[string]member{}
	for _, deb := range debs {
		err := withDeb(deb, func(r io.Reader) error {
			t := tar.NewReader(r)
			for {
				h, err := t.Next()
				if errors.Is(err, io.EOF) {
					return nil
				}
				if err != nil {
					return err
				}
				h.Name = strings.TrimPrefix(h.Name, "./")
				if _, ok := members[h.Name]; ok || h.Name == "" {
					continue
				}
				data, err := io.ReadAll(t)
				if err != nil {
					return err
				}
				members[h.Name] = member{h, data}
			}
		})
		if err != nil {
			return err
		}
	}
	t := tar.NewWriter(w)
	for _, name := range sorted(members) {
		m := members[name]
		m.header.Linkname = strings.TrimPrefix(m.header.Linkname, "./")
		m.header.Format = tar.FormatUnknown
		if err := t.WriteHeader(m.header); err != nil {
			return err
		}
		if _, err := t.Write(m.data); err != nil {
			return err
		}
	}
	return t.Close()
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
