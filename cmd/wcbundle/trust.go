package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

// policyFile is how a policy's file is called in help texts.
const policyFile = "trust.json"

func chainFlag() cli.Flag {
	return &cli.StringFlag{Name: "chain", Value: "trust-chain.json", Usage: "the chain that roots have signed; trust sign makes it"}
}

func trustCommand() *cli.Command {
	return &cli.Command{
		Name: "trust", Usage: "say who may sign what", Category: "trust",
		Description: "The vendor's roots sign each version of the policy; the versions travel with every bundle as a chain, and a site goes\n" +
			"from its version to the newest by itself. docs/trust.md tells the whole story.\n\n" +
			"Example:\n   wcbundle trust show trust.json",
		Subcommands: append(policyCommands(), []*cli.Command{
			{
				Name: "sign", Usage: "sign a version of the policy as a root, into the chain", ArgsUsage: policyFile,
				Description: "Roots may sign one after the other, on different machines: the two files are all that has to be carried.\n\n" +
					"Example:\n   wcbundle trust sign --key root.key --chain trust-chain.json trust.json",
				Flags: []cli.Flag{
					&cli.StringSliceFlag{Name: "key", Usage: "private key of a root; may be repeated", Required: true},
					chainFlag(),
				},
				Action: trustSign,
			},
			{
				Name: "show", Usage: "show a trust policy or a chain", ArgsUsage: "[FILE]",
				Description: "FILE is a trust.json or a trust-chain.json. Without it: the policy that this site has accepted.\n\nExample:\n   wcbundle trust show trust.json",
				Flags:       append(siteFlags(), outputFlag),
				Action:      trustShow,
			},
			{
				Name: "accept", Usage: "set this site up: whom it trusts and where its registry is", ArgsUsage: policyFile,
				Description: "Done once for a site; compare the key ids with the vendor over another channel before.\n\n" +
					"Example:\n   wcbundle trust accept --site bank-7 --registry 10.0.0.5:30500 --pull-from registry.local:5000 trust.json",
				Flags:  append(siteFlags(), acceptFlags()...),
				Action: trustAccept,
			},
			{
				Name: "update", Usage: "bring this site's policy up to a chain, without a bundle", ArgsUsage: "trust-chain.json",
				Description: "load does the same with the chain that travels with a bundle.\n\nExample:\n   wcbundle trust update trust-chain.json",
				Flags:       append(siteFlags(), outputFlag),
				Action:      trustUpdate,
			},
		}...),
	}
}

func trustSign(c *cli.Context) error {
	t, _, err := readTrust(c.Args().First())
	if err != nil {
		return err
	}
	chain, err := readChain(c.String("chain"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return err
	}
	signers, done, err := readSigners(c)
	if err != nil {
		return err
	}
	defer done()
	if chain, err = chain.Sign(t, signers...); err != nil {
		return err
	}
	data, err := chain.Encode()
	if err != nil {
		return err
	}
	err = writeBytes(c.String("chain"), append(data, '\n'))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "signed version %d of the policy for %s into %s\n", t.Version(), t.Product(), c.String("chain"))
	var missing *sign.UntrustedError
	if errors.As(chain.Complete(), &missing) {
		fmt.Fprintf(c.App.ErrWriter, "not enough yet: %s\n", missing.Detail)
	}
	return nil
}

func readChain(path string) (sign.Chain, error) {
	data, err := readSmall(path, sign.MaxChain, "trust chain")
	if err != nil {
		return sign.Chain{}, err
	}
	chain, err := sign.ParseChain(data)
	if err != nil {
		return sign.Chain{}, fmt.Errorf("%s: %w", path, err)
	}
	return chain, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(path string, limit int64, what string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > limit {
		return nil, fmt.Errorf("%s is no file of at most %d bytes: not a %s", path, limit, what)
	}
	return os.ReadFile(path)
}

// addChain lets a chain travel with a file, if sites that follow it would take the file's signatures.
func addChain(l *bundle.Layout, path string, st sign.Statement, signers []sign.Signer) error {
	chain, err := readChain(path)
	if err != nil {
		return err
	}
	if err := chain.Complete(); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	last := chain.Last()
	if f := last.Form(); f.Product != st.Name || f.Epoch != st.Epoch {
		return fmt.Errorf("%s is about %s, epoch %d; the file is %s, epoch %d", path, f.Product, f.Epoch, st.Name, st.Epoch)
	}
	for _, s := range signers {
		if !last.MaySign(st.Channel, s.KeyID()) {
			return fmt.Errorf("version %d of the policy does not let key %s sign for channel %s: sites would refuse it", last.Version(), s.KeyID(), st.Channel)
		}
	}
	data, err := chain.Encode()
	if err != nil {
		return err
	}
	return l.AddTrustChain(data)
}

func trustTable(w io.Writer, f sign.TrustForm) error {
	fmt.Fprintf(w, "product %s, policy version %d, epoch %d\n", f.Product, f.Version, f.Epoch)
	role := func(name string, r *sign.TrustRole) {
		if r != nil {
			fmt.Fprintf(w, "%s: %d of %s\n", name, r.Threshold, strings.Join(r.Keys, ", "))
		}
	}
	role("root", f.Roles.Root)
	role("release", &f.Roles.Release)
	role("security", f.Roles.Security)
	if s := f.Roles.Security; s != nil && s.Allow != nil {
		fmt.Fprintf(w, "  it may change %s\n", s.Allow)
	}
	if f.Expires != "" {
		fmt.Fprintf(w, "lets nothing in from %s on\n", f.Expires)
	}
	for _, id := range f.Revoked.Keys {
		fmt.Fprintf(w, "revoked key: %s\n", id)
	}
	for _, d := range f.Revoked.Heads {
		fmt.Fprintf(w, "revoked release: %s\n", d)
	}
	return nil
}

func readTrust(path string) (*sign.Trust, []byte, error) {
	b, err := readSmall(path, sign.MaxTrust, "trust policy")
	if err != nil {
		return nil, nil, err
	}
	t, err := sign.ParseTrust(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, b, nil
}

func trustShow(c *cli.Context) error {
	if c.Args().Present() {
		return showTrustFile(c, c.Args().First())
	}
	s, err := openSite(c)
	if err != nil {
		return err
	}
	t, err := sign.ParseTrust(s.record.Trust)
	if err != nil {
		return err
	}
	return show(c, t.Form(), func(w io.Writer) error { return trustTable(w, t.Form()) })
}

// showTrustFile shows a policy, or the newest one of a chain and whether the chain leads there.
func showTrustFile(c *cli.Context, path string) error {
	t, _, err := readTrust(path)
	if err == nil {
		return show(c, t.Form(), func(w io.Writer) error { return trustTable(w, t.Form()) })
	}
	chain, chainErr := readChain(path)
	if chainErr != nil {
		return err
	}
	form := chain.Last().Form()
	return show(c, form, func(w io.Writer) error {
		if err := trustTable(w, form); err != nil {
			return err
		}
		if err := chain.Complete(); err != nil {
			_, err = fmt.Fprintf(w, "the chain does not lead there: %v\n", err)
			return err
		}
		_, err := fmt.Fprintf(w, "signed by its roots from the first version on\n")
		return err
	})
}

func trustUpdate(c *cli.Context) error {
	s, err := openSite(c)
	if err != nil {
		return err
	}
	chain, err := readSmall(c.Args().First(), sign.MaxChain, "trust chain")
	if err != nil {
		return err
	}
	change, err := s.record.UpdateTrust(c.Context, chain, s.store, time.Now())
	if err != nil {
		return err
	}
	return show(c, change, func(w io.Writer) error {
		if change == nil {
			_, err := fmt.Fprintf(w, "the site's trust policy is as new as the chain: nothing was changed\n")
			return err
		}
		return changeTable(w, *change)
	})
}
