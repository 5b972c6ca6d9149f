package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/sign"
)

// policyCommands make a policy and its next versions, at the vendor.
func policyCommands() []*cli.Command { return append(initCommand(), changeCommands()...) }

func initCommand() []*cli.Command {
	expires := &cli.StringFlag{Name: "expires", Usage: "from then on the policy lets nothing in, such as 2028-01-01T00:00:00Z; default: never"}
	return []*cli.Command{
		{
			Name: "init", Usage: "write trust.json, the policy that sites accept",
			Description: "Example:\n   wcbundle trust init --product wordcab --root-key root.pub --release-key release.pub --out trust.json",
			Flags: append([]cli.Flag{
				&cli.StringFlag{Name: "product", Usage: "the only product that it lets in", Required: true},
				&cli.StringSliceFlag{Name: "root-key", Usage: "public key that may change the policy later; may be repeated. Without one only a person at each site can"},
				&cli.IntFlag{Name: "root-threshold", Value: 1, Usage: "how many of them must sign"},
				&cli.StringSliceFlag{Name: "release-key", Usage: "public key that may sign releases; may be repeated", Required: true},
				&cli.IntFlag{Name: "release-threshold", Value: 1, Usage: "how many of them must sign"},
				&cli.StringSliceFlag{Name: "security-key", Usage: "public key that may sign for the security channel"},
				&cli.IntFlag{Name: "security-threshold", Value: 1, Usage: "how many of them must sign"},
				expires,
				&cli.StringFlag{Name: "out", Value: policyFile, Usage: "file to write"},
			}, limitFlags()...),
			Action: trustInit,
		},
	}
}

func changeCommands() []*cli.Command {
	role := &cli.StringFlag{Name: "role", Value: "release", Usage: "root, release or security"}
	threshold := &cli.IntFlag{Name: "threshold", Usage: "from now on so many keys of the role must sign"}
	chain := chainFlag()
	return []*cli.Command{
		{
			Name: "add-key", Usage: "let one more key sign: the policy's next version", ArgsUsage: policyFile,
			Description: "Example:\n   wcbundle trust add-key --role release --key new.pub trust.json",
			Flags:       append([]cli.Flag{role, &cli.StringFlag{Name: "key", Usage: "the public key", Required: true}, threshold, chain}, limitFlags()...),
			Action:      trustAddKey,
		},
		{
			Name: "limit", Usage: "say anew what the security role may change: the policy's next version", ArgsUsage: policyFile,
			Description: "Example:\n   wcbundle trust limit --security-image 'registry.example.com/wordcab/*' --security-size 500MiB trust.json",
			Flags:       append(limitFlags(), chain),
			Action: func(c *cli.Context) error {
				return changeTrust(c, func(f *sign.TrustForm) (err error) {
					if f.Roles.Security == nil {
						return errors.New("the policy has no security role: wcbundle trust add-key --role security makes one")
					}
					f.Roles.Security.Allow, err = delegation(c)
					return err
				})
			},
		},
		{
			Name: "rotate", Usage: "put a key in the place of another: the policy's next version", ArgsUsage: policyFile,
			Description: "The old key signs no more from then on; trust revoke also undoes what it signed and is not loaded yet.\n\n" +
				"Example:\n   wcbundle trust rotate --role release --old release.pub --new release-2027.pub trust.json",
			Flags: []cli.Flag{
				role, &cli.StringFlag{Name: "old", Usage: "the public key that goes", Required: true},
				&cli.StringFlag{Name: "new", Usage: "the public key that comes", Required: true}, threshold, chain,
			},
			Action: trustRotate,
		},
		{
			Name: "revoke", Usage: "take keys or releases back: the policy's next version", ArgsUsage: policyFile,
			Description: "A revocation is for ever: no later version can forget it.\n\n" +
				"Example:\n   wcbundle trust revoke --key stolen.pub --raise-epoch trust.json",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "key", Usage: "public key that counts no longer; may be repeated"},
				&cli.StringSliceFlag{Name: "head", Usage: "digest of a release's head that nobody may load any more; may be repeated"},
				&cli.BoolFlag{Name: "raise-epoch", Usage: "sequences begin again: undoes a stolen key's release with the largest sequence"}, chain,
			},
			Action: trustRevoke,
		},
		{
			Name: "renew", Usage: "let the policy last longer: its next version", ArgsUsage: policyFile,
			Description: "Example:\n   wcbundle trust renew --expires 2029-01-01T00:00:00Z trust.json",
			Flags:       []cli.Flag{&cli.StringFlag{Name: "expires", Usage: "from then on it lets nothing in", Required: true}, chain},
			Action: func(c *cli.Context) error {
				return changeTrust(c, func(f *sign.TrustForm) error { f.Expires = c.String("expires"); return nil })
			},
		},
	}
}

func trustInit(c *cli.Context) error {
	form := sign.TrustForm{Schema: 1, Version: 1, Product: c.String("product"), Expires: c.String("expires")}
	role := func(name string) (sign.TrustRole, error) {
		ids, err := addKeys(&form, c.StringSlice(name+"-key")...)
		return sign.TrustRole{Keys: ids, Threshold: c.Int(name + "-threshold")}, err
	}
	var err error
	if form.Roles.Release, err = role("release"); err != nil {
		return err
	}
	for name, to := range map[string]**sign.TrustRole{"root": &form.Roles.Root, "security": &form.Roles.Security} {
		r, err := role(name)
		if err != nil {
			return err
		}
		if len(r.Keys) > 0 {
			*to = &r
		}
	}
	if form.Roles.Security != nil {
		if form.Roles.Security.Allow, err = delegation(c); err != nil {
			return err
		}
	}
	t, err := sign.NewTrust(form)
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.String("out")); err == nil {
		return fmt.Errorf("%s exists: change it with trust add-key, rotate or revoke, or name another file with --out", c.String("out"))
	}
	return writeTrust(c, c.String("out"), t)
}

func limitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "security-image", Usage: "images that the security role may change, such as 'registry.example.com/wordcab/*'; may be repeated"},
		&cli.StringSliceFlag{Name: "security-model", Usage: "models that it may change, by id, such as 'asr-*'; may be repeated"},
		&cli.BoolFlag{Name: "security-charts", Usage: "it may change the chart too, with all that a chart can do"},
		&cli.StringFlag{Name: "security-size", Value: "2GiB", Usage: "how much of a drop may be new to a site"},
		&cli.IntFlag{Name: "security-days", Value: sign.MaxDropDays, Usage: "how many days a drop is valid at most"},
	}
}

// delegation is what the flags let the security role do.
func delegation(c *cli.Context) (*sign.Delegation, error) {
	if len(c.StringSlice("security-image")) == 0 {
		return nil, usageError{"a security role needs --security-image: which images may it change, such as --security-image 'registry.example.com/wordcab/*'"}
	}
	most, err := parseSize(c.String("security-size"))
	if err != nil {
		return nil, usageError{"--security-size: " + err.Error()}
	}
	return &sign.Delegation{Images: c.StringSlice("security-image"), Models: c.StringSlice("security-model"), Charts: c.Bool("security-charts"),
		MaxBytes: most, MaxDays: c.Int("security-days")}, nil
}

// addKeys reads public keys into the form and returns their ids.
func addKeys(form *sign.TrustForm, paths ...string) (ids []string, err error) {
	for _, p := range paths {
		k, err := readPublic(p)
		if err != nil {
			return nil, err
		}
		ids = append(ids, k.KeyID())
		if !slices.ContainsFunc(form.Keys, func(t sign.TrustKey) bool { return t.ID == k.KeyID() }) {
			form.Keys = append(form.Keys, sign.TrustKeyOf(k))
		}
	}
	return ids, nil
}

// writeTrust writes a policy and says what comes next.
func writeTrust(c *cli.Context, path string, t *sign.Trust) error {
	err := writeBytes(path, t.Encode())
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "wrote %s\n", path)
	if err := trustTable(c.App.Writer, t.Form()); err != nil {
		return err
	}
	if t.Form().Roles.Root != nil {
		fmt.Fprintf(c.App.ErrWriter, "next: the roots sign it: wcbundle trust sign --key ROOT.key %s\n", path)
	}
	return nil
}

// changeTrust writes the next version of the policy that the argument names. A version that not enough roots have signed yet is
// changed itself, so that several changes make one version.
func changeTrust(c *cli.Context, change func(f *sign.TrustForm) error) error {
	path := c.Args().First()
	t, _, err := readTrust(path)
	if err != nil {
		return err
	}
	chain, err := readChain(c.String("chain"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	draft := !chain.Empty() && (chain.Last().Version() < t.Version() || chain.Last().Version() == t.Version() && chain.Complete() != nil)
	next, err := t.Next(func(f *sign.TrustForm) error {
		if draft {
			f.Version = t.Version()
		}
		return change(f)
	})
	if err != nil {
		return err
	}
	return writeTrust(c, path, next)
}

// roleIn finds a role of the form, made if it is not there.
func roleIn(f *sign.TrustForm, name string) (*sign.TrustRole, error) {
	at := map[string]**sign.TrustRole{"root": &f.Roles.Root, "security": &f.Roles.Security}[name]
	switch {
	case name == "release":
		return &f.Roles.Release, nil
	case at == nil:
		return nil, usageError{fmt.Sprintf("role %q is none of root, release, security", name)}
	case *at == nil:
		*at = &sign.TrustRole{Threshold: 1}
	}
	return *at, nil
}

func trustAddKey(c *cli.Context) error {
	return changeTrust(c, func(f *sign.TrustForm) error {
		r, err := roleIn(f, c.String("role"))
		if err != nil {
			return err
		}
		ids, err := addKeys(f, c.String("key"))
		if err != nil {
			return err
		}
		r.Keys = append(r.Keys, ids...)
		setThreshold(c, r)
		if c.String("role") == "security" && (r.Allow == nil || c.IsSet("security-image")) {
			r.Allow, err = delegation(c)
			return err
		}
		return nil
	})
}

func setThreshold(c *cli.Context, r *sign.TrustRole) {
	if c.IsSet("threshold") {
		r.Threshold = c.Int("threshold")
	}
}

func trustRotate(c *cli.Context) error {
	return changeTrust(c, func(f *sign.TrustForm) error {
		r, err := roleIn(f, c.String("role"))
		if err != nil {
			return err
		}
		old, err := readPublic(c.String("old"))
		if err != nil {
			return err
		}
		at := slices.Index(r.Keys, old.KeyID())
		if at < 0 {
			return fmt.Errorf("key %s is not in role %s: wcbundle trust show lists who is", old.KeyID(), c.String("role"))
		}
		f.Keys = slices.DeleteFunc(f.Keys, func(k sign.TrustKey) bool { return k.ID == old.KeyID() })
		ids, err := addKeys(f, c.String("new"))
		if err != nil {
			return err
		}
		r.Keys[at] = ids[0]
		setThreshold(c, r)
		return nil
	})
}

func trustRevoke(c *cli.Context) error {
	if len(c.StringSlice("key"))+len(c.StringSlice("head")) == 0 {
		return usageError{"name what is revoked: --key FILE.pub or --head sha256:..."}
	}
	return changeTrust(c, func(f *sign.TrustForm) error {
		for _, p := range c.StringSlice("key") {
			k, err := readPublic(p)
			if err != nil {
				return err
			}
			f.Revoked.Keys = append(f.Revoked.Keys, k.KeyID())
		}
		f.Revoked.Heads = append(f.Revoked.Heads, c.StringSlice("head")...)
		if c.Bool("raise-epoch") {
			f.Epoch++
		}
		return nil
	})
}
