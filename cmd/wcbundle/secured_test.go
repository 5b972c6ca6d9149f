package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/wordcab/wcbundle/registry"
)

// secured brings a registry up behind TLS: secured VAR [USERS] [mtls]
//
// $VAR is its address, VAR-ca.pem its CA, USERS its file of users ("" = anybody may); with mtls it wants a certificate such as
// VAR-client.pem and VAR-client.key.
func secured(ts *testscript.TestScript, _ bool, args []string) {
	name, file := args[0], func(ending string) string { return ts.MkAbs(args[0] + ending) }
	issueAll(ts, file)
	opt := registry.ServeOptions{Addr: "127.0.0.1:0", Dir: ts.MkAbs(name), TLSCert: file(".pem"), TLSKey: file(".key")}
	if len(args) > 1 && args[1] != "" {
		opt.HTPasswd = ts.MkAbs(args[1])
	}
	if slices.Contains(args, "mtls") {
		opt.ClientCA = file("-ca.pem")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan string, 1), make(chan error, 1)
	opt.Ready = func(addr string) { ready <- addr }
	go func() { done <- registry.Serve(ctx, opt) }()
	select {
	case addr := <-ready:
		ts.Setenv(name, addr)
		ts.Defer(func() { cancel(); <-done })
	case err := <-done:
		cancel()
		ts.Check(err)
	}
}

// issueAll writes a CA, a server's certificate and a client's.
func issueAll(ts *testscript.TestScript, file func(ending string) string) {
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: filepath.Base(file("-ca.pem"))}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	ts.Check(err)
	writePEM(ts, file("-ca.pem"), "CERTIFICATE", der)
	for i, ending := range []string{"", "-client"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		ts.Check(err)
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 2)), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, IPAddresses: []net.IP{net.ParseIP("127.0.0.1")},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, ca, &key.PublicKey, caKey)
		ts.Check(err)
		writePEM(ts, file(ending+".pem"), "CERTIFICATE", der)
		raw, err := x509.MarshalPKCS8PrivateKey(key)
		ts.Check(err)
		writePEM(ts, file(ending+".key"), "PRIVATE KEY", raw)
	}
}

func writePEM(ts *testscript.TestScript, path, kind string, b []byte) {
	ts.Check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600))
}

// expandSecured puts the address of the registry behind TLS into a file in place of $SECURED: expand-secured FILE
func expandSecured(ts *testscript.TestScript, _ bool, args []string) {
	text := strings.ReplaceAll(ts.ReadFile(args[0]), "$SECURED", ts.Getenv("SECURED"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
