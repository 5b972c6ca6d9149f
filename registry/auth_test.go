package registry

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// wantDenied wants a refusal that says whether a login was shown.
func wantDenied(t *testing.T, err error, login bool) {
	t.Helper()
	var denied *DeniedError
	if !errors.As(err, &denied) || denied.Login != login || errors.Is(err, ErrSilent) || Transient(err) {
		t.Errorf("got %v, want a refusal for good (login shown: %v)", err, login)
	}
	if err != nil && strings.Contains(err.Error(), "wrong!") {
		t.Errorf("the password is in %v", err)
	}
}

func TestHTPasswd(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t)
	addr, _ := start(t, ServeOptions{TLSCert: cert, TLSKey: key, HTPasswd: users(t)})
	opt := Options{Host: addr, CA: ca.pem}
	wantDenied(t, client(t, opt).Ping(t.Context()), false)
	wantDenied(t, client(t, opt).Prove(t.Context()), false)
	opt.Login = Login{Username: "robot", Password: "wrong!"}
	wantDenied(t, client(t, opt).Prove(t.Context()), true)
	wantDenied(t, roundTrip(t, client(t, opt), "shop/a", []byte("x")), true)
	opt.Login.Password = "right"
	if err := client(t, opt).Prove(t.Context()); err != nil {
		t.Error(err)
	}
	if err := roundTrip(t, client(t, opt), "shop/a", []byte("x")); err != nil {
		t.Error(err)
	}
	if err := pushManifest(t, client(t, opt)); err != nil { // its first request is the one that is refused: its body is sent twice
		t.Error(err)
	}
	open, _ := start(t, ServeOptions{})
	opt = Options{Host: open, Login: opt.Login}
	if err := client(t, opt).Prove(t.Context()); !errors.Is(err, ErrNoLogin) {
		t.Errorf("a registry without users: %v", err)
	}
}

// pushManifest pushes an empty index by a reader that cannot be rewound.
func pushManifest(t *testing.T, r *Registry) error {
	b := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	d := blobOf(b)
	d.MediaType = "application/vnd.oci.image.index.v1+json"
	return r.Push(t.Context(), "shop/a", d, bytes.NewReader(b))
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t)
	addr, _ := start(t, ServeOptions{TLSCert: cert, TLSKey: key})
	if err := roundTrip(t, client(t, Options{Host: addr, CA: ca.pem}), "shop/a", []byte("x")); err != nil {
		t.Error(err)
	}
	err := client(t, Options{Host: addr, CA: newAuthority(t).pem}).Ping(t.Context())
	if !errors.As(err, new(*tls.CertificateVerificationError)) || !errors.Is(err, ErrSilent) {
		t.Errorf("another CA: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca.pem))
	if _, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 was taken")
	}
	leaf, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]Options{
		"no PEM":        {Host: addr, CA: "nonsense"},
		"a private key": {Host: addr, CA: ca.pem + string(leaf)},
		"plain and CA":  {Host: addr, CA: ca.pem, PlainHTTP: true},
		"no key":        {Host: addr, CA: ca.pem, CertFile: cert},
		"an address":    {Host: "https://" + addr},
		"a path":        {Host: addr, Also: []string{"host/path"}},
		"a user":        {Host: "user@" + addr},
	} {
		if _, err := New(opt); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

// TestPlainHTTPOnlyWhereTold: 0.0.0.0 leads to this machine and is not a loopback address.
func TestPlainHTTPOnlyWhereTold(t *testing.T) {
	var asked atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer srv.Close()
	host := strings.Replace(strings.TrimPrefix(srv.URL, "http://"), "127.0.0.1", "0.0.0.0", 1)
	if err := client(t, Options{Host: host}).Ping(t.Context()); !errors.Is(err, http.ErrSchemeMismatch) || asked.Load() != 0 {
		t.Errorf("%d requests came by plain http: %v", asked.Load(), err)
	}
	if err := client(t, Options{Host: host, PlainHTTP: true}).Ping(t.Context()); err != nil || asked.Load() != 1 {
		t.Errorf("told: %v, %d requests", err, asked.Load())
	}
}

func TestClientCertificates(t *testing.T) {
	ca, clients := newAuthority(t), newAuthority(t)
	cert, key := ca.issue(t)
	dir := t.TempDir()
	caFile := filepath.Join(dir, "clients.pem")
	write(t, caFile, []byte(clients.pem))
	addr, _ := start(t, ServeOptions{TLSCert: cert, TLSKey: key, ClientCA: caFile})
	opt := Options{Host: addr, CA: ca.pem}
	if err := client(t, opt).Ping(t.Context()); !errors.Is(err, ErrSilent) {
		t.Errorf("no certificate: %v", err)
	}
	opt.CertFile, opt.KeyFile = newAuthority(t).issue(t)
	if err := client(t, opt).Ping(t.Context()); err == nil {
		t.Error("a stranger's certificate was taken")
	}
	opt.CertFile, opt.KeyFile = clients.issue(t)
	if err := roundTrip(t, client(t, opt), "shop/a", []byte("x")); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]ServeOptions{
		"without TLS": {ClientCA: caFile}, "a key alone": {TLSKey: key}, "no CA": {TLSCert: cert, TLSKey: key, ClientCA: key},
	} {
		o.Dir, o.Addr = dir, "127.0.0.1:0"
		if err := Serve(t.Context(), o); err == nil {
			t.Errorf("%s was served", name)
		}
	}
}

// TestHTPasswdFile: what the access controller would make up, or not understand, is not served.
func TestHTPasswdFile(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	bad := filepath.Join(dir, "bad")
	write(t, bad, []byte("robot:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc=\n"))
	for _, path := range []string{missing, bad} {
		if _, err := Handler(t.Context(), ServeOptions{Dir: dir, HTPasswd: path}); err == nil {
			t.Errorf("%s was served", path)
		}
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("users were made up")
	}
	for _, user := range []string{"", "a:b", "a b", "#a", "a\n"} {
		if _, err := HTPasswdLine(user, []byte("x")); err == nil {
			t.Errorf("user %q was taken", user)
		}
	}
	if _, err := HTPasswdLine("a", bytes.Repeat([]byte("x"), 73)); err == nil {
		t.Error("bcrypt sees 72 bytes, and more were taken")
	}
}

func TestLoginFiles(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	path := filepath.Join(dir, "deep", "auth.json")
	l := Login{Username: "robot", Password: "secret!"}
	if got, err := FileLogin(ctx, path, "a:1"); err != nil || !got.None() {
		t.Errorf("no file: %v, %v", got, err)
	}
	for _, host := range []string{"a:1", "b:1"} {
		if err := SaveLogin(ctx, path, host, l); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, %v", st.Mode(), err)
	}
	if got, err := FileLogin(ctx, path, "a:1"); err != nil || got != l {
		t.Errorf("%v, %v", got, err)
	}
	if gone, err := DropLogin(ctx, path, "a:1"); err != nil || !gone {
		t.Errorf("%v, %v", gone, err)
	}
	if gone, err := DropLogin(ctx, path, "a:1"); err != nil || gone {
		t.Errorf("dropped twice: %v, %v", gone, err)
	}
	if got, err := FileLogin(ctx, path, "b:1"); err != nil || got != l {
		t.Errorf("the other one: %v, %v", got, err)
	}
	for _, text := range []string{fmt.Sprint(l), fmt.Sprintf("%v %+v %#v %s", l, l, l, l)} {
		if strings.Contains(text, "secret!") {
			t.Errorf("the password is in %q", text)
		}
	}
	// c2VjcmV0IQ== is "secret!", without the user.
	write(t, path, []byte(`{"auths":{"a:1":{"auth":"c2VjcmV0IQ=="}}}`))
	if _, err := FileLogin(ctx, path, "a:1"); err == nil || strings.Contains(err.Error(), "secret!") {
		t.Errorf("a broken entry: %v", err)
	}
	write(t, path, []byte(`nonsense`))
	if _, err := FileLogin(ctx, path, "a:1"); err == nil {
		t.Error("nonsense was read")
	}
	write(t, path, bytes.Repeat([]byte(" "), maxLogins+1))
	if _, err := FileLogin(ctx, path, "a:1"); err == nil {
		t.Error("a huge file was read")
	}
}

// TestNoProgramIsRun: a docker configuration that leaves passwords to a program gives none, and the program is not started.
func TestNoProgramIsRun(t *testing.T) {
	dir := t.TempDir()
	ran := filepath.Join(dir, "ran")
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-evil"), []byte("#!/bin/sh\ntouch "+ran+"\necho '{\"Username\":\"u\",\"Secret\":\"s\"}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	path := filepath.Join(dir, "config.json")
	write(t, path, []byte(`{"auths":{"a:1":{}},"credsStore":"evil","credHelpers":{"a:1":"evil"}}`))
	got, err := FileLogin(t.Context(), path, "a:1")
	if err != nil || !got.None() {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("the program was run")
	}
}
