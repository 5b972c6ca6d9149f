package install

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/bundle"
	"github.com/wordcab/wcbundle/sign"
)

func load(version, channel string, fixes []string, contains ...bundle.Contained) Loaded {
	return Loaded{Version: version, Channel: channel, Head: ocispec.Descriptor{Digest: digest.FromString(version + channel)}, Fixes: fixes, Contains: contains}
}

func runs(r *Record, version string) {
	l := r.ofVersion(version)
	r.Installed = &Installed{Version: version, Head: l.Head}
}

func TestFixesAreNotUndone(t *testing.T) {
	one := bundle.Contained{Version: "2.8.1", Fixes: []string{"CVE-1", "CVE-2"}}
	r := &Record{Loads: []Loaded{
		load("2.8.0", "stable", nil),
		load("2.8.1", "security", []string{"CVE-1", "CVE-2"}),
		load("2.8.2", "security", []string{"CVE-3"}, one),
		load("2.9.0", "stable", nil),
		load("2.9.1", "stable", []string{"CVE-1", "CVE-2"}),                                              // its own VEX names them
		load("2.10.0", "stable", nil, one, bundle.Contained{Version: "2.8.2", Fixes: []string{"CVE-3"}}), // all of them
		load("2.10.1", "stable", nil, bundle.Contained{Version: "2.8.1", Fixes: []string{"CVE-1"}}),      // says less than it should
		load("2.11.0", "stable", []string{"CVE-9"}, one, bundle.Contained{Version: "2.8.2", Fixes: []string{"CVE-3"}}),
	}}
	for _, c := range []struct{ from, to, lost string }{
		{"2.8.0", "2.9.0", ""},
		{"2.8.1", "2.9.0", "CVE-1, CVE-2 (fixed by 2.8.1)"},
		{"2.8.1", "2.8.0", "CVE-1, CVE-2 (fixed by 2.8.1)"},
		{"2.8.1", "2.8.2", ""},
		{"2.8.1", "2.9.1", ""},
		{"2.8.1", "2.10.1", "CVE-2 (fixed by 2.8.1)"},
		{"2.8.2", "2.9.1", "CVE-3 (fixed by 2.8.2)"},
		{"2.8.2", "2.10.0", ""},
		{"2.10.0", "2.9.0", "CVE-1, CVE-2 (fixed by 2.8.1); CVE-3 (fixed by 2.8.2)"}, // never had the drops themselves
		{"2.11.0", "2.10.0", ""},                                                     // a stable release's own fixes are the next one's base
		{"2.8.1", "2.8.1", ""},
	} {
		runs(r, c.from)
		err := r.undoes(r.ofVersion(c.to), "")
		var undo *UndoError
		if (c.lost == "") != (err == nil) || err != nil && (!errors.As(err, &undo) || !strings.HasSuffix(err.Error(), ": "+c.lost)) {
			t.Errorf("%s to %s: %v, want %q", c.from, c.to, err, c.lost)
		}
	}
	runs(r, "2.9.0") // the record is behind: the cluster says that 2.8.1 runs
	if err := r.undoes(r.ofVersion("2.9.0"), "2.8.1"); err == nil {
		t.Error("what the cluster says was not asked")
	}
	open := r.Open()
	if len(open) != 3 || open[0].Version != "2.8.1" || open[1].Version != "2.8.1" || open[2].Version != "2.8.2" {
		t.Errorf("open: %v", open)
	}
}

func TestLatestIsTheLastLoad(t *testing.T) {
	r := &Record{Loads: []Loaded{load("2.9.0", "stable", nil), load("2.8.1", "security", []string{"CVE-1"})}}
	r.Loads[0].Sequence, r.Loads[1].Sequence = 57, 1
	if got := r.Latest().Version; got != "2.8.1" {
		t.Errorf("%s comes first: a drop jumps the queue", got)
	}
}

// TestRecordStaysReadable: whatever releases say that they fix, the record can be read again.
func TestRecordStaysReadable(t *testing.T) {
	r := &Record{APIVersion: RecordVersion, Trust: []byte("{}")}
	var many []string
	for range 1024 {
		many = append(many, "CVE-2026-"+strings.Repeat("9", 100))
	}
	r.Loads = append(r.Loads, load("1.0.0", "security", []string{"CVE-1"}))
	runs(r, "1.0.0")
	for i := range 20 {
		l := load("1.0."+strings.Repeat("1", i+1), "stable", many)
		r.Loads = append(r.Loads, l)
		r.slim()
		b, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeRecord(b); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.Loads[0].Fixes) != 1 || len(r.Loads) != 21 {
		t.Error("what runs lost its fixes, or a load was lost")
	}
	r.Site = strings.Repeat("x", maxRecord)
	if _, err := encodeRecord(r); err == nil {
		t.Error("a record was written that nobody can read")
	}
}

// TestT50RollbackToRevoked: going back to a release that the policy has revoked needs a reason, which is written down before
// anything is done. The story in e2e does it on a cluster.
func TestT50RollbackToRevoked(t *testing.T) {
	key, err := sign.LoadPublic([]byte(testPublic))
	if err != nil {
		t.Fatal(err)
	}
	l := load("2.8.0", "stable", nil)
	trust, err := sign.NewTrust(sign.TrustForm{Schema: 1, Version: 2, Product: "wordcab", Keys: []sign.TrustKey{sign.TrustKeyOf(key)},
		Roles:   sign.TrustRoles{Release: sign.TrustRole{Keys: []string{key.KeyID()}, Threshold: 1}},
		Revoked: sign.TrustRevoked{Heads: []string{string(l.Head.Digest)}}})
	if err != nil {
		t.Fatal(err)
	}
	rec := &Record{APIVersion: RecordVersion, Trust: trust.Encode(), Loads: []Loaded{l, load("2.8.1", "security", []string{"CVE-1"})}}
	r := &RollbackPlan{}
	r.To.Bundle, r.To.Number = "2.8.0", 14
	if err := r.judge(rec, "2.8.1"); err != nil || !r.Revoked || len(r.Undoes) != 1 || !slices.Equal(r.Undoes[0].Fixes, []string{"CVE-1"}) {
		t.Fatalf("judged %+v, %v", r, err)
	}
	store := &memory{}
	var revoked *RevokedError
	if _, err := Rollback(context.Background(), Target{Record: rec, Now: time.Now()}, r, ApplyOptions{Store: store}); !errors.As(err, &revoked) || store.saved != 0 {
		t.Fatalf("got %v, the record was saved %d times", err, store.saved)
	}
	store.fail = errors.New("the disk is full")
	if _, err := Rollback(context.Background(), Target{Record: rec, Now: time.Now()}, r, ApplyOptions{Store: store, Despite: "it burns"}); !errors.Is(err, store.fail) {
		t.Fatalf("the reason could not be written down, and it went on: %v", err)
	}
}

// TestWhatRunsMayBeAppliedAgain: the site's values change while a newer release waits and the old one has expired.
func TestWhatRunsMayBeAppliedAgain(t *testing.T) {
	key, err := sign.LoadPublic([]byte(testPublic))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := sign.NewTrust(sign.TrustForm{Schema: 1, Version: 1, Product: "wordcab", Keys: []sign.TrustKey{sign.TrustKeyOf(key)},
		Roles: sign.TrustRoles{Release: sign.TrustRole{Keys: []string{key.KeyID()}, Threshold: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	r := &Record{Trust: trust.Encode(), ClockFloor: at.AddDate(1, 0, 0), Accepted: map[string]Accepted{"stable": {Sequence: 57}, "security": {Sequence: 3}},
		Loads: []Loaded{load("2.8.0", "stable", nil), load("2.9.0", "stable", nil)}}
	runs(r, "2.8.0")
	r.Installed.At = at
	target := Target{Record: r, Now: at.AddDate(1, 0, 0)}
	p, err := target.policyFor(r.ofVersion("2.8.0"))
	if _, asked := p.Accepted["stable"]; err != nil || asked || !p.Now.Equal(at) || !p.ClockFloor.IsZero() || p.Accepted["security"].Sequence != 3 {
		t.Errorf("what runs: %+v, %v", p, err)
	}
	p, err = target.policyFor(r.ofVersion("2.9.0"))
	if err != nil || p.Accepted["stable"].Sequence != 57 || !p.Now.Equal(target.Now) || p.ClockFloor.IsZero() {
		t.Errorf("what waits: %+v, %v", p, err)
	}
	if r.Accepted["stable"].Sequence != 57 {
		t.Error("the record was lowered")
	}
	target.Began = at.AddDate(0, 6, 0)
	if p, err = target.policyFor(r.ofVersion("2.9.0")); err != nil || !p.Now.Equal(target.Began) {
		t.Errorf("an operation that is taken up again is judged by %v, %v", p.Now, err)
	}
}

// memory is a place of the record that can fail.
type memory struct {
	saved int
	fail  error
}

func (m *memory) Load(context.Context) (*Record, error) { return nil, ErrNoRecord }
func (m *memory) Save(context.Context, *Record) error {
	m.saved++
	return m.fail
}

const testPublic = `-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
`
