package support

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sort"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// logs keeps the logs of all containers, those of failing pods first.
func (c *collector) logs(ctx context.Context) error {
	if c.blind {
		c.s.fail("logs", "", errors.New("withheld: secrets could not be read, so logs cannot be scrubbed"))
		return nil
	}
	var pods []corev1.Pod
	for _, ns := range c.r.Namespaces {
		err := c.within(ctx, func(ctx context.Context) error {
			list, err := c.r.Kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
			if err == nil {
				pods = append(pods, list.Items...)
			}
			return err
		})
		if err != nil {
			c.s.fail("logs", ns, err)
		}
	}
	sort.SliceStable(pods, func(i, j int) bool {
		a, b := &pods[i], &pods[j]
		if fa, fb := podFails(a), podFails(b); fa != fb {
			return fa
		}
		return a.Namespace+"/"+a.Name < b.Namespace+"/"+b.Name
	})
	for i := range pods {
		if err := c.podLogs(ctx, &pods[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) podLogs(ctx context.Context, p *corev1.Pod) error {
	restarts := map[string]int32{}
	for _, list := range [][]corev1.ContainerStatus{p.Status.InitContainerStatuses, p.Status.ContainerStatuses} {
		for _, s := range list {
			restarts[s.Name] = s.RestartCount
		}
	}
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, ct := range list {
			if err := c.log(ctx, p, ct.Name, false); err != nil {
				return err
			}
			if restarts[ct.Name] == 0 {
				continue
			}
			if err := c.log(ctx, p, ct.Name, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collector) log(ctx context.Context, p *corev1.Pod, container string, previous bool) error {
	name := container
	if previous {
		name += "-previous"
	}
	subject := p.Namespace + "/" + p.Name + "/" + name
	limit := min(c.r.PerContainer, c.s.left())
	if limit <= 0 {
		c.s.fail("logs", subject, errors.New("left out: the bundle's limit is reached"))
		return nil
	}
	since := int64(c.r.Since.Seconds())
	var tail []byte
	var cut bool
	err := c.within(ctx, func(ctx context.Context) error {
		r, err := c.r.Logs.Logs(ctx, p.Namespace, p.Name, &corev1.PodLogOptions{
			Container: container, Previous: previous, SinceSeconds: &since, Timestamps: true})
		if err != nil {
			return err
		}
		defer r.Close()
		tail, cut, err = keepTail(r, int(limit))
		return err
	})
	if err != nil {
		c.s.fail("logs", subject, err) // what was read before is kept all the same
		if len(tail) == 0 {
			return nil
		}
	}
	f := File{Path: c.s.path("cluster-resources/pods/logs", p.Namespace, p.Name, name+".log"), Collector: "logs", Truncated: cut}
	f.Note = c.logNote(p, tail, cut)
	if !utf8.Valid(tail) {
		tail = bytes.ToValidUTF8(tail, []byte("?"))
	}
	return c.s.put(f, c.s.scrub.text(tail, c.s.hit(f.Path)))
}

// logNote says where a log begins when that is later than was asked for and than the pod's start.
func (c *collector) logNote(p *corev1.Pod, tail []byte, cut bool) string {
	stamp, _, _ := bytes.Cut(tail, []byte(" "))
	oldest, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return ""
	}
	asked := c.r.Now.Add(-c.r.Since)
	if p.Status.StartTime != nil && p.Status.StartTime.After(asked) {
		asked = p.Status.StartTime.Time
	}
	if oldest.Sub(asked) < 10*time.Minute {
		return ""
	}
	why := "rotated away or silent before"
	if cut {
		why = "cut to the size limit"
	}
	return fmt.Sprintf("asked for %s, oldest line is %s old (%s)", c.r.Since, c.r.Now.Sub(oldest).Truncate(time.Minute), why)
}

// keepTail reads to the end and keeps the last limit bytes, from the start of a line on: the rest of a line whose
// beginning is gone could be the rest of a secret. It says whether anything was cut. At most twice the limit is held.
func keepTail(r io.Reader, limit int) ([]byte, bool, error) {
	var buf []byte
	chunk, cut := make([]byte, 32<<10), false
	for {
		n, err := r.Read(chunk)
		buf = append(buf, chunk[:n]...)
		if len(buf) > 2*limit {
			buf = append(buf[:0], buf[len(buf)-limit-1:]...)
			cut = true
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		tail, more := wholeLines(buf, limit, cut)
		return tail, cut || more, err
	}
}

// wholeLines is the last limit bytes of buf without a first line that is not whole.
func wholeLines(buf []byte, limit int, cut bool) ([]byte, bool) {
	if len(buf) <= limit && !cut {
		return buf, false
	}
	from := max(0, len(buf)-limit)
	if from > 0 && buf[from-1] == '\n' {
		return buf[from:], true
	}
	i := bytes.IndexByte(buf[from:], '\n')
	if i < 0 {
		return nil, true
	}
	return buf[from+i+1:], true
}
