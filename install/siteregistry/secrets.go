package siteregistry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/registry"
)

// secrets keeps the CA and the password that are there, and makes the certificate anew where it is missing, old or for other addresses.
func (i *installer) secrets(ctx context.Context) error {
	have, err := i.secret(ctx, tlsName)
	if err != nil {
		return err
	}
	ca := pair{have["ca.crt"], have["ca.key"]}
	if len(ca.cert) == 0 {
		if ca, err = newCA(i.opt.Site, i.opt.Now); err != nil {
			return err
		}
	}
	hosts := i.hosts()
	cert := pair{have["tls.crt"], have["tls.key"]}
	if !good(cert.cert, ca.cert, hosts, i.opt.Now) {
		if cert, err = newCert(ca, hosts, i.opt.Now); err != nil {
			return err
		}
	}
	err = i.keep(ctx, tlsName, corev1.SecretTypeOpaque, map[string][]byte{"ca.crt": ca.cert, "ca.key": ca.key, "tls.crt": cert.cert, "tls.key": cert.key})
	if err != nil {
		return err
	}
	i.result.CA = string(ca.cert)
	login, err := i.secret(ctx, CredentialName)
	if err != nil {
		return err
	}
	password, htpasswd := string(login["password"]), login["htpasswd"]
	if password == "" {
		if password, htpasswd, err = newPassword(); err != nil {
			return err
		}
	}
	config, err := dockerConfig([]string{i.result.Pull, i.result.Push}, password)
	if err != nil {
		return err
	}
	i.result.Password = password
	i.set.stamp = stampOf(cert.cert, htpasswd)
	return i.keep(ctx, CredentialName, corev1.SecretTypeDockerConfigJson, map[string][]byte{corev1.DockerConfigJsonKey: config,
		"username": []byte(User), "password": []byte(password), "htpasswd": htpasswd})
}

func newPassword() (string, []byte, error) {
	raw := make([]byte, 24)
	if _, err := rand.Read(raw); err != nil {
		return "", nil, err
	}
	password := hex.EncodeToString(raw) // nothing that a shell or a flag would take for something else
	line, err := registry.HTPasswdLine(User, []byte(password))
	return password, []byte(line + "\n"), err
}

// hosts are the names that the certificate is for.
func (i *installer) hosts() []string {
	ip, _, _ := net.SplitHostPort(i.result.Pull)
	push, _, _ := net.SplitHostPort(i.result.Push)
	hosts := append([]string{ip, push, "127.0.0.1", "localhost", name, name + "." + i.opt.Namespace, name + "." + i.opt.Namespace + ".svc"}, i.ips...)
	slices.Sort(hosts)
	return slices.DeleteFunc(slices.Compact(hosts), func(h string) bool { return h == "" })
}

// good tells whether a certificate is from the CA, for all hosts, and good for another 90 days.
func good(cert, ca []byte, hosts []string, now time.Time) bool {
	c, err := parseCert(cert)
	if err != nil || now.Add(90*24*time.Hour).After(c.NotAfter) {
		return false
	}
	parent, err := parseCert(ca)
	if err != nil || c.CheckSignatureFrom(parent) != nil {
		return false
	}
	for _, h := range hosts {
		if c.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}

func (i *installer) secret(ctx context.Context, name string) (map[string][]byte, error) {
	s, err := i.opt.Kube.CoreV1().Secrets(i.opt.Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return s.Data, nil
}

func (i *installer) keep(ctx context.Context, name string, kind corev1.SecretType, data map[string][]byte) error {
	return i.apply(ctx, &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: meta(i.opt.Namespace, name), Type: kind, Data: data})
}
