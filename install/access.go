package install

import (
	"fmt"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
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
