package preflight

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/wordcab/wcbundle/install/preflight/helmrecord"
)

const (
	sectionTimeout = 30 * time.Second
	pageSize       = 500
	maxCertificate = 64 << 10 // of one tls.crt
	maxRecord      = 1 << 20  // of one operation record
)

// Clients are the ways into one cluster. Kube is needed. Without Config the API server's certificate is unknown.
// Holder is this process's own identity in the release's lease, whose holding it is no fault.
type Clients struct {
	Kube      kubernetes.Interface
	Config    *rest.Config
	Namespace string
	Release   string
	Holder    string
	Now       time.Time // to tell an expired lease from a live one
}

// CollectError says which section of the snapshot could not be read.
type CollectError struct {
	Section string
	Err     error
}

func (e CollectError) Error() string { return "reading " + e.Section + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e CollectError) Unwrap() error { return e.Err }

// Collect reads the cluster. A section that cannot be read is left unread with its cause and named in the errors; the
// others are read all the same. Each section has 30 seconds.
func Collect(ctx context.Context, c Clients) (Snapshot, []CollectError) {
	s := Snapshot{Namespace: c.Namespace, Release: c.Release}
	var errs []CollectError
	fill(ctx, "server version", &s.Server, &errs, c.server)
	fill(ctx, "server certificate", &s.ServerCerts, &errs, c.serverCerts)
	var pods Section[[]corev1.Pod]
	fill(ctx, "pods", &pods, &errs, c.pods)
	fill(ctx, "nodes", &s.Nodes, &errs, func(ctx context.Context) ([]Node, error) { return c.nodes(ctx, pods) })
	fill(ctx, "workloads", &s.Workloads, &errs, func(ctx context.Context) ([]LiveWorkload, error) { return c.workloads(ctx, pods) })
	fill(ctx, "storage classes", &s.StorageClasses, &errs, c.storageClasses)
	fill(ctx, "quotas", &s.Quotas, &errs, c.quotas)
	fill(ctx, "TLS secrets", &s.TLSSecrets, &errs, c.tlsSecrets)
	fill(ctx, "helm revisions", &s.Revisions, &errs, c.revisions)
	fill(ctx, "operation", &s.Operation, &errs, c.operation)
	fill(ctx, "admission policies", &s.PodPolicy, &errs, c.podPolicy)
	return s, errs
}

func fill[T any](ctx context.Context, name string, to *Section[T], errs *[]CollectError, read func(context.Context) (T, error)) {
	ctx, cancel := context.WithTimeout(ctx, sectionTimeout)
	defer cancel()
	v, err := read(ctx)
	if err != nil {
		*to = Section[T]{Cause: err.Error()}
		*errs = append(*errs, CollectError{name, err})
		return
	}
	*to = Got(v)
}

func (c Clients) server(context.Context) (string, error) {
	v, err := c.Kube.Discovery().ServerVersion()
	if err != nil {
		return "", err
	}
	return v.GitVersion, nil
}

// serverCerts takes the chain from a handshake that verifies as the client would. When it is refused, the refused chain
// is what we came for. Nothing is sent over the connection.
func (c Clients) serverCerts(ctx context.Context) ([]Certificate, error) {
	if c.Config == nil {
		return nil, errors.New("no client configuration given")
	}
	host, conf, err := tlsTarget(c.Config)
	if err != nil {
		return nil, err
	}
	conn, err := (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", host)
	var refused *tls.CertificateVerificationError
	if errors.As(err, &refused) {
		return certificates(refused.UnverifiedCertificates), nil
	}
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", host, err)
	}
	defer conn.Close()
	return certificates(conn.(*tls.Conn).ConnectionState().PeerCertificates), nil
}

func tlsTarget(rc *rest.Config) (string, *tls.Config, error) {
	raw := rc.Host
	if !strings.Contains(raw, "://") {
		raw = "https://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", nil, fmt.Errorf("server address: %w", err)
	}
	if u.Scheme != "https" {
		return "", nil, fmt.Errorf("server address %s has no TLS", u.Host)
	}
	conf, err := rest.TLSConfigFor(rc)
	if err != nil {
		return "", nil, fmt.Errorf("client configuration: %w", err)
	}
	if conf == nil {
		conf = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if conf.ServerName == "" {
		conf.ServerName = u.Hostname()
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port), conf, nil
}

func certificates(chain []*x509.Certificate) []Certificate {
	var out []Certificate
	for _, x := range chain {
		out = append(out, Certificate{Subject: x.Subject.String(), NotBefore: x.NotBefore.UTC(), NotAfter: x.NotAfter.UTC()})
	}
	return out
}

func (c Clients) storageClasses(ctx context.Context) ([]StorageClass, error) {
	list, err := c.Kube.StorageV1().StorageClasses().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []StorageClass
	for i := range list.Items {
		out = append(out, storageClass(&list.Items[i]))
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

func storageClass(sc *storagev1.StorageClass) StorageClass {
	out := StorageClass{Name: sc.Name, Provisioner: sc.Provisioner}
	out.Default = sc.Annotations["storageclass.kubernetes.io/is-default-class"] == "true"
	if sc.ReclaimPolicy != nil {
		out.Reclaim = string(*sc.ReclaimPolicy)
	}
	if sc.VolumeBindingMode != nil {
		out.Binding = string(*sc.VolumeBindingMode)
	}
	if len(sc.Parameters) > 0 {
		h := sha256.New()
		for _, k := range sortedKeys(sc.Parameters) {
			fmt.Fprintf(h, "%q=%q\n", k, sc.Parameters[k])
		}
		out.Parameters = "sha256:" + hex.EncodeToString(h.Sum(nil))[:16]
	}
	return out
}

func (c Clients) quotas(ctx context.Context) ([]Quota, error) {
	list, err := c.Kube.CoreV1().ResourceQuotas(c.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var out []Quota
	for _, q := range list.Items {
		if len(q.Spec.Scopes) > 0 || q.Spec.ScopeSelector != nil {
			continue
		}
		out = append(out, Quota{Name: q.Name, Hard: quantitiesOf(q.Spec.Hard), Used: quantitiesOf(q.Status.Used)})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

func (c Clients) tlsSecrets(ctx context.Context) ([]TLSSecret, error) {
	opt := metav1.ListOptions{FieldSelector: "type=" + string(corev1.SecretTypeTLS), Limit: pageSize}
	var out []TLSSecret
	for {
		list, err := c.Kube.CoreV1().Secrets(c.Namespace).List(ctx, opt)
		if err != nil {
			return nil, err
		}
		for _, s := range list.Items {
			if s.Type == corev1.SecretTypeTLS {
				out = append(out, tlsSecret(s.Name, s.Data[corev1.TLSCertKey]))
			}
		}
		if opt.Continue = list.Continue; opt.Continue == "" {
			break
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}

// tlsSecret keeps names and dates only. Certificates that do not parse are a problem, never skipped.
func tlsSecret(name string, chain []byte) TLSSecret {
	t := TLSSecret{Name: name}
	if len(chain) > maxCertificate {
		t.Problem = fmt.Sprintf("tls.crt has %d bytes, at most %d are read", len(chain), maxCertificate)
		return t
	}
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		x, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Problem = "a certificate cannot be parsed"
			return t
		}
		t.Certs = append(t.Certs, certificates([]*x509.Certificate{x})...)
	}
	if len(t.Certs) == 0 {
		t.Problem = "tls.crt has no PEM certificate"
	}
	return t
}

func (c Clients) revisions(ctx context.Context) ([]Revision, error) {
	if c.Release == "" {
		return nil, errors.New("no release named")
	}
	list, err := helmrecord.List(ctx, c.Kube, c.Namespace, c.Release)
	if err != nil {
		return nil, err
	}
	var out []Revision
	for _, x := range list {
		r := Revision{Number: x.Revision, Status: x.Status, Stored: x.Bytes,
			Chart: x.Record.Chart, Version: x.Record.Version, Updated: x.Record.Updated.UTC()}
		if x.Err != nil {
			r.Problem = x.Err.Error()
		}
		out = append(out, r)
	}
	return out, nil
}

// operation reads the record wcbundle-op-RELEASE and the lease wcbundle-RELEASE.
func (c Clients) operation(ctx context.Context) (Operation, error) {
	var op Operation
	cm, err := c.Kube.CoreV1().ConfigMaps(c.Namespace).Get(ctx, "wcbundle-op-"+c.Release, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return op, err
	}
	if err == nil {
		if op, err = operationOf(cm.Data["operation.json"]); err != nil {
			return op, err
		}
	}
	lease, err := c.Kube.CoordinationV1().Leases(c.Namespace).Get(ctx, "wcbundle-"+c.Release, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return op, nil
	}
	if err != nil {
		return op, err
	}
	s := lease.Spec
	if s.HolderIdentity == nil || *s.HolderIdentity == "" || *s.HolderIdentity == c.Holder || s.RenewTime == nil {
		return op, nil
	}
	ttl := time.Minute
	if s.LeaseDurationSeconds != nil {
		ttl = time.Duration(*s.LeaseDurationSeconds) * time.Second
	}
	if c.Now.Before(s.RenewTime.Add(ttl)) {
		op.Holder = *s.HolderIdentity
	}
	return op, nil
}

func operationOf(text string) (Operation, error) {
	var rec struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	if len(text) > maxRecord {
		return Operation{}, fmt.Errorf("operation record has %d bytes, at most %d", len(text), maxRecord)
	}
	if err := json.Unmarshal([]byte(text), &rec); err != nil {
		return Operation{}, fmt.Errorf("operation record: %w", err)
	}
	if rec.State == "" {
		return Operation{}, errors.New("operation record has no state")
	}
	done := map[string]bool{"Succeeded": true, "RolledBack": true, "Aborted": true, "AbortedBeforeStage": true, "RollbackFailed": true}
	return Operation{ID: rec.ID, State: rec.State, Open: !done[rec.State]}, nil
}
