package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// FileStore keeps the record in one file.
type FileStore struct{ Path string }

// Load reads the file.
func (s FileStore) Load(context.Context) (*Record, error) {
	b, err := os.ReadFile(s.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoRecord
	}
	if err != nil {
		return nil, fmt.Errorf("reading the site record: %w", err)
	}
	return decodeRecord(b)
}

// Save writes the file so that after a crash it holds the old record or the new one.
func (s FileStore) Save(ctx context.Context, r *Record) error {
	old, err := s.Load(ctx)
	if err != nil && !errors.Is(err, ErrNoRecord) {
		return err
	}
	if old != nil && old.Generation >= r.Generation {
		return errConflict(s.Path, old.Generation)
	}
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	dir := filepath.Dir(s.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return writeSynced(dir, s.Path, b)
}

func errConflict(where string, generation uint64) error {
	return fmt.Errorf("%s was written by someone else meanwhile (generation %d): run the command again", where, generation)
}

func writeSynced(dir, path string, b []byte) (err error) {
	f, err := os.CreateTemp(dir, ".record-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// ConfigMapStore keeps the record in the ConfigMap wcbundle-site.
type ConfigMapStore struct {
	Client    kubernetes.Interface
	Namespace string
}

const (
	recordName = "wcbundle-site"
	recordKey  = "record.json"
)

// Load reads the ConfigMap.
func (s ConfigMapStore) Load(ctx context.Context) (*Record, error) {
	cm, err := s.get(ctx)
	if err != nil {
		return nil, err
	}
	return decodeRecord([]byte(cm.Data[recordKey]))
}

func (s ConfigMapStore) get(ctx context.Context) (*corev1.ConfigMap, error) {
	cm, err := s.Client.CoreV1().ConfigMaps(s.Namespace).Get(ctx, recordName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, ErrNoRecord
	}
	if err != nil {
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", s.Namespace, recordName, err)
	}
	return cm, nil
}

// Save writes the ConfigMap if nobody else has since it was read, making the namespace on a fresh site.
func (s ConfigMapStore) Save(ctx context.Context, r *Record) error {
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	cm, err := s.get(ctx)
	if errors.Is(err, ErrNoRecord) {
		return s.create(ctx, b)
	}
	if err != nil {
		return err
	}
	old, err := decodeRecord([]byte(cm.Data[recordKey]))
	if err != nil {
		return err
	}
	if old.Generation >= r.Generation {
		return errConflict("ConfigMap "+s.Namespace+"/"+recordName, old.Generation)
	}
	cm.Data = map[string]string{recordKey: string(b)}
	_, err = s.Client.CoreV1().ConfigMaps(s.Namespace).Update(ctx, cm, metav1.UpdateOptions{})
	return err
}

func (s ConfigMapStore) create(ctx context.Context, b []byte) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}}
	if _, err := s.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating namespace %s: %w", s.Namespace, err)
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: recordName, Namespace: s.Namespace}, Data: map[string]string{recordKey: string(b)}}
	_, err := s.Client.CoreV1().ConfigMaps(s.Namespace).Create(ctx, cm, metav1.CreateOptions{})
	return err
}
