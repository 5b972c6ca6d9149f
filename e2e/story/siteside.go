package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/wordcab/wcbundle/bundle"
)

const namespace = "wordcab"

// site sets the site up and loads the full first release.
func (s *Story) site(ctx context.Context) error {
	if err := s.refused(ctx, 17, "no record", "load", s.path("r1.wcb")); err != nil {
		return err
	}
	at, err := s.registry(ctx)
	if err != nil {
		return err
	}
	accept := append([]string{"trust", "accept", "--site", "bank-7", "--approver", s.path("officer.pub"), "--yes"}, at...)
	if _, err := s.wc(ctx, append(accept, s.path("trust.json"))...); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "verify", s.path("r1.wcb")); err != nil {
		return err
	}
	first, err := s.wc(ctx, "load", s.path("r1.wcb"))
	if err != nil {
		return err
	}
	again, err := s.wc(ctx, "load", s.path("r1.wcb"))
	if err != nil {
		return err
	}
	s.say("the first load took %.1f s, the second, with everything there, %.1f s", first.took.Seconds(), again.took.Seconds())
	if !strings.Contains(again.stdout, " 0 B pushed, 0 B rebuilt") {
		return errors.New("loading again pushed what was there")
	}
	return s.cosign(ctx, "2.8.0")
}

// cosign lets upstream's CLI check the head in the registry.
func (s *Story) cosign(ctx context.Context, tag string) error {
	if s.env.Cosign == "" {
		s.say("left out: upstream cosign is not here")
		return nil
	}
	ref := s.env.Push + "/" + bundle.ReleaseRepo("wordcab") + ":" + tag
	args := append([]string{"verify", "--key", s.path("release.pub"), "--insecure-ignore-tlog=true", "--private-infrastructure"}, s.cosignAccess...)
	args = append(args, ref)
	s.say("$ cosign verify --key release.pub %s", ref)
	cmd := exec.CommandContext(ctx, s.env.Cosign, args...)
	cmd.Env = s.environ()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("upstream cosign refuses the head: %w: %s", err, out)
	}
	s.say("  upstream cosign accepts the head")
	return nil
}

func (s *Story) install(ctx context.Context) error {
	for _, verb := range []string{"preflight", "plan"} {
		if _, err := s.wc(ctx, verb); err != nil {
			return err
		}
	}
	if err := s.refused(ctx, 57, "release 2.8.0 has 0 of the 1 approvals that this site asks for", "apply", "--yes"); err != nil {
		return err
	}
	if err := s.approve(ctx, "r1.wcb"); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "apply", "--yes"); err != nil {
		return err
	}
	if err := s.fromRegistry(ctx); err != nil {
		return err
	}
	if err := s.serves(ctx, "asr", "asr-large-v3"); err != nil {
		return err
	}
	if err := s.history(ctx, 1); err != nil {
		return err
	}
	return s.remember(ctx, "2.8.0")
}

// approve is the site's security officer, who agrees to a release on a machine of their own.
func (s *Story) approve(ctx context.Context, file string) error {
	out := s.path("approval-" + file + ".json")
	if _, err := s.wc(ctx, "approve", "--key", s.path("officer.key"), "--site", "bank-7", "--trust", s.path("trust.json"), "--out", out, s.path(file)); err != nil {
		return err
	}
	_, err := s.wc(ctx, "approve", "add", out)
	return err
}

// loadPatch rebuilds r2 and reads every blob of it back from the registry.
func (s *Story) loadPatch(ctx context.Context) error {
	if _, err := s.wc(ctx, "verify", s.path("r1-to-r2.wcp")); err != nil {
		return err
	}
	r, err := s.wc(ctx, "load", "-o", "json", s.path("r1-to-r2.wcp"))
	if err != nil {
		return err
	}
	var rep struct{ Rebuilt, Deltas, Pushed, There int64 }
	if err := json.Unmarshal([]byte(r.stdout), &rep); err != nil {
		return err
	}
	if rep.Rebuilt == 0 || rep.Deltas == 0 {
		return errors.New("nothing was rebuilt")
	}
	f, rel, err := s.release(ctx, "r2.wcb")
	if err != nil {
		return err
	}
	defer f.Close()
	var n int64
	for _, b := range rel.Closure {
		for _, repo := range b.Repos {
			rc, err := s.reg.Open(ctx, repo, b.Descriptor)
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, rc); err != nil {
				return fmt.Errorf("%s@%s: %w", repo, b.Digest, err)
			}
			rc.Close()
		}
		n += b.Size
	}
	s.say("%d blobs (%d MiB) of 2.9.0 read back from the registry have the digests of the full bundle; %d MiB were rebuilt from %d KiB", len(rel.Closure), n>>20, rep.Rebuilt>>20, rep.Deltas>>10)
	return s.cosign(ctx, "2.9.0")
}

func (s *Story) upgrade(ctx context.Context) error {
	if err := s.approve(ctx, "r1-to-r2.wcp"); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "plan"); err != nil {
		return err
	}
	watch, err := s.watch(ctx)
	if err != nil {
		return err
	}
	if err := s.together(ctx); err != nil {
		return err
	}
	if err := watch(); err != nil {
		return err
	}
	if err := s.fetched(ctx); err != nil {
		return err
	}
	if err := s.fromRegistry(ctx); err != nil {
		return err
	}
	if err := s.compare(ctx, "2.8.0", []string{"llm"}, []string{"podinfo", "asr", "diarize"}); err != nil {
		return err
	}
	for pool, model := range map[string]string{"asr": "asr-large-v4", "diarize": "diarize-v2"} {
		if err := s.serves(ctx, pool, model); err != nil {
			return err
		}
	}
	if err := s.cleanManifest(ctx); err != nil {
		return err
	}
	if err := s.history(ctx, 2); err != nil {
		return err
	}
	return s.remember(ctx, "2.9.0")
}

// together lets two operators apply at once (T49): one does it, the other is told that the lock is taken, and it happens once.
func (s *Story) together(ctx context.Context) error {
	type end struct {
		result
		err error
	}
	ends := make(chan end, 2)
	for range 2 {
		go func() {
			r, err := s.exec(ctx, "apply", "--yes")
			ends <- end{r, err}
		}()
	}
	codes := map[int]int{}
	for range 2 {
		e := <-ends
		if e.err != nil {
			return e.err
		}
		if e.code != 0 && e.code != 75 {
			return fmt.Errorf("one of two applies ended with %d:\n%s", e.code, e.stderr)
		}
		codes[e.code]++
	}
	if codes[0] != 1 || codes[75] != 1 {
		return fmt.Errorf("two applies at once ended with these exit codes: %v, want one 0 and one 75", codes)
	}
	s.say("two operators applied at once: one did, the other was told who is at work")
	return nil
}

// watch follows the operation with a second wcbundle, as another person would, and returns what waits for its end.
func (s *Story) watch(ctx context.Context) (func() error, error) {
	before, err := s.operation(ctx)
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil { // wait for the operation to begin, then watch it to its end
			now, err := s.operation(ctx)
			if err != nil {
				done <- err
				return
			}
			if now != before {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		cmd := exec.CommandContext(ctx, s.env.Binary, "status", "--watch")
		cmd.Env, cmd.Dir = s.environ(), s.env.Work
		out, err := cmd.CombinedOutput()
		s.say("meanwhile, somebody else: $ wcbundle status --watch")
		for _, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			s.say("    %s", l)
		}
		if err == nil && !strings.Contains(string(out), "Succeeded") {
			err = errors.New("status --watch ended before the operation did")
		}
		done <- err
	}()
	return func() error { return <-done }, nil
}

func (s *Story) rollback(ctx context.Context) error {
	if _, err := s.wc(ctx, "rollback", "--yes", "--to", "previous"); err != nil {
		return err
	}
	if err := s.compare(ctx, "2.9.0", []string{"llm"}, []string{"podinfo", "asr", "diarize"}); err != nil {
		return err
	}
	if err := s.serves(ctx, "asr", "asr-large-v3"); err != nil {
		return err
	}
	if err := s.says(ctx, "that what runs may be given other values, though a newer release is loaded", "Release 2.8.0", "plan", "--release", "2.8.0"); err != nil {
		return err
	}
	if err := s.cleanManifest(ctx); err != nil {
		return err
	}
	if err := s.history(ctx, 3); err != nil {
		return err
	}
	return s.remember(ctx, "rollback")
}

// badRelease loads 2.10.0 by its patch and applies it: the gate fails and 2.8.0 runs again.
func (s *Story) badRelease(ctx context.Context) error {
	if _, err := s.wc(ctx, "load", s.path("r2-to-r3.wcp")); err != nil {
		return err
	}
	if err := s.approve(ctx, "r2-to-r3.wcp"); err != nil {
		return err
	}
	if err := s.refused(ctx, 21, "rolled back at pool asr", "apply", "--yes"); err != nil {
		return err
	}
	st, err := s.wc(ctx, "status")
	if err != nil {
		return err
	}
	if !strings.Contains(st.stdout, "not ready and will not be") || strings.Contains(st.stdout, secretValue) {
		return errors.New("status lacks the failing server's last words, or shows a Secret's value")
	}
	if err := s.fromRegistry(ctx); err != nil {
		return err
	}
	if err := s.serves(ctx, "asr", "asr-large-v3"); err != nil {
		return err
	}
	if err := s.compare(ctx, "rollback", []string{"llm", "diarize"}, []string{"podinfo"}); err != nil {
		return err
	}
	if err := s.cleanManifest(ctx); err != nil {
		return err
	}
	return s.history(ctx, 5)
}

// secretValue is the password of the product's chart; it stands in a Secret, in the pods' environment and in their logs.
const secretValue = "fake-Passw0rd-31337-not-real"

func (s *Story) support(ctx context.Context) error {
	logs, err := s.kube.CoreV1().Pods(namespace).GetLogs("wordcab-diarize-0", &corev1.PodLogOptions{}).DoRaw(ctx)
	if err != nil {
		return err
	}
	if !strings.Contains(string(logs), secretValue) {
		return errors.New("the log does not have the password that was to be redacted: the check would prove nothing")
	}
	out := s.path("support.tar.gz")
	if _, err := s.wc(ctx, "support-bundle", "--out", out); err != nil {
		return err
	}
	key := s.path("state/wordcab/site.pub")
	if _, err := s.wc(ctx, "support-bundle", "verify", "--key", key, out); err != nil {
		return err
	}
	if err := s.searchSupport(out); err != nil {
		return err
	}
	if err := flip(out, -100); err != nil {
		return err
	}
	return s.refused(ctx, 12, "damaged", "support-bundle", "verify", "--key", key, out)
}

func flip(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if at < 0 {
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		at += end
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return err
}
