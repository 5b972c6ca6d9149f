package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/internal/strict"
	"github.com/wordcab/wcbundle/sign"
)

// RecordVersion is the form of the site record.
const RecordVersion = "bundle.wordcab.com/site.v1"

// Record is the site record.
type Record struct {
	APIVersion string              `json:"apiVersion"`
	Generation uint64              `json:"generation"` // raised by every write; the higher copy wins
	Site       string              `json:"site"`
	Product    string              `json:"product"`
	Trust      json.RawMessage     `json:"trust"`             // trust.json as accepted, or as the chain has made it since
	TrustAt    time.Time           `json:"trustAt,omitzero"`  // when that was
	SiteKey    string              `json:"siteKey,omitempty"` // PEM, public: what support bundles of this site are signed with
	Registry   Address             `json:"registry"`
	Accepted   map[string]Accepted `json:"accepted,omitempty"`  // by channel
	ClockFloor time.Time           `json:"clockFloor,omitzero"` // newest signing time accepted
	Loads      []Loaded            `json:"loads,omitempty"`     // oldest first
	Dropped    []Dropped           `json:"dropped,omitempty"`   // loads that the site has no more, oldest first
	Promised   *Promised           `json:"promised,omitempty"`  // by the newest inventory
	Installed  *Installed          `json:"installed,omitempty"`
	Approvers  *Approvers          `json:"approvers,omitempty"` // nil: nobody's consent is asked
	Approvals  []json.RawMessage   `json:"approvals,omitempty"` // envelopes, oldest first
	Notes      []Note              `json:"notes,omitempty"`     // what a person decided against the rule, oldest first
}

// Note is evidence of a decision that a person took.
type Note struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	Text string    `json:"text"`
}

// Accepted is the newest release of a channel that the site took in.
type Accepted struct {
	Epoch    uint64 `json:"epoch"`
	Sequence uint64 `json:"sequence"`
	Head     string `json:"head"`
}

// Loaded is a release that lies complete in the site's registry.
type Loaded struct {
	Version  string             `json:"version"`
	Channel  string             `json:"channel"`
	Sequence uint64             `json:"sequence"`
	Head     ocispec.Descriptor `json:"head"`
	At       time.Time          `json:"at"`
	By       string             `json:"by"`                 // bundle | patch | adoption
	Size     int64              `json:"size,omitempty"`     // bytes of its content; 0 = not known, a record of before
	Scratch  int64              `json:"scratch,omitempty"`  // bytes of scratch disk that loading the patch took at most
	Fixes    []string           `json:"fixes,omitempty"`    // vulnerabilities, by its VEX document
	Contains []bundle.Contained `json:"contains,omitempty"` // releases of channel security whose fixes it has too
}

// Installed is the release that runs, and the Helm revision that made it so.
type Installed struct {
	Version   string             `json:"version"`
	Head      ocispec.Descriptor `json:"head"`
	Release   string             `json:"release"`
	Namespace string             `json:"namespace"`
	Revision  int                `json:"revision"`
	At        time.Time          `json:"at"`
}

// ErrNoRecord is returned for a site whose record is in none of its places.
var ErrNoRecord = errors.New("the site has no record")

// Store is one place of the site record. Load returns ErrNoRecord where there is none. Save fails when the stored record
// is not older than r.
type Store interface {
	Load(ctx context.Context) (*Record, error)
	Save(ctx context.Context, r *Record) error
}

// Stores are the record's places, as one. The first that fails to load or save stops the work.
type Stores []Store

// Load gives the copy with the highest generation.
func (s Stores) Load(ctx context.Context) (*Record, error) {
	var best *Record
	for _, st := range s {
		r, err := st.Load(ctx)
		if errors.Is(err, ErrNoRecord) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if best == nil || r.Generation > best.Generation {
			best = r
		}
	}
	if best == nil {
		return nil, ErrNoRecord
	}
	return best, nil
}

// Save raises the generation and writes every copy.
func (s Stores) Save(ctx context.Context, r *Record) error {
	if len(s) == 0 {
		return errors.New("the site record has no place to be written to")
	}
	r.Generation++
	for _, st := range s {
		if err := st.Save(ctx, r); err != nil {
			return fmt.Errorf("writing the site record: %w", err)
		}
	}
	return nil
}

// maxRecord is how many bytes a record may have: what fits into a ConfigMap.
const maxRecord = 1 << 20

// encodeRecord refuses to write what could not be read again.
func encodeRecord(r *Record) ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err == nil && len(b) > maxRecord {
		err = fmt.Errorf("the site record would be %d bytes long, more than %d", len(b), maxRecord)
	}
	return b, err
}

// slim keeps the record far below its bound: the oldest loads that do not run lose their lists of fixes, which are the only part
// that can grow large.
func (r *Record) slim() {
	for i := range r.Loads[:max(len(r.Loads)-1, 0)] {
		b, err := json.Marshal(r)
		if err != nil || len(b) < maxRecord/2 {
			return
		}
		if l := &r.Loads[i]; r.Installed == nil || l.Head.Digest != r.Installed.Head.Digest {
			l.Fixes, l.Contains = nil, nil
		}
	}
}

func decodeRecord(b []byte) (*Record, error) {
	if len(b) > maxRecord {
		return nil, fmt.Errorf("the site record is longer than %d bytes", maxRecord)
	}
	var r Record
	if err := strict.JSON(b, &r); err != nil {
		return nil, fmt.Errorf("reading the site record: %w", err)
	}
	if r.APIVersion != RecordVersion {
		return nil, fmt.Errorf("the site record is of form %.60q: a newer wcbundle wrote it", r.APIVersion)
	}
	if w := r.Registry.RunTime; w != "" {
		if _, err := ParseRunTime(string(w)); err != nil {
			return nil, fmt.Errorf("reading the site record: registry.runTime: %w", err)
		}
	}
	return &r, nil
}

// Policy is what sign.Open asks for, from the record and the clock.
func (r *Record) Policy(now time.Time) (sign.Policy, error) {
	t, err := sign.ParseTrust(r.Trust)
	if err != nil {
		return sign.Policy{}, fmt.Errorf("the site's trust policy: %w", err)
	}
	p := sign.Policy{Trust: t, Site: r.Site, Now: now, ClockFloor: r.ClockFloor, Accepted: map[string]sign.Accepted{}}
	for channel, a := range r.Accepted {
		p.Accepted[channel] = sign.Accepted(a)
	}
	for _, l := range r.Loads {
		p.Installed = append(p.Installed, string(l.Head.Digest))
	}
	return p, nil
}

// PolicyAgain is the policy by which content of a release is put in again that the site has loaded before and lists still: it lets in
// nothing new, so that neither expiry nor a newer load stands against it. A revocation does. Any other file is judged as ever.
func (r *Record) PolicyAgain(f *bundle.File, now time.Time) (sign.Policy, error) {
	p, err := r.Policy(now)
	if err != nil {
		return p, err
	}
	head, err := f.HeadOf()
	if err != nil {
		return p, err
	}
	if l := r.loaded(head.Digest); l != nil {
		p.Now, p.ClockFloor = l.At, time.Time{}
		delete(p.Accepted, l.Channel)
	}
	return p, nil
}

// Has tells whether a head was loaded.
func (r *Record) Has(head ocispec.Descriptor) bool { return r.loaded(head.Digest) != nil }

// loaded is the load with that head, or nil.
func (r *Record) loaded(head digest.Digest) *Loaded {
	for i := range r.Loads {
		if r.Loads[i].Head.Digest == head {
			return &r.Loads[i]
		}
	}
	return nil
}

// accept raises the record to a release that lies complete in the registry.
func (r *Record) accept(v bundle.Verified, by string, scratch int64, now time.Time) {
	rel, head := v.Release(), v.Head()
	if r.Accepted == nil {
		r.Accepted = map[string]Accepted{}
	}
	if a := r.Accepted[rel.Channel]; rel.Epoch > a.Epoch || rel.Epoch == a.Epoch && rel.Sequence > a.Sequence {
		r.Accepted[rel.Channel] = Accepted{Epoch: rel.Epoch, Sequence: rel.Sequence, Head: string(head.Digest)}
	}
	if issued, err := time.Parse(time.RFC3339, v.IssuedAt()); err == nil && issued.After(r.ClockFloor) {
		r.ClockFloor = issued
	}
	if !r.Has(head) {
		l := Loaded{Version: rel.Version, Channel: rel.Channel, Sequence: rel.Sequence, Head: head, At: now.UTC().Truncate(time.Second), By: by, Size: sizeOf(v), Scratch: scratch, Contains: rel.Contains}
		for _, f := range v.Fixes() {
			l.Fixes = append(l.Fixes, f.ID)
		}
		r.Loads = append(r.Loads, l)
		r.back(head.Digest, now)
		r.slim()
		return
	}
	if l := r.loaded(head.Digest); !r.Registry.had(*l) {
		l.At = now.UTC().Truncate(time.Second)
	}
}

// Latest is what was loaded last, of any channel, or nil. Within a channel that is the highest sequence; a security release
// that was dropped in comes before a stable one that waits.
func (r *Record) Latest() *Loaded {
	if len(r.Loads) == 0 {
		return nil
	}
	return &r.Loads[len(r.Loads)-1]
}
