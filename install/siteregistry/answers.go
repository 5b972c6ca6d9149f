package siteregistry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wordcab/wcbundle/registry"
)

// answers waits until the registry answers where the operator is: kube-proxy is a moment behind the pod, on each node by itself.
func (i *installer) answers(ctx context.Context) error {
	r, err := registry.New(registry.Options{Host: i.result.Push, CA: i.result.CA, Login: registry.Login{Username: i.result.Username, Password: i.result.Password}})
	if err != nil {
		return err
	}
	var last error
	err = i.wait(ctx, "the way to "+i.result.Push, "", func(ctx context.Context) (bool, error) {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		last = r.Prove(one)
		if errors.As(last, new(*registry.DeniedError)) {
			return false, last
		}
		return last == nil, nil
	})
	if errors.As(err, new(*NotReadyError)) {
		return &UnreachableError{Push: i.result.Push, Err: last}
	}
	return err
}

// UnreachableError says that the registry runs and does not answer where the operator is.
type UnreachableError struct {
	Push string
	Err  error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("the registry runs, and from here %s does not answer: %v", e.Push, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }
