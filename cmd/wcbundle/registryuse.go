package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/registry"
)

func useCommand() *cli.Command {
	return &cli.Command{
		Name: "use", Usage: "change how this site's registry is reached, or which one it is",
		Description: "Settings that are not named stay; an empty value takes one away. The registry must answer by the new settings, with the login that\n" +
			"this machine has for it, before anything is written. Releases that were loaded into another registry are not taken to be in this one:\n" +
			"load them again.\n\n" +
			"Example:\n   wcbundle registry use --ca registry-ca.pem --also tokens.site.example",
		Flags: append(siteFlags(), outputFlag,
			&cli.StringFlag{Name: "registry", Usage: "host:port of the site's registry, from here"},
			&cli.StringFlag{Name: "pull-from", Usage: "host:port of the same registry, from the nodes"},
			&cli.BoolFlag{Name: "plain-http", Usage: "the registry speaks http; --plain-http=false takes it back"},
			&cli.StringFlag{Name: "ca", Usage: "CA of the registry, certificates in PEM"},
			&cli.StringSliceFlag{Name: "also", Usage: "another HOST[:PORT] that the registry may send us to; may be repeated, and replaces those before"},
			&cli.StringFlag{Name: "cert", Usage: "client certificate that the registry wants, in PEM"},
			&cli.StringFlag{Name: "key", Usage: "its key in PEM"},
			&cli.StringFlag{Name: "pull-secret", Usage: "Secret of type kubernetes.io/dockerconfigjson in the release's namespace that pods are to show the registry"},
			runTimeFlag(""),
			&cli.BoolFlag{Name: "yes", Usage: "do not ask"}),
		Action: use,
	}
}

// addressFlags changes an address by the flags that are given. The prefix is that of those whose names would be taken.
func addressFlags(c *cli.Context, a install.Address, prefix string) (install.Address, error) {
	if c.IsSet("registry") {
		if a.Pull == a.Push {
			a.Pull = "" // it follows
		}
		a.Push, a.InCluster = c.String("registry"), "" // one that is named is not the one that the cluster says
	}
	if c.IsSet("pull-from") {
		a.Pull = c.String("pull-from")
	}
	if c.IsSet("plain-http") {
		a.PlainHTTP = c.Bool("plain-http")
	}
	if c.IsSet("pull-secret") {
		a.PullSecret = c.String("pull-secret")
	}
	if c.IsSet(prefix + "ca") {
		a.CA = ""
		if path := c.String(prefix + "ca"); path != "" {
			text, err := readSmall(path, registry.MaxCA, "CA in PEM")
			if err != nil {
				return a, err
			}
			a.CA = string(text)
		}
	}
	if c.IsSet(prefix + "also") {
		a.Also = slices.DeleteFunc(c.StringSlice(prefix+"also"), func(h string) bool { return h == "" })
	}
	for flag, to := range map[string]*string{"cert": &a.ClientCert, "key": &a.ClientKey} {
		if !c.IsSet(prefix + flag) {
			continue
		}
		if *to = c.String(prefix + flag); *to != "" {
			var err error
			if *to, err = filepath.Abs(*to); err != nil {
				return a, err
			}
		}
	}
	a, err := install.NewAddress(a)
	if err != nil {
		return a, usageError{err.Error()}
	}
	return a, nil
}

func use(c *cli.Context) error {
	s, err := openSite(c)
	if err != nil {
		return err
	}
	to, err := addressFlags(c, s.record.Registry, "")
	if err != nil {
		return err
	}
	if c.IsSet("run-time") {
		if to.RunTime, err = runTime(c, s.access, to.InCluster); err != nil {
			return err
		}
	}
	changes := s.record.Registry.Compare(to)
	table := func(w io.Writer) error { return settingsTable(w, changes) }
	if len(changes) == 0 {
		return show(c, []install.SettingChange{}, table)
	}
	reg, err := (&site{record: &install.Record{Registry: to}, access: s.access}).registry(c)
	if err != nil {
		return err
	}
	if err := reg.Ping(c.Context); err != nil {
		return err
	}
	if err := table(c.App.ErrWriter); err != nil {
		return err
	}
	if ok, err := confirm(c, "reach the registry of site "+s.record.Site+" like that?"); err != nil || !ok {
		return err
	}
	was := s.record.Registry
	moved := was.Push != to.Push
	s.record.UseRegistry(to, install.Who(), time.Now())
	if err := s.store.Save(c.Context, s.record); err != nil {
		return err
	}
	if moved && len(s.record.Loads) > 0 {
		fmt.Fprintf(c.App.ErrWriter, "the releases that this site has are not known to be in %s: load those that you need again\n", to.Push)
	}
	if was.RunTime.Way() != to.RunTime.Way() {
		if err := s.settle(c, was); err != nil {
			return err
		}
	}
	return show(c, changes, table)
}

// settle lets the cluster have what the new way needs at once, for the release that runs, and takes away what the old one had. Without a
// release, or without a cluster, apply does.
func (s *site) settle(c *cli.Context, was install.Address) error {
	if s.access == nil {
		fmt.Fprintln(c.App.ErrWriter, "name the cluster with --kubeconfig to let it have this at once; else the next apply brings what is needed, and takes nothing away")
		return nil
	}
	if err := install.LeaveRunTime(c.Context, s.access, was.RunTime, was.PodAccess().Secret); err != nil {
		return err
	}
	i := s.record.Installed
	if i == nil || was.Push != s.record.Registry.Push {
		return nil
	}
	reg, err := s.registry(c)
	if err != nil {
		return err
	}
	t := install.Target{Access: s.access, Registry: reg, Record: s.record, Now: time.Now()}
	return install.SettleRunTime(c.Context, t, i.Version)
}

// runTimeFlag is the way for pods that are made at run time.
func runTimeFlag(value string) cli.Flag {
	return &cli.StringFlag{Name: "run-time", Value: value, Usage: "how pods that an operator or a hook makes find their images: policy, mirrors, none, or auto for the first of these that the cluster has"}
}

// runTime is the way that the flag names, or that auto chooses; what was chosen is printed.
func runTime(c *cli.Context, access *install.Access, inCluster string) (install.RunTime, error) {
	if name := c.String("run-time"); name != "auto" {
		way, err := install.ParseRunTime(name)
		if err != nil {
			return "", usageError{"--run-time " + err.Error() + ", auto"}
		}
		return way, nil
	}
	way, err := install.ChooseRunTime(c.Context, access, inCluster)
	if err == nil && access != nil {
		fmt.Fprintf(c.App.ErrWriter, "pods made at run time: %s\n", way.Means())
	}
	return way, err
}

func settingsTable(w io.Writer, changes []install.SettingChange) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(w, "these are the site's settings already: nothing was changed")
		return err
	}
	for _, ch := range changes {
		if _, err := fmt.Fprintf(w, "%s\t%s -> %s\n", ch.What, ch.Old, ch.New); err != nil {
			return err
		}
	}
	return nil
}

// pullOptions are the client's for a model that no site's record is about.
func pullOptions(c *cli.Context) (registry.Options, error) {
	opt := registry.Options{PlainHTTP: c.Bool("plain-http"), Also: c.StringSlice("also"), CertFile: c.String("cert"), KeyFile: c.String("key")}
	if path := c.String("ca"); path != "" {
		text, err := readSmall(path, registry.MaxCA, "CA in PEM")
		if err != nil {
			return opt, err
		}
		opt.CA = string(text)
	}
	host, _, err := registry.SplitModel(c.String("model"))
	if err != nil {
		return opt, err
	}
	opt.Login, err = findLogin(c.Context, host, "")
	return opt, err
}
