package siteregistry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// HostsConfig tells a node's containerd how registries are reached (containerd docs/hosts.md). Dir is the folder that its config_path
// names.
type HostsConfig struct {
	Dir     string
	Host    string   // host:port that images are pulled from
	CA      []byte   // PEM; nil = the system's
	HTTP    bool     // plain http
	Mirrors []string // registries whose images are taken from Host instead, where they lie under their own name
}

var hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?(:[0-9]{1,5})?$`)

// files are the files to be written below Dir, by path.
func (c HostsConfig) files() (map[string][]byte, error) {
	out := map[string][]byte{}
	scheme := "https"
	if c.HTTP {
		scheme = "http"
	}
	if !hostForm.MatchString(c.Host) {
		return nil, fmt.Errorf("registry %.100q is not HOST or HOST:PORT", c.Host)
	}
	ca := ""
	if c.CA != nil {
		path := filepath.Join(c.Host, "ca.crt")
		out[path] = c.CA
		ca = fmt.Sprintf("  ca = %q\n", filepath.Join(c.Dir, path))
	}
	const head = "# Written by wcbundle: changes are undone.\n"
	own := fmt.Sprintf("%sserver = \"%s://%s\"\n\n[host.\"%s://%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n%s", head, scheme, c.Host, scheme, c.Host, ca)
	out[filepath.Join(c.Host, "hosts.toml")] = []byte(own)
	for _, m := range c.Mirrors {
		if !hostForm.MatchString(m) {
			return nil, fmt.Errorf("mirror %.100q is not HOST or HOST:PORT", m)
		}
		// The site's registry is named as the server too: what it does not have is not asked for anywhere else.
		out[filepath.Join(m, "hosts.toml")] = []byte(fmt.Sprintf("%sserver = \"%s://%s/v2/%s\"\noverride_path = true\n\n[host.\"%s://%s/v2/%s\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n%s",
			head, scheme, c.Host, m, scheme, c.Host, m, ca))
	}
	return out, nil
}

// Write puts the files there, and tells whether one was not.
func (c HostsConfig) Write() (changed bool, err error) {
	files, err := c.files()
	if err != nil {
		return false, err
	}
	for name, want := range files {
		path := filepath.Join(c.Dir, name)
		have, err := os.ReadFile(path)
		if err == nil && bytes.Equal(have, want) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return changed, err
		}
		if err == nil && !bytes.HasPrefix(have, []byte("# Written by wcbundle")) && strings.HasSuffix(name, ".toml") {
			return changed, fmt.Errorf("%s is there and not ours: remove it, or leave that mirror out", path)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return changed, err
		}
		if err := writeWhole(path, want); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}

// writeWhole leaves the old file or the new one.
func writeWhole(path string, b []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// Keep writes the files, and again when somebody has changed them, until ctx ends. told is called after each change.
func (c HostsConfig) Keep(ctx context.Context, every time.Duration, told func()) error {
	for {
		changed, err := c.Write()
		if err != nil {
			return err
		}
		if changed {
			told()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
