package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/wordcab/wcbundle/install"
)

var outputFlag = &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "table, json or yaml"}

// show prints a result in the form that was asked for; table writes the one for people.
func show(c *cli.Context, v any, table func(w io.Writer) error) error {
	switch c.String("output") {
	case "table", "":
		tw := tabwriter.NewWriter(c.App.Writer, 0, 4, 2, ' ', 0)
		if err := table(tw); err != nil {
			return err
		}
		return tw.Flush()
	case "json":
		enc := json.NewEncoder(c.App.Writer)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case "yaml":
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = c.App.Writer.Write(b)
		return err
	}
	return usageError{fmt.Sprintf("--output %q is none of table, json, yaml", c.String("output"))}
}

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// meter prints progress on stderr: one line that redraws on a terminal, else a line every five seconds.
type meter struct {
	w     io.Writer
	what  string
	tty   bool
	start time.Time
	last  time.Time
	mu    sync.Mutex
}

func newMeter(c *cli.Context, what string) *meter {
	f, ok := c.App.ErrWriter.(*os.File)
	return &meter{w: c.App.ErrWriter, what: what, tty: ok && term.IsTerminal(int(f.Fd())), start: time.Now(), last: time.Now()}
}

func (m *meter) at(_ string, done, total int64) { m.show(done, total, 0, "") }

// load shows how a load is going on, and how far a large blob is. What was in the registry before is no measure of the rate.
func (m *meter) load(e install.LoadEvent) {
	blob := ""
	if e.Blob.Size >= 64<<20 && e.How == "" {
		blob = fmt.Sprintf(", blob %.19s at %d %%", e.Blob.Digest, e.Sent*100/e.Blob.Size)
	}
	m.show(e.Done, e.Total, e.There, blob)
}

func (m *meter) show(done, total, there int64, more string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	pause := 5 * time.Second
	if m.tty {
		pause = 200 * time.Millisecond
	}
	if now.Sub(m.last) < pause {
		return
	}
	m.last = now
	rate := float64(done-there) / now.Sub(m.start).Seconds()
	left := time.Duration(float64(total-done)/max(rate, 1)) * time.Second
	line := fmt.Sprintf("%s: %s of %s, %s/s, %s left%s", m.what, size(done), size(total), size(int64(rate)), left, more)
	if m.tty {
		fmt.Fprintf(m.w, "\r\033[K%s", line)
		return
	}
	fmt.Fprintln(m.w, line)
}

func (m *meter) end() {
	if m.tty {
		fmt.Fprint(m.w, "\r\033[K")
	}
}
