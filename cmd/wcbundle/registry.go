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
			Name: "registry", Usage: "the site's registry, and one to serve", Category: "install side",
			Description: "The site's registry may be any: the embedded one, or another. docs/registries.md has what is needed for which.\n\n" +
				"Example:\n   wcbundle registry serve --addr 127.0.0.1:5000 --dir /var/lib/wcbundle/registry",
			Subcommands: []*cli.Command{installCommand(), serveCommand(), useCommand(), loginCommand(), logoutCommand(), htpasswdCommand(), hostsCommand(), gcCommand()},
		},
		{
			Name: "pull", Usage: "fetch a model by digest from a registry into a folder", Category: "install side",
			Description: "What a pod's init container runs. The reference must be pinned by digest; a file appears only when its bytes agreed.\n" +
				"With a cache, a model is fetched once per node; without room in it, and when it fails, the model is fetched all the same.\n" +
				"A login is taken from WCBUNDLE_REGISTRY_USERNAME and WCBUNDLE_REGISTRY_PASSWORD, the file REGISTRY_AUTH_FILE or docker's\n" +
				"config.json, for example a Secret of type kubernetes.io/dockerconfigjson that is mounted and named by REGISTRY_AUTH_FILE.\n\n" +
				"Example:\n   wcbundle pull --model registry.local:5000/models/asr@sha256:... --to /models",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "model", Usage: "HOST/REPO@sha256:DIGEST", Required: true},
				&cli.StringFlag{Name: "to", Usage: "folder to write into", Required: true},
				&cli.StringFlag{Name: "cache", EnvVars: []string{"WCBUNDLE_MODEL_CACHE"}, Usage: "folder of the node in which its pods share models"},
				&cli.StringFlag{Name: "cache-limit", EnvVars: []string{"WCBUNDLE_CACHE_LIMIT"}, Usage: "how much it may have, as in 200GiB; default: what leaves 15 % of the disk free"},
				&cli.BoolFlag{Name: "cache-only", EnvVars: []string{"WCBUNDLE_CACHE_ONLY"}, Usage: "fill the cache and write nothing into the folder"},
				&cli.BoolFlag{Name: "plain-http", EnvVars: []string{"WCBUNDLE_REGISTRY_PLAIN_HTTP"}, Usage: "the registry speaks http"},
				&cli.StringFlag{Name: "ca", EnvVars: []string{"WCBUNDLE_REGISTRY_CA"}, Usage: "CA of the registry in PEM"},
				&cli.StringSliceFlag{Name: "also", Usage: "another HOST[:PORT] that the registry may send us to; may be repeated"},
				&cli.StringFlag{Name: "cert", Usage: "client certificate that the registry wants, in PEM"},
				&cli.StringFlag{Name: "key", Usage: "its key in PEM"},
			},
			Action: pull,
		},
	}
}

func serveCommand() *cli.Command {
	return &cli.Command{
		Name: "serve", Usage: "serve a folder as an OCI registry",
		Description: "GET /healthz answers probes without a login: 200 while the folder can be written. Certificates and users are read again\n" +
			"when their files change.\n\n" +
			"Example:\n   wcbundle registry serve --addr 127.0.0.1:5000 --dir /var/lib/wcbundle/registry",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "addr", Value: "127.0.0.1:5000", Usage: "host:port to listen on; port 0 picks one"},
			&cli.StringFlag{Name: "dir", Usage: "folder of the blobs", Required: true},
			&cli.StringFlag{Name: "tls-cert", Usage: "certificate in PEM"},
			&cli.StringFlag{Name: "tls-key", Usage: "its key in PEM"},
			&cli.StringFlag{Name: "client-ca", Usage: "let in only who shows a certificate of this CA, in PEM; probes must show one too"},
			&cli.StringFlag{Name: "htpasswd", Usage: "let in only the users of this file (wcbundle registry htpasswd makes its lines)"},
			&cli.BoolFlag{Name: "plain-http", Usage: "serve http to others than this machine"},
		},
		Action: serve,
	}
}

func serve(c *cli.Context) error {
	addr := c.String("addr")
	if !strings.HasPrefix(addr, "127.0.0.1:") && c.String("tls-cert") == "" && !c.Bool("plain-http") {
		return usageError{"serving http beyond this machine: give --tls-cert and --tls-key, or say --plain-http"}
	}
	return registry.Serve(c.Context, registry.ServeOptions{
		Addr: addr, Dir: c.String("dir"), TLSCert: c.String("tls-cert"), TLSKey: c.String("tls-key"),
		HTPasswd: c.String("htpasswd"), ClientCA: c.String("client-ca"), Log: c.App.ErrWriter,
		Ready: func(at string) { fmt.Fprintf(c.App.Writer, "serving %s on %s\n", c.String("dir"), at) },
	})
}

func pull(c *cli.Context) error {
	start := time.Now()
	opt, err := pullOptions(c)
	if err != nil {
		return err
	}
	pulling, err := cacheOptions(c, opt)
	if err != nil {
		return err
	}
	got, err := registry.PullModel(c.Context, c.String("model"), c.String("to"), pulling)
	if err != nil {
		return err
	}
	to := c.String("to")
	if pulling.CacheOnly {
		to = pulling.Cache.Dir
	}
	fmt.Fprintf(c.App.Writer, "pulled %d files, %s, into %s in %s", len(got.Files), size(got.Bytes), to, time.Since(start).Round(time.Millisecond))
	if pulling.Cache.Dir != "" {
		fmt.Fprintf(c.App.Writer, "; %s were in the node's cache", size(got.Shared))
	}
	fmt.Fprintln(c.App.Writer)
	return nil
}

func cacheOptions(c *cli.Context, opt registry.Options) (registry.PullOptions, error) {
	p := registry.PullOptions{Options: opt, Cache: registry.ModelCache{Dir: c.String("cache")}, CacheOnly: c.Bool("cache-only"),
		Note: func(err error) { fmt.Fprintln(c.App.ErrWriter, "wcbundle: "+err.Error()) }}
	if p.CacheOnly && p.Cache.Dir == "" {
		return p, usageError{"--cache-only needs the cache that is to be filled: --cache DIR"}
	}
	if text := c.String("cache-limit"); text != "" {
		n, err := parseSize(text)
		if err != nil || n <= 0 {
			return p, usageError{fmt.Sprintf("--cache-limit %q is no size such as 200GiB", text)}
		}
		p.Cache.Limit = n
	}
	return p, nil
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
