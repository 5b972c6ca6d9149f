package support

import (
	"context"
	"errors"
	"fmt"

	"github.com/wordcab/wcbundle/install/preflight/helmrecord"
)

// Cleaner reads the Secrets of the request's namespaces and returns what takes their values, and whatever looks like a
// secret, out of a text: what a support bundle does to its files, for text that is kept elsewhere. An error means that
// nothing can be called clean. The request needs Kube, Namespaces and Now.
func Cleaner(ctx context.Context, req Request) (func(string) string, error) {
	req, err := req.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &collector{r: req, helm: map[string][]helmrecord.Stored{}}
	lits, _, errs := c.readSecrets(ctx)
	for ns, err := range errs {
		return nil, fmt.Errorf("reading the Secrets of %s: %w", ns, err)
	}
	m, err := lits.matcher()
	if err != nil {
		return nil, errors.Join(errors.New("preparing to scrub"), err)
	}
	s := &scrubber{m: m}
	return func(text string) string { return string(s.text([]byte(text), func(string, int) {})) }, nil
}
