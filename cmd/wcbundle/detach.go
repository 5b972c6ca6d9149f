package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/wordcab/wcbundle/install"
	"github.com/wordcab/wcbundle/install/detach"
	"github.com/wordcab/wcbundle/registry"
	"github.com/wordcab/wcbundle/rollout"
)

var detachFlag = &cli.BoolFlag{Name: "detach", Usage: "let a Job in the cluster do it: it goes on when this machine or its connection is gone"}

// detachCommands run in pods.
func detachCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "run-operation", Usage: "do what a Secret says; apply --detach starts it in a Job", Hidden: true, Category: "install side",
		Description: "Example:\n   wcbundle run-operation --namespace wordcab",
		Flags:       []cli.Flag{&cli.StringFlag{Name: "namespace", Required: true}, &cli.StringFlag{Name: "dir", Value: detach.Dir}},
		Action:      runOperation,
	}}
}

// detach starts an operation in the cluster, and tells how to watch it.
func (s *site) detach(c *cli.Context, start func(install.DetachedAccess) (install.Detached, error)) error {
	access, err := s.detachedAccess(c)
	if err != nil {
		return err
	}
	d, err := start(access)
	if err != nil {
		return err
	}
	return show(c, map[string]string{"operation": d.Op, "job": "wcbundle-run-" + d.Release}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "operation %s runs in the cluster, as Job wcbundle-run-%s: wcbundle status --watch\n", d.Op, d.Release)
		return err
	})
}

// detachedAccess is how a pod reaches the registry: as this machine does.
func (s *site) detachedAccess(c *cli.Context) (install.DetachedAccess, error) {
	opt, err := s.registryOptions(c)
	if err != nil {
		return install.DetachedAccess{}, err
	}
	if host, _, err := net.SplitHostPort(opt.Host); err == nil && (host == "localhost" || net.ParseIP(host) != nil && net.ParseIP(host).IsLoopback()) {
		return install.DetachedAccess{}, fmt.Errorf("the registry is reached by %s, which is this machine's own: a pod cannot; name it by an address of the network (wcbundle registry use)", opt.Host)
	}
	return install.DetachedAccess{Host: opt.Host, CA: opt.CA, PlainHTTP: opt.PlainHTTP, Login: opt.Login}, nil
}

// runOperation is the Job's program. It ends without an error when there is nothing more to do, so that the Job does not try again: how the
// operation ended is in its record.
func runOperation(c *cli.Context) error {
	raw, err := os.ReadFile(filepath.Join(c.String("dir"), detach.File))
	if err != nil {
		return err
	}
	var d install.Detached
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("what is to be done: %w", err)
	}
	a, err := install.ConnectPod(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"), c.String("namespace"))
	if err != nil {
		return err
	}
	stores := install.Stores{install.ConfigMapStore{Client: a.Kube, Namespace: c.String("namespace")}}
	record, err := stores.Load(c.Context)
	if err != nil {
		return err
	}
	opt := record.Registry.Options()
	opt.Host, opt.CA, opt.PlainHTTP, opt.Login = d.Registry.Host, d.Registry.CA, d.Registry.PlainHTTP, d.Registry.Login
	reg, err := registry.New(opt)
	if err != nil {
		return err
	}
	t := install.Target{Access: a, Registry: reg, Record: record, Scratch: os.TempDir(), Now: time.Now()}
	for { // a pod that was lost holds the lock for a while
		out, err := d.Run(c.Context, t, install.ApplyOptions{Store: stores, OnEvent: lines(c.App.ErrWriter), Tool: version})
		if errors.Is(err, rollout.ErrLocked) {
			fmt.Fprintln(c.App.ErrWriter, err)
			select {
			case <-c.Context.Done():
				return c.Context.Err()
			case <-time.After(5 * time.Second):
			}
			t.Now = time.Now()
			continue
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(c.App.ErrWriter, "%s %s\n", out.Phase, out.Reason)
		return d.Tidy(c.Context, a)
	}
}
