package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// validity of everything issued: longer than preflight wants, so that a fresh site has no warning about certificates.
const validity = 365 * 24 * time.Hour

// pki writes every key, certificate and kubeconfig of one cluster into a directory:
//
//	kcluster pki -dir D -server https://10.1.0.1:6443 -sans 10.1.0.1,127.0.0.1,kubernetes -nodes n1=10.1.0.11,n2=10.1.0.12
func pki(args []string) error {
	flags := flag.NewFlagSet("pki", flag.ExitOnError)
	dir := flags.String("dir", "pki", "`directory` to write to")
	server := flags.String("server", "https://127.0.0.1:6443", "`URL` of the API server, for the kubeconfigs")
	sans := flags.String("sans", "127.0.0.1,localhost", "`names` and addresses of the API server")
	nodes := flags.String("nodes", "", "nodes as `name=ip,name=ip`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return err
	}
	ca, err := newAuthority(abs, "ca", "cluster-ca")
	if err != nil {
		return err
	}
	if err := writeServer(abs, ca, strings.Split(*sans, ",")); err != nil {
		return err
	}
	if err := writeUsers(ca, *server); err != nil {
		return err
	}
	return writeNodes(ca, *server, *nodes)
}

// writeServer writes what the API server needs besides its authority: its certificate, its client certificates and the
// key that signs service account tokens.
func writeServer(dir string, ca *authority, sans []string) error {
	front, err := newAuthority(dir, "front-proxy-ca", "front-proxy-ca")
	if err != nil {
		return err
	}
	certs := []struct {
		by *authority
		leaf
	}{
		{ca, leaf{file: "apiserver", name: "kube-apiserver", sans: sans, use: x509.ExtKeyUsageServerAuth}},
		{ca, leaf{file: "apiserver-kubelet-client", name: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}, use: x509.ExtKeyUsageClientAuth}},
		{front, leaf{file: "front-proxy-client", name: "front-proxy-client", use: x509.ExtKeyUsageClientAuth}},
	}
	for _, c := range certs {
		if err := c.by.issue(c.leaf); err != nil {
			return err
		}
	}
	return writeTokenKey(dir)
}

func writeTokenKey(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return err
	}
	if err := writePEM(filepath.Join(dir, "sa.pub"), "PUBLIC KEY", public); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, "sa.key"), "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
}

func writeUsers(ca *authority, server string) error {
	users := []leaf{
		{file: "admin", name: "admin", groups: []string{"system:masters"}},
		{file: "controller-manager", name: "system:kube-controller-manager"},
		{file: "scheduler", name: "system:kube-scheduler"},
		{file: "kube-proxy", name: "system:kube-proxy"},
	}
	for _, u := range users {
		if err := ca.user(server, u); err != nil {
			return err
		}
	}
	return nil
}

func writeNodes(ca *authority, server, nodes string) error {
	if nodes == "" {
		return nil
	}
	for _, pair := range strings.Split(nodes, ",") {
		name, ip, ok := strings.Cut(pair, "=")
		if !ok {
			return fmt.Errorf("node %q is not name=ip", pair)
		}
		node := leaf{file: "kubelet-" + name, name: "system:node:" + name, groups: []string{"system:nodes"}}
		if err := ca.user(server, node); err != nil {
			return err
		}
		node.file += "-serving"
		node.sans = []string{name, ip, "127.0.0.1"}
		node.use = x509.ExtKeyUsageServerAuth
		if err := ca.issue(node); err != nil {
			return err
		}
	}
	return nil
}

// authority is a certificate authority whose files live in dir.
type authority struct {
	dir  string
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// leaf says which certificate to issue; file is its path in the authority's directory without an extension.
type leaf struct {
	file   string
	name   string
	groups []string
	sans   []string
	use    x509.ExtKeyUsage
}

func newAuthority(dir, file, name string) (*authority, error) {
	key, err := newKey(filepath.Join(dir, file+".key"))
	if err != nil {
		return nil, err
	}
	template, err := newTemplate(pkix.Name{CommonName: name})
	if err != nil {
		return nil, err
	}
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	cert, err := writeCertificate(filepath.Join(dir, file+".crt"), template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &authority{dir: dir, file: file, cert: cert, key: key}, nil
}

func (a *authority) path(file string) string { return filepath.Join(a.dir, file) }

func (a *authority) issue(l leaf) error {
	key, err := newKey(a.path(l.file + ".key"))
	if err != nil {
		return err
	}
	template, err := newTemplate(pkix.Name{CommonName: l.name, Organization: l.groups})
	if err != nil {
		return err
	}
	template.ExtKeyUsage = []x509.ExtKeyUsage{l.use}
	for _, san := range l.sans {
		if ip := net.ParseIP(san); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, san)
		}
	}
	_, err = writeCertificate(a.path(l.file+".crt"), template, a.cert, &key.PublicKey, a.key)
	return err
}

// user issues a client certificate and the kubeconfig that goes with it.
func (a *authority) user(server string, l leaf) error {
	l.use = x509.ExtKeyUsageClientAuth
	if err := a.issue(l); err != nil {
		return err
	}
	config := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: site, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: user, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: site, context: {cluster: site, user: user}}]
current-context: site
`, server, a.path(a.file+".crt"), a.path(l.file+".crt"), a.path(l.file+".key"))
	return os.WriteFile(a.path(l.file+".kubeconfig"), []byte(config), 0o600)
}

func newTemplate(subject pkix.Name) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      subject,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, nil
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

func writeCertificate(path string, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	if err := writePEM(path, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
