package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/sign"
)

// predicateInventory is what an inventory's signature says that it is about.
const predicateInventory = "https://bundle.wordcab.com/inventory/v1"

func inventoryCommand() *cli.Command {
	return &cli.Command{
		Name: "inventory", Usage: "write a signed list of what the site holds, for the next patch", Category: "install side",
		Description: "Names the releases of which the registry has every blob, and promises to keep them until the next inventory. The vendor makes the\n" +
			"patch from it: wcbundle patch --have. Two files go to the vendor, the list and its signature.\n\n" +
			"Example:\n   wcbundle inventory --deep --out inventory.json\n   wcbundle inventory verify --key site.pub inventory.json",
		Flags: append(siteFlags(), &cli.StringFlag{Name: "out", Usage: "file to write; default inventory-SITE-TIME.json"},
			&cli.BoolFlag{Name: "deep", Usage: "read and hash every byte instead of asking for every blob"},
			&cli.StringFlag{Name: "key", Usage: "key to sign with (default: the site's own)"}, outputFlag),
		Action: writeInventory,
		Subcommands: []*cli.Command{{
			Name: "verify", Usage: "check an inventory and its signature, and show it", ArgsUsage: "FILE",
			Description: "Example:\n   wcbundle inventory verify --key site.pub inventory.json",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "key", Usage: "the site's public key", Required: true}, outputFlag},
			Action: func(c *cli.Context) error {
				inv, err := readInventory(c.Args().First(), c.String("key"))
				if err != nil {
					return err
				}
				return show(c, inv, func(w io.Writer) error { return inventoryTable(w, inv) })
			},
		}},
	}
}

func writeInventory(c *cli.Context) error {
	t, opt, err := cleaning(c)
	if err != nil {
		return err
	}
	out := c.String("out")
	if out == "" {
		out = "inventory-" + strings.ReplaceAll(t.Record.Site, ":", "-") + "-" + t.Now.UTC().Format("20060102T150405Z") + ".json"
	}
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s exists: an inventory is never overwritten, name another file with --out", out)
	}
	signer, err := siteSigner(c)
	if err != nil {
		return err
	}
	inv, err := install.TakeInventory(c.Context, t, opt.Store, version, c.Bool("deep"))
	if err != nil {
		return err
	}
	text, err := inv.Encode()
	if err != nil {
		return err
	}
	if err := sealJSON(out, text, predicateInventory, signer); err != nil {
		return err
	}
	return show(c, inv, func(w io.Writer) error {
		if err := inventoryTable(w, inv); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "inventory\t%s, signed by key %s in %s: both go to the vendor\n", out, signer.KeyID(), out+sealEnding)
		return err
	})
}

func inventoryTable(w io.Writer, inv *install.Inventory) error {
	runs := inv.Runs
	if runs == "" {
		runs = "nothing yet"
	}
	how := "the registry was asked for every blob"
	if inv.Deep {
		how = "every byte was hashed"
	}
	fmt.Fprintf(w, "site\t%s\nproduct\t%s\ntaken\t%s: %s\nruns\t%s\n", inv.Site, inv.Product, inv.At.Format(time.RFC3339), how, runs)
	for _, h := range inv.Releases {
		fmt.Fprintf(w, "holds\t%s (channel %s, sequence %d, head %.19s)\n", h.Version, h.Channel, h.Sequence, h.Head.Digest)
	}
	for _, b := range inv.Broken {
		fmt.Fprintf(w, "not whole\t%s: %d blobs are missing or damaged; load it again\n", b.Version, b.Missing)
	}
	return nil
}

// readInventory checks an inventory against the signature beside it, then reads it.
func readInventory(path, key string) (*install.Inventory, error) {
	k, err := readPublic(key)
	if err != nil {
		return nil, err
	}
	env, err := readSmall(path+sealEnding, sign.MaxEnvelope, "signature")
	if err != nil {
		return nil, err
	}
	signed, err := sign.OpenFile(env, predicateInventory, k)
	if err != nil {
		return nil, err
	}
	text, err := readSmall(path, install.MaxInventory, "inventory")
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(text); string(got) != signed {
		return nil, install.Altered(path, signed, ocispec.Descriptor{Digest: got, Size: int64(len(text))})
	}
	inv, err := install.ParseInventory(text)
	if err != nil {
		return nil, &bundle.ContentError{What: path, Err: err}
	}
	return inv, nil
}

// openPatchBases opens the bundles that a patch starts from: with an inventory, those whose release the site holds whole.
func openPatchBases(c *cli.Context, target *bundle.File) (bases []*bundle.File, done func(), err error) {
	done = func() {
		for _, b := range bases {
			b.Close()
		}
	}
	inv, err := inventoryFor(c, target)
	if err != nil {
		return nil, nil, err
	}
	var left []string
	for _, p := range c.StringSlice("from") {
		b, err := bundle.OpenFile(p)
		if err != nil {
			done()
			return nil, nil, err
		}
		version, held, err := heldAt(c, b, inv)
		if err == nil && held {
			bases = append(bases, b)
			continue
		}
		b.Close()
		if err != nil {
			done()
			return nil, nil, err
		}
		left = append(left, version)
		fmt.Fprintf(c.App.ErrWriter, "left out: %s (release %s): site %s does not hold it whole\n", p, version, inv.Site)
	}
	if len(bases) == 0 && inv != nil {
		return nil, nil, inv.NoBase(left)
	}
	return bases, done, nil
}

// heldAt tells a bundle's version, and whether the site holds its release. Without an inventory any site may.
func heldAt(c *cli.Context, b *bundle.File, inv *install.Inventory) (string, bool, error) {
	if inv == nil {
		return "", true, nil
	}
	head, err := b.HeadOf()
	if err != nil {
		return "", false, err
	}
	r, err := b.ReleaseUnverified(c.Context)
	if err != nil {
		return "", false, err
	}
	return r.Version, inv.Holds(head.Digest), nil
}

// inventoryFor is the inventory that --have names, of the target's product; nil without one.
func inventoryFor(c *cli.Context, target *bundle.File) (*install.Inventory, error) {
	path, key := c.String("have"), c.String("have-key")
	switch {
	case path == "" && key == "":
		return nil, nil
	case path == "" || key == "":
		return nil, usageError{"--have and --have-key belong together: an inventory counts only with the site's key"}
	}
	inv, err := readInventory(path, key)
	if err != nil {
		return nil, err
	}
	r, err := target.ReleaseUnverified(c.Context)
	if err != nil {
		return nil, err
	}
	if inv.Product != r.Name {
		return nil, &sign.UntrustedError{Reason: sign.WrongProduct, Field: "product", Detail: fmt.Sprintf("the inventory is about %s, the bundle about %s", inv.Product, r.Name)}
	}
	return inv, nil
}
