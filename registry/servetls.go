package registry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// certificate is the server's certificate, read again when its files have changed: whoever renews it need not stop the server.
type certificate struct {
	cert, key string
	log       io.Writer
	mu        sync.Mutex
	stamp     [2]fileStamp
	pair      *tls.Certificate
}

type fileStamp struct {
	at   time.Time
	size int64
}

func loadCertificate(cert, key string, log io.Writer) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log}
	stamp, err := c.stamps()
	if err != nil {
		return nil, fmt.Errorf("the registry's certificate: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("the registry's certificate: %w", err)
	}
	c.stamp, c.pair = stamp, &pair
	return c, nil
}

func (c *certificate) stamps() (out [2]fileStamp, err error) {
	for i, path := range []string{c.cert, c.key} {
		st, err := os.Stat(path)
		if err != nil {
			return out, err
		}
		out[i] = fileStamp{st.ModTime(), st.Size()}
	}
	return out, nil
}

// get gives the certificate as it is now. While the files are gone or do not belong together, the last good one is used.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := c.stamps()
	if err != nil || stamp == c.stamp {
		return c.pair, nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		fmt.Fprintf(c.log, "the registry's certificate has changed and cannot be used, the one before is: %v\n", err)
		return c.pair, nil
	}
	c.stamp, c.pair = stamp, &pair
	return c.pair, nil
}

// serverTLS is nil for plain http.
func serverTLS(opt ServeOptions, log io.Writer) (*tls.Config, error) {
	if (opt.TLSCert == "") != (opt.TLSKey == "") {
		return nil, errors.New("TLS needs a certificate and its key, one was given")
	}
	if opt.TLSCert == "" {
		if opt.ClientCA != "" {
			return nil, errors.New("client certificates are shown in TLS: give the server a certificate too")
		}
		return nil, nil
	}
	c, err := loadCertificate(opt.TLSCert, opt.TLSKey, log)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
	if opt.ClientCA == "" {
		return cfg, nil
	}
	text, err := readBounded(opt.ClientCA, MaxCA)
	if err != nil {
		return nil, fmt.Errorf("the CA of the clients: %w", err)
	}
	cfg.ClientAuth, cfg.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", opt.ClientCA)
	}
	return cfg, nil
}
