package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/registry"
)

func registryCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "registry", Usage: "the embedded registry", Category: "install side",
			Subcommands: []*cli.Command{{
				Name: "serve", Usage: "serve a folder as an OCI registry",
				Description: "Example:\n   wcbundle registry serve --addr 127.0.0.1:5000 --dir /var/lib/wcbundle/registry",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "addr", Value: "127.0.0.1:5000", Usage: "host:port to listen on; port 0 picks one"},
					&cli.StringFlag{Name: "dir", Usage: "folder of the blobs", Required: true},
					&cli.StringFlag{Name: "tls-cert", Usage: "certificate in PEM"},
					&cli.StringFlag{Name: "tls-key", Usage: "its key in PEM"},
					&cli.BoolFlag{Name: "plain-http", Usage: "serve http to others than this machine"},
				},
				Action: serve,
			}},
		},
		{
			Name: "pull", Usage: "fetch a model by digest from a registry into a folder", Category: "install side",
			Description: "What a pod's init container runs. The reference must be pinned by digest; a file appears only when its bytes agreed.\n\n" +
				"Example:\n   wcbundle pull --model registry.local:5000/models/asr@sha256:... --to /models",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "model", Usage: "HOST/REPO@sha256:DIGEST", Required: true},
				&cli.StringFlag{Name: "to", Usage: "folder to write into", Required: true},
				&cli.BoolFlag{Name: "plain-http", Usage: "the registry speaks http"},
				&cli.StringFlag{Name: "ca", Usage: "CA of the registry in PEM"},
			},
			Action: pull,
		},
	}
}

func serve(c *cli.Context) error {
	addr := c.String("addr")
	if !strings.HasPrefix(addr, "127.0.0.1:") && c.String("tls-cert") == "" && !c.Bool("plain-http") {
		return usageError{"serving http beyond this machine: give --tls-cert and --tls-key, or say --plain-http"}
	}
	return registry.Serve(c.Context, registry.ServeOptions{
		Addr: addr, Dir: c.String("dir"), TLSCert: c.String("tls-cert"), TLSKey: c.String("tls-key"), Log: c.App.ErrWriter,
		Ready: func(at string) { fmt.Fprintf(c.App.Writer, "serving %s on %s\n", c.String("dir"), at) },
	})
}

func pull(c *cli.Context) error {
	start := time.Now()
	got, err := registry.PullModel(c.Context, c.String("model"), c.String("to"), registry.Options{PlainHTTP: c.Bool("plain-http"), CAFile: c.String("ca")})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "pulled %d files, %s, into %s in %s\n", len(got.Files), size(got.Bytes), c.String("to"), time.Since(start).Round(time.Millisecond))
	return nil
}

func plainCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "version", Usage: "show the version and what it was built from",
			Description: "Example:\n   wcbundle version",
			Action: func(c *cli.Context) error {
				goVersion := "unknown"
				if b, ok := debug.ReadBuildInfo(); ok {
					goVersion = b.GoVersion
				}
				_, err := fmt.Fprintf(c.App.Writer, "wcbundle %s %s\n", version, goVersion)
				return err
			},
		},
		{
			Name: "schema", Usage: "print the JSON Schema of a form: definition, release or patch", ArgsUsage: "NAME",
			Description: "Example:\n   wcbundle schema definition > bundle.schema.json",
			Action: func(c *cli.Context) error {
				b, err := bundle.Schema(c.Args().First())
				if err != nil {
					return usageError{err.Error()}
				}
				_, err = fmt.Fprintln(c.App.Writer, string(b))
				return err
			},
		},
	}
}

// confirm asks on the terminal; without one --yes is needed.
func confirm(c *cli.Context, question string) (bool, error) {
	if c.Bool("yes") {
		return true, nil
	}
	in, ok := c.App.Reader.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return false, usageError{"there is no terminal to ask on (" + question + "): say --yes"}
	}
	fmt.Fprint(c.App.ErrWriter, question+" [yN] ")
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil {
		return false, err
	}
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		fmt.Fprintln(c.App.ErrWriter, "nothing was done")
		return false, nil
	}
	return true, nil
}
