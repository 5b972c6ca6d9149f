package install

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Access is a cluster and a namespace in it.
type Access struct {
	Config     *rest.Config
	Kube       kubernetes.Interface
	Dynamic    dynamic.Interface
	Kubeconfig string
	Context    string
	Namespace  string
}

// Connect reads a kubeconfig and makes clients. Nothing is asked of the cluster yet.
func Connect(kubeconfig, context, namespace string) (*Access, error) {
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: kubeconfig}, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig %s: %w", kubeconfig, err)
	}
	cfg.UserAgent, cfg.QPS, cfg.Burst = "wcbundle", 50, 100
	cfg.WarningHandler = rest.NoWarnings{} // they would go to stderr in a form of their own
	kube, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	return &Access{Config: cfg, Kube: kube, Dynamic: dyn, Kubeconfig: kubeconfig, Context: context, Namespace: namespace}, nil
}

// serviceAccount is where a pod finds who it is (Kubernetes documentation, Accessing the Kubernetes API from a Pod).
const serviceAccount = "/var/run/secrets/kubernetes.io/serviceaccount"

// ConnectPod is Connect from within a pod: host and port are those of its environment. The token is read anew from its file, which is
// renewed.
func ConnectPod(host, port, namespace string) (*Access, error) {
	if host == "" || port == "" {
		return nil, errors.New("this runs in a pod of a cluster only: apply --detach starts it")
	}
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["pod"] = &clientcmdapi.Cluster{Server: "https://" + net.JoinHostPort(host, port), CertificateAuthority: filepath.Join(serviceAccount, "ca.crt")}
	cfg.AuthInfos["pod"] = &clientcmdapi.AuthInfo{TokenFile: filepath.Join(serviceAccount, "token")}
	cfg.Contexts["pod"] = &clientcmdapi.Context{Cluster: "pod", AuthInfo: "pod", Namespace: namespace}
	cfg.CurrentContext = "pod"
	path := filepath.Join(os.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, path); err != nil {
		return nil, fmt.Errorf("writing down how the API server is reached: %w", err)
	}
	return Connect(path, "", namespace)
}
