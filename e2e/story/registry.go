package story

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/install/siteregistry"
	"github.com/wordcab/wcbundle/registry"
)

// registry is one of three: the one that registry install brings up in the story's own cluster, the one that another cluster pulls from
// already, or without a cluster the embedded one on loopback. It returns how trust accept is told of it.
func (s *Story) registry(ctx context.Context) ([]string, error) {
	if s.env.Bootstrap {
		return s.bootstrap(ctx)
	}
	if s.env.Push == "" {
		if err := s.serveRegistry(ctx); err != nil {
			return nil, err
		}
	}
	var err error
	s.cosignAccess = []string{"--allow-http-registry"}
	s.reg, err = registry.New(registry.Options{Host: s.env.Push, PlainHTTP: true})
	return []string{"--registry", s.env.Push, "--pull-from", s.env.Pull, "--plain-http"}, err
}

func (s *Story) serveRegistry(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, s.env.Binary, "registry", "serve", "--addr", "127.0.0.1:0", "--dir", s.path("registry"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.serve = cmd
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the embedded registry did not start: %w", err)
	}
	s.env.Push = strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
	s.env.Pull = s.env.Push
	s.say("the embedded registry listens on %s", s.env.Push)
	return nil
}

// bootstrap brings a registry up in a cluster that has none and no way to get an image: from the bundle alone.
func (s *Story) bootstrap(ctx context.Context) ([]string, error) {
	if _, err := s.wc(ctx, "registry", "install", "--trust", s.path("trust.json"), "--size", "10Gi", "--wait", "3m", "--yes", s.path("r1.wcb")); err != nil {
		return nil, err
	}
	return []string{"--registry-in-cluster"}, s.find(ctx)
}

// find asks the cluster how its registry is reached now.
func (s *Story) find(ctx context.Context) error {
	found, err := siteregistry.Find(ctx, s.kube, siteregistry.DefaultNamespace)
	if err != nil {
		return err
	}
	s.env.Push, s.env.Pull = found.Push, found.Pull
	ca := s.path("registry-ca.pem")
	if err := os.WriteFile(ca, []byte(found.CA), 0o644); err != nil {
		return err
	}
	s.cosignAccess = []string{"--registry-cacert", ca, "--registry-username", found.Username, "--registry-password", found.Password}
	s.reg, err = registry.New(registry.Options{Host: found.Push, CA: found.CA, Login: registry.Login{Username: found.Username, Password: found.Password}})
	return err
}

// registryPods are the living pods of the cluster's registry.
func (s *Story) registryPods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.kube.CoreV1().Pods(siteregistry.DefaultNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=wcbundle-registry"})
	if err != nil {
		return nil, err
	}
	var out []corev1.Pod
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// loseRegistry takes the registry's pod away, and then the node it runs on: each time it comes back with all that it had, by itself.
func (s *Story) loseRegistry(ctx context.Context) error {
	pods, err := s.registryPods(ctx)
	if err != nil || len(pods) != 1 {
		return fmt.Errorf("%d registries run: %w", len(pods), err)
	}
	if err := s.kube.CoreV1().Pods(pods[0].Namespace).Delete(ctx, pods[0].Name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	next, err := s.otherRegistry(ctx, pods[0].Name, time.Minute)
	if err != nil {
		return err
	}
	if err := s.wholeAgain(ctx, "its pod was deleted"); err != nil {
		return err
	}
	if s.env.Nodes == "" {
		s.say("left out: its node can be taken away in the story's own cluster only")
		return nil
	}
	if err := s.killNode(next.Spec.NodeName); err != nil {
		return err
	}
	last, err := s.otherRegistry(ctx, next.Name, 5*time.Minute)
	if err != nil {
		return err
	}
	if last.Spec.NodeName == next.Spec.NodeName {
		return errors.New("the registry is said to run on the node that was lost")
	}
	return s.wholeAgain(ctx, "node "+next.Spec.NodeName+" was lost with everything on it")
}

// wholeAgain wants all of the newest release in the registry, byte for byte.
func (s *Story) wholeAgain(ctx context.Context, after string) error {
	if err := s.find(ctx); err != nil {
		return err
	}
	r, err := s.wc(ctx, "load", "--rehash", s.path("r2.wcb"))
	if err != nil {
		return err
	}
	if !strings.Contains(r.stdout, " 0 B pushed, 0 B rebuilt") || strings.Contains(r.stdout, "healed") {
		return errors.New("something was missing or damaged in the registry")
	}
	s.say("%s: the registry has every byte of 2.9.0", after)
	return nil
}

// otherRegistry waits for a registry in a pod of another name.
func (s *Story) otherRegistry(ctx context.Context, than string, within time.Duration) (corev1.Pod, error) {
	start := time.Now()
	for time.Since(start) < within {
		pods, err := s.registryPods(ctx)
		if err != nil {
			return corev1.Pod{}, err
		}
		for _, p := range pods {
			if p.Name != than && ready(p) {
				s.say("a new registry answers after %.0f s, on %s", time.Since(start).Seconds(), p.Spec.NodeName)
				return p, nil
			}
		}
		select {
		case <-ctx.Done():
			return corev1.Pod{}, ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return corev1.Pod{}, fmt.Errorf("no other registry in %s", within)
}

func ready(p corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// killNode ends the one process that a node of the test cluster is.
func (s *Story) killNode(name string) error {
	index := name[strings.LastIndex(name, "-n")+2:]
	b, err := os.ReadFile(filepath.Join(s.env.Nodes, "node-"+index))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return err
	}
	s.say("node %s is lost", name)
	return syscall.Kill(pid, syscall.SIGKILL)
}
