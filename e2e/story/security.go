package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	podinfoRef = "ghcr.io/stefanprodan/podinfo:6.9.2"
	fixedCVE   = "CVE-2026-0042"
)

// drop is the security team's patch on what runs: loaded, planned and applied out of turn, and not to be undone by what waits.
func (s *Story) drop(ctx context.Context) error {
	if err := s.makeDrop(ctx); err != nil {
		return err
	}
	if err := s.refused(ctx, 49, "more than the security role may do", "load", s.path("s1.wcb")); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "load", s.path("r1-to-s1.wcp")); err != nil {
		return err
	}
	if err := s.says(ctx, "fixes of CVE", "vulnerable", "status"); err != nil {
		return err
	}
	if err := s.says(ctx, "the CVE", "Fixes "+fixedCVE+" in "+podinfoRef, "plan"); err != nil {
		return err
	}
	if err := s.approve(ctx, "r1-to-s1.wcp"); err != nil {
		return err
	}
	if err := s.remember(ctx, "before the drop"); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "apply", "--yes"); err != nil {
		return err
	}
	if err := s.compare(ctx, "before the drop", []string{"asr", "diarize", "llm"}, []string{"podinfo"}); err != nil {
		return err
	}
	if err := s.history(ctx, 6); err != nil {
		return err
	}
	return s.undone(ctx)
}

// says runs wcbundle and wants a text on stdout.
func (s *Story) says(ctx context.Context, what, text string, args ...string) error {
	r, err := s.wc(ctx, args...)
	if err == nil && !strings.Contains(r.stdout, text) {
		err = fmt.Errorf("%s does not say %s: want %q in\n%s", args[0], what, text, r.stdout)
	}
	return err
}

// makeDrop builds 2.8.1: 2.8.0 with podinfo's next image under the reference that the chart names.
func (s *Story) makeDrop(ctx context.Context) error {
	expires := time.Now().UTC().AddDate(0, 0, 60).Format(time.RFC3339)
	err := s.variant("r1", "s1", "version: 2.8.0, channel: stable, sequence: 56", `version: 2.8.1, channel: security, sequence: 1, expires: "`+expires+`"`,
		"oci:./images/podinfo", "oci:../r2/images/podinfo", "pools:\n", "security: {vex: vex.json}\npools:\n")
	if err != nil {
		return err
	}
	f, r2, err := s.release(ctx, "r2.wcb")
	if err != nil {
		return err
	}
	defer f.Close()
	product := ""
	for _, i := range r2.Images {
		if strings.Contains(i.Ref, "/podinfo:") {
			product = "pkg:oci/podinfo@" + strings.Replace(string(i.Manifest.Digest), ":", "%3A", 1)
		}
	}
	vex, err := json.Marshal(map[string]any{"@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/vex/2.8.1", "author": "Security",
		"timestamp": "2026-11-01T00:00:00Z", "version": 1, "statements": []any{map[string]any{
			"vulnerability": map[string]any{"name": fixedCVE}, "products": []any{map[string]any{"@id": product}}, "status": "fixed"}}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(strings.TrimSuffix(s.definition("s1"), "bundle.yaml")+"vex.json", vex, 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"build", "-f", s.definition("s1"), "--out", s.path("s1.wcb")},
		{"sign", "--key", s.path("security.key"), s.path("s1.wcb")},
		{"patch", "--from", s.path("r1.wcb"), "--to", s.path("s1.wcb"), "--out", s.path("r1-to-s1.wcp")},
		{"sign", "--key", s.path("security.key"), s.path("r1-to-s1.wcp")},
	} {
		if _, err := s.wc(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// undone tries releases that lack the fix, and one that contains it.
func (s *Story) undone(ctx context.Context) error {
	for _, verb := range [][]string{{"plan", "--release", "2.10.0"}, {"apply", "--release", "2.10.0", "--yes"}} {
		if err := s.refused(ctx, 53, "release 2.10.0 would undo fixes that 2.8.1 runs with: "+fixedCVE+" (fixed by 2.8.1)", verb...); err != nil {
			return err
		}
	}
	err := s.variant("r2", "s2", "version: 2.9.0, channel: stable, sequence: 57", "version: 2.10.1, channel: stable, sequence: 59",
		"pools:\n", "security: {contains: [{version: 2.8.1, fixes: ["+fixedCVE+"]}]}\npools:\n")
	if err != nil {
		return err
	}
	for _, args := range [][]string{
		{"build", "-f", s.definition("s2"), "--out", s.path("s2.wcb")},
		{"sign", "--key", s.path("release.key"), s.path("s2.wcb")},
		{"load", s.path("s2.wcb")},
		{"plan"},
	} {
		if _, err := s.wc(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// revoked goes back to what ran before the drop, which the vendor has revoked: refused, unless a person says why.
func (s *Story) revoked(ctx context.Context) error {
	f, _, err := s.release(ctx, "r1.wcb")
	if err != nil {
		return err
	}
	defer f.Close()
	head, err := f.HeadOf()
	if err != nil {
		return err
	}
	chain := "--chain=" + s.path("trust-chain.json")
	for _, args := range [][]string{
		{"trust", "revoke", chain, "--head", string(head.Digest), s.path("trust.json")},
		{"trust", "sign", chain, "--key", s.path("root.key"), s.path("trust.json")},
		{"trust", "update", s.path("trust-chain.json")},
	} {
		if _, err := s.wc(ctx, args...); err != nil {
			return err
		}
	}
	before, err := s.siteState(ctx)
	if err != nil {
		return err
	}
	if err := s.refused(ctx, 46, "release 2.8.0, which the trust policy has revoked", "rollback", "--yes", "--to", "previous"); err != nil {
		return err
	}
	if after, err := s.siteState(ctx); err != nil || after != before {
		return errors.Join(err, errors.New("a refused rollback changed the site"))
	}
	why := "the drop broke the dialer"
	if err := s.says(ctx, "what is lost", "Going back undoes the fix of "+fixedCVE, "rollback", "--yes", "--to", "previous", "--despite-revocation", why); err != nil {
		return err
	}
	if err := s.says(ctx, "the reason", why, "status"); err != nil {
		return err
	}
	if err := s.says(ctx, "what is open", fixedCVE+": fixed by 2.8.1, which is loaded and does not run", "status"); err != nil {
		return err
	}
	return s.history(ctx, 7)
}
