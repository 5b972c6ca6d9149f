package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

func keyCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "keys", Usage: "make and show signing keys", Category: "trust",
			Subcommands: []*cli.Command{
				{
					Name: "generate", Usage: "make a key pair in cosign's format: PREFIX.key and PREFIX.pub",
					Description: "The password is read from WCBUNDLE_PASSWORD, from COSIGN_PASSWORD or from the terminal.\n\n" +
						"Example:\n   wcbundle keys generate --prefix release",
					Flags: []cli.Flag{
						&cli.StringFlag{Name: "prefix", Value: "cosign", Usage: "path of the two files without their endings"},
						&cli.StringFlag{Name: "algorithm", Value: "ecdsa-p256", Usage: "ecdsa-p256 or ed25519"},
					},
					Action: generateKey,
				},
				{
					Name: "public", Usage: "show a public key's id", ArgsUsage: "FILE.pub",
					Description: "Example:\n   wcbundle keys public release.pub",
					Action: func(c *cli.Context) error {
						k, err := readPublic(c.Args().First())
						if err == nil {
							fmt.Fprintf(c.App.Writer, "%s %s\n", k.KeyID(), k.Algorithm())
						}
						return err
					},
				},
			},
		},
		{
			Name: "sign", Usage: "sign a bundle or a patch", ArgsUsage: "FILE", Category: "trust",
			Description: "Adds the signed envelope and, to a bundle, a signature that upstream cosign verifies. Signing again with\n" +
				"another key adds its signature (--add) or replaces what is there.\n\n" +
				"Example:\n   wcbundle sign --key release.key wordcab-2.9.0.wcb",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "key", Usage: "private key; may be repeated", Required: true},
				&cli.BoolFlag{Name: "add", Usage: "keep the signatures that are there"},
				&cli.StringFlag{Name: "trust-chain", Usage: "trust policies that roots have signed, to travel with the file (wcbundle trust sign)"},
			},
			Action: signFile,
		},
		trustCommand(),
	}
}

func generateKey(c *cli.Context) error {
	prefix := c.String("prefix")
	for _, ending := range []string{".key", ".pub"} {
		if _, err := os.Stat(prefix + ending); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s%s exists: a key is never overwritten, choose another --prefix", prefix, ending)
		}
	}
	pass, err := password(c, true)
	if err != nil {
		return err
	}
	private, public, err := sign.GenerateKey(c.String("algorithm"), pass)
	if err != nil {
		return err
	}
	if err := os.WriteFile(prefix+".key", private, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(prefix+".pub", public, 0o644); err != nil {
		return err
	}
	k, err := sign.LoadPublic(public)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "wrote %s.key (encrypted) and %s.pub\nkey id %s (%s)\n", prefix, prefix, k.KeyID(), k.Algorithm())
	return nil
}

// password reads the password of a private key from the environment or the terminal.
func password(c *cli.Context, twice bool) ([]byte, error) {
	for _, name := range []string{"WCBUNDLE_PASSWORD", "COSIGN_PASSWORD"} {
		if p, ok := os.LookupEnv(name); ok {
			return []byte(p), nil
		}
	}
	in, ok := c.App.Reader.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, usageError{"a password is needed and there is no terminal to ask on: set WCBUNDLE_PASSWORD"}
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(c.App.ErrWriter, prompt)
		p, err := term.ReadPassword(int(in.Fd()))
		fmt.Fprintln(c.App.ErrWriter)
		return p, err
	}
	p, err := ask("password for the private key: ")
	if err != nil || !twice {
		return p, err
	}
	again, err := ask("again: ")
	if err == nil && !bytes.Equal(p, again) {
		err = usageError{"the two passwords differ"}
	}
	return p, err
}

func readPublic(path string) (sign.PublicKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return sign.PublicKey{}, err
	}
	k, err := sign.LoadPublic(b)
	if err != nil {
		return k, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func readSigners(c *cli.Context) ([]sign.Signer, error) {
	var out []sign.Signer
	for _, path := range c.StringSlice("key") {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		pass, err := password(c, false)
		if err != nil {
			return nil, err
		}
		s, err := sign.LoadSigner(b, pass)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, s)
	}
	return out, nil
}

func signFile(c *cli.Context) error {
	path := c.Args().First()
	f, err := bundle.OpenFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	signers, err := readSigners(c)
	if err != nil {
		return err
	}
	root, st, err := bundle.StatementOf(c.Context, f, time.Now())
	if err != nil {
		return err
	}
	old, err := f.Envelope(c.Context, root.Digest)
	if err != nil {
		return err
	}
	var env []byte
	if c.Bool("add") && old != nil {
		env = old
		for _, s := range signers {
			if env, err = sign.AddSignature(env, s); err != nil {
				return err
			}
		}
	} else if env, err = sign.Seal(root, st, signers...); err != nil {
		return err
	}
	l, err := f.Layout(c.Context)
	if err != nil {
		return err
	}
	if err := l.AddEnvelope(root, env); err != nil {
		return err
	}
	if path := c.String("trust-chain"); path != "" {
		if err := addChain(l, path, st, signers); err != nil {
			return err
		}
	}
	if st.Kind == sign.KindRelease {
		sig, err := sign.SignCosign(root, st.Name+"/release", signers...)
		if err != nil {
			return err
		}
		if err := l.AddCosign(sig); err != nil {
			return err
		}
	}
	m := newMeter(c, "writing "+path)
	err = l.WriteFile(c.Context, path, m.at)
	m.end()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "signed %s %s %s (%s)\n", st.Kind, st.Name, st.Version, root.Digest)
	for _, s := range signers {
		fmt.Fprintf(c.App.Writer, "key id %s\n", s.KeyID())
	}
	return nil
}
