package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// fetched looks, after an upgrade, whether the new pods of asr found their images on their nodes, because they had been brought there
// before the first old pod was stopped.
func (s *Story) fetched(ctx context.Context) error {
	pods, err := s.pods(ctx)
	if err != nil {
		return err
	}
	for name := range pods {
		if strings.HasPrefix(name, "wcbundle-fetch-") {
			return fmt.Errorf("pod %s is left", name)
		}
	}
	events, err := s.kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Pod"})
	if err != nil {
		return err
	}
	found := 0
	for _, e := range events.Items {
		p, current := pods[e.InvolvedObject.Name]
		if !current || p.UID != e.InvolvedObject.UID || !strings.HasPrefix(p.Name, "wordcab-asr-") {
			continue
		}
		if e.Reason == "Pulling" {
			return fmt.Errorf("pod %s had to wait: %s", p.Name, e.Message)
		}
		if e.Reason == "Pulled" {
			found++
		}
	}
	if found == 0 {
		return errors.New("no event tells where the images of asr came from")
	}
	s.say("the new pods of asr found %d images on their node; no pod that fetched is left", found)
	return s.fetchRecorded(ctx)
}

// fetchRecorded wants the record to say that nothing was lacking.
func (s *Story) fetchRecorded(ctx context.Context) error {
	r, err := s.wc(ctx, "status", "-o", "json")
	if err != nil {
		return err
	}
	var st struct {
		Operation struct {
			Prefetch string
			Pools    []struct {
				Name  string
				Lacks []string
			}
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &st); err != nil {
		return err
	}
	if st.Operation.Prefetch != "try" {
		return fmt.Errorf("the operation's record has prefetch %q", st.Operation.Prefetch)
	}
	for _, p := range st.Operation.Pools {
		if len(p.Lacks) > 0 {
			return fmt.Errorf("pool %s lacked %v", p.Name, p.Lacks)
		}
	}
	return nil
}
