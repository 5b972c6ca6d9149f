package revision

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A snapshot is what was there of the chart's CRDs before a revision changed them: one JSON object per line, CRDs first, compressed with
// gzip, in Secrets wcbundle-snap-RELEASE-REVISION-PART of at most snapPart bytes, key part; each carries the number of the parts and the
// SHA-256 of the whole.
const (
	snapPart     = 900 << 10
	snapMaxParts = 20
	snapPage     = 500

	labelSnapshot = "bundle.wordcab.com/snapshot" // name of the release
	annSnapParts  = "bundle.wordcab.com/parts"
	annSnapSHA    = "bundle.wordcab.com/sha256"
)

// snapshot keeps CRDs that are about to change, and their objects. What is the same in the cluster already needs none.
func (o *Operation) snapshot(ctx context.Context, apply []*unstructured.Unstructured) error {
	last, err := o.last()
	if err != nil {
		return err
	}
	number := 1
	if last != nil {
		number = last.Version + 1
	}
	var text bytes.Buffer
	zip := gzip.NewWriter(&text)
	enc := json.NewEncoder(zip)
	changed := 0
	for _, crd := range apply {
		live, err := o.c.dyn.Resource(crdAt).Get(ctx, crd.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading CRD %s: %w", crd.GetName(), err)
		}
		if sameVersions(live, crd) {
			continue
		}
		changed++
		if err := enc.Encode(live); err != nil {
			return err
		}
		if err := o.c.eachObject(ctx, live, storageVersion(live), func(obj *unstructured.Unstructured) error {
			if text.Len() > snapMaxParts*snapPart {
				return fmt.Errorf("the objects of CRD %s are too many to be kept: more than %d MiB compressed", crd.GetName(), snapMaxParts*snapPart>>20)
			}
			return enc.Encode(obj)
		}); err != nil {
			return err
		}
	}
	if err := zip.Close(); err != nil || changed == 0 {
		return err
	}
	return o.writeSnapshot(ctx, number, text.Bytes())
}

func sameVersions(live, target *unstructured.Unstructured) bool {
	return len(narrowed(target, live)) == 0 && len(narrowed(live, target)) == 0 && reflect.DeepEqual(keysOf(crdVersions(live)), keysOf(crdVersions(target)))
}

func keysOf(m map[string]map[string]any) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// eachObject visits the objects of a CRD in every namespace, page by page.
func (c *Client) eachObject(ctx context.Context, crd *unstructured.Unstructured, version string, f func(*unstructured.Unstructured) error) error {
	group, _, _ := unstructured.NestedString(crd.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
	at := c.dyn.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: plural})
	opt := metav1.ListOptions{Limit: snapPage}
	for {
		list, err := at.List(ctx, opt)
		if err != nil {
			return fmt.Errorf("listing objects of CRD %s: %w", crd.GetName(), err)
		}
		for i := range list.Items {
			if err := f(&list.Items[i]); err != nil {
				return err
			}
		}
		if opt.Continue = list.GetContinue(); opt.Continue == "" {
			return nil
		}
	}
}

func snapName(release string, revision, part int) string {
	return fmt.Sprintf("wcbundle-snap-%s-%d-%d", release, revision, part)
}

// writeSnapshot writes the parts, over those of a run that was cut off.
func (o *Operation) writeSnapshot(ctx context.Context, revision int, text []byte) error {
	sum := sha256.Sum256(text)
	parts := (len(text) + snapPart - 1) / snapPart
	secrets := o.c.kube.CoreV1().Secrets(o.c.namespace)
	for n := range parts {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: snapName(o.req.Release, revision, n+1),
			Labels:      map[string]string{labelSnapshot: o.req.Release, LabelNumber: strconv.Itoa(revision)},
			Annotations: map[string]string{annSnapParts: strconv.Itoa(parts), annSnapSHA: hex.EncodeToString(sum[:])}},
			Data: map[string][]byte{"part": text[n*snapPart : min((n+1)*snapPart, len(text))]}}
		_, err := secrets.Create(ctx, s, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			_, err = secrets.Update(ctx, s, metav1.UpdateOptions{})
		}
		if err != nil {
			return fmt.Errorf("keeping the CRDs of before: %w", err)
		}
	}
	return nil
}

// Snapshot reads what was kept before a revision; none, without an error, where nothing was.
func (c *Client) Snapshot(ctx context.Context, release string, revision int) ([]*unstructured.Unstructured, error) {
	var text []byte
	want, parts := "", 1
	for n := 1; n <= parts; n++ {
		s, err := c.kube.CoreV1().Secrets(c.namespace).Get(ctx, snapName(release, revision, n), metav1.GetOptions{})
		if apierrors.IsNotFound(err) && n == 1 {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the CRDs of before revision %d: %w", revision, err)
		}
		if parts, err = strconv.Atoi(s.Annotations[annSnapParts]); err != nil || parts < 1 || parts > snapMaxParts {
			return nil, fmt.Errorf("the CRDs of before revision %d: %q parts", revision, s.Annotations[annSnapParts])
		}
		text, want = append(text, s.Data["part"]...), s.Annotations[annSnapSHA]
	}
	if sum := sha256.Sum256(text); hex.EncodeToString(sum[:]) != want {
		return nil, fmt.Errorf("the CRDs of before revision %d are not what was written", revision)
	}
	zip, err := gzip.NewReader(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(io.LimitReader(zip, 1<<30))
	var out []*unstructured.Unstructured
	for {
		var m map[string]any
		if err := dec.Decode(&m); err == io.EOF {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("the CRDs of before revision %d: %w", revision, err)
		}
		out = append(out, &unstructured.Unstructured{Object: m})
	}
}

// dropSnapshots removes those of revisions that are gone.
func (c *Client) dropSnapshots(ctx context.Context, release string, history []Revision) error {
	list, err := c.kube.CoreV1().Secrets(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: labelSnapshot + "=" + release})
	if err != nil {
		return fmt.Errorf("looking for the CRDs of before: %w", err)
	}
	for _, s := range list.Items {
		number, err := strconv.Atoi(s.Labels[LabelNumber])
		if err != nil || slices.ContainsFunc(history, func(r Revision) bool { return r.Number == number }) {
			continue
		}
		if err := c.kube.CoreV1().Secrets(c.namespace).Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("removing %s: %w", s.Name, err)
		}
	}
	return nil
}
