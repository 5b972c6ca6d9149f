package siteregistry

import (
	"context"
	"errors"
	"fmt"
	"net"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ErrNone is returned by Find for a cluster in which Install has not been.
var ErrNone = errors.New("the cluster has no registry of wcbundle's")

// Find says how the registry in a cluster is reached now: by a node that runs, whichever have been lost.
func Find(ctx context.Context, kube kubernetes.Interface, namespace string) (Result, error) {
	r := Result{Namespace: namespace}
	svc, err := kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return r, ErrNone
	}
	if err != nil {
		return r, err
	}
	certs, err := kube.CoreV1().Secrets(namespace).Get(ctx, tlsName, metav1.GetOptions{})
	if err != nil {
		return r, fmt.Errorf("the registry's CA: %w", err)
	}
	login, err := kube.CoreV1().Secrets(namespace).Get(ctx, CredentialName, metav1.GetOptions{})
	if err != nil {
		return r, fmt.Errorf("the registry's credentials: %w", err)
	}
	nodes, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return r, err
	}
	r.Pull = net.JoinHostPort(svc.Spec.ClusterIP, fmt.Sprint(port))
	r.Push = pushTo(svc, reachable(nodes.Items, certs.Data["tls.crt"]))
	if r.Push == "" {
		return r, errors.New("no node that runs is one that the registry's certificate names: run wcbundle registry install again")
	}
	r.CA, r.Username, r.Password = string(certs.Data["ca.crt"]), string(login.Data["username"]), string(login.Data["password"])
	return r, nil
}

// reachable are the addresses of nodes that run and that the certificate is for.
func reachable(nodes []corev1.Node, cert []byte) []string {
	c, err := parseCert(cert)
	if err != nil {
		return nil
	}
	var out []string
	for _, n := range nodes {
		if a := addressOf(n); runs(n) && c.VerifyHostname(a) == nil {
			out = append(out, a)
		}
	}
	return out
}

// Mirrors are the registries whose images the nodes take from the one in the cluster, as Install has set them up; none where the nodes
// were left alone, and then it is not known what they have.
func Mirrors(ctx context.Context, kube kubernetes.Interface, namespace string) (mirrors []string, known bool, err error) {
	d, err := kube.AppsV1().DaemonSets(namespace).Get(ctx, nodesName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("what the nodes know of registries: %w", err)
	}
	for _, c := range d.Spec.Template.Spec.Containers {
		for i, arg := range c.Command {
			if arg == "--mirror" && i+1 < len(c.Command) {
				mirrors = append(mirrors, c.Command[i+1])
			}
		}
	}
	return mirrors, true, nil
}
