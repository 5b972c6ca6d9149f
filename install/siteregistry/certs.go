package siteregistry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// How long certificates live. The registry's own is made anew by each Install.
const (
	caLife   = 10 * 365 * 24 * time.Hour
	certLife = 825 * 24 * time.Hour
)

// pair is a certificate and its key, in PEM.
type pair struct{ cert, key []byte }

// newCA makes a certificate authority that signs for nothing but this registry.
func newCA(site string, now time.Time) (pair, error) {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "wcbundle registry of " + site}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(caLife),
		IsCA: true, MaxPathLenZero: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	return sign(t, nil, nil)
}

// newCert makes the registry's certificate for the addresses by which it is reached.
func newCert(ca pair, hosts []string, now time.Time) (pair, error) {
	parent, err := parseCert(ca.cert)
	if err != nil {
		return pair{}, err
	}
	key, err := parseKey(ca.key)
	if err != nil {
		return pair{}, err
	}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "wcbundle registry"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if t.NotAfter.After(parent.NotAfter) {
		t.NotAfter = parent.NotAfter
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	return sign(t, parent, key)
}

func sign(t, parent *x509.Certificate, by *ecdsa.PrivateKey) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, err
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return pair{}, err
	}
	if parent == nil {
		parent, by = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, &key.PublicKey, by)
	if err != nil {
		return pair{}, fmt.Errorf("making a certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, err
	}
	return pair{pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})}, nil
}

func parseCert(b []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("the registry's CA in its Secret is no certificate in PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

func parseKey(b []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, errors.New("the key of the registry's CA in its Secret is not in PEM")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the key of the registry's CA in its Secret is of another kind")
	}
	return key, nil
}
