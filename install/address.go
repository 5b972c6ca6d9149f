package install

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wordcab/wcbundle/registry"
)

// Address is how the site's registry is reached: from where the operator works (Push) and from the nodes (Pull). It holds no
// secret: logins and private keys stay in files of the operator's machine.
type Address struct {
	Push       string    `json:"push"`
	Pull       string    `json:"pull"`
	PlainHTTP  bool      `json:"plainHTTP,omitempty"`
	CA         string    `json:"ca,omitempty"`         // certificates in PEM
	Also       []string  `json:"also,omitempty"`       // other hosts that the registry may send us to
	ClientCert string    `json:"clientCert,omitempty"` // path on the machine of whoever set it; another operator names another one
	ClientKey  string    `json:"clientKey,omitempty"`
	InCluster  string    `json:"inCluster,omitempty"`  // namespace of the registry that wcbundle has brought up; the cluster says how it is reached
	PullSecret string    `json:"pullSecret,omitempty"` // Secret in the release's namespace that pods show this registry; of one that wcbundle brought up it is its own
	RunTime    RunTime   `json:"runTime,omitempty"`    // how pods find their images that no rendered manifest shows; "" = none
	Since      time.Time `json:"since,omitzero"`       // when Push became another registry; what was loaded before is not known to be in it
}

// maxAlso is how many other hosts an address may have.
const maxAlso = 16

// NewAddress checks an address and puts it in order: Pull is Push where it is not given, CA has nothing but certificates.
func NewAddress(a Address) (Address, error) {
	if a.Pull == "" {
		a.Pull = a.Push
	}
	if len(a.Also) > maxAlso {
		return a, fmt.Errorf("%d other hosts are more than the %d that a registry may send us to", len(a.Also), maxAlso)
	}
	for _, h := range append([]string{a.Push, a.Pull}, a.Also...) {
		if err := registry.CheckHost(h); err != nil {
			return a, err
		}
	}
	if a.PlainHTTP && (a.CA != "" || a.ClientCert != "") {
		return a, errors.New("a CA and a client certificate belong to https: a registry that speaks plain http has neither")
	}
	if a.RunTime != "" {
		if _, err := ParseRunTime(string(a.RunTime)); err != nil {
			return a, fmt.Errorf("run-time way: %w", err)
		}
	}
	if (a.ClientCert == "") != (a.ClientKey == "") {
		return a, errors.New("a client certificate needs its key, and one of the two was given")
	}
	if a.CA != "" {
		var err error
		if a.CA, err = registry.CheckCA([]byte(a.CA)); err != nil {
			return a, err
		}
	}
	return a, nil
}

// had tells whether a release was loaded into the registry that the site has now.
func (a Address) had(l Loaded) bool { return !l.At.Before(a.Since) }

// Options are the client's for this address. The login is not the record's to know.
func (a Address) Options() registry.Options {
	return registry.Options{Host: a.Push, PlainHTTP: a.PlainHTTP, CA: a.CA, Also: a.Also, CertFile: a.ClientCert, KeyFile: a.ClientKey}
}

// SettingChange is one setting of an address before and after.
type SettingChange struct {
	What string `json:"what"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Compare lists what differs from a in b, in words for people.
func (a Address) Compare(b Address) []SettingChange {
	var out []SettingChange
	add := func(what, old, new string) {
		if old != new {
			out = append(out, SettingChange{What: what, Old: old, New: new})
		}
	}
	scheme := func(plain bool) string {
		if plain {
			return "plain http"
		}
		return "https, or http on this machine"
	}
	add("registry", a.Push, b.Push)
	add("pull from", a.Pull, b.Pull)
	add("spoken to by", scheme(a.PlainHTTP), scheme(b.PlainHTTP))
	if a.CA != b.CA {
		out = append(out, SettingChange{What: "CA", Old: registry.DescribeCA(a.CA), New: registry.DescribeCA(b.CA)})
	}
	add("pull secret", orNone(a.PullSecret), orNone(b.PullSecret))
	add("pods made at run time", string(a.RunTime.Way()), string(b.RunTime.Way()))
	add("in the cluster", orNone(a.InCluster), orNone(b.InCluster))
	if !slices.Equal(a.Also, b.Also) {
		add("other hosts", orNone(strings.Join(a.Also, ", ")), orNone(strings.Join(b.Also, ", ")))
	}
	add("client certificate", orNone(a.ClientCert), orNone(b.ClientCert))
	add("its key", orNone(a.ClientKey), orNone(b.ClientKey))
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// UseRegistry changes how the site's registry is reached, and keeps who did it and what changed. The record is not saved.
func (r *Record) UseRegistry(to Address, by string, now time.Time) []SettingChange {
	changes := r.Registry.Compare(to)
	if len(changes) == 0 {
		return nil
	}
	to.Since = r.Registry.Since
	same := to.InCluster != "" && to.InCluster == r.Registry.InCluster && to.Pull == r.Registry.Pull // by another node
	if to.Push != r.Registry.Push && !same {
		// Rounded up: a load in the same second may have been one into the old registry.
		to.Since = now.UTC().Truncate(time.Second).Add(time.Second)
	}
	text := "registry settings:"
	for _, c := range changes {
		text += fmt.Sprintf(" %s %s, was %s;", c.What, c.New, c.Old)
	}
	r.Registry = to
	r.Notes = append(r.Notes, Note{At: now.UTC().Truncate(time.Second), By: by, Text: strings.TrimSuffix(text, ";")})
	return changes
}
