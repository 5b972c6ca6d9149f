package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/internal/strict"
	"github.com/wordcab/wcbundle/registry"
)

// InventoryVersion is the form of an inventory.
const InventoryVersion = "bundle.wordcab.com/inventory.v1"

// MaxInventory is how many bytes an inventory may have.
const MaxInventory = 1 << 20

const maxInventoryReleases = 1000

// Inventory is what a site's registry holds: a promise to the vendor, who may make patches from the releases in it. It is signed with the
// site's key, as a file (sign.SealFile).
type Inventory struct {
	APIVersion string    `json:"apiVersion"`
	Tool       string    `json:"tool"` // the version of wcbundle
	Site       string    `json:"site"`
	Product    string    `json:"product"`
	Generation uint64    `json:"generation"` // of the site's record that holds the promise
	At         time.Time `json:"at"`
	Runs       string    `json:"runs,omitempty"` // version
	Deep       bool      `json:"deep"`           // every byte was hashed; else the registry was asked for every blob
	Releases   []Holding `json:"releases"`       // whole
	Broken     []Broken  `json:"broken,omitempty"`
}

// Holding is a release that a site holds whole.
type Holding struct {
	Version  string             `json:"version"`
	Channel  string             `json:"channel"`
	Sequence uint64             `json:"sequence"`
	Head     ocispec.Descriptor `json:"head"`
}

// Broken is a release that was loaded and is not whole any more.
type Broken struct {
	Holding
	Missing int `json:"missing"` // blobs; only the head, where that is missing
}

// TakeInventory asks the registry for every blob of every load; deep reads and hashes them all. It writes the promise into the record.
func TakeInventory(ctx context.Context, t Target, store Store, tool string, deep bool) (*Inventory, error) {
	if err := t.Registry.Ping(ctx); err != nil {
		return nil, err
	}
	inv := &Inventory{APIVersion: InventoryVersion, Tool: tool, Site: t.Record.Site, Product: t.Record.Product, At: t.Now.UTC().Truncate(time.Second), Deep: deep, Releases: []Holding{}}
	if i := t.Record.Installed; i != nil {
		inv.Runs = i.Version
	}
	p := &Promised{At: inv.At}
	c := &stocktaker{reg: t.Registry, deep: deep, seen: map[place]*sync.Once{}, gone: map[place]bool{}}
	for _, l := range t.Record.Loads {
		missing, err := c.missing(ctx, t.Record.Product, l.Head)
		if err != nil {
			return nil, err
		}
		h := Holding{Version: l.Version, Channel: l.Channel, Sequence: l.Sequence, Head: plain(l.Head)}
		if missing > 0 {
			inv.Broken = append(inv.Broken, Broken{h, missing})
			continue
		}
		inv.Releases = append(inv.Releases, h)
		p.Heads = append(p.Heads, l.Head.Digest)
	}
	t.Record.Promised = p
	if err := store.Save(ctx, t.Record); err != nil {
		return nil, err
	}
	inv.Generation = t.Record.Generation
	return inv, nil
}

// plain is a descriptor without what is not needed to find a head.
func plain(d ocispec.Descriptor) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// stocktaker looks for blobs, for each once.
type stocktaker struct {
	reg  *registry.Registry
	deep bool
	mu   sync.Mutex
	seen map[place]*sync.Once
	gone map[place]bool
}

// missing counts the blobs that a release lacks. Without its head nothing else is known of it.
func (s *stocktaker) missing(ctx context.Context, product string, head ocispec.Descriptor) (int, error) {
	stock, err := readStock(ctx, s.reg, product, head)
	if registry.Damaged(err) || err == nil && stock.release == nil {
		return 1, nil
	}
	if err != nil {
		return 0, err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	all := slices.Concat(stock.own, stock.lines)
	for _, h := range all {
		g.Go(func() error { return s.look(ctx, h) })
	}
	if err := g.Wait(); err != nil {
		return 0, err
	}
	lacks := map[digest.Digest]bool{}
	for _, h := range all {
		if s.gone[place{h.repo, h.Digest}] {
			lacks[h.Digest] = true
		}
	}
	return len(lacks), nil
}

// look asks for one blob in one repository. Manifests are always read; blobs where the stocktaking is deep.
func (s *stocktaker) look(ctx context.Context, h held) (err error) {
	at := place{h.repo, h.Digest}
	s.mu.Lock()
	once := s.seen[at]
	if once == nil {
		once = &sync.Once{}
		s.seen[at] = once
	}
	s.mu.Unlock()
	once.Do(func() {
		var there bool
		if there, err = s.there(ctx, h); err == nil && !there {
			s.mu.Lock()
			s.gone[at] = true
			s.mu.Unlock()
		}
	})
	return err
}

func (s *stocktaker) there(ctx context.Context, h held) (bool, error) {
	if !h.manifest && !s.deep {
		return s.reg.Has(ctx, h.repo, h.Descriptor)
	}
	r, err := s.reg.Open(ctx, h.repo, h.Descriptor)
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	if registry.Damaged(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	if registry.Damaged(err) {
		return false, nil
	}
	return true, err
}

// Encode is the file of an inventory.
func (i *Inventory) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(i, "", "  ")
	if err == nil && len(b) >= MaxInventory {
		err = fmt.Errorf("the inventory would be longer than %d bytes", MaxInventory)
	}
	return append(b, '\n'), err
}

var siteForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

// ParseInventory is the strict inverse of Encode. Its signature is judged before.
func ParseInventory(b []byte) (*Inventory, error) {
	if len(b) > MaxInventory {
		return nil, fmt.Errorf("the inventory is longer than %d bytes", MaxInventory)
	}
	var i Inventory
	if err := strict.JSON(b, &i); err != nil {
		return nil, fmt.Errorf("reading the inventory: %w", err)
	}
	if err := i.check(); err != nil {
		return nil, fmt.Errorf("the inventory: %w", err)
	}
	return &i, nil
}

func (i *Inventory) check() error {
	if i.APIVersion != InventoryVersion {
		return fmt.Errorf("it is of form %.60q, want %s", i.APIVersion, InventoryVersion)
	}
	if !siteForm.MatchString(i.Site) {
		return fmt.Errorf("site %.80q is not well-formed", i.Site)
	}
	if err := bundle.CheckName("product", i.Product); err != nil {
		return err
	}
	if i.At.IsZero() || len(i.Releases)+len(i.Broken) > maxInventoryReleases {
		return fmt.Errorf("it has no time, or more than %d releases", maxInventoryReleases)
	}
	heads := map[digest.Digest]bool{}
	all := slices.Clone(i.Releases)
	for _, b := range i.Broken {
		if b.Missing < 1 {
			return fmt.Errorf("release %.40q is broken and misses nothing", b.Version)
		}
		all = append(all, b.Holding)
	}
	for _, h := range all {
		if err := h.check(); err != nil {
			return err
		}
		if heads[h.Head.Digest] {
			return fmt.Errorf("head %s is there twice", h.Head.Digest)
		}
		heads[h.Head.Digest] = true
	}
	return nil
}

func (h Holding) check() error {
	if _, err := semver.StrictNewVersion(h.Version); err != nil || len(h.Version) > 128 {
		return fmt.Errorf("version %.80q is not a semantic version such as 2.9.0", h.Version)
	}
	if err := bundle.CheckName("channel", h.Channel); err != nil {
		return err
	}
	if h.Head.Size < 1 || h.Head.Size > bundle.MaxManifest || len(h.Head.URLs)+len(h.Head.Data)+len(h.Head.Annotations) > 0 {
		return fmt.Errorf("the head of release %s is not well-formed", h.Version)
	}
	return bundle.CheckDigest(h.Head.Digest)
}

// Holds tells whether the site holds the release of a head whole.
func (i *Inventory) Holds(head digest.Digest) bool {
	return slices.ContainsFunc(i.Releases, func(h Holding) bool { return h.Head.Digest == head })
}

// NoBaseError says that a site holds none of the releases from which a patch was to be made.
type NoBaseError struct {
	Site string
	From []string // versions that were named
	Has  []string // versions that the site holds whole
}

func (e *NoBaseError) Error() string {
	return fmt.Sprintf("site %s holds none of %v whole; it holds %v", e.Site, e.From, e.Has)
}

// NoBase is the error for a site that holds none of these versions.
func (i *Inventory) NoBase(from []string) error {
	e := &NoBaseError{Site: i.Site, From: from}
	for _, h := range i.Releases {
		e.Has = append(e.Has, h.Version)
	}
	return e
}
