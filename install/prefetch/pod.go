package prefetch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	labelFor    = "bundle.wordcab.com/fetch-for" // name of the release
	programs    = "wcbundle-fetch"               // volume with the programs
	programsDir = "/wcbundle-fetch"
	cacheEnv    = "WCBUNDLE_MODEL_CACHE"
	onlyEnv     = "WCBUNDLE_CACHE_ONLY"
	uid         = 65532
	deadline    = 3 * 60 * 60 // seconds until a pod that nobody looks after ends by itself
	modelPrefix = "model-"    // of the names of containers that fill the cache
)

// order is what one pod is to fetch.
type order struct {
	namespace, release string
	op, workload       string
	spec               *corev1.PodSpec // of the workload's pods
	place              place
}

// pod is the one that fetches. Equal orders make pods of equal names.
func (o order) pod() *corev1.Pod {
	no, deadline, grace := false, int64(deadline), int64(1)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.namespace, Name: o.name(), Labels: map[string]string{
			"app.kubernetes.io/managed-by": "wcbundle", labelFor: o.release}},
		Spec: corev1.PodSpec{
			NodeName: o.place.node, Tolerations: o.spec.Tolerations, RestartPolicy: corev1.RestartPolicyOnFailure,
			ImagePullSecrets: o.spec.ImagePullSecrets, ServiceAccountName: o.spec.ServiceAccountName, AutomountServiceAccountToken: &no,
			EnableServiceLinks: &no, ActiveDeadlineSeconds: &deadline, TerminationGracePeriodSeconds: &grace,
			DNSPolicy: o.spec.DNSPolicy, DNSConfig: o.spec.DNSConfig, HostAliases: o.spec.HostAliases,
			SecurityContext: podSecurity(o.spec.SecurityContext),
		},
	}
	p.Spec.Containers = o.images()
	o.mountImages(p)
	o.models(p)
	return p
}

func (o order) name() string {
	text, err := json.Marshal(o.spec)
	if err != nil { // a spec that came as JSON
		text = nil
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n%s\n%s\n%s", o.release, o.op, o.workload, o.place.node, text)
	return "wcbundle-fetch-" + hex.EncodeToString(h.Sum(nil)[:10])
}

// programsOf is the ConfigMap with the programs.
func programsOf(release string) string { return programs + "-" + release }

// images has one container for each image, which does nothing.
func (o order) images() []corev1.Container {
	var out []corev1.Container
	seen := map[string]bool{}
	for _, c := range slices.Concat(o.spec.InitContainers, o.spec.Containers) {
		if seen[c.Image] {
			continue
		}
		seen[c.Image] = true
		out = append(out, corev1.Container{
			Name: fmt.Sprintf("image-%d", len(out)), Image: c.Image, ImagePullPolicy: c.ImagePullPolicy,
			Command:         []string{programsDir + "/" + o.place.arch},
			Env:             []corev1.EnvVar{{Name: "NVIDIA_VISIBLE_DEVICES", Value: "void"}}, // images ask for all devices by themselves
			SecurityContext: locked(),
			Resources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m"), corev1.ResourceMemory: resource.MustParse("8Mi")},
				Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi")}},
			VolumeMounts: []corev1.VolumeMount{{Name: programs, MountPath: programsDir, ReadOnly: true}},
		})
	}
	return out
}

// mountImages mounts what the pods mount as images, and the programs.
func (o order) mountImages(p *corev1.Pod) {
	mode := int32(0o555)
	p.Spec.Volumes = []corev1.Volume{{Name: programs, VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: programsOf(o.release)}, DefaultMode: &mode}}}}
	for _, v := range o.spec.Volumes {
		if v.Image == nil || len(p.Spec.Containers) == 0 {
			continue
		}
		p.Spec.Volumes = append(p.Spec.Volumes, v)
		c := &p.Spec.Containers[0]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/wcbundle-images/" + v.Name, ReadOnly: true})
	}
}

// models adds the containers that fill the node's cache, with the volumes that they mount. A volume that may belong to one pod alone is
// replaced by an empty one.
func (o order) models(p *corev1.Pod) {
	have := map[string]bool{}
	for _, v := range p.Spec.Volumes {
		have[v.Name] = true
	}
	for _, c := range o.spec.InitContainers {
		if !o.fillsCache(c) {
			continue
		}
		c = *c.DeepCopy()
		c.Name = fmt.Sprintf("%s%d", modelPrefix, len(p.Spec.Containers))
		c.RestartPolicy, c.TerminationMessagePolicy = nil, corev1.TerminationMessageFallbackToLogsOnError
		c.Env = append(slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == onlyEnv }), corev1.EnvVar{Name: onlyEnv, Value: "true"})
		withoutDevices(c.Resources.Requests)
		withoutDevices(c.Resources.Limits)
		c.Resources.Claims = nil
		p.Spec.Containers = append(p.Spec.Containers, c)
		p.Spec.HostNetwork = o.spec.HostNetwork
		for _, m := range c.VolumeMounts {
			if !have[m.Name] {
				have[m.Name] = true
				p.Spec.Volumes = append(p.Spec.Volumes, sharable(o.spec.Volumes, m.Name))
			}
		}
	}
}

// fillsCache tells whether a container fetches models into a folder of its node.
func (o order) fillsCache(c corev1.Container) bool {
	dir := cacheOf(c)
	if dir == "" {
		return false
	}
	best := corev1.VolumeMount{}
	for _, m := range c.VolumeMounts {
		in := path.Clean(m.MountPath)
		if (dir == in || strings.HasPrefix(dir, strings.TrimSuffix(in, "/")+"/")) && len(in) >= len(best.MountPath) {
			best = m
		}
	}
	return slices.ContainsFunc(o.spec.Volumes, func(v corev1.Volume) bool { return v.Name == best.Name && v.HostPath != nil })
}

// cacheOf is the cache that a container of wcbundle pull is given, "" for none.
func cacheOf(c corev1.Container) string {
	words := slices.Concat(c.Command, c.Args)
	if !slices.Contains(words, "pull") {
		return ""
	}
	for i, w := range words {
		if v, ok := strings.CutPrefix(w, "--cache="); ok {
			return path.Clean(v)
		}
		if w == "--cache" && i+1 < len(words) {
			return path.Clean(words[i+1])
		}
	}
	for _, e := range c.Env {
		if e.Name == cacheEnv && e.Value != "" {
			return path.Clean(e.Value)
		}
	}
	return ""
}

func withoutDevices(l corev1.ResourceList) {
	for name := range l {
		if strings.Contains(string(name), "/") {
			delete(l, name)
		}
	}
}

// sharable is a volume as several pods may mount it.
func sharable(volumes []corev1.Volume, name string) corev1.Volume {
	for _, v := range volumes {
		if v.Name != name {
			continue
		}
		if v.HostPath != nil || v.Secret != nil || v.ConfigMap != nil || v.Projected != nil || v.DownwardAPI != nil || v.Image != nil || v.NFS != nil {
			return v
		}
	}
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

// podSecurity is that of the workload's pods, restricted where they leave something open.
func podSecurity(have *corev1.PodSecurityContext) *corev1.PodSecurityContext {
	s := &corev1.PodSecurityContext{}
	if have != nil {
		s = have.DeepCopy()
	}
	if s.SeccompProfile == nil {
		s.SeccompProfile = &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	}
	return s
}

// locked is a container that may nothing.
func locked() *corev1.SecurityContext {
	yes, no, user := true, false, int64(uid)
	return &corev1.SecurityContext{RunAsNonRoot: &yes, RunAsUser: &user, RunAsGroup: &user, AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
}
