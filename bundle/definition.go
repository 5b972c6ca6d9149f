package bundle

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/wordcab/wcbundle/internal/strict"
	"github.com/wordcab/wcbundle/sign"
)

// MaxDefinition is the size of the largest bundle.yaml that is read, in bytes.
const MaxDefinition = 1 << 20

// LoadDefinition reads bundle.yaml strictly and checks it. Every fault found is in the error, with its line where the
// form itself is wrong.
func LoadDefinition(path string) (*Definition, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.Size() > MaxDefinition {
		return nil, &FormError{Path: path, Reason: fmt.Sprintf("longer than %d bytes: not a bundle definition", MaxDefinition)}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var d Definition
	if err := strict.YAML(path, b, &d); err != nil {
		return nil, err
	}
	if err := d.Check(filepath.Dir(path)); err != nil {
		return nil, placed(path, b, err)
	}
	return &d, nil
}

var quotedValue = regexp.MustCompile(`"([^"]+)"`)

// placed puts file and line before each fault. The line is that of the value which the fault quotes, else of the field
// that it begins with; where neither is in the file, the first.
func placed(path string, raw []byte, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s:%d: %w", path, lineOf(raw, err.Error()), err)
	}
	var out []error
	for _, e := range joined.Unwrap() {
		out = append(out, fmt.Errorf("%s:%d: %w", path, lineOf(raw, e.Error()), e))
	}
	return errors.Join(out...)
}

func lineOf(raw []byte, fault string) int {
	var wanted []string
	if m := quotedValue.FindStringSubmatch(fault); m != nil {
		wanted = append(wanted, m[1])
	}
	words := strings.Fields(fault)
	if len(words) > 1 {
		field := strings.TrimRight(words[0], ":")
		wanted = append(wanted, strings.TrimRight(words[1], ":"), field[strings.LastIndexByte(field, '.')+1:]+":")
	}
	for _, w := range wanted {
		for i, line := range strings.Split(string(raw), "\n") {
			if len(w) > 2 && strings.Contains(line, w) {
				return i + 1
			}
		}
	}
	return 1
}

// Check finds all that is wrong with a definition. Paths are looked up relative to dir.
func (d *Definition) Check(dir string) error {
	var faults []error
	add := func(err error) {
		if err != nil {
			faults = append(faults, err)
		}
	}
	if d.APIVersion != APIVersion || d.Kind != "Bundle" {
		add(fmt.Errorf("apiVersion %q, kind %q: want %s, Bundle", d.APIVersion, d.Kind, APIVersion))
	}
	add(checkMetadata(d.Metadata.Name, d.Metadata.Version, d.Metadata.Channel, d.Metadata.Sequence))
	if _, err := time.Parse(time.RFC3339, d.Metadata.Expires); d.Metadata.Expires != "" && err != nil {
		add(fmt.Errorf("metadata.expires %q is not a time such as 2027-06-30T00:00:00Z", d.Metadata.Expires))
	}
	add(d.Upgrade.check())
	if len(d.Charts) != 1 {
		add(fmt.Errorf("charts: %d of them: a product is one Helm release, so name one chart and make others its subcharts", len(d.Charts)))
	}
	for _, c := range d.Charts {
		add(CheckName("charts[].release", c.Release))
		add(CheckName("charts[].namespace", c.Namespace))
		add(exists(dir, "charts[].source", c.Source))
		for _, v := range slices.Concat(append(c.Variants, c.Values)...) {
			add(exists(dir, "charts[].values", v))
		}
	}
	for _, i := range d.Images {
		add(checkRef("images[].ref", i.Ref))
		if p, ok := strings.CutPrefix(i.Source, "docker-archive:"); ok {
			add(exists(dir, "images[].source", p))
		}
		if i.Key != "" {
			add(exists(dir, "images[].key", i.Key))
		}
	}
	for _, m := range d.Models {
		if !idForm.MatchString(m.ID) {
			add(fmt.Errorf("models[].id %.80q: letters, digits, dots, dashes and underscores only", m.ID))
		}
		if m.Ref != "" {
			add(checkRef("models[].ref", m.Ref))
		}
		add(exists(dir, "models[].source", m.Source))
	}
	if d.Registry != nil {
		add(checkRef("registry.image", d.Registry.Image))
	}
	add(checkPools(d.Pools))
	for _, p := range d.Pools {
		for _, g := range p.Gates.Post {
			if g.HTTP != nil && g.HTTP.BodyFile != "" {
				add(exists(dir, "pools[].gates.post[].http.bodyFile", g.HTTP.BodyFile))
			}
		}
	}
	add(d.checkSecurity(dir))
	return errors.Join(faults...)
}

func (d *Definition) checkSecurity(dir string) error {
	if d.Metadata.Channel == "security" {
		if d.Security == nil || d.Security.VEX == "" {
			return errors.New("security.vex is missing: a release of the security channel says which CVEs it fixes")
		}
		if d.Metadata.Expires == "" {
			return fmt.Errorf("metadata.expires is missing: a release of the security channel is valid for %d days at most", sign.MaxDropDays)
		}
	}
	if d.Security == nil {
		return nil
	}
	if d.Security.VEX != "" {
		if err := exists(dir, "security.vex", d.Security.VEX); err != nil {
			return err
		}
	}
	return checkContains(d.Security.Contains)
}

func (u Upgrade) check() error {
	if u.From != "" {
		if _, err := semver.NewConstraint(u.From); err != nil {
			return fmt.Errorf("upgrade.from %q is not a version range such as >=2.3.0: %w", u.From, err)
		}
	}
	if u.MaxMinorSkip < 0 {
		return fmt.Errorf("upgrade.maxMinorSkip %d is negative", u.MaxMinorSkip)
	}
	for _, w := range u.Waypoints {
		if _, err := semver.StrictNewVersion(w); err != nil {
			return fmt.Errorf("upgrade.waypoints: %q is not a version such as 2.4.0", w)
		}
	}
	return nil
}

func exists(dir, what, p string) error {
	if p == "" {
		return fmt.Errorf("%s is empty", what)
	}
	if _, err := os.Stat(inDir(dir, p)); err != nil {
		return fmt.Errorf("%s %s: no such file or folder beside the definition", what, p)
	}
	return nil
}

func inDir(dir, p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

func checkRef(what, ref string) error {
	if _, err := name.ParseReference(ref); err != nil {
		return fmt.Errorf("%s %.120q is not an image reference: %w", what, ref, err)
	}
	return nil
}

// RepoOf is the repository, without a registry's host, in which a reference's content lies at a site: the original host
// and path, so that nothing from two registries can collide.
func RepoOf(ref string) (string, error) {
	r, err := name.ParseReference(ref)
	if err != nil {
		return "", fmt.Errorf("reference %.120q: %w", ref, err)
	}
	host := strings.ReplaceAll(r.Context().RegistryStr(), ":", "-")
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	repo := strings.ToLower(host) + "/" + r.Context().RepositoryStr()
	if !repoForm.MatchString(repo) {
		return "", fmt.Errorf("reference %.120q makes the repository %.120q, which is not well-formed", ref, repo)
	}
	return repo, nil
}

// TagOf is a reference's tag, or "" for one that is pinned by digest.
func TagOf(ref string) string {
	if t, err := name.NewTag(ref); err == nil {
		return t.TagStr()
	}
	return ""
}

// ReleaseRepo is the repository in which a product's heads, release.json files and signatures lie.
func ReleaseRepo(product string) string { return product + "/release" }

func chartRepo(product, chart string) string { return product + "/charts/" + chart }
