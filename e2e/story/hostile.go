package story

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/bundle"
)

// searchSupport looks into every file of the support bundle for the password, and wants the parts that it promises.
func (s *Story) searchSupport(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	want := map[string]bool{"pods/logs/": false, "helm/": false, "custom-resource": false, "nodes": false, "deployments": false}
	files := 0
	for tr := tar.NewReader(zr); ; files++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return err
		}
		for _, form := range []string{secretValue, base64.StdEncoding.EncodeToString([]byte(secretValue))} {
			if strings.Contains(string(b), form) {
				return fmt.Errorf("%s in the support bundle holds the Secret's value", h.Name)
			}
		}
		for k := range want {
			want[k] = want[k] || strings.Contains(h.Name, k)
		}
	}
	for k, ok := range want {
		if !ok {
			return fmt.Errorf("the support bundle has nothing of %s", k)
		}
	}
	s.say("%d files searched: the password that the pods log is in none of them", files)
	return nil
}

// hostile tries four patches that must not get in, and looks that the site is as it was.
func (s *Story) hostile(ctx context.Context) error {
	if err := s.strangers(ctx); err != nil {
		return err
	}
	before, err := s.siteState(ctx)
	if err != nil {
		return err
	}
	if err := s.flipped(ctx); err != nil {
		return err
	}
	for _, t := range []struct {
		what string
		code int
		says string
		file string
	}{
		{"one flipped byte", 12, "damaged", "flipped.wcp"},
		{"no signature", 10, "unsigned", "unsigned.wcp"},
		{"made from a release that this site never had", 13, "", "other-base.wcp"},
		{"older than what the site has accepted", 14, "older", "old.wcp"},
	} {
		s.say("a patch with %s:", t.what)
		for _, verb := range []string{"verify", "load"} {
			if err := s.refused(ctx, t.code, t.says, verb, s.path(t.file)); err != nil {
				return err
			}
		}
	}
	after, err := s.siteState(ctx)
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("the site changed:\n%s\n%s", before, after)
	}
	s.say("the site's record, its registry and its pods are as before")
	return nil
}

// strangers makes a base that the site does not have, a newer release, and patches between them.
func (s *Story) strangers(ctx context.Context) error {
	if err := s.variant("r2", "r0", "2.9.0", "2.8.9", "sequence: 57", "sequence: 55"); err != nil {
		return err
	}
	if err := s.variant("r3", "r4", "2.10.0", "2.11.0", "sequence: 58", "sequence: 60"); err != nil {
		return err
	}
	for _, r := range []string{"r0", "r4"} {
		if _, err := s.wc(ctx, "build", "-f", s.definition(r), "--out", s.path(r+".wcb")); err != nil {
			return err
		}
		if _, err := s.wc(ctx, "sign", "--key", s.path("release.key"), s.path(r+".wcb")); err != nil {
			return err
		}
	}
	for _, p := range []struct{ from, to, out string }{{"r0", "r4", "other-base.wcp"}, {"r2", "r4", "unsigned.wcp"}, {"r0", "r2", "old.wcp"}} {
		if _, err := s.wc(ctx, "patch", "--from", s.path(p.from+".wcb"), "--to", s.path(p.to+".wcb"), "--out", s.path(p.out)); err != nil {
			return err
		}
	}
	raw, err := os.ReadFile(s.path("unsigned.wcp"))
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.path("flipped.wcp"), raw, 0o644); err != nil {
		return err
	}
	for _, name := range []string{"other-base.wcp", "flipped.wcp", "old.wcp"} {
		if _, err := s.wc(ctx, "sign", "--key", s.path("release.key"), s.path(name)); err != nil {
			return err
		}
	}
	return nil
}

// variant copies a release's folder by links, with another version and sequence.
func (s *Story) variant(from, to string, edits ...string) error {
	src, dst := filepath.Join(s.env.Fixtures, from), filepath.Join(s.env.Fixtures, to)
	if err := os.RemoveAll(dst); err != nil {
		return err
	}
	if err := os.Mkdir(dst, 0o755); err != nil {
		return err
	}
	for _, name := range []string{"images", "models", "chart", "values.yaml"} {
		if err := os.Symlink(filepath.Join(src, name), filepath.Join(dst, name)); err != nil {
			return err
		}
	}
	b, err := os.ReadFile(filepath.Join(src, "bundle.yaml"))
	if err != nil {
		return err
	}
	text := string(b)
	for i := 0; i+1 < len(edits); i += 2 {
		if !strings.Contains(text, edits[i]) {
			return fmt.Errorf("%s has no %q to change", from, edits[i])
		}
		text = strings.Replace(text, edits[i], edits[i+1], 1)
	}
	return os.WriteFile(filepath.Join(dst, "bundle.yaml"), []byte(text), 0o644)
}

// flipped turns one bit in the middle of a delta that the patch carries.
func (s *Story) flipped(ctx context.Context) error {
	f, err := bundle.OpenFile(s.path("flipped.wcp"))
	if err != nil {
		return err
	}
	defer f.Close()
	root, err := f.Root()
	if err != nil {
		return err
	}
	raw, err := f.Fetch(ctx, root, bundle.MaxManifest)
	if err != nil {
		return err
	}
	var man ocispec.Manifest
	if err := json.Unmarshal(raw, &man); err != nil {
		return err
	}
	for _, l := range man.Layers {
		if l.MediaType != bundle.MediaDelta {
			continue
		}
		delta, err := f.Fetch(ctx, l, bundle.MaxManifest)
		if err != nil {
			return err
		}
		file, err := os.ReadFile(s.path("flipped.wcp"))
		if err != nil {
			return err
		}
		return flip(s.path("flipped.wcp"), int64(bytes.Index(file, delta))+l.Size/2)
	}
	return errors.New("the patch has no delta to flip a byte in")
}

// siteState is all that a refused file must not change, as text.
func (s *Story) siteState(ctx context.Context) (string, error) {
	record, err := os.ReadFile(s.path("state/wordcab/site.json"))
	if err != nil {
		return "", err
	}
	tags := ""
	for _, tag := range []string{"2.8.0", "2.8.9", "2.9.0", "2.10.0", "2.11.0"} {
		d, err := s.reg.Resolve(ctx, bundle.ReleaseRepo("wordcab"), tag)
		tags += fmt.Sprintf("%s=%s/%v ", tag, d.Digest, err != nil)
	}
	if s.kube == nil {
		return string(record) + tags, nil
	}
	pods, err := s.pods(ctx)
	if err != nil {
		return "", err
	}
	uids := []string{}
	for _, p := range pods {
		uids = append(uids, string(p.UID))
	}
	cm, err := s.kube.CoreV1().ConfigMaps(namespace).Get(ctx, "wcbundle-site", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	slices.Sort(uids)
	return string(record) + tags + strings.Join(uids, " ") + cm.Data["record.json"], nil
}
