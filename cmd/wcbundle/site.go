package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/install/siteregistry"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/sign"
)

// siteFlags say which site a command works on.
func siteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "kubeconfig", EnvVars: []string{"WCBUNDLE_KUBECONFIG", "KUBECONFIG"}, Usage: "the cluster; without one only the site's folder is used"},
		&cli.StringFlag{Name: "context", EnvVars: []string{"WCBUNDLE_CONTEXT"}, Usage: "the kubeconfig's context"},
		&cli.StringFlag{Name: "namespace", Aliases: []string{"n"}, EnvVars: []string{"WCBUNDLE_NAMESPACE"}, Value: "wordcab", Usage: "the release's namespace"},
		&cli.StringFlag{Name: "state-dir", EnvVars: []string{"WCBUNDLE_STATE_DIR"}, Usage: "folder of the site record's second copy (default: under the home folder)"},
	}
}

func acceptFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "site", Usage: "this site's id, as the vendor writes it into bundles made for it", Required: true},
		&cli.StringFlag{Name: "registry", Usage: "host:port of the site's registry, from here"},
		&cli.BoolFlag{Name: "registry-in-cluster", Usage: "the registry is the one that registry install has brought up: ask the cluster for its address, CA and login"},
		registryNamespaceFlag,
		&cli.StringFlag{Name: "pull-from", Usage: "host:port of the same registry, from the nodes (default: as from here)"},
		&cli.BoolFlag{Name: "plain-http", Usage: "the registry speaks http"},
		&cli.StringFlag{Name: "registry-ca", Usage: "CA of the registry, certificates in PEM; the record keeps them"},
		&cli.StringSliceFlag{Name: "registry-also", Usage: "another HOST[:PORT] that the registry may send us to: its token service, its store of blobs; may be repeated"},
		&cli.StringFlag{Name: "registry-cert", Usage: "client certificate that the registry wants, in PEM; the record keeps the path"},
		&cli.StringFlag{Name: "registry-key", Usage: "its key in PEM; the record keeps the path"},
		&cli.StringFlag{Name: "pull-secret", Usage: "Secret of type kubernetes.io/dockerconfigjson in the release's namespace that pods are to show the registry"},
		runTimeFlag("auto"),
		&cli.StringSliceFlag{Name: "approver", Usage: "public key of this site's own whose consent apply asks for (wcbundle approve); may be repeated"},
		&cli.IntFlag{Name: "approvals", Value: 1, Usage: "how many of the approvers must agree"},
		&cli.StringFlag{Name: "adopt", Usage: "the site is not new, its record was lost: take over what its registry proves; the text says why, for the record"},
		&cli.BoolFlag{Name: "yes", Usage: "do not ask"},
	}
}

// site is the site's record and where it is kept.
type site struct {
	record *install.Record
	store  install.Stores
	access *install.Access // nil without a cluster
}

// stateDir is the folder of what the operator's machine keeps of sites.
func stateDir(c *cli.Context) (string, error) {
	if dir := c.String("state-dir"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("finding a place for the site's record (name one with --state-dir): %w", err)
	}
	return filepath.Join(home, ".local", "state", "wcbundle"), nil
}

func siteStores(c *cli.Context) (install.Stores, *install.Access, error) {
	dir, err := stateDir(c)
	if err != nil {
		return nil, nil, err
	}
	path := filepath.Join(dir, c.String("namespace"), "site.json")
	var stores install.Stores
	var access *install.Access
	if k := c.String("kubeconfig"); k != "" {
		a, err := install.Connect(k, c.String("context"), c.String("namespace"))
		if err != nil {
			return nil, nil, err
		}
		access = a
		stores = append(stores, install.ConfigMapStore{Client: a.Kube, Namespace: c.String("namespace")})
	}
	return append(stores, install.FileStore{Path: path}), access, nil
}

func openSite(c *cli.Context) (*site, error) {
	stores, access, err := siteStores(c)
	if err != nil {
		return nil, err
	}
	r, err := stores.Load(c.Context)
	if err != nil {
		return nil, err
	}
	return &site{record: r, store: stores, access: access}, nil
}

func (s *site) registry(c *cli.Context) (*registry.Registry, error) { return s.patientRegistry(c, 0) }

// patientRegistry gives a request up when no byte has moved for so long; 0 = registry.DefaultStall.
func (s *site) patientRegistry(c *cli.Context, stall time.Duration) (*registry.Registry, error) {
	opt, err := s.registryOptions(c)
	if err != nil {
		return nil, err
	}
	opt.Stall = stall
	return registry.New(opt)
}

// registryOptions are how this machine reaches the site's registry.
func (s *site) registryOptions(c *cli.Context) (registry.Options, error) {
	opt := reachable(s.record.Registry)
	own, err := loginFile(c)
	if err != nil {
		return opt, err
	}
	if opt.Login, err = findLogin(c.Context, opt.Host, own); err != nil {
		return opt, err
	}
	return opt, s.askCluster(c, &opt)
}

// askCluster lets the cluster say how the registry in it is reached: by a node that runs, with the login that is in its Secret. Without a
// cluster the record has to do.
func (s *site) askCluster(c *cli.Context, opt *registry.Options) error {
	ns := s.record.Registry.InCluster
	if ns == "" || s.access == nil {
		return nil
	}
	found, err := siteregistry.Find(c.Context, s.access.Kube, ns)
	if errors.Is(err, siteregistry.ErrNone) {
		return fmt.Errorf("namespace %s: %w", ns, err)
	}
	if err != nil {
		return fmt.Errorf("asking the cluster for the registry in namespace %s: %w", ns, err)
	}
	opt.Host, opt.CA = found.Push, found.CA
	if opt.Login.None() {
		opt.Login = registry.Login{Username: found.Username, Password: found.Password}
	}
	return nil
}

func trustAccept(c *cli.Context) error {
	t, raw, err := readTrust(c.Args().First())
	if err != nil {
		return err
	}
	stores, access, err := siteStores(c)
	if err != nil {
		return err
	}
	if old, err := stores.Load(c.Context); err == nil {
		return fmt.Errorf("site %s has accepted a trust policy for %s already: it cannot be replaced from here", old.Site, old.Product)
	} else if !errors.Is(err, install.ErrNoRecord) {
		return err
	}
	record, err := newRecord(c, access, t, raw)
	if err != nil {
		return err
	}
	s := &site{store: stores, access: access, record: record}
	found, err := s.traces(c, t)
	if err != nil {
		return err
	}
	if err := trustTable(c.App.ErrWriter, t.Form()); err != nil {
		return err
	}
	if ok, err := confirm(c, "trust these keys at site "+c.String("site")+"?"); err != nil || !ok {
		return err
	}
	r := s.record
	if c.IsSet("adopt") {
		by := install.Who()
		if err := r.Adopt(c.Context, found, access, by, c.String("adopt"), time.Now()); err != nil {
			return err
		}
		fmt.Fprintf(c.App.ErrWriter, "took over %d releases that the registry holds and the policy lets in; wcbundle status lists them\n", len(r.Loads))
	}
	if r.Approvers, err = approvers(c); err != nil {
		return err
	}
	public, err := makeSiteKey(c)
	if err != nil {
		return err
	}
	r.SiteKey = string(public)
	if err := stores.Save(c.Context, r); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "site %s accepts %s by this policy; its registry is %s\n", r.Site, r.Product, r.Registry.Push)
	return nil
}

func newRecord(c *cli.Context, access *install.Access, t *sign.Trust, raw []byte) (*install.Record, error) {
	to, err := firstAddress(c, access)
	if err != nil {
		return nil, err
	}
	if to.RunTime, err = runTime(c, access, to.InCluster); err != nil {
		return nil, err
	}
	return &install.Record{APIVersion: install.RecordVersion, Site: c.String("site"), Product: t.Product(), Trust: raw, TrustAt: time.Now().UTC().Truncate(time.Second),
		Registry: to}, nil
}

// firstAddress is that of the registry which the flags name, or which the cluster has.
func firstAddress(c *cli.Context, access *install.Access) (install.Address, error) {
	if !c.Bool("registry-in-cluster") {
		if c.String("registry") == "" {
			return install.Address{}, usageError{"name the site's registry with --registry, or say --registry-in-cluster"}
		}
		return addressFlags(c, install.Address{}, "registry-")
	}
	if access == nil || c.String("registry") != "" {
		return install.Address{}, usageError{"--registry-in-cluster needs --kubeconfig, and no --registry"}
	}
	found, err := siteregistry.Find(c.Context, access.Kube, c.String("registry-namespace"))
	if err != nil {
		return install.Address{}, err
	}
	return install.NewAddress(install.Address{Push: found.Push, Pull: found.Pull, CA: found.CA, InCluster: found.Namespace})
}

// approvers is the site's own role, as the flags name it; nil without one.
func approvers(c *cli.Context) (*install.Approvers, error) {
	var keys []sign.PublicKey
	for _, p := range c.StringSlice("approver") {
		k, err := readPublic(p)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return install.NewApprovers(keys, c.Int("approvals"))
}

// traces looks whether a site without a record has releases. Only --adopt goes on from there.
func (s *site) traces(c *cli.Context, t *sign.Trust) (install.Traces, error) {
	if c.IsSet("adopt") && strings.TrimSpace(c.String("adopt")) == "" {
		return install.Traces{}, usageError{"--adopt needs the reason, for the record"}
	}
	reg, err := s.registry(c)
	if err != nil {
		return install.Traces{}, err
	}
	found, err := install.FindTraces(c.Context, reg, s.access, t, c.String("site"), time.Now())
	switch {
	case err != nil:
		return found, err
	case !c.IsSet("adopt"):
		return found, found.Error(c.String("site"))
	case found.None():
		return found, errors.New("there is nothing to adopt: the site's registry holds no release of " + t.Product() + "; leave --adopt out")
	}
	return found, nil
}

// changeTable says what became of the site's trust policy.
func changeTable(w io.Writer, change install.TrustChange) error {
	_, err := fmt.Fprintf(w, "trust policy version %d -> %d, signed by its roots\n", change.From, change.To)
	for _, line := range change.Changes {
		if err == nil {
			_, err = fmt.Fprintf(w, "  %s\n", line)
		}
	}
	return err
}

func siteCommands() []*cli.Command {
	trust := []cli.Flag{
		&cli.StringFlag{Name: "trust", Usage: "judge by this trust.json instead of the site's"},
		&cli.StringFlag{Name: "key", Usage: "judge by this one release key instead of the site's policy"},
	}
	return []*cli.Command{
		{
			Name: "verify", Usage: "check a bundle or patch to its last byte", ArgsUsage: "FILE", Category: "install side",
			Description: "By the site's record, or before a site is set up by --trust or --key.\n\nExample:\n   wcbundle verify wordcab-2.9.0.wcb",
			Flags:       append(append(siteFlags(), trust...), outputFlag),
			Action:      verify,
		},
		{
			Name: "load", Usage: "verify a bundle or patch and bring it into the site's registry", ArgsUsage: "FILE", Category: "install side",
			Description: "A patch is rebuilt from what the registry holds; every digest is that of the full bundle. Nothing that runs is\n" +
				"touched. A load that was cut off goes on where it was when it is run again, in the middle of a blob too.\n\n" +
				"Example:\n   wcbundle load wordcab-2.8.0-to-2.9.0.wcp\n   wcbundle load --base wordcab-2.8.0.wcb wordcab-2.8.0-to-2.9.0.wcp",
			Flags: append(siteFlags(), scratchFlag, outputFlag,
				&cli.DurationFlag{Name: "stall", Value: registry.DefaultStall, Usage: "try a blob again when the registry has moved no byte for so long"},
				&cli.StringSliceFlag{Name: "base", Usage: "a kept bundle or patch whose blobs may be used to rebuild from, beside the registry's; may be repeated"},
				&cli.BoolFlag{Name: "rehash", Usage: "hash what is in the registry already, and put in anew what is damaged"},
				&cli.BoolFlag{Name: "move-tags", Usage: "let tags point at this release that point at what this site has not loaded"}),
			Action: load,
		},
		loadsCommand(),
		inventoryCommand(),
		receiptCommand(),
		approveCommand(),
	}
}

// followed is the policy at the version to which the chain that travels with f leads.
func followed(c *cli.Context, f *bundle.File, p sign.Policy) (sign.Policy, error) {
	next, change, err := install.FollowTrust(c.Context, f, p.Trust)
	if err != nil {
		return sign.Policy{}, err
	}
	if change != nil {
		fmt.Fprintf(c.App.ErrWriter, "judged by version %d of the trust policy, which travels with the file; this site has %d\n", change.To, change.From)
	}
	p.Trust = next
	return p, nil
}

// verifyFile checks a file to its last byte by the policy, or a later version of it that travels with the file.
func verifyFile(c *cli.Context, path string, p sign.Policy) (install.Evidence, *sign.Trust, error) {
	f, err := bundle.OpenFile(path)
	if err != nil {
		return install.Evidence{}, nil, err
	}
	defer f.Close()
	if p, err = followed(c, f, p); err != nil {
		return install.Evidence{}, nil, err
	}
	m := newMeter(c, "verifying")
	ev, err := install.Verify(c.Context, f, p, m.at)
	m.end()
	return ev, p.Trust, err
}

// policy is the site's, or the one that flags name.
func policy(c *cli.Context) (sign.Policy, error) {
	if path := c.String("trust"); path != "" {
		t, _, err := readTrust(path)
		return freshPolicy(t), err
	}
	if path := c.String("key"); path != "" {
		k, err := readPublic(path)
		if err != nil {
			return sign.Policy{}, err
		}
		return policyOfKey(c, k)
	}
	s, err := openSite(c)
	if err != nil {
		return sign.Policy{}, err
	}
	return s.record.Policy(time.Now())
}

func freshPolicy(t *sign.Trust) sign.Policy {
	return sign.Policy{Trust: t, Now: time.Now(), Accepted: map[string]sign.Accepted{}}
}

// policyOfKey trusts one key for the product that the file says it is: what `cosign verify --key` proves, and no more.
func policyOfKey(c *cli.Context, k sign.PublicKey) (sign.Policy, error) {
	f, err := bundle.OpenFile(c.Args().First())
	if err != nil {
		return sign.Policy{}, err
	}
	defer f.Close()
	_, st, err := bundle.StatementOf(c.Context, f, time.Now())
	if err != nil {
		return sign.Policy{}, err
	}
	t, err := sign.NewTrust(sign.TrustForm{Schema: 1, Version: 1, Product: st.Name, Epoch: st.Epoch, Keys: []sign.TrustKey{sign.TrustKeyOf(k)},
		Roles: sign.TrustRoles{Release: sign.TrustRole{Keys: []string{k.KeyID()}, Threshold: 1}}})
	return freshPolicy(t), err
}

func verify(c *cli.Context) error {
	p, err := policy(c)
	if err != nil {
		return err
	}
	ev, _, err := verifyFile(c, c.Args().First(), p)
	if err != nil {
		return err
	}
	return show(c, ev, func(w io.Writer) error { return evidenceTable(w, ev) })
}

func evidenceTable(w io.Writer, ev install.Evidence) error {
	fmt.Fprintf(w, "verified\t%s %s: %s\n", ev.Kind, ev.Path, size(ev.Bytes))
	fmt.Fprintf(w, "release\t%s %s (channel %s, sequence %d)\n", ev.Name, ev.Version, ev.Channel, ev.Sequence)
	for _, b := range ev.Bases {
		fmt.Fprintf(w, "starts from\t%s\n", b)
	}
	for _, f := range ev.Fixes {
		fmt.Fprintf(w, "fixes\t%s in %s\n", f.ID, strings.Join(f.In, ", "))
	}
	for _, s := range ev.Signers {
		fmt.Fprintf(w, "signed by\t%s\n", s)
	}
	_, err := fmt.Fprintf(w, "signed at\t%s\nhead\t%s\nblobs\t%d, each equal to its digest\n", ev.Issued, ev.Head, ev.Blobs)
	return err
}
