package support

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const versionText = "apiVersion: bundle.wordcab.com/v1alpha1\nkind: SupportBundle\n"

const readmeText = `This is a support bundle of wcbundle.

Everything in it was redacted on the machine that made it: three asterisks stand where a secret was.
  manifest.json            every file with its digest, its size and what made it
  redactions.json          how many redactions each file has, by rule
  collection-errors.json   what is missing, and why: read this first
  cluster-resources/       what the cluster had, one file per kind and namespace
  cluster-resources/pods/logs/NAMESPACE/POD/CONTAINER.log   and CONTAINER-previous.log
  helm/                    history, manifests and values of the stored revisions
Look through it before you send it; it is plain text. A signature over the archive, where there is one, lies beside it.
`

// closing adds the files that describe the others.
func (s *spool) closing(m *Manifest) error {
	if err := s.fixed("version.yaml", []byte(versionText)); err != nil {
		return err
	}
	if err := s.fixed("README.txt", []byte(readmeText)); err != nil {
		return err
	}
	errs := s.errs
	if errs == nil {
		errs = []CollectError{}
	}
	for _, f := range []struct {
		path string
		v    any
	}{{"redactions.json", s.hits}, {"collection-errors.json", errs}} {
		if err := s.fixedJSON(f.path, f.v); err != nil {
			return err
		}
	}
	m.Errors, m.Redactions = s.errs, s.hits
	for _, f := range s.sorted() {
		m.Files = append(m.Files, f.File)
	}
	return s.fixedJSON("manifest.json", m)
}

func (s *spool) fixedJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	return s.fixed(path, append(raw, '\n'))
}

// fixed keeps a file of our own. It is scrubbed too: a Secret's value may be a word that we use.
func (s *spool) fixed(path string, content []byte) error {
	return s.keep(File{Path: s.path(path), Collector: "wcbundle"}, s.scrub.literal(content, func(string, int) {}))
}

// pack writes the archive: ordered, dated once, owned by nobody.
func (s *spool) pack(w io.Writer, folder string, at time.Time) error {
	zw := gzip.NewWriter(w)
	tw := tar.NewWriter(zw)
	for _, f := range s.sorted() {
		head := &tar.Header{Typeflag: tar.TypeReg, Name: folder + "/" + f.Path, Size: f.Size, Mode: 0o600,
			ModTime: at.UTC().Truncate(time.Second), Format: tar.FormatPAX}
		if err := tw.WriteHeader(head); err != nil {
			return fmt.Errorf("packing %s: %w", f.Path, err)
		}
		if err := copyFile(tw, f.at); err != nil {
			return fmt.Errorf("packing %s: %w", f.Path, err)
		}
	}
	if err := tw.Close(); err != nil {
		return fmt.Errorf("packing: %w", err)
	}
	if err := zw.Close(); err != nil {
		return fmt.Errorf("packing: %w", err)
	}
	return nil
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// residual reads a finished archive and returns a *ResidualError for the first file whose name or content holds a
// literal or a sure pattern.
func residual(r io.Reader, m *matcher) error {
	zr, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("reading the archive back: %w", err)
	}
	tr := tar.NewReader(zr)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the archive back: %w", err)
		}
		name := h.Name
		if m.found([]byte(name)) {
			return &ResidualError{File: "(the name of a file)", Rule: "secret-value"}
		}
		content, err := io.ReadAll(tr) // bounded: these are the bytes that were just spooled
		if err != nil {
			return fmt.Errorf("reading %s back: %w", name, err)
		}
		if m.found(content) {
			return &ResidualError{File: name, Rule: "secret-value"}
		}
		if rule := hardHit(content); rule != "" {
			return &ResidualError{File: name, Rule: rule}
		}
	}
}

// seal packs, checks and only then writes to w.
func (s *spool) seal(w io.Writer, m *Manifest, check *matcher) error {
	f, err := os.OpenFile(filepath.Join(s.dir, "archive"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("packing: %w", err)
	}
	defer f.Close()
	if err := s.pack(f, m.Name, m.Created); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reading the archive back: %w", err)
	}
	if err := residual(f, check); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, h), f)
	if err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	m.Archive = ocispec.Descriptor{MediaType: MediaType, Digest: digest.NewDigest(digest.SHA256, h), Size: n}
	return nil
}
