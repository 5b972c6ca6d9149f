package story

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// canary replaces one of asr's replicas and drops it again; meanwhile a pod of a pool on hold dies.
func (s *Story) canary(ctx context.Context) error {
	if err := s.refused(ctx, 22, "1 of 2 replicas of pool asr are the canary", "apply", "--yes", "--release", "2.9.0", "--canary", "asr=1"); err != nil {
		return err
	}
	if err := s.share(ctx, "asr", map[string]int{"asr-large-v3": 1, "asr-large-v4": 1}); err != nil {
		return err
	}
	if err := s.killHeld(ctx, "wordcab-diarize-0"); err != nil {
		return err
	}
	if err := s.says(ctx, "what can be done about a canary", "wcbundle canary promote", "status"); err != nil {
		return err
	}
	if err := s.refused(ctx, 22, "canary", "resume"); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "canary", "drop", "--reason", "answers are worse"); err != nil {
		return err
	}
	if err := s.compare(ctx, "rollback", []string{"llm", "podinfo"}, nil); err != nil {
		return err
	}
	return s.backAt280(ctx)
}

// backAt280 is where each of these steps ends: two revisions more, and 2.8.0 runs.
func (s *Story) backAt280(ctx context.Context) error {
	if err := s.serves(ctx, "asr", "asr-large-v3"); err != nil {
		return err
	}
	if err := s.fromRegistry(ctx); err != nil {
		return err
	}
	if err := s.cleanManifest(ctx); err != nil {
		return err
	}
	s.more += 2
	if err := s.history(ctx, 3); err != nil {
		return err
	}
	return s.remember(ctx, "rollback")
}

// share counts which model the pods of a pool serve.
func (s *Story) share(ctx context.Context, pool string, want map[string]int) error {
	pods, err := s.pods(ctx)
	if err != nil {
		return err
	}
	got := map[string]int{}
	for name := range pods {
		if !strings.HasPrefix(name, "wordcab-"+pool+"-") {
			continue
		}
		raw, err := s.kube.CoreV1().Pods(namespace).ProxyGet("http", name, "8080", "/v1/models", nil).DoRaw(ctx)
		if err != nil {
			return fmt.Errorf("asking %s for its models: %w", name, err)
		}
		for model := range want {
			if strings.Contains(string(raw), `"`+model+`"`) {
				got[model]++
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("the pods of %s serve %v, want %v", pool, got, want)
	}
	s.say("the pods of %s serve %v", pool, got)
	return nil
}

// killHeld deletes a pod of a pool on hold and wants the same image back.
func (s *Story) killHeld(ctx context.Context, name string) error {
	before, err := s.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if err := s.kube.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	for range 300 {
		p, err := s.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
		if err == nil && p.UID != before.UID && ready(*p) {
			if got, want := p.Spec.Containers[0].Image, before.Spec.Containers[0].Image; got != want {
				return fmt.Errorf("a pod of a pool on hold came back with %s, want %s", got, want)
			}
			s.say("%s was killed while its pool was on hold and came back as it was", name)
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return fmt.Errorf("%s did not come back", name)
}

// paused: another person pauses a running apply; it goes on up to a pool, and is turned back.
func (s *Story) paused(ctx context.Context) error {
	type end struct {
		result
		err error
	}
	done := make(chan end, 1)
	before, err := s.operation(ctx)
	if err != nil {
		return err
	}
	go func() {
		r, err := s.exec(ctx, "apply", "--yes", "--release", "2.9.0")
		done <- end{r, err}
	}()
	for { // until it has begun
		now, err := s.operation(ctx)
		if err != nil {
			return err
		}
		if now != before {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	if _, err := s.wc(ctx, "pause", "--reason", "users complain"); err != nil {
		return err
	}
	e := <-done
	if e.err != nil {
		return e.err
	}
	if e.code != 22 || !strings.Contains(e.stderr, "users complain") {
		return fmt.Errorf("the paused apply ended with %d:\n%s", e.code, e.stderr)
	}
	closed := time.Now().Add(2*time.Hour).Format("15:04") + "-" + time.Now().Add(3*time.Hour).Format("15:04")
	if err := s.refused(ctx, 2, "is not open", "resume", "--window", closed); err != nil {
		return err
	}
	if err := s.refused(ctx, 22, "done up to asr", "resume", "--until", "asr", "--window", "1h"); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "abort", "--reason", "the window closes"); err != nil {
		return err
	}
	if err := s.compare(ctx, "rollback", []string{"llm", "diarize"}, nil); err != nil {
		return err
	}
	return s.backAt280(ctx)
}

// stuckSet: a StatefulSet waits for ever for a pod of a bad revision, whatever its template says since (Kubernetes issue 67250).
func (s *Story) stuckSet(ctx context.Context) error {
	if err := s.remember(ctx, "stuck"); err != nil {
		return err
	}
	values := s.path("bad-diarize.yaml")
	text := "pools:\n  asr: {image: \"registry.example.com/wordcab/modelserver:2.0.0\"}\n  diarize: {image: \"registry.example.com/wordcab/modelserver:3.0.0\"}\n"
	if err := os.WriteFile(values, []byte(text), 0o644); err != nil {
		return err
	}
	r, err := s.exec(ctx, "apply", "--yes", "--release", "2.10.0", "-f", values, "--only", "diarize")
	if err != nil {
		return err
	}
	if r.code != 21 || !strings.Contains(r.stderr, "rolled back at pool diarize") {
		return fmt.Errorf("the apply ended with %d:\n%s", r.code, r.stderr)
	}
	if !strings.Contains(r.stderr, "ends its work") {
		return errors.New("the replica that went first was not drained")
	}
	s.say("diarize was drained, did not become ready, and was taken back")
	if err := s.compare(ctx, "stuck", []string{"llm", "asr", "podinfo"}, nil); err != nil {
		return err
	}
	pods, err := s.pods(ctx)
	if err != nil {
		return err
	}
	if _, ok := pods["wordcab-diarize-1"]; !ok {
		return errors.New("the StatefulSet is still stuck")
	}
	if err := s.serves(ctx, "diarize", "diarize-v1"); err != nil {
		return err
	}
	s.more += 2
	return s.cleanManifest(ctx)
}

// detached: a Job in the cluster applies and goes back; its pod is killed in the middle, and the next one goes on, in the same revision.
func (s *Story) detached(ctx context.Context) error {
	begin := func(args ...string) error {
		before, err := s.operation(ctx)
		if err != nil {
			return err
		}
		if _, err := s.wc(ctx, args...); err != nil {
			return err
		}
		for range 600 {
			now, err := s.operation(ctx)
			if err != nil {
				return err
			}
			if now != before {
				return nil
			}
			time.Sleep(200 * time.Millisecond)
		}
		return errors.New("the Job does not begin: " + s.jobSays(ctx))
	}
	if err := begin("apply", "--yes", "--release", "2.9.0", "--detach"); err != nil {
		return err
	}
	time.Sleep(5 * time.Second) // anywhere in the middle will do
	if err := s.killRun(ctx); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "status", "--watch"); err != nil {
		return fmt.Errorf("%w\n%s", err, s.jobSays(ctx))
	}
	if err := s.compare(ctx, "rollback", []string{"llm"}, []string{"podinfo", "asr", "diarize"}); err != nil {
		return err
	}
	if err := s.serves(ctx, "asr", "asr-large-v4"); err != nil {
		return err
	}
	if err := begin("rollback", "--yes", "--to", "previous", "--detach"); err != nil {
		return err
	}
	if _, err := s.wc(ctx, "status", "--watch"); err != nil {
		return fmt.Errorf("%w\n%s", err, s.jobSays(ctx))
	}
	if err := s.settledRun(ctx); err != nil {
		return err
	}
	return s.backAt280(ctx)
}

const runLabel = "bundle.wordcab.com/run=wordcab"

// killRun kills the Job's pod as a lost node would.
func (s *Story) killRun(ctx context.Context) error {
	list, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: runLabel})
	if err != nil {
		return err
	}
	now := int64(0)
	for _, p := range list.Items {
		if p.Status.Phase != corev1.PodRunning {
			continue
		}
		s.say("killing pod %s, which runs the operation", p.Name)
		return s.kube.CoreV1().Pods(namespace).Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	}
	return errors.New("no pod runs the operation: " + s.jobSays(ctx))
}

// jobSays is the last lines of the Job's pods.
func (s *Story) jobSays(ctx context.Context) string {
	list, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: runLabel})
	if err != nil {
		return err.Error()
	}
	var out []string
	lines := int64(15)
	for _, p := range list.Items {
		raw, err := s.kube.CoreV1().Pods(namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
		out = append(out, fmt.Sprintf("%s %s: %s %v", p.Name, p.Status.Phase, raw, err))
	}
	return strings.Join(out, "\n")
}

// settledRun wants nothing of the run left that lets anybody do anything.
func (s *Story) settledRun(ctx context.Context) error {
	for range 100 {
		_, err := s.kube.CoreV1().Secrets(namespace).Get(ctx, "wcbundle-run-wordcab", metav1.GetOptions{})
		_, err2 := s.kube.RbacV1().ClusterRoleBindings().Get(ctx, "wcbundle-run-wordcab-"+namespace, metav1.GetOptions{})
		if apierrors.IsNotFound(err) && apierrors.IsNotFound(err2) {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return errors.New("the run's Secret or its rights are left: " + s.jobSays(ctx))
}
