package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"oras.land/oras-go/v2/registry/remote/retry"
)

// MaxCA is how many bytes of certificates a registry's CA may have.
const MaxCA = 64 << 10

// ElsewhereError says that the registry sent the client to a host that it may not send it to: by a redirect, as the place of an
// upload or of its token service; or to plain http where it is reached by https itself.
type ElsewhereError struct {
	Registry, To string
	Plain        bool // the host may be spoken to, but not like that
}

func (e *ElsewhereError) Error() string {
	if e.Plain {
		return fmt.Sprintf("registry %s sends us to %s by plain http, where nothing is safe from others", e.Registry, e.To)
	}
	return fmt.Sprintf("registry %s sends us to %s: nothing but the site's registry is spoken to", e.Registry, e.To)
}

// border lets requests to the registry through, and to the hosts to which it may send us. The client certificate is shown to the
// registry alone; the credentials, to it and to what it names as its token service among those hosts.
type border struct {
	host       string // as the site calls it
	scheme     string // http or https
	plain      bool   // http may be spoken to others than this machine
	also       []string
	own, other http.RoundTripper // other knows no client certificate
	challenged atomic.Bool       // the registry has asked for credentials
}

// newBorder makes the transport of a registry.
func newBorder(opt Options) (*border, error) {
	b := &border{host: opt.Host, scheme: "https", plain: opt.PlainHTTP, also: opt.Also}
	for _, h := range append([]string{opt.Host}, opt.Also...) {
		if err := CheckHost(h); err != nil {
			return nil, err
		}
	}
	secured := opt.CA != "" || opt.CertFile != ""
	if opt.PlainHTTP && secured {
		return nil, errors.New("a CA and a client certificate belong to https, and the registry is said to speak plain http")
	}
	if opt.PlainHTTP || loopback(opt.Host) && !secured {
		b.scheme = "http"
	}
	own, other, err := tlsConfigs(opt)
	if err != nil {
		return nil, err
	}
	b.own, b.other = patient(opt, own), patient(opt, other)
	return b, nil
}

// patient is a transport that tries again and notices silence.
func patient(opt Options, c *tls.Config) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil // a site's registry is reached directly, whatever the environment says
	t.TLSClientConfig, t.MaxResponseHeaderBytes = c, 1<<20
	return retry.NewTransport(stallGuard{opt.Stall, t})
}

// tlsConfigs are the ones for the registry and for other hosts.
func tlsConfigs(opt Options) (own, other *tls.Config, err error) {
	other = &tls.Config{MinVersion: tls.VersionTLS12}
	if opt.CA != "" {
		if _, err := CheckCA([]byte(opt.CA)); err != nil {
			return nil, nil, err
		}
		other.RootCAs = x509.NewCertPool()
		other.RootCAs.AppendCertsFromPEM([]byte(opt.CA))
	}
	own = other.Clone()
	if (opt.CertFile == "") != (opt.KeyFile == "") {
		return nil, nil, errors.New("a client certificate needs its key, and one of the two was given")
	}
	if opt.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(opt.CertFile, opt.KeyFile)
		if err != nil {
			return nil, nil, fmt.Errorf("the client certificate for registry %s: %w", opt.Host, err)
		}
		own.Certificates = []tls.Certificate{pair}
	}
	return own, other, nil
}

// CheckCA reads the certificates of a CA in PEM and writes them again, without what stands between them. Anything else in PEM is
// refused: a file that has a private key too must not get into a site's record.
func CheckCA(text []byte) (string, error) {
	if len(text) > MaxCA {
		return "", fmt.Errorf("the registry's CA is longer than %d bytes", MaxCA)
	}
	var out strings.Builder
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return "", fmt.Errorf("the registry's CA has a %.60q beside certificates: give the certificates alone", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "", fmt.Errorf("the registry's CA: %w", err)
		}
		if err := pem.Encode(&out, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return "", err
		}
	}
	if out.Len() == 0 {
		return "", errors.New("the registry's CA has no certificate in PEM")
	}
	return out.String(), nil
}

// CheckHost wants a host with or without a port, and nothing else of an address.
func CheckHost(host string) error {
	u, err := url.Parse("https://" + host)
	if err != nil || host == "" || u.Host != host || u.Hostname() == "" || u.User != nil {
		return fmt.Errorf("%.200q is no HOST or HOST:PORT", host)
	}
	return nil
}

func loopback(host string) bool {
	h, _, err := net.SplitHostPort(host)
	if err != nil {
		h = host
	}
	ip := net.ParseIP(strings.Trim(h, "[]"))
	return h == "localhost" || ip != nil && ip.IsLoopback()
}

// withPort is a host with its port, the scheme's own where none is named.
func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return strings.ToLower(host)
	}
	port := "443"
	if scheme == "http" {
		port = "80"
	}
	return net.JoinHostPort(strings.ToLower(strings.Trim(host, "[]")), port)
}

// isRegistry tells the registry from other hosts. Another scheme is another host.
func (b *border) isRegistry(u *url.URL) bool {
	return u.Scheme == b.scheme && withPort(u.Host, u.Scheme) == withPort(b.host, b.scheme)
}

// check refuses an address that the registry may not lead to.
func (b *border) check(u *url.URL) error {
	if b.isRegistry(u) {
		return nil
	}
	is := func(h string) bool { return withPort(h, u.Scheme) == withPort(u.Host, u.Scheme) }
	if !slices.ContainsFunc(b.also, is) && !is(b.host) {
		return &ElsewhereError{Registry: b.host, To: u.Host}
	}
	if u.Scheme != "https" && (b.scheme == "https" || !b.plain && !loopback(u.Host)) {
		return &ElsewhereError{Registry: b.host, To: u.Host, Plain: true}
	}
	return nil
}

// trail is what the border knows about a request of ours and those that follow from it: redirects, and the one for a token.
type trail struct {
	url     string
	refused atomic.Bool // the registry answered 401 to it
}

type trailKey struct{}

// RoundTrip refuses a request to a host that may not be spoken to, and an answer that leads to one, before a name is resolved or a
// byte is sent there.
func (b *border) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := b.check(r.URL); err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	t, _ := r.Context().Value(trailKey{}).(*trail)
	next := b.own
	if !b.isRegistry(r.URL) {
		next = b.other
		if r.Header.Get("Authorization") != "" && !forToken(r, t) {
			r = r.Clone(r.Context())
			r.Header.Del("Authorization")
		}
	}
	resp, err := next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized && b.isRegistry(r.URL) {
		b.challenged.Store(true)
		if t != nil {
			t.refused.Store(true)
		}
	}
	if to, err := resp.Location(); err == nil {
		if err := b.check(to); err != nil {
			resp.Body.Close()
			return nil, err
		}
	}
	return resp, nil
}

// forToken tells the request for a token, which is neither what we asked for ourselves nor where an answer has redirected us.
func forToken(r *http.Request, t *trail) bool {
	return t != nil && r.Response == nil && r.URL.String() != t.url
}

// follow gives a request its trail.
func follow(r *http.Request) (*http.Request, *trail) {
	t := &trail{url: r.URL.String()}
	return r.WithContext(context.WithValue(r.Context(), trailKey{}, t)), t
}

// DescribeCA names the certificates of a CA by the digests of their bytes, for people to compare.
func DescribeCA(text string) string {
	if text == "" {
		return "the system's roots"
	}
	var out []string
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return strings.Join(out, ", ")
		}
		name := ""
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			name = clean(c.Subject.String()) + " "
		}
		out = append(out, name+string(digest.FromBytes(block.Bytes)))
	}
}
