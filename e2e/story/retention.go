package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// retention lists what the site has loaded, tells the vendor in a signed inventory, takes back a load that failed and frees what nothing
// needs. What is kept is read to its last byte afterwards.
func (s *Story) retention(ctx context.Context) error {
	if _, err := s.wc(ctx, "loads"); err != nil {
		return err
	}
	if err := s.inventory(ctx); err != nil {
		return err
	}
	if err := s.refused(ctx, 59, "runs", "loads", "drop", "--yes", "2.8.0"); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "loads", "drop", "--yes", "--reason", "it does not come up", "2.10.0"); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "registry", "gc", "--dry-run"); err != nil {
		return err
	}
	r, err := s.wc(ctx, "registry", "gc", "--yes", "-o", "json")
	if err != nil {
		return err
	}
	var gc struct {
		Removed struct{ Bytes int64 }
		Asked   bool `json:"clusterAsked"`
		Swept   struct{ Bytes int64 }
	}
	if err := json.Unmarshal([]byte(r.stdout), &gc); err != nil {
		return err
	}
	if !gc.Asked || gc.Removed.Bytes == 0 || gc.Swept.Bytes == 0 {
		return fmt.Errorf("the cluster was asked: %v, %d bytes removed, %d freed", gc.Asked, gc.Removed.Bytes, gc.Swept.Bytes)
	}
	s.say("2.10.0 is gone: %d KiB removed, %d KiB freed on the registry's disk", gc.Removed.Bytes>>10, gc.Swept.Bytes>>10)
	if err := s.readAll(ctx, "r1.wcb"); err != nil {
		return err
	}
	return s.readAll(ctx, "r2.wcb")
}

// inventory says what the site holds, signed, and the vendor makes a patch from exactly that.
func (s *Story) inventory(ctx context.Context) error {
	if _, err := s.wc(ctx, "inventory", "--deep", "--out", s.path("inventory.json")); err != nil {
		return err
	}
	key := s.path("state/wordcab/site.pub")
	if _, err := s.wc(ctx, "inventory", "verify", "--key", key, s.path("inventory.json")); err != nil {
		return err
	}
	r, err := s.wc(ctx, "patch", "--have", s.path("inventory.json"), "--have-key", key, "--from", s.path("r2.wcb"), "--to", s.path("r3.wcb"), "--out", s.path("asked.wcp"))
	if err == nil && !strings.Contains(r.stdout, "asked.wcp") {
		err = errors.New("no patch was made from the inventory")
	}
	return err
}

// readAll reads every blob of a release from the registry.
func (s *Story) readAll(ctx context.Context, file string) error {
	f, rel, err := s.release(ctx, file)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, b := range rel.Closure {
		for _, repo := range b.Repos {
			rc, err := s.reg.Open(ctx, repo, b.Descriptor)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, rc)
			rc.Close()
			if err != nil {
				return fmt.Errorf("%s@%s: %w", repo, b.Digest, err)
			}
		}
	}
	s.say("every blob of %s is in the registry", rel.Version)
	return nil
}
