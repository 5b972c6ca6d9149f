package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/install/support"
	"github.com/wordcab/wcbundle/sign"
)

// predicateSupport is what a support bundle's signature says that it is about.
const predicateSupport = "https://bundle.wordcab.com/support-bundle/v1"

func supportCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "support-bundle", Usage: "collect logs and state, redacted of secrets, into a signed tarball", Category: "install side",
		Description: "Logs of the last 24 hours, chart, CRD and node state. No Secret's value is collected, and every known one is looked for\n" +
			"in the finished tarball: where one is found, nothing is written.\n\n" +
			"Example:\n   wcbundle support-bundle --out support.tar.gz\n   wcbundle support-bundle verify --key site.pub support.tar.gz",
		Flags: append(siteFlags(), &cli.StringFlag{Name: "out", Usage: "file to write; default support-bundle-TIME.tar.gz"},
			&cli.DurationFlag{Name: "since", Value: support.DefaultSince, Usage: "how far back logs go"},
			&cli.StringFlag{Name: "key", Usage: "key to sign with (default: the site's own)"}, scratchFlag, outputFlag),
		Action: supportBundle,
		Subcommands: []*cli.Command{{
			Name: "verify", Usage: "check a support bundle and its signature", ArgsUsage: "FILE",
			Description: "Example:\n   wcbundle support-bundle verify --key site.pub support.tar.gz",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "key", Usage: "the site's public key", Required: true}},
			Action:      func(c *cli.Context) error { return verifySealed(c, predicateSupport) },
		}},
	}}
}

func supportBundle(c *cli.Context) error {
	t, _, err := target(c)
	if err != nil {
		return err
	}
	signer, err := siteSigner(c)
	if err != nil {
		return err
	}
	extra, err := supportExtra(c, t)
	if err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		out = "support-bundle-" + t.Now.UTC().Format("20060102T150405Z") + ".tar.gz"
	}
	m, err := install.WriteSupport(c.Context, support.Request{Kube: t.Access.Kube, Dynamic: t.Access.Dynamic, Namespaces: []string{t.Access.Namespace},
		Since: c.Duration("since"), Now: t.Now, Extra: extra, Scratch: t.Scratch}, out)
	if err != nil {
		return err
	}
	if err := sealFile(out, m.Archive, predicateSupport, signer); err != nil {
		return err
	}
	sum := supportSummary{Path: out, Signature: out + sealEnding, Digest: string(m.Archive.Digest), Bytes: m.Archive.Size, Files: len(m.Files),
		KeyID: signer.KeyID(), Missing: m.Errors}
	for _, rules := range m.Redactions {
		for _, n := range rules {
			sum.Redactions += n
		}
	}
	return show(c, sum, sum.table)
}

type supportSummary struct {
	Path       string                 `json:"path"`
	Signature  string                 `json:"signature"`
	Digest     string                 `json:"digest"`
	Bytes      int64                  `json:"bytes"`
	Files      int                    `json:"files"`
	Redactions int                    `json:"redactions"`
	KeyID      string                 `json:"keyID"`
	Missing    []support.CollectError `json:"missing,omitempty"`
}

func (s supportSummary) table(w io.Writer) error {
	fmt.Fprintf(w, "support bundle\t%s: %d files, %s\n", s.Path, s.Files, size(s.Bytes))
	fmt.Fprintf(w, "redacted\t%d places; the finished file was searched for every known secret: none is in it\n", s.Redactions)
	for _, e := range s.Missing {
		fmt.Fprintf(w, "missing\t%s %s: %s\n", e.Collector, e.Subject, e.Message)
	}
	_, err := fmt.Fprintf(w, "signed\t%s by key %s\n", s.Signature, s.KeyID)
	return err
}

// supportExtra is what only wcbundle knows: the site's record without keys, and the newest operation.
func supportExtra(c *cli.Context, t install.Target) (map[string][]byte, error) {
	out := map[string][]byte{}
	record, err := json.MarshalIndent(t.Record, "", "  ")
	if err != nil {
		return nil, err
	}
	out["site/record.json"] = record
	release, err := install.ReleaseName(c.Context, t)
	if err != nil { // the rest is wanted all the same: the bundle says what it lacks and why
		out["rollout/missing.txt"] = []byte(err.Error() + "\n")
		return out, nil
	}
	op, err := install.OpenOperation(c.Context, t.Access, release)
	if err != nil {
		out["rollout/missing.txt"] = []byte(err.Error() + "\n")
		return out, nil
	}
	text, err := json.MarshalIndent(op, "", "  ")
	if err != nil {
		return nil, err
	}
	out["rollout/operation.json"] = text
	return out, nil
}

// siteKeyPath is where the site's own key lies on the operator's machine.
func siteKeyPath(c *cli.Context) (string, error) {
	dir, err := stateDir(c)
	return filepath.Join(dir, c.String("namespace"), "site.key"), err
}

// siteSigner loads the key that --key names, or the site's own, which needs no password.
func siteSigner(c *cli.Context) (sign.Signer, error) {
	path, pass := c.String("key"), []byte(nil)
	var err error
	if path == "" {
		if path, err = siteKeyPath(c); err != nil {
			return nil, err
		}
	} else if pass, err = password(c, false); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the site's key %s is not on this machine: name a key with --key (wcbundle keys generate makes one)", path)
	}
	if err != nil {
		return nil, err
	}
	return sign.LoadSigner(b, pass)
}

// makeSiteKey gives the site a key of its own and returns its public half.
func makeSiteKey(c *cli.Context) ([]byte, error) {
	path, err := siteKeyPath(c)
	if err != nil {
		return nil, err
	}
	private, public, err := sign.GenerateKey("ecdsa-p256", nil)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(path, private, 0o600); err != nil {
		return nil, err
	}
	return public, os.WriteFile(path[:len(path)-len(".key")]+".pub", public, 0o644)
}
