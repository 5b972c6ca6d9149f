package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// ErrNoSweep is returned by Sweep for a registry that is not the embedded one: it frees bytes by its own means.
var ErrNoSweep = errors.New("the registry frees bytes by its own garbage collection only")

func (r *Registry) url(path string) string {
	if r.plain {
		return "http://" + r.host + path
	}
	return "https://" + r.host + path
}

// Sweep lets the embedded registry free what no manifest names.
func (r *Registry) Sweep(ctx context.Context, o SweepOrder) (Swept, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url(sweepPath), bytes.NewReader(o.encode()))
	if err != nil {
		return Swept{}, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return Swept{}, fmt.Errorf("sweeping registry %s: %w", r.host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed:
		return Swept{}, ErrNoSweep
	case resp.StatusCode == http.StatusServiceUnavailable:
		return Swept{}, fmt.Errorf("sweeping registry %s: %w: run it again when they have ended", r.host, errUploading)
	case err != nil || resp.StatusCode != http.StatusOK:
		return Swept{}, errors.Join(fmt.Errorf("sweeping registry %s: %s: %.300q", r.host, resp.Status, body), err)
	}
	var got Swept
	if err := json.Unmarshal(body, &got); err != nil { // a web server that says yes to everything
		return Swept{}, ErrNoSweep
	}
	return got, nil
}

// Sweeps tells whether the registry is the embedded one.
func (r *Registry) Sweeps(ctx context.Context) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url(sweepPath), bytes.NewReader([]byte("what")))
	if err != nil {
		return false, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return false, fmt.Errorf("asking registry %s whether it sweeps: %w", r.host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return resp.StatusCode == http.StatusBadRequest && bytes.HasPrefix(body, []byte("sweep order: ")), err
}

// Untag removes a tag and leaves the manifest. A tag that is not there is gone already.
func (r *Registry) Untag(ctx context.Context, repo, tag string) error {
	p, err := r.repo(repo)
	if err != nil {
		return err
	}
	ctx = auth.AppendRepositoryScope(ctx, p.Reference, auth.ActionDelete)
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, r.url("/v2/"+repo+"/manifests/"+tag), nil)
	if err != nil {
		return err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return fmt.Errorf("removing tag %s:%s: %w", repo, tag, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusAccepted, http.StatusOK, http.StatusNoContent, http.StatusNotFound:
		return nil
	case http.StatusMethodNotAllowed, http.StatusBadRequest: // older registries delete by digest only
		return fmt.Errorf("removing tag %s:%s: %w (%s)", repo, tag, ErrNoDelete, resp.Status)
	}
	return fmt.Errorf("removing tag %s:%s: %s", repo, tag, resp.Status)
}

// maxReferrers and maxRepositories bound what a registry may list.
const (
	maxReferrers    = 1000
	maxRepositories = 100_000
)

// Referrers lists the manifests of a repository that name d as their subject.
func (r *Registry) Referrers(ctx context.Context, repo string, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	p, err := r.repo(repo)
	if err != nil {
		return nil, err
	}
	var out []ocispec.Descriptor
	err = p.Referrers(ctx, d, "", func(list []ocispec.Descriptor) error {
		if out = append(out, list...); len(out) > maxReferrers {
			return fmt.Errorf("more than %d", maxReferrers)
		}
		return nil
	})
	if err != nil && !notFound(err) {
		return nil, fmt.Errorf("listing what refers to %s@%s: %w", repo, d.Digest, err)
	}
	return out, nil
}

// Repositories lists all repositories; none, and no error, where the registry does not tell.
func (r *Registry) Repositories(ctx context.Context) ([]string, error) {
	reg, err := remote.NewRegistry(r.host)
	if err != nil {
		return nil, err
	}
	reg.PlainHTTP, reg.Client = r.plain, r.client
	var out []string
	err = reg.Repositories(ctx, "", func(list []string) error {
		if out = append(out, list...); len(out) > maxRepositories {
			return fmt.Errorf("more than %d", maxRepositories)
		}
		return nil
	})
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode < 500 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the registry's repositories: %w", err)
	}
	return out, nil
}

func notFound(err error) bool {
	var answer *errcode.ErrorResponse
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}
