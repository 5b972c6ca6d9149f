package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/configuration"
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
	Log     io.Writer // errors only; nil = nowhere
	Ready   func(addr string)
}

// Serve runs the embedded registry until ctx ends, then lets running requests finish for ten seconds.
func Serve(ctx context.Context, opt ServeOptions) error {
	if opt.Dir == "" {
		return errors.New("the registry needs a folder to keep its blobs in")
	}
	if (opt.TLSCert == "") != (opt.TLSKey == "") {
		return errors.New("TLS needs a certificate and its key, one was given")
	}
	ln, err := net.Listen("tcp", opt.Addr)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", opt.Addr, err)
	}
	srv := &http.Server{Handler: Handler(ctx, opt.Dir, opt.Log), ReadHeaderTimeout: 30 * time.Second}
	stopped := make(chan error, 1)
	go func() {
		if opt.TLSCert != "" {
			stopped <- srv.ServeTLS(ln, opt.TLSCert, opt.TLSKey)
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

// Handler is the embedded registry on the folder dir.
func Handler(ctx context.Context, dir string, log io.Writer) http.Handler {
	if log == nil {
		log = io.Discard
	}
	logrus.SetOutput(log) // distribution logs through logrus' global logger
	logrus.SetLevel(logrus.ErrorLevel)
	cfg := &configuration.Configuration{Storage: configuration.Storage{
		"filesystem": configuration.Parameters{"rootdirectory": dir},
		"delete":     configuration.Parameters{"enabled": true},
		"maintenance": configuration.Parameters{
			"uploadpurging": map[any]any{"enabled": true, "age": "168h", "interval": "24h", "dryrun": false},
		},
	}}
	cfg.Log.Level = configuration.Loglevel("error")
	cfg.Log.AccessLog.Disabled = true
	cfg.Catalog.MaxEntries = 1000
	return &healer{next: handlers.NewApp(ctx, cfg), dir: dir}
}
