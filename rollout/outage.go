package rollout

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// outage says why going back now would make it worse: old pods need nodes and a registry as much as new ones.
func (r *run) outage(ctx context.Context, p PoolState) string {
	down, all, err := r.cluster.nodes(ctx)
	if err == nil {
		if why := nodesOut(down, all, p.NodesDown); why != "" {
			return why
		}
	}
	if r.Outage == nil {
		return ""
	}
	return r.Outage(ctx)
}

// nodesOut: one node may fall at any time; two more than before the pool was touched, or all, are no fault of a release.
func nodesOut(down, all, before int) string {
	switch {
	case all > 0 && down == all && down > before:
		return "no node is ready"
	case down > before+1:
		return fmt.Sprintf("%d of %d nodes are not ready, %d were before the pool was touched", down, all, before)
	}
	return ""
}

// nodes counts those that are not ready, and all.
func (c cluster) nodes(ctx context.Context) (down, all int, err error) {
	list, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, 0, fmt.Errorf("listing nodes: %w", err)
	}
	for i := range list.Items {
		if !nodeReady(&list.Items[i]) {
			down++
		}
	}
	return down, len(list.Items), nil
}
