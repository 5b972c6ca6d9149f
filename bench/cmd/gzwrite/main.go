// Gzwrite compresses its input with one of the gzip writers that container tools are built with.
package main

import (
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"os"

	kgzip "github.com/klauspost/compress/gzip"
	"github.com/klauspost/pgzip"
)

func main() {
	writer := flag.String("writer", "go", "go, klauspost or pgzip")
	level := flag.Int("level", -1, "level of the writer; -1 is its default")
	flag.Parse()
	if err := compress(os.Stdout, os.Stdin, *writer, *level); err != nil {
		fmt.Fprintln(os.Stderr, "gzwrite:", err)
		os.Exit(1)
	}
}

func compress(w io.Writer, r io.Reader, writer string, level int) error {
	z, err := newWriter(w, writer, level)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, r); err != nil {
		return err
	}
	return z.Close()
}

func newWriter(w io.Writer, writer string, level int) (io.WriteCloser, error) {
	switch writer {
	case "go":
		return gzip.NewWriterLevel(w, level)
	case "klauspost":
		return kgzip.NewWriterLevel(w, level)
	case "pgzip":
		return pgzip.NewWriterLevel(w, level)
	}
	return nil, fmt.Errorf("unknown writer %q", writer)
}
