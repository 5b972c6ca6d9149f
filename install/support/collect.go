package support

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/install/preflight/helmrecord"
)

const pageSize = 500

// collector is one run.
type collector struct {
	r     Request
	s     *spool
	blind bool // the Secrets could not be read
	helm  map[string][]helmrecord.Stored
}

// Collect makes a support bundle and writes it to w. Parts that cannot be collected are noted in the bundle and in
// Manifest.Errors; the error is for what makes the whole worthless: an unusable request, a disk that fails, too many
// Secrets (ErrTooManySecrets), a canceled context, or a secret in the finished archive (*ResidualError). Nothing is
// written to w before the archive has been checked.
func Collect(ctx context.Context, req Request, w io.Writer) (Manifest, error) {
	r, err := req.withDefaults()
	if err != nil {
		return Manifest{}, err
	}
	dir, err := os.MkdirTemp(r.Scratch, "support-bundle-")
	if err != nil {
		return Manifest{}, fmt.Errorf("making scratch space: %w", err)
	}
	defer os.RemoveAll(dir)
	c := &collector{r: r, helm: map[string][]helmrecord.Stored{}}
	lits, inventory, secretErrs := c.readSecrets(ctx)
	m, err := lits.matcher()
	if err != nil {
		return Manifest{}, err
	}
	c.s = newSpool(dir, r.MaxBytes, &scrubber{m})
	for ns, e := range secretErrs {
		c.blind = true
		c.s.fail("secrets", ns, fmt.Errorf("free text is withheld, since it cannot be scrubbed: %w", e))
	}
	if err := c.all(ctx, inventory); err != nil {
		return Manifest{}, err
	}
	if err := ctx.Err(); err != nil {
		return Manifest{}, fmt.Errorf("collecting: %w", err)
	}
	check, err := c.lateSecrets(ctx, lits)
	if err != nil {
		return Manifest{}, err
	}
	out := Manifest{Name: c.s.path("support-bundle-" + r.Now.UTC().Format("2006-01-02T15-04Z")), Created: r.Now.UTC(),
		Release: r.Release, Namespaces: r.Namespaces}
	sortErrors(c.s.errs)
	if err := c.s.closing(&out); err != nil {
		return Manifest{}, err
	}
	if err := c.s.seal(w, &out, check); err != nil {
		return Manifest{}, err
	}
	return out, nil
}

func sortErrors(errs []CollectError) {
	sort.SliceStable(errs, func(i, j int) bool {
		a, b := errs[i], errs[j]
		return a.Collector < b.Collector || a.Collector == b.Collector && a.Subject < b.Subject
	})
}

// lateSecrets reads the Secrets again: a value that came while we collected may be in what we have. The archive is
// checked against both. When they cannot be read now, the ones read before must do.
func (c *collector) lateSecrets(ctx context.Context, lits *literals) (*matcher, error) {
	late := &collector{r: c.r, helm: map[string][]helmrecord.Stored{}}
	again, _, _ := late.readSecrets(ctx)
	for s := range again.set {
		lits.add(s)
	}
	return lits.matcher()
}

// secretNote is all that a bundle says about a Secret.
type secretNote struct {
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Type      string         `json:"type"`
	Keys      map[string]int `json:"lengths"` // key -> bytes
}

// readSecrets fills the literals, which stay in memory, and notes the Secrets without their data.
func (c *collector) readSecrets(ctx context.Context) (*literals, map[string][]secretNote, map[string]error) {
	lits := newLiterals(append(append([]string(nil), c.r.Namespaces...), c.r.Release))
	notes, errs := map[string][]secretNote{}, map[string]error{}
	for _, ns := range c.r.Namespaces {
		cx, cancel := context.WithTimeout(ctx, c.r.Timeout)
		list, err := c.namespaceSecrets(cx, ns, lits)
		if err == nil {
			notes[ns] = list
			c.helm[ns], err = helmrecord.List(cx, c.r.Kube, ns, "") // every release: any may have shared a secret
		}
		cancel()
		if err != nil {
			errs[ns] = err
			continue
		}
		for _, st := range c.helm[ns] {
			addHelm(lits, st.Record)
		}
	}
	return lits, notes, errs
}

func (c *collector) namespaceSecrets(ctx context.Context, ns string, lits *literals) ([]secretNote, error) {
	opt := metav1.ListOptions{Limit: pageSize}
	var notes []secretNote
	for {
		page, err := c.r.Kube.CoreV1().Secrets(ns).List(ctx, opt)
		if err != nil {
			return nil, fmt.Errorf("they cannot be listed: %w", err)
		}
		for i := range page.Items {
			s := &page.Items[i]
			n := secretNote{Namespace: ns, Name: s.Name, Type: string(s.Type), Keys: map[string]int{}}
			for k, v := range s.Data {
				n.Keys[k] = len(v)
				if s.Type != helmrecord.SecretType { // those are decoded; their packed form appears nowhere else
					lits.addSecret(v)
				}
			}
			for k, v := range s.StringData {
				n.Keys[k] = len(v)
				lits.addSecret([]byte(v))
			}
			notes = append(notes, n)
		}
		if opt.Continue = page.Continue; opt.Continue == "" {
			break
		}
	}
	sort.Slice(notes, func(i, j int) bool { return notes[i].Name < notes[j].Name })
	return notes, nil
}

// all runs every collector. Their order is fixed, so that the same limit cuts the same files: the small and telling
// ones first, logs last.
func (c *collector) all(ctx context.Context, inventory map[string][]secretNote) error {
	steps := []func(context.Context) error{
		c.serverVersion, c.nodes, c.clusterLists, c.namespaceLists,
		func(context.Context) error { return c.secretNotes(inventory) },
		c.helmFiles, c.customKinds, c.extra, c.logs,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) secretNotes(inventory map[string][]secretNote) error {
	for _, ns := range c.r.Namespaces {
		list, ok := inventory[ns]
		if !ok {
			continue
		}
		// Written as a list of names, not through the walk: its keys are key names of Secrets.
		var b bytes.Buffer
		for _, n := range list {
			fmt.Fprintf(&b, "%s %s\n", n.Name, n.Type)
			keys := make([]string, 0, len(n.Keys))
			for k := range n.Keys {
				keys = append(keys, k)
			}
			sort.Strings(keys)
			for _, k := range keys {
				fmt.Fprintf(&b, "  %s %d bytes\n", k, n.Keys[k])
			}
		}
		path := c.s.path("cluster-resources/secrets", ns+".txt")
		if err := c.s.put(File{Path: path, Collector: "secrets"}, b.Bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) extra(context.Context) error {
	names := make([]string, 0, len(c.r.Extra))
	for n := range c.r.Extra {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		if c.blind {
			c.s.fail("extra", n, errors.New("withheld: secrets could not be read, so it cannot be scrubbed"))
			continue
		}
		if err := c.s.text("extra", c.s.path("extra", n), c.r.Extra[n]); err != nil {
			return err
		}
	}
	return nil
}

var errNoDynamic = errors.New("no client for custom kinds was given")

// within runs one collector's read with its own time.
func (c *collector) within(ctx context.Context, read func(context.Context) error) error {
	cx, cancel := context.WithTimeout(ctx, c.r.Timeout)
	defer cancel()
	return read(cx)
}

func podFails(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodFailed || p.Status.Phase == corev1.PodPending {
		return true
	}
	for _, cs := range p.Status.ContainerStatuses {
		if !cs.Ready || cs.RestartCount > 0 {
			return true
		}
	}
	return false
}
