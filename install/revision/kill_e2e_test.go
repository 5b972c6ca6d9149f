//go:build e2e

package revision

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wordcab/wcbundle/rollout"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestEdge42Edge43Kill: a run that dies at any boundary is finished by the next one, in one revision.
func TestEdge42Edge43Kill(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"CRDs", "Staging", "record", "patch", "Measuring", "Releasing", "Replacing", "Gating", "Finalizing"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.must(rollout.Succeeded, s.apply("op1", s.v1()))
			s.kill(at)
			e := s.engine(s.request(s.v2()))
			if _, err := rollout.Resume(t.Context(), e, rollout.ResumeOptions{}); !errors.Is(err, rollout.ErrLocked) {
				t.Errorf("resume while the dead run has the lock: %v", err)
			}
			s.must(rollout.Succeeded, s.unlocked(func() (rollout.Outcome, error) { return rollout.Resume(t.Context(), e, rollout.ResumeOptions{}) }))
			s.revisions("1 superseded succeeded", "2 deployed succeeded")
			for _, app := range []string{"alpha", "beta", "gamma"} {
				s.images(app, "2", 2)
			}
			s.clean()
		})
	}
}

// TestEdge53KillAbort: an operation that died while it staged is taken back whole, and restarts nothing.
func TestEdge53KillAbort(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	before := []map[string]string{s.pods("alpha"), s.pods("beta"), s.pods("gamma")}
	s.kill("patch")
	e := s.engine(Request{Release: "story"})
	s.must(rollout.RolledBack, s.unlocked(func() (rollout.Outcome, error) { return rollout.Abort(t.Context(), e, "the window is over") }))
	s.revisions("1 superseded succeeded", "2 failed failed", "3 deployed succeeded")
	for i, app := range []string{"alpha", "beta", "gamma"} {
		if !maps.Equal(before[i], s.pods(app)) {
			t.Errorf("%s was restarted", app)
		}
	}
	d, err := s.c.Kube().AppsV1().Deployments(s.ns).Get(t.Context(), "alpha", metav1.GetOptions{})
	if err != nil || !strings.HasSuffix(d.Spec.Template.Spec.Containers[0].Image, ":1") {
		t.Errorf("alpha keeps the template of the aborted revision: %v", err)
	}
	s.clean()
}

// kill runs the upgrade to v2 in another process, which kills itself at a boundary.
func (s *site) kill(at string, more ...string) {
	s.t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.v")
	child.Env = append(append(os.Environ(), "WCBUNDLE_TEST_NAMESPACE="+s.ns, "WCBUNDLE_TEST_KILL="+at), more...)
	text, err := child.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		s.t.Fatalf("child was not killed: %v\n%s", err, text)
	}
}

// unlocked repeats f until the dead process's lock has expired.
func (s *site) unlocked(f func() (rollout.Outcome, error)) rollout.Outcome {
	s.t.Helper()
	for {
		out, err := f()
		if err == nil {
			return out
		}
		if !errors.Is(err, rollout.ErrLocked) {
			s.t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}

func (s *site) v2() want { return want{"1.1.0", tags("2", "2", "2"), s.pools()} }

// TestKillChild is the other process.
func TestKillChild(t *testing.T) {
	at := os.Getenv("WCBUNDLE_TEST_KILL")
	if at == "" {
		t.Skip("runs only as a child of TestEdge42Edge43Kill")
	}
	s := newSite(t)
	w := s.v2()
	if os.Getenv("WCBUNDLE_TEST_BAD") != "" {
		w = s.bad()
	}
	op := s.op("op2", w)
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	s.c.get.cfg.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			patch := r.Method == http.MethodPatch && r.URL.Query().Get("dryRun") == ""
			if at == "record" && patch && strings.Contains(r.URL.Path, "/deployments/alpha") ||
				at == "patch" && patch && strings.Contains(r.URL.Path, "/statefulsets/gamma") {
				die()
			}
			return next.RoundTrip(r)
		})
	}
	e := s.engine(s.request(w))
	e.OnEvent = func(p rollout.Progress) {
		s.note(p)
		if at == "stop" && p.Pool == "beta" && p.State == rollout.PoolReleasing {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		}
		if string(p.Phase) == at || string(p.State) == at && p.Pool == "beta" {
			die()
		}
	}
	out, err := rollout.Run(t.Context(), e, op)
	if at == "stop" && (errors.Is(err, rollout.ErrLockLost) || errors.Is(err, rollout.ErrConflict) || errors.Is(err, rollout.ErrInterrupted)) {
		t.Skip("stopped by whoever has the lock now, as its parent wants it")
	}
	t.Fatalf("survived: %+v, %v", out, err)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestEdge45Stopped: a run that sleeps for longer than its lock lives, and wakes up when another has ended its operation, changes nothing.
func TestEdge45Stopped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	child := exec.Command(os.Args[0], "-test.run=^TestKillChild$", "-test.v")
	child.Env = append(os.Environ(), "WCBUNDLE_TEST_NAMESPACE="+s.ns, "WCBUNDLE_TEST_KILL=stop")
	var text bytes.Buffer
	child.Stdout, child.Stderr = &text, &text
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill() }()
	for { // until it sleeps
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", child.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if _, state, _ := strings.Cut(string(b), ") "); strings.HasPrefix(state, "T") {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	e := s.engine(s.request(s.v2()))
	s.must(rollout.Succeeded, s.unlocked(func() (rollout.Outcome, error) { return rollout.Resume(t.Context(), e, rollout.ResumeOptions{}) }))
	before := s.all()
	if err := child.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err != nil {
		t.Errorf("the sleeper: %v\n%s", err, text.String())
	}
	settled()
	s.revisions("1 superseded succeeded", "2 deployed succeeded")
	if !maps.Equal(before, s.all()) {
		t.Error("the sleeper replaced pods")
	}
	s.clean()
}

// TestEdge46APIAway: an API server that is away for longer than the lock lives stops nothing: the same run goes on.
func TestEdge46APIAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must(rollout.Succeeded, s.apply("op1", s.v1()))
	var until atomic.Int64
	s.c.get.cfg.WrapTransport = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if time.Now().UnixNano() < until.Load() {
				return nil, errors.New("connection refused")
			}
			return next.RoundTrip(r)
		})
	}
	e := s.engine(s.request(s.v2()))
	away := false
	e.OnEvent = func(p rollout.Progress) {
		s.note(p)
		if p.Pool == "beta" && p.State == rollout.PoolReplacing && !away {
			away = true
			until.Store(time.Now().Add(10 * time.Second).UnixNano()) // the lock lives for 6 s here
		}
	}
	out, err := rollout.Run(t.Context(), e, s.op("op2", s.v2()))
	if err != nil {
		t.Fatal(err)
	}
	s.must(rollout.Succeeded, out)
	if !away {
		t.Error("it was never away")
	}
	s.revisions("1 superseded succeeded", "2 deployed succeeded")
	s.clean()
}

// bad fails at its second pool.
func (s *site) bad() want { return want{"1.1.0", tags("2", "2-nopull", "2"), s.pools()} }

// TestEdge42KillOnTheWayBack: a run that dies anywhere while it goes back is finished by the next one, in one revision more, and the pool that
// was never released keeps its pods.
func TestEdge42KillOnTheWayBack(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"Rehold", "Evidence", "Reverting", "RollingBack", "FinalizingBack"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.must(rollout.Succeeded, s.apply("op1", s.v1()))
			gamma := s.pods("gamma")
			s.kill(at, "WCBUNDLE_TEST_BAD=1")
			e := s.engine(s.request(s.bad()))
			s.must(rollout.RolledBack, s.unlocked(func() (rollout.Outcome, error) { return rollout.Resume(t.Context(), e, rollout.ResumeOptions{}) }))
			s.revisions("1 superseded succeeded", "2 superseded rolled-back", "3 deployed succeeded")
			for _, app := range []string{"alpha", "beta", "gamma"} {
				s.becomes(app, "1", 2)
			}
			if !maps.Equal(gamma, s.pods("gamma")) {
				t.Error("gamma was never released, and restarted")
			}
			s.clean()
		})
	}
}
