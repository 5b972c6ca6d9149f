package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/wordcab/wcbundle/sign"
)

// testNames lists the project's tests and sessions.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch {
		case strings.HasSuffix(path, ".txtar"):
			names[filepath.Base(path)] = true
		case strings.HasSuffix(path, "_test.go"):
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			for _, m := range declared.FindAllStringSubmatch(string(b), -1) {
				names[m[1]] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestSecurityPage holds docs/security.md to what is there: a test for each attack, whose name carries its number, and no test
// that does not exist.
func TestSecurityPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	names := testNames(t)
	row := regexp.MustCompile(`(?m)^\| (T\d\d) \|.*\| ([^|]*) \|$`)
	named := regexp.MustCompile("`([^`]+)`")
	rows := map[string]bool{}
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		id := m[1]
		rows[id] = true
		carries := false
		for _, n := range named.FindAllStringSubmatch(m[2], -1) {
			name := n[1]
			isTest := strings.HasPrefix(name, "Test") || strings.HasSuffix(name, ".txtar")
			if isTest && !names[name] {
				t.Errorf("%s: there is no %s", id, name)
			}
			carries = carries || isTest && strings.Contains(name, id)
		}
		if !carries {
			t.Errorf("%s: no test on its line carries its number", id)
		}
	}
	for i := 1; i <= 52; i++ {
		if id := fmt.Sprintf("T%02d", i); !rows[id] {
			t.Errorf("docs/security.md has no line for %s", id)
		}
	}
}

// TestEveryReasonHasItsCode: no two reasons share an exit code, each has a next move, and docs/exit-codes.md has them all.
func TestEveryReasonHasItsCode(t *testing.T) {
	page, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int]sign.Reason{}
	for _, r := range sign.Reasons() {
		a := answerTo(fmt.Errorf("loading: %w", &sign.UntrustedError{Reason: r}))
		if other, taken := seen[a.code]; taken || a.code < 10 {
			t.Errorf("%q has exit code %d, which %q has too or which is too general", r, a.code, other)
		}
		seen[a.code] = r
		if a.hint == "" {
			t.Errorf("%q says no next move", r)
		}
		if !strings.Contains(string(page), fmt.Sprintf("\n| %d | ", a.code)) {
			t.Errorf("docs/exit-codes.md has no line for %d (%s)", a.code, r)
		}
	}
	if len(seen) != len(trustAnswers) {
		t.Errorf("%d reasons, %d answers", len(seen), len(trustAnswers))
	}
}
