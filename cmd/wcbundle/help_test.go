package main

import (
	"io"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestEveryCommandHasAnExample holds that --help shows how each command is used, by its own name.
func TestEveryCommandHasAnExample(t *testing.T) {
	leaves := 0
	var look func(path string, cmds []*cli.Command)
	look = func(path string, cmds []*cli.Command) {
		for _, c := range cmds {
			name := strings.TrimSpace(path + " " + c.Name)
			if len(c.Subcommands) > 0 {
				look(name, c.Subcommands)
				if c.Description == "" { // a mere group
					continue
				}
			}
			leaves++
			if _, example, ok := strings.Cut(c.Description, "xample:"); !ok || !strings.Contains(example, "wcbundle "+name) {
				t.Errorf("wcbundle %s --help has no example of itself", name)
			}
			if c.Usage == "" {
				t.Errorf("wcbundle %s has no usage line", name)
			}
		}
	}
	look("", newApp(strings.NewReader(""), io.Discard, io.Discard).Commands)
	if leaves < 20 {
		t.Fatalf("only %d commands were looked at", leaves)
	}
}

func TestToRevision(t *testing.T) {
	for _, c := range []struct {
		to   string
		args []string
		want int
		ok   bool
	}{
		{"previous", nil, 0, true}, {"14", nil, 14, true}, {"rev14", nil, 14, true}, {"rev", []string{"14"}, 14, true},
		{"rev", nil, 0, false}, {"0", nil, 0, false}, {"-3", nil, 0, false}, {"latest", nil, 0, false}, {"14", []string{"15"}, 0, false}, {"rev", []string{"x"}, 0, false},
	} {
		got, err := toRevision(c.to, c.args)
		if (err == nil) != c.ok || got != c.want {
			t.Errorf("--to %s %v: got %d, %v", c.to, c.args, got, err)
		}
	}
}
