// Command modelserver is the product of the end-to-end tests: a small server that loads real weights from a directory
// and says which, so that a rollout can be judged by what a pod really serves.
//
//	GET /healthz     200 while the process lives
//	GET /readyz      200 once all weights are loaded and hashed; 503 before, after SIGTERM, and for ever with READY=never
//	GET /v1/models   {"data":[{"id":ID,"sha256":HEX,"bytes":N,"files":[{"name":..,"sha256":..,"bytes":..}]}]}
//	GET /v1/config   the configuration file, read anew for each request, so that a change shows without a restart
//	POST /v1/transcribe  {"text":WHAT WAS SENT}: the golden request
//	POST /drain      takes no new work and is not ready from then on
//	GET /inflight    {"inflight":N}: 1 for DRAIN_WORK after /drain, else 0
//
// A model of one file has that file's sha256. A model of several has the sha256 of the lines "HEX  NAME\n" of its files
// in the order of their names, as sha256sum prints them.
//
// Settings come from the environment, as a chart sets them: MODEL_ID, MODEL_DIR (/models), CONFIG_FILE
// (/etc/modelserver/config.yaml), LISTEN (:8080), READY (never), DRAIN (1s), DRAIN_WORK (3s), UPSTREAM_PASSWORD. The password is logged
// once, on purpose: the support bundle's redaction has to find it in a real log.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Getenv, slog.New(slog.NewJSONHandler(os.Stderr, nil))); err != nil {
		fmt.Fprintln(os.Stderr, "modelserver: error:", err)
		os.Exit(1)
	}
}

// run serves until ctx ends, then says for a while that it is not ready, so that no new request comes, and ends.
func run(ctx context.Context, getenv func(string) string, log *slog.Logger) error {
	drain, err := time.ParseDuration(or(getenv("DRAIN"), "1s"))
	if err != nil {
		return fmt.Errorf("reading DRAIN: %w", err)
	}
	work, err := time.ParseDuration(or(getenv("DRAIN_WORK"), "3s"))
	if err != nil {
		return fmt.Errorf("reading DRAIN_WORK: %w", err)
	}
	listener, err := net.Listen("tcp", or(getenv("LISTEN"), ":8080"))
	if err != nil {
		return err
	}
	s := newServer(Options{
		ModelID:    getenv("MODEL_ID"),
		ModelDir:   or(getenv("MODEL_DIR"), "/models"),
		ConfigFile: or(getenv("CONFIG_FILE"), "/etc/modelserver/config.yaml"),
		NeverReady: getenv("READY") == "never",
		DrainWork:  work,
		Log:        log,
	})
	log.Info("serving", "addr", listener.Addr().String(), "model", getenv("MODEL_ID"))
	if password := getenv("UPSTREAM_PASSWORD"); password != "" {
		log.Info("connecting upstream with password=" + password)
	}
	web := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 2)
	go func() { failed <- web.Serve(listener) }()
	go func() {
		if err := s.Load(); err != nil {
			failed <- err
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.Drain()
	log.Info("draining", "for", drain.String())
	time.Sleep(drain) // as long as it takes for the endpoints to drop this pod; there is nothing to wait on
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := web.Shutdown(stopping); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("shutting down: %w", err)
	}
	return nil
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
