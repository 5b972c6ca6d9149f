package preflight

import (
	"fmt"
	"sort"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// workload is a rendered Deployment or StatefulSet.
type workload struct {
	kind, name  string
	replicas    int
	pod         corev1.PodSpec
	requests    Quantities
	surge, unav *intstr.IntOrString
	recreate    bool
	stateful    bool
}

func (w workload) ref() string { return w.kind + "/" + w.name }

// claim is a rendered PersistentVolumeClaim or a claim template. A nil class asks for the default class; an empty one
// for a volume that somebody made by hand.
type claim struct {
	subject string
	class   *string
}

type imageUse struct{ image, subject string }

// rendered is what the checks need of the rendered chart. problem is set when a document could not be read.
type rendered struct {
	workloads []workload
	claims    []claim
	images    []imageUse
	pods      []corev1.PodSpec // of everything that runs pods, for node eligibility
	problem   string
}

func parseManifest(text string) rendered {
	var r rendered
	for i, doc := range splitDocs(text) {
		if err := r.document([]byte(doc)); err != nil {
			r.problem = fmt.Sprintf("document %d: %v", i+1, err)
			return r
		}
	}
	sort.SliceStable(r.workloads, func(i, j int) bool { return r.workloads[i].ref() < r.workloads[j].ref() })
	return r
}

// splitDocs cuts a YAML stream at lines that begin a document.
func splitDocs(text string) []string {
	var docs []string
	var cur strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "---") && strings.TrimRight(line, " \t\r\n") == "---" || strings.HasPrefix(line, "--- #") {
			docs = append(docs, cur.String())
			cur.Reset()
			continue
		}
		cur.WriteString(line)
	}
	return append(docs, cur.String())
}

func (r *rendered) document(doc []byte) error {
	var head struct {
		Kind     string `json:"kind"`
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Items []map[string]any `json:"items"`
	}
	if err := yaml.Unmarshal(doc, &head); err != nil {
		return err
	}
	switch head.Kind {
	case "List":
		return r.list(head.Items)
	case "Deployment", "StatefulSet":
		return r.scaled(head.Kind, doc)
	case "PersistentVolumeClaim":
		var pvc corev1.PersistentVolumeClaim
		if err := yaml.Unmarshal(doc, &pvc); err != nil {
			return err
		}
		r.claims = append(r.claims, claim{"PersistentVolumeClaim/" + pvc.Name, classOf(&pvc)})
	case "DaemonSet", "Job", "CronJob", "Pod":
		return r.single(head.Kind, head.Metadata.Name, doc)
	}
	return nil
}

func (r *rendered) list(docs []map[string]any) error {
	for _, d := range docs {
		raw, err := yaml.Marshal(d)
		if err != nil {
			return err
		}
		if err := r.document(raw); err != nil {
			return err
		}
	}
	return nil
}

func (r *rendered) scaled(kind string, doc []byte) error {
	w := workload{kind: kind, replicas: 1}
	switch kind {
	case "Deployment":
		var d appsv1.Deployment
		if err := yaml.Unmarshal(doc, &d); err != nil {
			return err
		}
		w.name, w.pod = d.Name, d.Spec.Template.Spec
		w.recreate = d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
		if d.Spec.Replicas != nil {
			w.replicas = int(*d.Spec.Replicas)
		}
		if ru := d.Spec.Strategy.RollingUpdate; ru != nil {
			w.surge, w.unav = ru.MaxSurge, ru.MaxUnavailable
		}
	case "StatefulSet":
		var s appsv1.StatefulSet
		if err := yaml.Unmarshal(doc, &s); err != nil {
			return err
		}
		w.name, w.pod, w.stateful = s.Name, s.Spec.Template.Spec, true
		if s.Spec.Replicas != nil {
			w.replicas = int(*s.Spec.Replicas)
		}
		for i := range s.Spec.VolumeClaimTemplates {
			t := &s.Spec.VolumeClaimTemplates[i]
			r.claims = append(r.claims, claim{"StatefulSet/" + s.Name + " claim " + t.Name, classOf(t)})
		}
	}
	w.requests = podRequests(&w.pod)
	r.workloads = append(r.workloads, w)
	r.pod(w.ref(), w.pod)
	return nil
}

func (r *rendered) single(kind, name string, doc []byte) error {
	var spec corev1.PodSpec
	var err error
	switch kind {
	case "DaemonSet":
		var d appsv1.DaemonSet
		err = yaml.Unmarshal(doc, &d)
		spec = d.Spec.Template.Spec
	case "Job":
		var j batchv1.Job
		err = yaml.Unmarshal(doc, &j)
		spec = j.Spec.Template.Spec
	case "CronJob":
		var j batchv1.CronJob
		err = yaml.Unmarshal(doc, &j)
		spec = j.Spec.JobTemplate.Spec.Template.Spec
	case "Pod":
		var p corev1.Pod
		err = yaml.Unmarshal(doc, &p)
		spec = p.Spec
	}
	if err != nil {
		return err
	}
	r.pod(kind+"/"+name, spec)
	return nil
}

func (r *rendered) pod(subject string, spec corev1.PodSpec) {
	r.pods = append(r.pods, spec)
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for _, c := range list {
			r.images = append(r.images, imageUse{c.Image, subject})
		}
	}
	for _, v := range spec.Volumes {
		switch {
		case v.Image != nil:
			r.images = append(r.images, imageUse{v.Image.Reference, subject})
		case v.Ephemeral != nil && v.Ephemeral.VolumeClaimTemplate != nil:
			t := v.Ephemeral.VolumeClaimTemplate
			r.claims = append(r.claims, claim{subject + " volume " + v.Name, t.Spec.StorageClassName})
		}
	}
}

// classOf is the class that a claim asks for; the old annotation still wins over nothing.
func classOf(p *corev1.PersistentVolumeClaim) *string {
	if old, ok := p.Annotations["volume.beta.kubernetes.io/storage-class"]; ok {
		return &old
	}
	return p.Spec.StorageClassName
}
