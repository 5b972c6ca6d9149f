package story

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/wordcab/wcbundle/bundle"
)

func (s *Story) definition(release string) string {
	return filepath.Join(s.env.Fixtures, release, "bundle.yaml")
}

// build makes r1, r2 and r3, and r1 a second time.
func (s *Story) build(ctx context.Context) error {
	for _, r := range []string{"r1", "r2", "r3"} {
		if _, err := s.wc(ctx, "build", "-f", s.definition(r), "--out", s.path(r+".wcb")); err != nil {
			return err
		}
	}
	if _, err := s.wc(ctx, "build", "-f", s.definition("r1"), "--out", s.path("r1-again.wcb")); err != nil {
		return err
	}
	a, err := hashFile(s.path("r1.wcb"))
	if err != nil {
		return err
	}
	b, err := hashFile(s.path("r1-again.wcb"))
	if err != nil {
		return err
	}
	if a != b {
		return fmt.Errorf("two builds of r1 differ: %s and %s", a, b)
	}
	s.say("two builds of r1 have the same sha256 %s", a[:16])
	for _, r := range []string{"r1", "r2", "r3"} {
		if err := s.untouched(ctx, r); err != nil {
			return err
		}
	}
	return os.Remove(s.path("r1-again.wcb"))
}

// untouched compares each image's manifest digest in the bundle with the one in its source.
func (s *Story) untouched(ctx context.Context, r string) error {
	f, rel, err := s.release(ctx, r+".wcb")
	if err != nil {
		return err
	}
	defer f.Close()
	def, err := bundle.LoadDefinition(s.definition(r))
	if err != nil {
		return err
	}
	for _, src := range def.Images {
		raw, err := os.ReadFile(filepath.Join(s.env.Fixtures, r, strings.TrimPrefix(src.Source, "oci:"), "index.json"))
		if err != nil {
			return err
		}
		found := false
		for _, i := range rel.Images {
			found = found || i.Ref == src.Ref && strings.Contains(string(raw), string(i.Manifest.Digest))
		}
		if !found {
			return fmt.Errorf("%s: image %s has another digest in the bundle than in its source", r, src.Ref)
		}
	}
	s.say("%s: %d images with the manifest digests of their sources", r, len(def.Images))
	return nil
}

// release opens a bundle and reads its release.json.
func (s *Story) release(ctx context.Context, name string) (*bundle.File, *bundle.Release, error) {
	f, err := bundle.OpenFile(s.path(name))
	if err != nil {
		return nil, nil, err
	}
	rel, err := f.ReleaseUnverified(ctx)
	return f, rel, err
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

func (s *Story) sign(ctx context.Context) error {
	for _, role := range []string{"root", "release", "security", "officer"} {
		if _, err := s.wc(ctx, "keys", "generate", "--prefix", s.path(role)); err != nil {
			return err
		}
	}
	for _, r := range []string{"r1", "r2", "r3"} {
		if _, err := s.wc(ctx, "sign", "--key", s.path("release.key"), s.path(r+".wcb")); err != nil {
			return err
		}
	}
	if _, err := s.wc(ctx, "trust", "init", "--product", "wordcab", "--root-key", s.path("root.pub"), "--release-key", s.path("release.pub"),
		"--security-key", s.path("security.pub"), "--security-image", "*/stefanprodan/podinfo", "--out", s.path("trust.json")); err != nil {
		return err
	}
	_, err := s.wc(ctx, "trust", "sign", "--chain", s.path("trust-chain.json"), "--key", s.path("root.key"), s.path("trust.json"))
	return err
}

// patch makes r1 to r2 and r2 to r3 and looks at what is in them.
func (s *Story) patch(ctx context.Context) error {
	for _, p := range [][2]string{{"r1", "r2"}, {"r2", "r3"}} {
		out := s.path(p[0] + "-to-" + p[1] + ".wcp")
		r, err := s.wc(ctx, "patch", "--from", s.path(p[0]+".wcb"), "--to", s.path(p[1]+".wcb"), "--out", out)
		if err != nil {
			return err
		}
		if p[0] == "r1" {
			if err := s.deltasIn(r.stderr); err != nil {
				return err
			}
		}
		if _, err := s.wc(ctx, "sign", "--key", s.path("release.key"), out); err != nil {
			return err
		}
	}
	full, err := os.Stat(s.path("r2.wcb"))
	if err != nil {
		return err
	}
	small, err := os.Stat(s.path("r1-to-r2.wcp"))
	if err != nil {
		return err
	}
	s.say("the patch is %.1f %% of the full bundle (%d of %d bytes)", 100*float64(small.Size())/float64(full.Size()), small.Size(), full.Size())
	if small.Size()*2 > full.Size() {
		return errors.New("the patch is more than half of the bundle")
	}
	return nil
}

// deltasIn wants deltas inside gzip layers and inside raw weights.
func (s *Story) deltasIn(log string) error {
	gzipped, raw := 0, 0
	for _, l := range strings.Split(log, "\n") {
		if !strings.HasPrefix(l, "delta ") {
			continue
		}
		if strings.Contains(l, "(gzip(") {
			gzipped++
		} else {
			raw++
		}
	}
	if gzipped == 0 || raw == 0 {
		return fmt.Errorf("the patch has %d deltas inside gzip layers and %d inside raw weights: both are wanted", gzipped, raw)
	}
	return nil
}
