package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/install/siteregistry"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/sign"
)

var registryNamespaceFlag = &cli.StringFlag{Name: "registry-namespace", Value: siteregistry.DefaultNamespace, EnvVars: []string{"WCBUNDLE_REGISTRY_NAMESPACE"}, Usage: "namespace of the registry in the cluster"}

func installCommand() *cli.Command {
	return &cli.Command{
		Name: "install", Usage: "bring a registry up in a cluster that has none, from a bundle alone; or move it to the program of a newer one", ArgsUsage: "[BUNDLE]",
		Description: "Nothing but the API server is needed: no image is pulled, nothing is done on a node by hand. The program travels as ConfigMaps and runs\n" +
			"in a container of an image that the nodes have. It may be run again at any time; volume, CA and password stay. Without BUNDLE the program is\n" +
			"that of the newest release that is loaded. Before the site has a record, --trust says by which policy the bundle is judged.\n" +
			"docs/registries.md tells what is made, and what is needed of nodes and storage.\n\n" +
			"Example:\n   wcbundle registry install --trust trust.json --storage-class fast --size 500Gi wordcab-2.9.0.wcb",
		Flags: append(siteFlags(), outputFlag, registryNamespaceFlag, scratchFlag,
			&cli.StringFlag{Name: "trust", Usage: "judge the bundle by this trust.json: the site has no record yet"},
			&cli.StringFlag{Name: "storage-class", Usage: "class of the volume (default: the cluster's)"},
			&cli.StringFlag{Name: "size", Value: "200Gi", Usage: "size of the volume"},
			&cli.IntFlag{Name: "node-port", Usage: "port on every node for the operator (default: the cluster chooses)"},
			&cli.StringFlag{Name: "push", Usage: "host:port by which this machine reaches the registry, where that is not a node's address and port"},
			&cli.StringFlag{Name: "certs-dir", Value: "/etc/containerd/certs.d", Usage: "folder that containerd's config_path names on the nodes"},
			&cli.BoolFlag{Name: "skip-nodes", Usage: "leave the nodes' containerd alone: wcbundle registry hosts is run there by other means"},
			&cli.StringSliceFlag{Name: "mirror", Usage: "registry whose images the nodes take from this one instead; may be repeated (default: those of before; an empty value for none)"},
			&cli.StringFlag{Name: "image", Usage: "an image that every node has (default: one is found)"},
			&cli.DurationFlag{Name: "wait", Value: 5 * time.Minute, Usage: "how long to wait for the registry to become ready"},
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"}),
		Action: installRegistry,
	}
}

func hostsCommand() *cli.Command {
	return &cli.Command{
		Name: "hosts", Usage: "tell this node's containerd how the site's registry is reached",
		Description: "Writes certs.d/HOST/hosts.toml and the CA beside it, and the same for registries that HOST is a mirror of. containerd reads them at each\n" +
			"pull; its configuration must name the folder as config_path. registry install runs this on every node.\n\n" +
			"Example:\n   wcbundle registry hosts --host 10.96.0.50:5000 --ca ca.crt --mirror registry.example.com",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "dir", Value: "/etc/containerd/certs.d", Usage: "folder that containerd's config_path names"},
			&cli.StringFlag{Name: "host", Usage: "host:port that images are pulled from", Required: true},
			&cli.StringFlag{Name: "ca", Usage: "CA of the registry in PEM"},
			&cli.BoolFlag{Name: "plain-http", Usage: "the registry speaks http"},
			&cli.StringSliceFlag{Name: "mirror", Usage: "registry whose images are taken from HOST instead; may be repeated"},
			&cli.BoolFlag{Name: "keep", Usage: "stay, and write the files again when they are changed"},
		},
		Action: hosts,
	}
}

func hosts(c *cli.Context) error {
	conf := siteregistry.HostsConfig{Dir: c.String("dir"), Host: c.String("host"), HTTP: c.Bool("plain-http"), Mirrors: c.StringSlice("mirror")}
	if path := c.String("ca"); path != "" {
		ca, err := readSmall(path, registry.MaxCA, "CA in PEM")
		if err != nil {
			return err
		}
		text, err := registry.CheckCA(ca)
		if err != nil {
			return err
		}
		conf.CA = []byte(text)
	}
	told := func() {
		fmt.Fprintf(c.App.Writer, "containerd is told in %s how to reach %s\n", conf.Dir, conf.Host)
	}
	if c.Bool("keep") {
		return conf.Keep(c.Context, time.Minute, told)
	}
	if _, err := conf.Write(); err != nil {
		return err
	}
	told()
	return nil
}

func installRegistry(c *cli.Context) error {
	stores, access, err := siteStores(c)
	if err != nil {
		return err
	}
	if access == nil {
		return usageError{"a registry in a cluster needs the cluster: name it with --kubeconfig"}
	}
	s := &site{store: stores, access: access}
	if c.String("trust") == "" {
		if s.record, err = stores.Load(c.Context); err != nil {
			return err
		}
	}
	program, clean, err := programFile(c)
	if err != nil {
		return err
	}
	defer clean()
	what, err := s.program(c, program)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.App.ErrWriter, "the registry's program is that of release %s, for %s\n", what.Version, what.Arch)
	if ok, err := confirm(c, "bring the registry up in namespace "+c.String("registry-namespace")+"?"); err != nil || !ok {
		return err
	}
	opt := siteregistry.Options{Kube: access.Kube, Dynamic: access.Dynamic, Namespace: c.String("registry-namespace"), Program: program, Arch: what.Arch,
		Storage: c.String("storage-class"), Size: c.String("size"), NodePort: int32(c.Int("node-port")), Push: c.String("push"), CertsDir: c.String("certs-dir"),
		SkipNodes: c.Bool("skip-nodes"), Mirrors: mirrors(c), Image: c.String("image"), Wait: c.Duration("wait"), Now: time.Now(),
		Progress: func(step string) { fmt.Fprintln(c.App.ErrWriter, step) }}
	if s.record != nil {
		opt.Site = s.record.Site
	}
	r, err := siteregistry.Install(c.Context, opt)
	if err != nil {
		return err
	}
	if s.record != nil {
		to := install.Address{Push: r.Push, Pull: r.Pull, CA: r.CA, InCluster: r.Namespace, RunTime: s.record.Registry.RunTime}
		if len(s.record.UseRegistry(to, install.Who(), time.Now())) > 0 {
			if err := s.store.Save(c.Context, s.record); err != nil {
				return err
			}
		}
	}
	return show(c, r, func(w io.Writer) error { return registryTable(w, r, s.record != nil) })
}

// mirrors are those that the flag names, and not nil where it names none; nil without it.
func mirrors(c *cli.Context) []string {
	if !c.IsSet("mirror") {
		return nil
	}
	return append([]string{}, slices.DeleteFunc(c.StringSlice("mirror"), func(m string) bool { return m == "" })...)
}

func registryTable(w io.Writer, r siteregistry.Result, recorded bool) error {
	fmt.Fprintf(w, "registry\t%s in namespace %s\n", r.Pull, r.Namespace)
	fmt.Fprintf(w, "from here\t%s\n", r.Push)
	fmt.Fprintf(w, "runs in\timage %s, on any of %s\n", r.Image, strings.Join(r.Nodes, ", "))
	fmt.Fprintf(w, "program\t%d parts in ConfigMaps\n", r.Parts)
	if r.Before != "" {
		fmt.Fprintf(w, "before\t%s\n", r.Before)
	}
	next := "wcbundle trust accept --registry-in-cluster"
	if recorded {
		next = "wcbundle load"
	}
	_, err := fmt.Fprintf(w, "login\tuser %s, password in Secret %s\nnext\t%s\n", r.Username, siteregistry.CredentialName, next)
	return err
}

// programFile is a temporary file that is gone in the end.
func programFile(c *cli.Context) (*os.File, func(), error) {
	dir, clean, err := scratchDir(c)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Create(filepath.Join(dir, "program"))
	if err != nil {
		clean()
		return nil, nil, err
	}
	return f, func() { f.Close(); clean() }, nil
}

// program takes the registry's program out of the bundle that is named, or of the newest release that is loaded.
func (s *site) program(c *cli.Context, out *os.File) (install.Program, error) {
	if !c.Args().Present() {
		if s.record == nil {
			return install.Program{}, usageError{"name the bundle that has the registry's program"}
		}
		reg, err := s.registry(c)
		if err != nil {
			return install.Program{}, err
		}
		return install.ProgramOfSite(c.Context, install.Target{Access: s.access, Registry: reg, Record: s.record, Now: time.Now()}, out)
	}
	f, err := bundle.OpenFile(c.Args().First())
	if err != nil {
		return install.Program{}, err
	}
	defer f.Close()
	p, err := s.programPolicy(c, f)
	if err != nil {
		return install.Program{}, err
	}
	return install.ProgramOfFile(c.Context, f, p, out)
}

func (s *site) programPolicy(c *cli.Context, f *bundle.File) (sign.Policy, error) {
	if s.record != nil {
		return s.record.PolicyAgain(f, time.Now())
	}
	t, _, err := readTrust(c.String("trust"))
	if err != nil {
		return sign.Policy{}, err
	}
	return followed(c, f, freshPolicy(t))
}
