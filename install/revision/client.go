package revision

import (
	"fmt"
	"io"
	"sync"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/kube"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
)

// maxHistory is how many revisions a release keeps. Helm's own default would be all of them.
const maxHistory = 20

// Config says which cluster and namespace. An empty Kubeconfig is the default file, an empty Context the current one, an
// empty Namespace the context's.
type Config struct {
	Kubeconfig string
	Context    string
	Namespace  string
}

// Client reads and makes the revisions of one namespace.
type Client struct {
	get       *getter
	dyn       dynamic.Interface
	kube      kubernetes.Interface
	namespace string
}

// New reaches a cluster. It does not connect yet.
func New(c Config) (*Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = c.Kubeconfig
	over := &clientcmd.ConfigOverrides{CurrentContext: c.Context}
	over.Context.Namespace = c.Namespace
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, over)
	cfg, err := loader.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	cfg.QPS, cfg.Burst = 50, 100
	cfg.WarningHandler = rest.NoWarnings{} // they would go to stderr in a form of their own
	ns, _, err := loader.Namespace()
	if err != nil {
		return nil, fmt.Errorf("reading kubeconfig: %w", err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	k, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("reaching the cluster: %w", err)
	}
	return &Client{get: &getter{loader: loader, cfg: cfg}, dyn: dyn, kube: k, namespace: ns}, nil
}

// RESTConfig is how the cluster is reached, for the engine of package rollout.
func (c *Client) RESTConfig() *rest.Config { return rest.CopyConfig(c.get.cfg) }

// Kube is the typed client.
func (c *Client) Kube() kubernetes.Interface { return c.kube }

// Namespace of the client.
func (c *Client) Namespace() string { return c.namespace }

// helm makes an action configuration; wire wraps the client that sends, nil for none.
func (c *Client) helm(wire *wire) (*action.Configuration, error) {
	cfg := new(action.Configuration)
	quiet := func(string, ...any) {}
	if err := cfg.Init(c.get, c.namespace, "secret", quiet); err != nil {
		return nil, fmt.Errorf("preparing helm: %w", err)
	}
	cfg.SetHookOutputFunc(func(_, _, _ string) io.Writer { return io.Discard })
	if wire != nil {
		own, ok := cfg.KubeClient.(*kube.Client)
		if !ok {
			return nil, fmt.Errorf("preparing helm: its client is a %T", cfg.KubeClient)
		}
		wire.Client = own
		cfg.KubeClient = wire
	}
	return cfg, nil
}

// getter is Helm's and kubectl's view of a cluster. Discovery is cached in memory and nowhere else, so that a CRD that was
// just expanded is seen after reset.
type getter struct {
	loader clientcmd.ClientConfig
	cfg    *rest.Config
	mu     sync.Mutex
	disco  discovery.CachedDiscoveryInterface
	mapper *restmapper.DeferredDiscoveryRESTMapper
}

func (g *getter) ToRESTConfig() (*rest.Config, error)           { return rest.CopyConfig(g.cfg), nil }
func (g *getter) ToRawKubeConfigLoader() clientcmd.ClientConfig { return g.loader }
func (g *getter) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.disco == nil {
		d, err := discovery.NewDiscoveryClientForConfig(g.cfg)
		if err != nil {
			return nil, err
		}
		g.disco = memory.NewMemCacheClient(d)
		g.mapper = restmapper.NewDeferredDiscoveryRESTMapper(g.disco)
	}
	return g.disco, nil
}

func (g *getter) ToRESTMapper() (meta.RESTMapper, error) {
	if _, err := g.ToDiscoveryClient(); err != nil {
		return nil, err
	}
	return g.mapper, nil
}

func (g *getter) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mapper != nil {
		g.mapper.Reset() // invalidates the discovery cache too
	}
}
