package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/wordcab/wcbundle/sign"
	"github.com/wordcab/wcbundle/sign/hsm"
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
						&cli.StringFlag{Name: "algorithm", Value: "ecdsa-p256", Usage: "ecdsa-p256, ecdsa-p384, ed25519, rsa-3072 or rsa-4096"},
					},
					Action: generateKey,
				},
				{
					Name: "import", Usage: "give an unencrypted private key file cosign's format: PREFIX.key and PREFIX.pub", ArgsUsage: "FILE",
					Description: "FILE is PEM: PKCS #8, PKCS #1 or SEC 1. It stays as it is: destroy it when the import is in use.\n\n" +
						"Example:\n   wcbundle keys import --prefix release old-key.pem",
					Flags:  []cli.Flag{&cli.StringFlag{Name: "prefix", Value: "cosign", Usage: "path of the two files without their endings"}},
					Action: importKey,
				},
				{
					Name: "public", Usage: "show a public key's id", ArgsUsage: "FILE.pub",
					Description: "FILE.pub may be a PKCS#11 URI, as for sign; --out writes the token's public key to a file.\n\n" +
						"Example:\n   wcbundle keys public release.pub",
					Flags:  []cli.Flag{&cli.StringFlag{Name: "out", Usage: "write the public key to this new file"}},
					Action: showPublic,
				},
			},
		},
		signCommand(),
		trustCommand(),
	}
}

func showPublic(c *cli.Context) error {
	k, err := publicOf(c, c.Args().First())
	if err != nil {
		return err
	}
	if out := c.String("out"); out != "" {
		if _, err := os.Lstat(out); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists: a key is never overwritten, choose another --out", out)
		}
		if err := os.WriteFile(out, k.PEM(), 0o644); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.App.Writer, "%s %s\n", k.KeyID(), k.Algorithm())
	return nil
}

// publicOf is the public key of a file or of a token's key pair.
func publicOf(c *cli.Context, name string) (sign.PublicKey, error) {
	if !hsm.IsURI(name) {
		return readPublic(name)
	}
	k, err := hsm.Open(name, func() ([]byte, error) { return pin(c) })
	if err != nil {
		return sign.PublicKey{}, err
	}
	public, err := sign.NewPublicKey(k.Public())
	return public, errors.Join(err, k.Close())
}

func generateKey(c *cli.Context) error {
	return writeKey(c, func(pass []byte) (private, public []byte, err error) {
		return sign.GenerateKey(c.String("algorithm"), pass)
	})
}

func importKey(c *cli.Context) error {
	return writeKey(c, func(pass []byte) (private, public []byte, err error) {
		return sign.ImportKey(c.Args().First(), pass)
	})
}

// writeKey writes the two files of a key, and never over another.
func writeKey(c *cli.Context, make func(pass []byte) (private, public []byte, err error)) error {
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
	private, public, err := make(pass)
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
	p, err := ask(c, "password for the private key: ", "a password is needed and there is no terminal to ask on: set WCBUNDLE_PASSWORD")
	if err != nil || !twice {
		return p, err
	}
	again, err := ask(c, "again: ", "")
	if err == nil && !bytes.Equal(p, again) {
		err = usageError{"the two passwords differ"}
	}
	return p, err
}

// ask asks for a secret on the terminal. Without one, the text missing is the error.
func ask(c *cli.Context, prompt, missing string) ([]byte, error) {
	in, ok := c.App.Reader.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, usageError{missing}
	}
	fmt.Fprint(c.App.ErrWriter, prompt)
	p, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(c.App.ErrWriter)
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

// readSigners reads the keys that --key names. What done gives back is the use of tokens.
func readSigners(c *cli.Context) (signers []sign.Signer, done func(), err error) {
	var tokens []*hsm.Key
	done = func() {
		for _, k := range tokens {
			if err := k.Close(); err != nil {
				fmt.Fprintf(c.App.ErrWriter, "wcbundle: closing the token of key %s: %v\n", k.KeyID(), err)
			}
		}
	}
	for _, name := range c.StringSlice("key") {
		var s sign.Signer
		if hsm.IsURI(name) {
			var k *hsm.Key
			if k, err = hsm.Open(name, func() ([]byte, error) { return pin(c) }); err == nil {
				s, tokens = k, append(tokens, k)
			}
		} else {
			s, err = readSigner(c, name)
		}
		if err != nil {
			done()
			return nil, nil, err
		}
		signers = append(signers, s)
	}
	return signers, done, nil
}

// pin reads the PIN of a token from the environment or the terminal.
func pin(c *cli.Context) ([]byte, error) {
	if p, ok := os.LookupEnv("WCBUNDLE_PIN"); ok {
		return []byte(p), nil
	}
	return ask(c, "PIN of the token: ", "a PIN is needed and there is no terminal to ask on: set WCBUNDLE_PIN, or name its file with pin-source in the URI")
}

func readSigner(c *cli.Context, path string) (sign.Signer, error) {
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
	return s, nil
}
