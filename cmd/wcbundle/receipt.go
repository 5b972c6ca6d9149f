package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/sign"
)

// predicateReceipt is what a receipt's signature says that it is about.
const predicateReceipt = "https://bundle.wordcab.com/receipt/v1"

func receiptCommand() *cli.Command {
	return &cli.Command{
		Name: "receipt", Usage: "verify a bundle or patch and write signed evidence of it", ArgsUsage: "FILE", Category: "install side",
		Description: "Who signed what, by which version of the trust policy, when, and whether this site has loaded or installed it: for the\n" +
			"security officer. Judged by the site's own policy only.\n\n" +
			"Example:\n   wcbundle receipt --out receipt.json wordcab-2.9.0.wcb\n   wcbundle receipt verify --key site.pub receipt.json",
		Flags: append(siteFlags(), &cli.StringFlag{Name: "out", Value: "receipt.json", Usage: "file to write; its signature lies beside it"},
			&cli.StringFlag{Name: "key", Usage: "key to sign with (default: the site's own)"}, outputFlag),
		Action: writeReceipt,
		Subcommands: []*cli.Command{{
			Name: "verify", Usage: "check a receipt and its signature", ArgsUsage: "FILE",
			Description: "Example:\n   wcbundle receipt verify --key site.pub receipt.json",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "key", Usage: "the site's public key", Required: true}},
			Action:      func(c *cli.Context) error { return verifySealed(c, predicateReceipt) },
		}},
	}
}

func writeReceipt(c *cli.Context) error {
	s, err := openSite(c)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.String("out")); err == nil {
		return fmt.Errorf("%s exists: evidence is never overwritten, name another file with --out", c.String("out"))
	}
	signer, err := siteSigner(c)
	if err != nil {
		return err
	}
	p, err := s.record.Policy(time.Now())
	if err != nil {
		return err
	}
	ev, trust, err := verifyFile(c, c.Args().First(), p)
	if err != nil {
		return err
	}
	r := install.NewReceipt(s.record, trust, ev, version, time.Now())
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := sealJSON(c.String("out"), append(text, '\n'), predicateReceipt, signer); err != nil {
		return err
	}
	return show(c, r, func(w io.Writer) error {
		if err := evidenceTable(w, ev); err != nil {
			return err
		}
		fmt.Fprintf(w, "judged by\tversion %d of the trust policy\n", r.Trust.Version)
		_, err := fmt.Fprintf(w, "receipt\t%s, signed by key %s in %s\n", c.String("out"), signer.KeyID(), c.String("out")+sealEnding)
		return err
	})
}

// sealEnding is the ending of the file with the signature of another.
const sealEnding = ".dsse.json"

// sealJSON writes a file and the signature beside it, the signature first: a receipt that is there has one.
func sealJSON(path string, text []byte, predicate string, signer sign.Signer) error {
	d := ocispec.Descriptor{Digest: digest.FromBytes(text), Size: int64(len(text))}
	if err := sealFile(path, d, predicate, signer); err != nil {
		return err
	}
	return writeBytes(path, text)
}

// sealFile writes the signature of the file at path, whose digest and size are d's.
func sealFile(path string, d ocispec.Descriptor, predicate string, signer sign.Signer) error {
	env, err := sign.SealFile(predicate, filepath.Base(path), string(d.Digest), d.Size, signer)
	if err != nil {
		return err
	}
	return os.WriteFile(path+sealEnding, env, 0o600)
}

// verifySealed checks the file that the argument names against the signature beside it.
func verifySealed(c *cli.Context, predicate string) error {
	path := c.Args().First()
	k, err := readPublic(c.String("key"))
	if err != nil {
		return err
	}
	env, err := readSmall(path+sealEnding, sign.MaxEnvelope, "signature")
	if err != nil {
		return err
	}
	signed, err := sign.OpenFile(env, predicate, k)
	if err != nil {
		return err
	}
	got, err := install.FileDescriptor(path)
	if err != nil {
		return err
	}
	if string(got.Digest) != signed {
		return install.Altered(path, signed, got)
	}
	fmt.Fprintf(c.App.Writer, "%s is what key %s signed\n", path, k.KeyID())
	return nil
}
