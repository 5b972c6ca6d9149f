package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sort"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	recordKey    = "operation.json"
	recordMax    = 512 << 10
	historyKeep  = 20
	labelRelease = "bundle.wordcab.com/release"
	labelHistory = "bundle.wordcab.com/operation"
)

// Store keeps the operation record of one release. It remembers the version that it read or wrote last, so that two
// writers cannot both go on.
type Store struct {
	kube      kubernetes.Interface
	namespace string
	release   string
	version   string
}

// NewStore reaches the record of a release.
func NewStore(kube kubernetes.Interface, namespace, release string) *Store {
	return &Store{kube: kube, namespace: namespace, release: release}
}

func (s *Store) name() string { return "wcbundle-op-" + s.release }

// Load reads the record. ErrNoOperation when there is none.
func (s *Store) Load(ctx context.Context) (State, error) {
	cm, err := s.kube.CoreV1().ConfigMaps(s.namespace).Get(ctx, s.name(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		s.version = ""
		return State{}, ErrNoOperation
	}
	if err != nil {
		return State{}, fmt.Errorf("reading operation record: %w", err)
	}
	s.version = cm.ResourceVersion
	return decodeState(cm)
}

func decodeState(cm *corev1.ConfigMap) (State, error) {
	text := cm.Data[recordKey]
	var st State
	if len(text) > recordMax {
		return st, fmt.Errorf("operation record %s: %d bytes, at most %d", cm.Name, len(text), recordMax)
	}
	if err := json.Unmarshal([]byte(text), &st); err != nil {
		return st, fmt.Errorf("operation record %s: %w", cm.Name, err)
	}
	return st, nil
}

// Save writes the record if nobody wrote it since, and a copy of it when the operation is finished.
func (s *Store) Save(ctx context.Context, st State) error {
	text, err := encodeState(st)
	if err != nil {
		return err
	}
	cm := s.configMap(s.name(), text)
	cms := s.kube.CoreV1().ConfigMaps(s.namespace)
	known := s.version != ""
	if known {
		cm.ResourceVersion = s.version
		cm, err = cms.Update(ctx, cm, metav1.UpdateOptions{})
	}
	if known && apierrors.IsNotFound(err) { // somebody deleted it: whoever has the lock knows the state
		known, cm = false, s.configMap(s.name(), text)
	}
	if !known {
		cm, err = cms.Create(ctx, cm, metav1.CreateOptions{})
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("saving operation record: %w", ErrConflict)
	}
	if err != nil {
		return fmt.Errorf("saving operation record: %w", err)
	}
	s.version = cm.ResourceVersion
	if st.Phase.Terminal() {
		return s.archive(ctx, st, text)
	}
	return nil
}

func (s *Store) configMap(name, text string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace, Labels: map[string]string{labelRelease: s.release}},
		Data:       map[string]string{recordKey: text},
	}
}

// encodeState fits a state into its size; evidence is what may be cut.
func encodeState(st State) (string, error) {
	for {
		text, err := json.MarshalIndent(st, "", " ")
		if err != nil {
			return "", fmt.Errorf("encoding operation record: %w", err)
		}
		if len(text) <= recordMax {
			return string(text), nil
		}
		if st.Failure == nil || len(st.Failure.Evidence) == 0 {
			return "", fmt.Errorf("operation record: %d bytes, at most %d", len(text), recordMax)
		}
		f := *st.Failure
		f.Evidence = f.Evidence[(len(f.Evidence)+1)/2:]
		st.Failure = &f
	}
}

func (s *Store) archive(ctx context.Context, st State, text string) error {
	cms := s.kube.CoreV1().ConfigMaps(s.namespace)
	cm := s.configMap(s.name()+"-"+st.ID, text)
	cm.Labels[labelHistory] = "finished"
	if _, err := cms.Create(ctx, cm, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("keeping operation record: %w", err)
	}
	list, err := s.list(ctx)
	if err != nil {
		return err
	}
	for len(list) > historyKeep {
		if err := cms.Delete(ctx, list[0].Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("dropping an old operation record: %w", err)
		}
		list = list[1:]
	}
	return nil
}

// list is the finished operations, oldest first.
func (s *Store) list(ctx context.Context) ([]corev1.ConfigMap, error) {
	sel := labelRelease + "=" + s.release + "," + labelHistory + "=finished"
	got, err := s.kube.CoreV1().ConfigMaps(s.namespace).List(ctx, metav1.ListOptions{LabelSelector: sel})
	if err != nil {
		return nil, fmt.Errorf("listing operation records: %w", err)
	}
	sort.Slice(got.Items, func(i, j int) bool {
		return got.Items[i].CreationTimestamp.Before(&got.Items[j].CreationTimestamp)
	})
	return got.Items, nil
}

// Finished is the finished operations that are kept, oldest first.
func (s *Store) Finished(ctx context.Context) ([]State, error) {
	list, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]State, 0, len(list))
	for i := range list {
		st, err := decodeState(&list[i])
		if err != nil {
			return nil, err
		}
		out = append(out, st)
	}
	return out, nil
}

// Releases names the Helm releases of a namespace that have an operation record.
func Releases(ctx context.Context, kube kubernetes.Interface, namespace string) ([]string, error) {
	list, err := kube.CoreV1().ConfigMaps(namespace).List(ctx, metav1.ListOptions{LabelSelector: labelRelease})
	if err != nil {
		return nil, fmt.Errorf("looking for operation records in namespace %s: %w", namespace, err)
	}
	var out []string
	for _, cm := range list.Items {
		if name := cm.Labels[labelRelease]; !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	sort.Strings(out)
	return out, nil
}
