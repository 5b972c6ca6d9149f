// Package story is the main job from end to end, as the three users do it: a release engineer builds, signs and patches, a
// site without a network verifies, loads, rolls out and goes back, and four hostile files are refused. Every step runs the
// real binary and then looks for itself: digests, pods, Helm's history. make demo prints it, make e2e asserts it.
package story

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/wordcab/wcbundle/registry"
)

// Env is what a story runs with.
type Env struct {
	Binary     string // wcbundle
	Fixtures   string // what e2e/fixtures wrote
	Work       string // empty folder for bundles, keys and the site's state
	Cosign     string // upstream's CLI; "" leaves its check out
	Kubeconfig string // "" leaves out all that needs a cluster
	Push, Pull string // the site's registry, from here and from the nodes
	Bootstrap  bool   // the cluster has no registry: registry install brings one up
	Nodes      string // folder with the process ids of the cluster's nodes, which may be killed; "" = they may not
	Out        io.Writer
}

// Step is one numbered part of the story.
type Step struct {
	Title string
	Run   func(ctx context.Context) error
}

// Story keeps what later steps compare with.
type Story struct {
	env   Env
	kube  kubernetes.Interface
	reg   *registry.Registry
	uids  map[string]map[string]string // moment -> pod -> uid
	more  int                          // revisions that steps made which the counts of others do not know
	serve *exec.Cmd

	cosignAccess []string // how upstream's CLI is told to reach the registry
}

// New prepares a story.
func New(env Env) (*Story, error) {
	s := &Story{env: env, uids: map[string]map[string]string{}}
	if env.Kubeconfig != "" {
		cfg, err := clientcmd.BuildConfigFromFlags("", env.Kubeconfig)
		if err != nil {
			return nil, err
		}
		if s.kube, err = kubernetes.NewForConfig(cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close ends what the story started.
func (s *Story) Close() {
	if s.serve != nil {
		s.serve.Process.Kill()
		s.serve.Wait()
	}
}

const lossTitle = "the registry's pod is lost, and its node"

// Steps lists the story. Without a cluster the steps that need one are left out and named in the second result.
func (s *Story) Steps() ([]Step, []string) {
	all := []struct {
		Step
		cluster bool
	}{
		{Step{"the release engineer builds three releases; the same inputs give the same bytes", s.build}, false},
		{Step{"keys, signatures and the trust policy", s.sign}, false},
		{Step{"patches: deltas inside layers and weights", s.patch}, false},
		{Step{"the site: trust, verify and load the full release 2.8.0", s.site}, false},
		{Step{"preflight, plan and apply 2.8.0", s.install}, true},
		{Step{"verify and load the patch; every digest equals the full bundle's", s.loadPatch}, false},
		{Step{"plan and apply 2.9.0 pool by pool in one Helm revision", s.upgrade}, true},
		{Step{"a pod that an operator makes at run time", s.madeAtRunTime}, true},
		{Step{"rollback to the previous release", s.rollback}, true},
		{Step{"an upgrade and a way back by a Job in the cluster, whose pod is killed", s.detached}, true},
		{Step{"edge 6, 36: a canary, dropped; a killed pod of a pool on hold comes back as it was", s.canary}, true},
		{Step{"edge 49: pause, a closed window, and going on", s.paused}, true},
		{Step{"a release whose model server never becomes ready", s.badRelease}, true},
		{Step{"edge 52: a StatefulSet that is stuck at a bad revision is freed", s.stuckSet}, true},
		{Step{"T37 the security team's drop: out of turn, with its CVE, and not to be undone", s.drop}, true},
		{Step{"T50 back to what was revoked: only with a reason, and the open CVE is shown", s.revoked}, true},
		{Step{"a support bundle without secrets, signed", s.support}, true},
		{Step{"hostile files: flipped, unsigned, for another base, too old", s.hostile}, false},
		{Step{"what the site holds, told to the vendor; what nothing needs is freed", s.retention}, true},
		{Step{lossTitle, s.loseRegistry}, true},
	}
	var steps []Step
	var left []string
	for _, st := range all {
		if st.cluster && s.kube == nil || st.Title == lossTitle && !s.env.Bootstrap {
			left = append(left, st.Title)
			continue
		}
		steps = append(steps, st.Step)
	}
	return steps, left
}

func (s *Story) path(name string) string { return filepath.Join(s.env.Work, name) }

func (s *Story) say(format string, a ...any) { fmt.Fprintf(s.env.Out, "  "+format+"\n", a...) }

// result is a finished command.
type result struct {
	stdout, stderr string
	code           int
	took           time.Duration
}

// wc runs wcbundle and shows it. It fails unless the exit code is 0.
func (s *Story) wc(ctx context.Context, args ...string) (result, error) {
	r, err := s.exec(ctx, args...)
	if err == nil && r.code != 0 {
		err = fmt.Errorf("wcbundle %s: exit code %d:\n%s", strings.Join(args, " "), r.code, r.stderr)
	}
	return r, err
}

// refused runs wcbundle and fails unless it ends with this exit code and says this.
func (s *Story) refused(ctx context.Context, code int, says string, args ...string) error {
	r, err := s.exec(ctx, args...)
	if err != nil {
		return err
	}
	if r.code != code || !strings.Contains(r.stderr, says) {
		return fmt.Errorf("wcbundle %s: want exit code %d and %q, got %d:\n%s", strings.Join(args, " "), code, says, r.code, r.stderr)
	}
	return nil
}

func (s *Story) exec(ctx context.Context, args ...string) (result, error) {
	s.say("$ wcbundle %s", strings.Join(s.short(args), " "))
	cmd := exec.CommandContext(ctx, s.env.Binary, args...)
	cmd.Dir, cmd.Env = s.env.Work, s.environ()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	start := time.Now()
	err := cmd.Run()
	r := result{stdout: out.String(), stderr: errOut.String(), took: time.Since(start)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		r.code, err = exit.ExitCode(), nil
	}
	if err != nil {
		return r, err
	}
	shown := r.stderr + r.stdout
	if strings.Contains(strings.Join(args, " "), "json") {
		shown = r.stderr
	}
	for _, line := range strings.Split(strings.TrimSpace(shown), "\n") {
		if line != "" {
			s.say("  %s", line)
		}
	}
	s.say("  (%.1f s, exit code %d)", r.took.Seconds(), r.code)
	return r, nil
}

// short leaves the folder names out of what is printed.
func (s *Story) short(args []string) []string {
	out := make([]string, len(args))
	for i, a := range args {
		a = strings.TrimPrefix(a, s.env.Work+"/")
		out[i] = strings.TrimPrefix(a, filepath.Dir(s.env.Fixtures)+"/")
	}
	return out
}

func (s *Story) environ() []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.env.Work, "TMPDIR=" + os.TempDir(), "WCBUNDLE_PASSWORD=demo", "COSIGN_PASSWORD=demo",
		"WCBUNDLE_STATE_DIR=" + s.path("state"), "WCBUNDLE_NAMESPACE=wordcab"}
	if s.env.Kubeconfig != "" {
		env = append(env, "WCBUNDLE_KUBECONFIG="+s.env.Kubeconfig)
	}
	return env
}

// FromEnvironment reads what e2e/run.sh sets.
func FromEnvironment(getenv func(string) string, out io.Writer) Env {
	return Env{Binary: getenv("STORY_BINARY"), Fixtures: getenv("STORY_FIXTURES"), Work: getenv("STORY_WORK"), Cosign: getenv("STORY_COSIGN"),
		Kubeconfig: getenv("STORY_KUBECONFIG"), Push: getenv("STORY_PUSH"), Pull: getenv("STORY_PULL"), Bootstrap: getenv("STORY_BOOTSTRAP") != "", Nodes: getenv("STORY_NODES"), Out: out}
}
