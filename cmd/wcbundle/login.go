package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/registry"
)

var passwordStdinFlag = &cli.BoolFlag{Name: "password-stdin", Usage: "read the password from stdin"}

func loginCommand() *cli.Command {
	return &cli.Command{
		Name: "login", Usage: "keep a login for the site's registry on this machine",
		Description: "The registry must take it first. It is kept beside this machine's copy of the site's record, for its owner's eyes, and never in the\n" +
			"record. Before it go WCBUNDLE_REGISTRY_USERNAME and WCBUNDLE_REGISTRY_PASSWORD, then the file that REGISTRY_AUTH_FILE names; behind it docker's\n" +
			"config.json, of which nothing but logins in plain text is used.\n\n" +
			"Example:\n   wcbundle registry login --username robot --password-stdin < password.txt",
		Flags:  append(siteFlags(), &cli.StringFlag{Name: "username", Usage: "user of the registry", Required: true}, passwordStdinFlag),
		Action: login,
	}
}

func logoutCommand() *cli.Command {
	return &cli.Command{
		Name: "logout", Usage: "forget the login for the site's registry that registry login has kept",
		Description: "Example:\n   wcbundle registry logout",
		Flags:       siteFlags(),
		Action:      logout,
	}
}

func htpasswdCommand() *cli.Command {
	return &cli.Command{
		Name: "htpasswd", Usage: "print a user's line for registry serve --htpasswd", ArgsUsage: "USER",
		Description: "The password is hashed by bcrypt.\n\nExample:\n   wcbundle registry htpasswd --password-stdin robot < password.txt >> users",
		Flags:       []cli.Flag{passwordStdinFlag},
		Action: func(c *cli.Context) error {
			pass, err := registryPassword(c)
			if err != nil {
				return err
			}
			line, err := registry.HTPasswdLine(c.Args().First(), pass)
			if err != nil {
				return usageError{err.Error()}
			}
			_, err = fmt.Fprintln(c.App.Writer, line)
			return err
		},
	}
}

// maxPassword is in bytes. Identity tokens of cloud registries have a few thousand.
const maxPassword = 16 << 10

// registryPassword reads a password from stdin, without the end of its line, or asks for it on the terminal.
func registryPassword(c *cli.Context) ([]byte, error) {
	if !c.Bool("password-stdin") {
		return ask(c, "password: ", "a password is needed and there is no terminal to ask on: give it on stdin with --password-stdin")
	}
	b, err := io.ReadAll(io.LimitReader(c.App.Reader, maxPassword+1))
	if err != nil {
		return nil, fmt.Errorf("reading the password: %w", err)
	}
	b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
	if len(b) == 0 || len(b) > maxPassword || bytes.ContainsAny(b, "\r\n\x00") {
		return nil, usageError{"stdin is to have one line, the password"}
	}
	return b, nil
}

// loginFile is where registry login keeps what it is given.
func loginFile(c *cli.Context) (string, error) {
	dir, err := stateDir(c)
	return filepath.Join(dir, c.String("namespace"), "registry-auth.json"), err
}

// findLogin looks for a login of the host: in the environment, in the file that it names, in own ("" = there is none), in docker's
// configuration. The first that has one is used.
func findLogin(ctx context.Context, host, own string) (registry.Login, error) {
	if user := os.Getenv("WCBUNDLE_REGISTRY_USERNAME"); user != "" {
		pass := os.Getenv("WCBUNDLE_REGISTRY_PASSWORD")
		if pass == "" {
			return registry.Login{}, usageError{"WCBUNDLE_REGISTRY_USERNAME is set, and WCBUNDLE_REGISTRY_PASSWORD is not"}
		}
		return registry.Login{Username: user, Password: pass}, nil
	}
	for _, path := range []string{os.Getenv("REGISTRY_AUTH_FILE"), own, dockerConfig()} {
		if path == "" {
			continue
		}
		l, err := registry.FileLogin(ctx, path, host)
		if err != nil || !l.None() {
			return l, err
		}
	}
	return registry.Login{}, nil
}

// dockerConfig is the path of docker's configuration; "" where nothing says where it is.
func dockerConfig() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json")
}

// reachable are the client's options for a site's registry from this machine, on which a client certificate that the record names
// may lie elsewhere.
func reachable(a install.Address) registry.Options {
	if cert, key := os.Getenv("WCBUNDLE_REGISTRY_CERT"), os.Getenv("WCBUNDLE_REGISTRY_KEY"); a.ClientCert != "" && (cert != "" || key != "") {
		a.ClientCert, a.ClientKey = cert, key
	}
	return a.Options()
}

func login(c *cli.Context) error {
	s, err := openSite(c)
	if err != nil {
		return err
	}
	path, err := loginFile(c)
	if err != nil {
		return err
	}
	pass, err := registryPassword(c)
	if err != nil {
		return err
	}
	opt := reachable(s.record.Registry)
	opt.Login = registry.Login{Username: c.String("username"), Password: string(pass)}
	r, err := registry.New(opt)
	if err != nil {
		return err
	}
	if err := r.Prove(c.Context); err != nil {
		return err
	}
	if err := registry.SaveLogin(c.Context, path, opt.Host, opt.Login); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "registry %s takes the login of %s; it is kept in %s\n", opt.Host, opt.Login.Username, path)
	return nil
}

func logout(c *cli.Context) error {
	s, err := openSite(c)
	if err != nil {
		return err
	}
	path, err := loginFile(c)
	if err != nil {
		return err
	}
	gone, err := registry.DropLogin(c.Context, path, s.record.Registry.Push)
	if err != nil {
		return err
	}
	if !gone {
		return errors.New(path + " has no login for registry " + s.record.Registry.Push)
	}
	fmt.Fprintf(c.App.Writer, "forgot the login for registry %s\n", s.record.Registry.Push)
	return nil
}
