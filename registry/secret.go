package registry

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// secretFile is beside the blobs.
const secretFile = "http-secret"

// secretSize is in bytes, before they are written as hexadecimal digits.
const secretSize = 32

// httpSecret is what the embedded registry signs the state of an upload with. It is made once and kept, so that uploads outlive the
// server, and servers that share a folder take each other's.
func httpSecret(dir string) (string, error) {
	path := filepath.Join(dir, secretFile)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := makeSecret(dir, path); err != nil {
			return "", fmt.Errorf("making the registry's secret: %w", err)
		}
	}
	b, err := readBounded(path, 4*secretSize)
	if err != nil {
		return "", fmt.Errorf("the registry's secret: %w", err)
	}
	text := strings.TrimSpace(string(b))
	if raw, err := hex.DecodeString(text); err != nil || len(raw) != secretSize {
		return "", fmt.Errorf("%s is not a secret of %d bytes: remove it, and uploads that run now begin again", path, secretSize)
	}
	return text, nil
}

// makeSecret writes the file whole or not at all. Where another server was faster, its secret stays.
func makeSecret(dir, path string) (err error) {
	f, err := os.CreateTemp(dir, "."+secretFile+"-*") // 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	var raw [secretSize]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = f.WriteString(hex.EncodeToString(raw[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readBounded reads a plain file of at most max bytes.
func readBounded(path string, max int64) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > max {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, max)
	}
	return os.ReadFile(path)
}
