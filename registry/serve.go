package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // the only users that are offered
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem" // the only storage that is offered
	"github.com/sirupsen/logrus"
)

// ServeOptions say what the embedded registry listens on and where it keeps its blobs.
type ServeOptions struct {
	Addr    string // host:port; port 0 picks one
	Dir     string
	TLSCert string // PEM files; both or none
	TLSKey  string
	// HTPasswd has the users, by bcrypt; "" lets everybody in. It is read again when it changes.
	HTPasswd string
	// ClientCA is the CA in PEM of the certificates that clients must show; "" = none. It needs TLS.
	ClientCA string
	Log      io.Writer // errors only; nil = nowhere
	Ready    func(addr string)
}

// Serve runs the embedded registry until ctx ends, then lets running requests finish for ten seconds.
func Serve(ctx context.Context, opt ServeOptions) error {
	if opt.Dir == "" {
		return errors.New("the registry needs a folder to keep its blobs in")
	}
	if opt.Log == nil {
		opt.Log = io.Discard
	}
	secured, err := serverTLS(opt, opt.Log)
	if err != nil {
		return err
	}
	handler, err := Handler(ctx, opt)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", opt.Addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", opt.Addr, err)
	}
	srv := &http.Server{Handler: handler, TLSConfig: secured, ReadHeaderTimeout: 30 * time.Second, ErrorLog: log.New(opt.Log, "", 0)}
	stopped := make(chan error, 1)
	go func() {
		if secured != nil {
			stopped <- srv.ServeTLS(ln, "", "")
			return
		}
		stopped <- srv.Serve(ln)
	}()
	if opt.Ready != nil {
		opt.Ready(ln.Addr().String())
	}
	select {
	case err := <-stopped:
		return fmt.Errorf("serving the registry: %w", err)
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return srv.Shutdown(grace)
	}
}

// Handler is the embedded registry on a folder, with its users and its answer to probes. The other options are the server's.
func Handler(ctx context.Context, opt ServeOptions) (http.Handler, error) {
	if opt.Log == nil {
		opt.Log = io.Discard
	}
	logrus.SetOutput(opt.Log) // distribution logs through logrus' global logger
	logrus.SetLevel(logrus.ErrorLevel)
	cfg := &configuration.Configuration{Storage: configuration.Storage{
		"filesystem": configuration.Parameters{"rootdirectory": opt.Dir},
		"delete":     configuration.Parameters{"enabled": true},
		"maintenance": configuration.Parameters{
			"uploadpurging": map[any]any{"enabled": true, "age": "168h", "interval": "24h", "dryrun": false},
		},
	}}
	cfg.Log.Level = configuration.Loglevel("error")
	cfg.Log.AccessLog.Disabled = true
	cfg.Catalog.MaxEntries = 1000
	if opt.HTPasswd != "" {
		if err := checkHTPasswd(opt.HTPasswd); err != nil {
			return nil, err
		}
		cfg.Auth = configuration.Auth{usersAuth: configuration.Parameters{"realm": "wcbundle registry", "path": opt.HTPasswd}}
	}
	var err error
	if cfg.HTTP.Secret, err = httpSecret(opt.Dir); err != nil {
		return nil, err
	}
	app, probes := roomy{next: &sweeper{next: &healer{next: handlers.NewApp(ctx, cfg), dir: opt.Dir}, dir: opt.Dir}, dir: opt.Dir}, &health{dir: opt.Dir}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == HealthPath {
			probes.ServeHTTP(w, r)
			return
		}
		app.ServeHTTP(w, r)
	}), nil
}
