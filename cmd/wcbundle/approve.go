package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/sign"
)

func approveCommand() *cli.Command {
	return &cli.Command{
		Name: "approve", Usage: "sign the site's own consent to a release, where it asks for one", ArgsUsage: "FILE", Category: "install side",
		Description: "Verifies a bundle or patch to its last byte by the trust policy and signs that this release may be applied at this site. It can be\n" +
			"done on another machine: the file that it writes is carried to the site and taken into its record by approve add.\n\n" +
			"Example:\n   wcbundle approve --key officer.key --site bank-7 --trust trust.json wordcab-2.9.0.wcb\n   wcbundle approve add approval.json",
		Flags: append(siteFlags(),
			&cli.StringSliceFlag{Name: "key", Usage: "private key of an approver; may be repeated", Required: true},
			&cli.StringFlag{Name: "site", Usage: "the site's id", Required: true},
			&cli.StringFlag{Name: "trust", Usage: "judge by this trust.json instead of the site's"},
			&cli.StringFlag{Name: "out", Value: "approval.json", Usage: "file to write"}, outputFlag),
		Action: writeApproval,
		Subcommands: []*cli.Command{{
			Name: "add", Usage: "take an approval into this site's record", ArgsUsage: "APPROVAL",
			Description: "Example:\n   wcbundle approve add approval.json",
			Flags:       siteFlags(),
			Action:      addApproval,
		}},
	}
}

func writeApproval(c *cli.Context) error {
	p, err := approvalPolicy(c)
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.String("out")); err == nil {
		return fmt.Errorf("%s exists: name another file with --out", c.String("out"))
	}
	ev, _, err := verifyFile(c, c.Args().First(), p)
	if err != nil {
		return err
	}
	signers, done, err := readSigners(c)
	if err != nil {
		return err
	}
	defer done()
	sealed, err := sign.Approve(string(ev.Head), sign.Approval{Site: c.String("site"), Version: ev.Version, IssuedAt: time.Now().UTC().Format(time.RFC3339)}, signers...)
	if err != nil {
		return err
	}
	err = writeBytes(c.String("out"), append(sealed, '\n'))
	if err != nil {
		return err
	}
	return show(c, ev, func(w io.Writer) error {
		if err := evidenceTable(w, ev); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "approved\tfor site %s, in %s\nnext\twcbundle approve add %s, at the site\n", c.String("site"), c.String("out"), c.String("out"))
		return err
	})
}

// approvalPolicy is the one that --trust names, else the site's.
func approvalPolicy(c *cli.Context) (sign.Policy, error) {
	if path := c.String("trust"); path != "" {
		t, _, err := readTrust(path)
		p := freshPolicy(t)
		p.Site = c.String("site")
		return p, err
	}
	s, err := openSite(c)
	if err != nil {
		return sign.Policy{}, err
	}
	return s.record.Policy(time.Now())
}

func addApproval(c *cli.Context) error {
	s, err := openSite(c)
	if err != nil {
		return err
	}
	sealed, err := readSmall(c.Args().First(), sign.MaxEnvelope, "approval")
	if err != nil {
		return err
	}
	head, a, err := s.record.AddApproval([]byte(strings.TrimSpace(string(sealed))))
	if err != nil {
		return err
	}
	if err := s.store.Save(c.Context, s.record); err != nil {
		return err
	}
	consent, err := s.record.Consent(head)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "release %s is approved by %d of the %d that site %s asks for\n", a.Version, len(consent.By), consent.Need, a.Site)
	return err
}
