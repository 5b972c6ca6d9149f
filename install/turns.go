package install

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/wordcab/wcbundle/rollout"
)

// Turn says how the pods of one workload will be replaced.
type Turn struct {
	Pool     string `json:"pool"`
	Workload string `json:"workload"`
	Replicas int    `json:"replicas"` // that run now
	How      string `json:"how"`
	Gates    int    `json:"gates"`
	Note     string `json:"note,omitempty"`
}

// turns says it for every pool that rolls, in order.
func turns(ctx context.Context, t Target, rolls []rollout.Pool) ([]Turn, error) {
	pools, err := rollout.Resolved(ctx, t.Access.Kube, t.Access.Namespace, rolls)
	if err != nil {
		return nil, err
	}
	var out []Turn
	for _, p := range pools {
		for _, w := range p.Workloads {
			one := Turn{Pool: p.Name, Workload: w.String(), Gates: len(p.Gates.Post)}
			switch {
			case w.APIVersion == "" && w.Kind == "Deployment":
				d, err := t.Access.Kube.AppsV1().Deployments(t.Access.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
				if err != nil && !apierrors.IsNotFound(err) {
					return nil, fmt.Errorf("reading %s: %w", w, err)
				}
				if err == nil {
					one.Replicas = int(d.Status.Replicas)
					one.How, one.Note = deploymentTurn(p, d)
				}
			case w.APIVersion == "" && w.Kind == "StatefulSet":
				s, err := t.Access.Kube.AppsV1().StatefulSets(t.Access.Namespace).Get(ctx, w.Name, metav1.GetOptions{})
				if err != nil && !apierrors.IsNotFound(err) {
					return nil, fmt.Errorf("reading %s: %w", w, err)
				}
				if err == nil {
					one.Replicas = int(s.Status.Replicas)
					one.How = "one goes, one comes"
					one.Note = alone(one.Replicas)
				}
			default:
				one.How = "as its controller does"
			}
			if one.How == "" {
				one.How = "new"
				out = append(out, one)
				continue
			}
			if p.Drain != nil {
				one.How += ", drained before"
			}
			if p.Canary != nil {
				one.How += fmt.Sprintf(", %d first as the canary", p.Canary.Replicas)
			}
			out = append(out, one)
		}
	}
	return out, nil
}

// deploymentTurn reads how a Deployment's pods go and come. It is pure.
func deploymentTurn(p rollout.Pool, d *appsv1.Deployment) (how, note string) {
	n := int(d.Status.Replicas)
	if d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType {
		return "all go, all come: the chart says Recreate", "nobody serves meanwhile"
	}
	surge, unavailable := p.MaxSurge, p.MaxUnavailable
	if r := d.Spec.Strategy.RollingUpdate; (p.OneByOne() || surge == "" && unavailable == "") && r != nil && !kubernetesDefault(r) {
		surge, unavailable = r.MaxSurge.String(), r.MaxUnavailable.String()
	}
	switch {
	case surge == "1" && unavailable == "0":
		return "one comes, one goes", ""
	case surge == "0" && unavailable == "1":
		return "one goes, one comes", alone(n)
	case surge == "" && unavailable == "":
		return "as the chart says", ""
	}
	return fmt.Sprintf("up to %s more, up to %s less", or(surge, "25%"), or(unavailable, "25%")), ""
}

// kubernetesDefault is what the API server puts in where a chart says nothing.
func kubernetesDefault(r *appsv1.RollingUpdateDeployment) bool {
	return r.MaxSurge.String() == "25%" && r.MaxUnavailable.String() == "25%"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// alone warns of a pool that has nobody else (edge 33).
func alone(replicas int) string {
	if replicas == 1 {
		return "it is the only one: nobody serves until the new one is ready"
	}
	return ""
}
