package siteregistry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

// Options are what Install takes. Only Kube, Dynamic and Program are required.
type Options struct {
	Kube      kubernetes.Interface
	Dynamic   dynamic.Interface
	Namespace string        // default wcbundle-registry
	Site      string        // for the CA's name
	Program   *os.File      // the registry's program, static
	Arch      string        // its GOARCH
	Storage   string        // storage class; "" = the cluster's default
	Size      string        // of the volume, as Kubernetes writes it; default 200Gi; of one that is there already nothing is changed
	NodePort  int32         // 0 = the cluster chooses
	CertsDir  string        // the folder that containerd's config_path names on the nodes; default /etc/containerd/certs.d
	SkipNodes bool          // leave the nodes' containerd alone: they know the registry's CA already
	Mirrors   []string      // registries whose images containerd takes from this one; nil = those of before
	Push      string        // host:port by which the operator reaches it, where that is no node's address and port
	Image     string        // an image that the nodes have; "" = one is found
	Wait      time.Duration // for the registry to become ready; default 5 minutes
	Now       time.Time
	Progress  func(string) // told each step; nil = nobody
}

// DefaultNamespace is where the registry lives.
const DefaultNamespace = name

// Result says how the registry is reached.
type Result struct {
	Namespace string   `json:"namespace"`
	Push      string   `json:"push"` // host:port for the operator: a node's address
	Pull      string   `json:"pull"` // host:port for the nodes
	CA        string   `json:"-"`    // PEM
	Image     string   `json:"image"`
	Nodes     []string `json:"nodes"` // that have the image
	Parts     int      `json:"parts"`
	Username  string   `json:"username"`
	Password  string   `json:"-"`
	Before    string   `json:"before,omitempty"` // the program that ran before, where another one runs now
}

// Install brings the registry up, or what is there to what the options say. Errors: *NotReadyError, or what the API server says.
func Install(ctx context.Context, opt Options) (Result, error) {
	i := &installer{opt: opt.withDefaults()}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"looking for an image that the nodes have", i.choose},
		{"namespace and service", i.service},
		{"certificates and password", i.secrets},
		{"the program, in parts", i.sendProgram},
		{"volume", i.volume},
		{"nodes", i.nodes},
		{"registry", i.registry},
		{"asking it from here", i.answers},
		{"removing the parts of programs before", i.prune},
	} {
		if i.opt.Progress != nil {
			i.opt.Progress(step.what)
		}
		if err := step.do(ctx); err != nil {
			return i.result, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return i.result, nil
}

func (o Options) withDefaults() Options {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	if o.CertsDir == "" {
		o.CertsDir = "/etc/containerd/certs.d"
	}
	if o.Size == "" {
		o.Size = "200Gi"
	}
	if o.Wait <= 0 {
		o.Wait = 5 * time.Minute
	}
	return o
}

type installer struct {
	opt     Options
	set     setting
	result  Result
	ips     []string // of the nodes that run
	running int32    // nodes
}

// NotReadyError says that the registry was started and did not become ready, and what its pod says.
type NotReadyError struct {
	What     string
	Says     string
	Restored bool // the program that ran before has been put back
}

func (e *NotReadyError) Error() string {
	text := e.What + " does not become ready: " + e.Says
	if e.Restored {
		text += "; what ran before has been put back"
	}
	return text
}

// choose finds the nodes and an image that they have.
func (i *installer) choose(ctx context.Context) error {
	list, err := i.opt.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	image, on := seedImage(list.Items, i.opt.Arch)
	if i.opt.Image != "" {
		image, on = i.opt.Image, nil
	}
	for _, n := range list.Items {
		if n.Labels["kubernetes.io/arch"] != i.opt.Arch || !runs(n) {
			continue
		}
		i.running++
		if i.opt.Image != "" {
			on = append(on, n.Labels["kubernetes.io/hostname"])
		}
		if slices.Contains(on, n.Labels["kubernetes.io/hostname"]) {
			i.ips = append(i.ips, addressOf(n))
		}
	}
	if len(on) == 0 {
		return fmt.Errorf("no ready node of architecture %s has any image: import one on a node, whichever it is, and run this again", i.opt.Arch)
	}
	slices.Sort(on)
	o := i.opt
	if o.Mirrors == nil {
		if o.Mirrors, _, err = Mirrors(ctx, o.Kube, o.Namespace); err != nil {
			return err
		}
	}
	size, err := resource.ParseQuantity(o.Size)
	if err != nil || size.Sign() <= 0 {
		return fmt.Errorf("%.40q is no size such as 500Gi", o.Size)
	}
	i.set = setting{ns: o.Namespace, image: image, nodes: on, arch: o.Arch, nodePort: o.NodePort, certsDir: o.CertsDir, mirrors: o.Mirrors, storage: o.Storage, size: size}
	i.result = Result{Namespace: o.Namespace, Image: image, Nodes: on, Username: User}
	return nil
}

func addressOf(n corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return n.Name
}

func (i *installer) service(ctx context.Context) error {
	ns := &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: i.opt.Namespace,
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "privileged"}}} // the pods on the nodes write containerd's folder
	if err := i.apply(ctx, ns); err != nil {
		return err
	}
	svc := i.set.service()
	if i.opt.Push != "" {
		svc.Annotations = map[string]string{pushAnnotation: i.opt.Push}
	}
	if err := i.apply(ctx, svc); err != nil {
		return err
	}
	svc, err := i.opt.Kube.CoreV1().Services(i.opt.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	i.set.pull = net.JoinHostPort(svc.Spec.ClusterIP, fmt.Sprint(port))
	i.result.Pull = i.set.pull
	i.result.Push = pushTo(svc, i.ips)
	return nil
}

// pushAnnotation on the Service says how the operator reaches the registry, where that is not by a node.
const pushAnnotation = "bundle.wordcab.com/push"

func pushTo(svc *corev1.Service, nodes []string) string {
	if to := svc.Annotations[pushAnnotation]; to != "" || len(nodes) == 0 || len(svc.Spec.Ports) == 0 {
		return to
	}
	return net.JoinHostPort(nodes[0], fmt.Sprint(svc.Spec.Ports[0].NodePort))
}

// sendProgram brings the parts that are not there. A part that is there and has other bytes is not one of ours, whatever its name: it is replaced.
func (i *installer) sendProgram(ctx context.Context) error {
	sum := sha256.New()
	size, err := io.Copy(sum, io.NewSectionReader(i.opt.Program, 0, 1<<62))
	if err != nil {
		return fmt.Errorf("reading the registry's program: %w", err)
	}
	if i.set.program, err = programOf(sum.Sum(nil), size); err != nil {
		return err
	}
	p := i.set.program
	have, err := i.opt.Kube.CoreV1().ConfigMaps(i.opt.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labelParts + "=" + p.prefix})
	if err != nil {
		return err
	}
	there := map[string]corev1.ConfigMap{}
	for _, cm := range have.Items {
		there[cm.Name] = cm
	}
	seed, err := Seed(i.opt.Arch)
	if err != nil {
		return err
	}
	buf := make([]byte, partSize)
	for n := range p.parts {
		k, err := i.opt.Program.ReadAt(buf, int64(n)*partSize)
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading the registry's program: %w", err)
		}
		if err := i.create(ctx, there, p.part(i.opt.Namespace, n, buf[:k])); err != nil {
			return err
		}
	}
	i.result.Parts = p.parts
	return i.create(ctx, there, p.seed(i.opt.Namespace, seed))
}

func (i *installer) create(ctx context.Context, there map[string]corev1.ConfigMap, cm *corev1.ConfigMap) error {
	parts := i.opt.Kube.CoreV1().ConfigMaps(i.opt.Namespace)
	if old, ok := there[cm.Name]; ok {
		if maps.EqualFunc(old.BinaryData, cm.BinaryData, bytes.Equal) && old.Immutable != nil && *old.Immutable {
			return nil
		}
		if err := parts.Delete(ctx, cm.Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	if _, err := parts.Create(ctx, cm, metav1.CreateOptions{}); err != nil { // one of that name which is not labelled as ours is an error too
		return fmt.Errorf("part %s of the registry's program: %w", cm.Name, err)
	}
	return nil
}

// volume makes the claim, and leaves one that is there as it is.
func (i *installer) volume(ctx context.Context) error {
	_, err := i.opt.Kube.CoreV1().PersistentVolumeClaims(i.opt.Namespace).Create(ctx, i.set.claim(), metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// nodes lets each node's containerd know the registry, before anything is pulled from it.
func (i *installer) nodes(ctx context.Context) error {
	if i.opt.SkipNodes {
		err := i.opt.Kube.AppsV1().DaemonSets(i.opt.Namespace).Delete(ctx, nodesName, metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			err = nil
		}
		return err
	}
	if err := i.apply(ctx, i.set.daemonSet()); err != nil {
		return err
	}
	return i.wait(ctx, "DaemonSet "+nodesName, nodesName, func(ctx context.Context) (bool, error) {
		d, err := i.opt.Kube.AppsV1().DaemonSets(i.opt.Namespace).Get(ctx, nodesName, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		s := d.Status
		return s.ObservedGeneration == d.Generation && s.UpdatedNumberScheduled >= i.running && s.NumberReady >= i.running, nil
	})
}

// registry starts the registry, and puts back what ran before when it does not become ready.
func (i *installer) registry(ctx context.Context) error {
	before, err := i.opt.Kube.AppsV1().Deployments(i.opt.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	was := programOfPod(before)
	if err := i.apply(ctx, i.set.deployment()); err != nil {
		return err
	}
	err = i.wait(ctx, "the registry", name, i.ready)
	var no *NotReadyError
	if was == "" || was == i.set.program.prefix {
		return err
	}
	if errors.As(err, &no) && before.Status.ReadyReplicas > 0 {
		before.ManagedFields, before.ResourceVersion, before.UID = nil, "", ""
		before.TypeMeta = metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"}
		before.Status = appsv1.DeploymentStatus{}
		if back := i.apply(ctx, before); back != nil {
			return errors.Join(err, fmt.Errorf("putting back what ran before: %w", back))
		}
		no.Restored = true
	}
	i.result.Before = was
	return err
}

func (i *installer) ready(ctx context.Context) (bool, error) {
	d, err := i.opt.Kube.AppsV1().Deployments(i.opt.Namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return false, err
	}
	s := d.Status
	return s.ObservedGeneration == d.Generation && s.UpdatedReplicas == 1 && s.ReadyReplicas == 1 && s.Replicas == 1, nil
}

// programOfPod is the prefix of the program that a Deployment runs.
func programOfPod(d *appsv1.Deployment) string {
	if d == nil {
		return ""
	}
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Name == "start" && v.ConfigMap != nil {
			return strings.TrimSuffix(v.ConfigMap.Name, "-seed")
		}
	}
	return ""
}

// wait asks every second until it is done, and says what the pods say when it is not in time.
func (i *installer) wait(ctx context.Context, what, of string, done func(context.Context) (bool, error)) error {
	end := time.After(i.opt.Wait)
	for {
		ok, err := done(ctx)
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return &NotReadyError{What: what, Says: i.podsSay(ctx, of)}
		case <-time.After(time.Second):
		}
	}
}

// prune removes programs that nothing runs any more.
func (i *installer) prune(ctx context.Context) error {
	return i.opt.Kube.CoreV1().ConfigMaps(i.opt.Namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: labelParts + "," + labelParts + "!=" + i.set.program.prefix})
}

// where is the API path of each kind that is applied.
var where = map[string]schema.GroupVersionResource{
	"Namespace":  {Version: "v1", Resource: "namespaces"},
	"Service":    {Version: "v1", Resource: "services"},
	"Secret":     {Version: "v1", Resource: "secrets"},
	"DaemonSet":  {Group: "apps", Version: "v1", Resource: "daemonsets"},
	"Deployment": {Group: "apps", Version: "v1", Resource: "deployments"},
}

// apply is a server-side apply.
func (i *installer) apply(ctx context.Context, o runtime.Object) error {
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return err
	}
	u := &unstructured.Unstructured{Object: raw}
	unstructured.RemoveNestedField(u.Object, "status")
	at := i.opt.Dynamic.Resource(where[u.GetKind()])
	force := metav1.ApplyOptions{FieldManager: "wcbundle-registry", Force: true}
	if u.GetNamespace() == "" {
		_, err = at.Apply(ctx, u.GetName(), u, force)
	} else {
		_, err = at.Namespace(u.GetNamespace()).Apply(ctx, u.GetName(), u, force)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", u.GetKind(), u.GetName(), err)
	}
	return nil
}
