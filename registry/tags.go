package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

// maxTags is how many tags of a repository are read.
const maxTags = 10_000

// Tags lists a repository's tags; none where there is no such repository. More than maxTags are an error.
func (r *Registry) Tags(ctx context.Context, repo string) ([]string, error) {
	p, err := r.repo(repo)
	if err != nil {
		return nil, err
	}
	var out []string
	err = p.Tags(ctx, "", func(tags []string) error {
		if out = append(out, tags...); len(out) > maxTags {
			return fmt.Errorf("more than %d tags", maxTags)
		}
		return nil
	})
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the tags of %s: %w", repo, err)
	}
	return out, nil
}
