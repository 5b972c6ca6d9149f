package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pods are the product's living pods by name: not that of a Job that runs an operation.
func (s *Story) pods(ctx context.Context) (map[string]corev1.Pod, error) {
	list, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	out := map[string]corev1.Pod{}
	for _, p := range list.Items {
		if p.Labels["bundle.wordcab.com/run"] == "" && p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
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
