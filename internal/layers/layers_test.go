// Package layers holds the picture of DESIGN: which room imports which, and who owns which heavy dependency.
package layers

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/wordcab/wcbundle/"

// rooms says which of our packages a room may import, as prefixes. Tests may import more.
var rooms = map[string][]string{
	"internal/strict": {},
	"delta":           {"delta"},
	"sign":            {"internal/strict", "sign"},
	"bundle":          {"internal/strict", "delta", "sign"},
	"registry":        {"bundle"},
	"rollout":         {},
	"install":         {"internal/strict", "bundle", "delta", "sign", "registry", "rollout", "install"},
	"cmd":             {"bundle", "delta", "sign", "registry", "rollout", "install"},
	"e2e":             {"bundle", "delta", "sign", "registry", "rollout", "install", "e2e"},
	"internal/layers": {},
}

// owners says which rooms may import a heavy dependency. e2e is a user of everything.
var owners = map[string][]string{
	"github.com/urfave/cli/":                  {"cmd"},
	"helm.sh/helm/":                           {"install", "rollout"},
	"k8s.io/":                                 {"install", "rollout"},
	"github.com/sigstore/":                    {"sign"},
	"github.com/ThalesGroup/crypto11":         {"sign"},
	"github.com/miekg/pkcs11":                 {"sign"},
	"github.com/stefanberger/go-pkcs11uri":    {"sign"},
	"oras.land/oras-go/":                      {"registry", "bundle"},
	"github.com/google/go-containerregistry/": {"registry", "bundle", "sign"}, // sign: cosign speaks its types
	"github.com/distribution/distribution/":   {"registry"},
	"github.com/klauspost/compress/":          {"delta"},
	"github.com/gabstv/go-bsdiff/":            {"delta"},
	"github.com/openvex/go-vex/":              {"bundle"},
	"github.com/package-url/packageurl-go":    {"bundle"},
}

func TestImports(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	err = filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() && (strings.HasPrefix(e.Name(), ".") && p != root || e.Name() == "testdata" || isModule(p, root)) {
			return filepath.SkipDir
		}
		if e.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		checked++
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		checkFile(t, p, filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 50 {
		t.Fatalf("only %d files were looked at: the walk is broken", checked)
	}
}

// isModule tells a folder with a go.mod of its own.
func isModule(p, root string) bool {
	_, err := os.Stat(filepath.Join(p, "go.mod"))
	return err == nil && p != root
}

func checkFile(t *testing.T, path, rel string) {
	t.Helper()
	room := roomOf(rel)
	allowed, ok := rooms[room]
	if !ok {
		t.Errorf("%s: no room of the house: add it to DESIGN and to this test", rel)
		return
	}
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Errorf("%s: %v", rel, err)
		return
	}
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Errorf("%s: %v", rel, err)
			continue
		}
		if own, ok := strings.CutPrefix(imp, module); ok && !reaches(allowed, own) {
			t.Errorf("%s: room %s may not import %s", rel, room, own)
		}
		for dep, who := range owners {
			if strings.HasPrefix(imp, dep) && room != "e2e" && !slices.Contains(who, room) {
				t.Errorf("%s: %s belongs to %v, not to %s", rel, imp, who, room)
			}
		}
	}
}

func roomOf(rel string) string {
	parts := strings.Split(rel, "/")
	if parts[0] == "internal" && len(parts) > 2 {
		return "internal/" + parts[1]
	}
	return parts[0]
}

func reaches(allowed []string, own string) bool {
	return slices.ContainsFunc(allowed, func(a string) bool { return own == a || strings.HasPrefix(own, a+"/") })
}
