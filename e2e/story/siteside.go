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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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

// pods are the product's living pods by name.
func (s *Story) pods(ctx context.Context) (map[string]corev1.Pod, error) {
	list, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := map[string]corev1.Pod{}
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			out[p.Name] = p
		}
	}
	return out, nil
}

// fromRegistry wants every image of every pod pinned by digest in the in-cluster registry, and every pod ready.
func (s *Story) fromRegistry(ctx context.Context) error {
	pods, err := s.pods(ctx)
	if err != nil {
		return err
	}
	if len(pods) < 8 {
		return fmt.Errorf("only %d pods run", len(pods))
	}
	for name, p := range pods {
		for _, c := range append(p.Spec.InitContainers, p.Spec.Containers...) {
			if !strings.HasPrefix(c.Image, s.env.Pull+"/") || !strings.Contains(c.Image, "@sha256:") {
				return fmt.Errorf("pod %s runs %s, which is not from the in-cluster registry by digest", name, c.Image)
			}
		}
		for _, c := range p.Status.ContainerStatuses {
			if !c.Ready {
				return fmt.Errorf("pod %s is not ready", name)
			}
		}
	}
	s.say("%d pods are ready; every image is pulled by digest from %s", len(pods), s.env.Pull)
	return nil
}

// serves asks a pool's pods, through the API server, which model they have.
func (s *Story) serves(ctx context.Context, pool, model string) error {
	pods, err := s.pods(ctx)
	if err != nil {
		return err
	}
	asked := 0
	for name := range pods {
		if !strings.HasPrefix(name, "wordcab-"+pool+"-") {
			continue
		}
		raw, err := s.kube.CoreV1().Pods(namespace).ProxyGet("http", name, "8080", "/v1/models", nil).DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("asking %s for its models: %w", name, err)
		}
		if !strings.Contains(string(raw), `"`+model+`"`) {
			return fmt.Errorf("%s serves %s, not %s", name, raw, model)
		}
		asked++
	}
	if asked == 0 {
		return fmt.Errorf("pool %s has no pods", pool)
	}
	s.say("%d pods of %s serve %s", asked, pool, model)
	return nil
}

// remember keeps the pods' uids under a name.
func (s *Story) remember(ctx context.Context, moment string) error {
	pods, err := s.pods(ctx)
	if err != nil {
		return err
	}
	s.uids[moment] = map[string]string{}
	for name, p := range pods {
		s.uids[moment][name] = string(p.UID)
	}
	return nil
}

// compare wants the pods of some pools to be the same as at a moment, and those of others to be new.
func (s *Story) compare(ctx context.Context, moment string, same, replaced []string) error {
	pods, err := s.pods(ctx)
	if err != nil {
		return err
	}
	for _, pool := range append(append([]string{}, same...), replaced...) {
		kept, fresh := 0, 0
		for name, p := range pods {
			if !strings.HasPrefix(name, "wordcab-"+pool+"-") {
				continue
			}
			if s.uids[moment][name] == string(p.UID) {
				kept++
			} else {
				fresh++
			}
		}
		stays := strings.Contains(" "+strings.Join(same, " ")+" ", " "+pool+" ")
		if stays && (fresh > 0 || kept == 0) || !stays && (kept > 0 || fresh == 0) {
			return fmt.Errorf("pool %s since %s: %d pods kept, %d new", pool, moment, kept, fresh)
		}
		s.say("pool %-8s since %s: %d pods kept their uid, %d are new", pool, moment, kept, fresh)
	}
	return nil
}

// history wants this many revisions, and shows them.
func (s *Story) history(ctx context.Context, want int) error {
	if _, err := s.wc(ctx, "history"); err != nil {
		return err
	}
	r, err := s.wc(ctx, "history", "-o", "json")
	if err != nil {
		return err
	}
	var rows []struct{ Revision int }
	if err := json.Unmarshal([]byte(r.stdout), &rows); err != nil {
		return err
	}
	secrets, err := s.kube.CoreV1().Secrets(namespace).List(ctx, metav1.ListOptions{LabelSelector: "owner=helm"})
	if err != nil {
		return err
	}
	if want += s.more; len(rows) != want || len(secrets.Items) != want {
		return fmt.Errorf("history has %d revisions and Helm stores %d, want %d", len(rows), len(secrets.Items), want)
	}
	return nil
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
		if e.code == 20 && strings.Contains(e.stderr, "is at work on this release now") {
			e.code = 75 // preflight saw it before the lock did
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

// operation is the id of the newest operation, as the cluster has it.
func (s *Story) operation(ctx context.Context) (string, error) {
	cm, err := s.kube.CoreV1().ConfigMaps(namespace).Get(ctx, "wcbundle-op-wordcab", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	var op struct{ ID string }
	return op.ID, errors.Join(json.Unmarshal([]byte(cm.Data["operation.json"]), &op))
}

// cleanManifest wants no hold in what Helm stored or what runs.
func (s *Story) cleanManifest(ctx context.Context) error {
	deps, err := s.kube.AppsV1().Deployments(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, d := range deps.Items {
		if d.Spec.Paused || d.Annotations["bundle.wordcab.com/held-by"] != "" {
			return fmt.Errorf("%s is still on hold", d.Name)
		}
	}
	sets, err := s.kube.AppsV1().StatefulSets(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, d := range sets.Items {
		if p := d.Spec.UpdateStrategy.RollingUpdate; p != nil && p.Partition != nil && *p.Partition != 0 {
			return fmt.Errorf("%s is still on hold (partition %d)", d.Name, *p.Partition)
		}
	}
	s.say("no workload is on hold")
	return nil
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
