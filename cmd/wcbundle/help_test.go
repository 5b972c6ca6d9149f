package main

import (
	"io"
	"strings"
	"testing"
	"time"

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

func TestEdge70ToRevision(t *testing.T) {
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

// TestWindow: a window is a time from now, or hours of this machine's clock, over midnight too; one that is not open is refused.
func TestWindow(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tc := range []struct{ now, window, end string }{
		{"2026-11-26 23:00", "4h", "2026-11-27 03:00"},
		{"2026-11-26 23:00", "22:00-04:00", "2026-11-27 04:00"},
		{"2026-11-27 03:59", "22:00-04:00", "2026-11-27 04:00"},
		{"2026-11-26 01:30", "01:00-02:00", "2026-11-26 02:00"},
		{"2026-11-26 04:00", "22:00-04:00", ""},
		{"2026-11-26 21:59", "22:00-04:00", ""},
		{"2026-11-26 02:00", "01:00-02:00", ""},
		{"2026-11-26 02:00", "1-2", ""},
		{"2026-11-26 02:00", "-1h", ""},
		{"2026-11-26 02:00", "22:00-22:00", ""},
	} {
		got, err := windowEnd(tc.window, at(tc.now))
		if tc.end == "" && err == nil || tc.end != "" && (err != nil || !got.Equal(at(tc.end))) {
			t.Errorf("%s at %s: %s, %v", tc.window, tc.now, got, err)
		}
	}
}

// TestCanaryFlag reads POOL and POOL=REPLICAS.
func TestCanaryFlag(t *testing.T) {
	for text, want := range map[string]int{"asr": 0, "asr=2": 2, "asr=": -1, "asr=0": -1, "asr=x": -1} {
		got, err := readTrial(text)
		if want < 0 && err == nil || want >= 0 && (err != nil || got.Pool != "asr" || got.Replicas != want) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// TestCutLines: what is drawn fits the terminal, whatever its characters are.
func TestCutLines(t *testing.T) {
	if got := cutLines("short\nübergroße Zeile hier\n", 10); got != "short\nübergroß…\n" {
		t.Errorf("%q", got)
	}
}
