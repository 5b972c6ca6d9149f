package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// A gzipWriter is a program that compresses its input to its output.
type gzipWriter struct {
	name    string
	argv    []string
	version func() (string, error)
}

const (
	pythonScript = "import gzip,sys; sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read(), int(sys.argv[1]), mtime=0))"
	nodeScript   = "process.stdin.pipe(require('zlib').createGzip({level: 6})).pipe(process.stdout)"
)

// gzipWriterSet lists the writers; those that are not installed are left out. go27 is this module's program built by Go 1.27.
func (r *runner) gzipWriterSet(go27 string) []gzipWriter {
	own := filepath.Join(r.bin, "gzwrite")
	goVersion := module(own, "github.com/wordcab/wcbundle/bench")
	all := []gzipWriter{
		{"Go 1.26 default (docker, buildkit, crane)", []string{own, "-writer", "go"}, goVersion},
		{"Go 1.26 level 9", []string{own, "-writer", "go", "-level", "9"}, goVersion},
		{"Go 1.27 default", []string{go27, "-writer", "go"}, module(go27, "github.com/wordcab/wcbundle/bench")},
		{"klauspost gzip default", []string{own, "-writer", "klauspost"}, module(own, "github.com/klauspost/compress")},
		{"pgzip default (podman, buildah, skopeo)", []string{own, "-writer", "pgzip"}, module(own, "github.com/klauspost/pgzip")},
		{"Python 6", []string{"python3", "-c", pythonScript, "6"}, firstLine("python3", "--version")},
		{"Python 9", []string{"python3", "-c", pythonScript, "9"}, firstLine("python3", "--version")},
		{"GNU gzip -6", []string{"gzip", "-n", "-6"}, debian("gzip")},
		{"GNU gzip -9", []string{"gzip", "-n", "-9"}, debian("gzip")},
		{"GNU gzip -1", []string{"gzip", "-n", "-1"}, debian("gzip")},
		{"pigz -6", []string{"pigz", "-n", "-6"}, debian("pigz")},
		{"pigz -R", []string{"pigz", "-n", "-R"}, debian("pigz")},
		{"node 6", []string{"node", "-e", nodeScript}, firstLine("node", "--version")},
		{"libdeflate -6", []string{"libdeflate-gzip", "-6", "-c"}, debian("libdeflate-tools")},
	}
	var have []gzipWriter
	for _, w := range all {
		if lookTool(w.argv[0]) != "" {
			have = append(have, w)
		}
	}
	return have
}

// gzipPlain is how much of a layer the writers compress.
const gzipPlain = 48 << 20

// gzipWriters measures what a stream costs when the base has its content already: only the recipe that rebuilds the stream.
func (r *runner) gzipWriters() error {
	defer clearFolder(r.work)
	r.results.Gzip = nil
	plain := filepath.Join(r.work, "plain.tar")
	size, source := int64(gzipPlain), "L-deb"
	if r.quick {
		size, source = 4<<20, "libcrypto"
	}
	if err := copyHead(plain, filepath.Join(r.corpus, source, "new"), size); err != nil {
		return err
	}
	go27 := filepath.Join(r.bin, "gzwrite27")
	if out, err := goCommand(r.bench, go127, "build", "-o", go27, "./cmd/gzwrite").CombinedOutput(); err != nil {
		return fmt.Errorf("building with %s: %w: %s", go127, err, tail(out))
	}
	for i, w := range r.gzipWriterSet(go27) {
		if r.quick && i%3 != 0 {
			continue
		}
		version, err := w.version()
		if err != nil {
			return fmt.Errorf("the version of %s: %w", w.name, err)
		}
		r.results.Tools[w.name] = version
		row := GzipRow{Writer: w.name, Plain: size}
		if err := r.gzipWriter(&row, w, plain); err != nil {
			row.Error = err.Error()
		}
		fmt.Fprintf(os.Stderr, "%-42s stream %9d B, delta %8d B %s\n", row.Writer, row.Stream, row.Size, row.Error)
		r.results.Gzip = append(r.results.Gzip, row)
	}
	return nil
}

func copyHead(to, from string, n int64) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	return writeFile(to, func(w io.Writer) error {
		_, err := io.CopyN(w, in, n)
		return err
	})
}

func (r *runner) gzipWriter(row *GzipRow, w gzipWriter, plain string) error {
	stream, delta, out := filepath.Join(r.work, "stream"), filepath.Join(r.work, "delta"), filepath.Join(r.work, "out")
	err := writeFile(stream, func(to io.Writer) error {
		in, err := os.Open(plain)
		if err != nil {
			return err
		}
		defer in.Close()
		cmd := exec.Command(w.argv[0], w.argv[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, to, os.Stderr
		return cmd.Run()
	})
	if err != nil {
		return err
	}
	if _, row.Stream, err = sizes(plain, stream); err != nil {
		return err
	}
	if row.Make, err = measure(r.wcbundle, "delta", "make", "--level", "default", "-j", "1", "-o", delta, plain, stream); err != nil {
		return err
	}
	if _, row.Size, err = sizes(plain, delta); err != nil {
		return err
	}
	if row.Apply, err = measure(r.wcbundle, "delta", "apply", "-j", "1", "-o", out, plain, delta); err != nil {
		return err
	}
	if err := mustEqual(stream, out); err != nil {
		return err
	}
	_ = os.Remove(delta)
	return os.Remove(out)
}
