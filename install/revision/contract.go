package revision

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/retry"
)

// maxLosses bounds the objects that are named.
const maxLosses = 20

// Contraction is what giving up the way back changes of one CRD.
type Contraction struct {
	CRD     string   `json:"crd"`
	Storage string   `json:"storage,omitempty"` // the version that is stored from now on, if it was another one
	Objects int      `json:"objects,omitempty"` // that are written anew in it
	Trim    []string `json:"trim,omitempty"`    // versions that nothing is stored in any more
	Drop    []string `json:"drop,omitempty"`    // versions and fields that the release does not have
	Losses  []string `json:"losses,omitempty"`  // why Drop is left: objects and the fields that they would lose
}

// Nothing tells that there is nothing to do for it.
func (t Contraction) Nothing() bool {
	return t.Storage == "" && len(t.Trim) == 0 && (len(t.Drop) == 0 || len(t.Losses) > 0)
}

// Same tells whether both change the same; objects come and go.
func (t Contraction) Same(o Contraction) bool {
	return t.CRD == o.CRD && t.Storage == o.Storage && slices.Equal(t.Trim, o.Trim) && slices.Equal(t.Drop, o.Drop) &&
		(len(t.Losses) == 0) == (len(o.Losses) == 0)
}

// Contractions says what Contract would do: for each CRD of the chart that runs. Nothing is changed.
func (c *Client) Contractions(ctx context.Context, release string) ([]Contraction, error) {
	targets, err := c.runningCRDs(release)
	if err != nil {
		return nil, err
	}
	var out []Contraction
	for _, name := range sortedKeys(targets) {
		live, err := c.dyn.Resource(crdAt).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading CRD %s: %w", name, err)
		}
		t, err := c.contraction(ctx, live, targets[name])
		if err != nil {
			return nil, err
		}
		if !t.Nothing() || len(t.Losses) > 0 {
			out = append(out, t)
		}
	}
	return out, nil
}

func sortedKeys(m map[string]*unstructured.Unstructured) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func (c *Client) contraction(ctx context.Context, live, target *unstructured.Unstructured) (Contraction, error) {
	t := Contraction{CRD: live.GetName(), Drop: narrowed(live, target)}
	want := storageVersion(target)
	stored, _, _ := unstructured.NestedStringSlice(live.Object, "status", "storedVersions")
	if storageVersion(live) != want {
		t.Storage = want
	}
	for _, v := range stored {
		if v != want {
			t.Trim = append(t.Trim, v)
		}
	}
	if t.Nothing() && len(t.Drop) == 0 {
		return t, nil
	}
	schema, err := structural(target, want)
	if err != nil {
		return t, fmt.Errorf("CRD %s: %w", t.CRD, err)
	}
	return t, c.eachObject(ctx, live, want, func(o *unstructured.Unstructured) error {
		t.Objects++
		if len(t.Drop) > 0 && len(t.Losses) < maxLosses {
			if gone := pruned(o, schema); len(gone) > 0 {
				t.Losses = append(t.Losses, fmt.Sprintf("%s/%s would lose %s", o.GetNamespace(), o.GetName(), strings.Join(gone, ", ")))
			}
		}
		return nil
	})
}

// structural is the schema of a version, as the API server prunes by it.
func structural(crd *unstructured.Unstructured, version string) (*structuralschema.Structural, error) {
	raw, found, err := unstructured.NestedMap(crdVersions(crd)[version], "schema", "openAPIV3Schema")
	if err != nil || !found {
		return nil, fmt.Errorf("version %s has no schema", version)
	}
	var v1 apiextensionsv1.JSONSchemaProps
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &v1); err != nil {
		return nil, err
	}
	var internal apiextensions.JSONSchemaProps
	if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(&v1, &internal, nil); err != nil {
		return nil, err
	}
	return structuralschema.NewStructural(&internal)
}

// pruned are the fields that an object would lose.
func pruned(o *unstructured.Unstructured, s *structuralschema.Structural) []string {
	copied := o.DeepCopy()
	return pruning.PruneWithOptions(copied.Object, s, true, structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true})
}

// Contract stores the version of the chart that runs, writes every object anew in it, and then takes away what the chart does not have,
// where no object would lose anything. Cut off anywhere, it is run again.
func (c *Client) Contract(ctx context.Context, release string, all []Contraction) error {
	targets, err := c.runningCRDs(release)
	if err != nil {
		return err
	}
	for _, t := range all {
		target := targets[t.CRD]
		if target == nil || t.Nothing() {
			continue
		}
		if err := c.contract(ctx, target, t); err != nil {
			return fmt.Errorf("CRD %s: %w", t.CRD, err)
		}
	}
	c.get.reset()
	return ctx.Err()
}

func (c *Client) contract(ctx context.Context, target *unstructured.Unstructured, t Contraction) error {
	at := c.dyn.Resource(crdAt)
	want := storageVersion(target)
	if t.Storage != "" {
		if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			live, err := at.Get(ctx, t.CRD, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if err := store(live, want); err != nil {
				return err
			}
			_, err = at.Update(ctx, live, metav1.UpdateOptions{FieldManager: crdManager})
			return err
		}); err != nil {
			return fmt.Errorf("storing version %s: %w", want, err)
		}
	}
	live, err := at.Get(ctx, t.CRD, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if err := c.rewrite(ctx, live, want); err != nil {
		return err
	}
	if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		live, err := at.Get(ctx, t.CRD, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := unstructured.SetNestedStringSlice(live.Object, []string{want}, "status", "storedVersions"); err != nil {
			return err
		}
		_, err = at.UpdateStatus(ctx, live, metav1.UpdateOptions{FieldManager: crdManager})
		return err
	}); err != nil {
		return fmt.Errorf("trimming the stored versions: %w", err)
	}
	if len(t.Drop) == 0 || len(t.Losses) > 0 {
		return nil
	}
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error { // an apply would leave what others wrote
		live, err := at.Get(ctx, t.CRD, metav1.GetOptions{})
		if err != nil {
			return err
		}
		spec, _, err := unstructured.NestedMap(target.Object, "spec")
		if err != nil {
			return err
		}
		live.Object["spec"] = spec
		_, err = at.Update(ctx, live, metav1.UpdateOptions{FieldManager: crdManager})
		return err
	})
}

func store(crd *unstructured.Unstructured, version string) error {
	list, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil {
		return err
	}
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			m["storage"] = m["name"] == version
		}
	}
	return unstructured.SetNestedSlice(crd.Object, list, "spec", "versions")
}

// rewrite writes every object as it is: the API server stores it in the version that is stored now.
func (c *Client) rewrite(ctx context.Context, crd *unstructured.Unstructured, version string) error {
	return c.eachObject(ctx, crd, version, func(o *unstructured.Unstructured) error {
		at, err := c.at(o)
		if err != nil {
			return err
		}
		err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
			live, err := at.Get(ctx, o.GetName(), metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			_, err = at.Update(ctx, live, metav1.UpdateOptions{FieldManager: crdManager})
			return err
		})
		if err != nil {
			return fmt.Errorf("writing %s/%s anew: %w", o.GetNamespace(), o.GetName(), err)
		}
		return nil
	})
}

// Wider lists the CRDs of a revision's chart of which the cluster has more: a rollback leaves them as they are.
func (c *Client) Wider(ctx context.Context, release string, revision int) ([]string, error) {
	cfg, err := c.helm(nil)
	if err != nil {
		return nil, err
	}
	rel, err := cfg.Releases.Get(release, revision)
	if err != nil {
		return nil, err
	}
	crds, err := crdsOfRelease(rel)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, crd := range crds {
		live, err := c.dyn.Resource(crdAt).Get(ctx, crd.GetName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			out = append(out, crd.GetName()+" is gone")
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading CRD %s: %w", crd.GetName(), err)
		}
		if more := narrowed(live, crd); len(more) > 0 {
			out = append(out, crd.GetName()+" keeps "+strings.Join(more, ", "))
		}
	}
	return out, nil
}
