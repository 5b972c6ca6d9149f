// Package prefetch brings the images and models of a pool's new pods to the nodes where these may run, before the first replica is
// drained: a GPU never waits for a download. It implements rollout.Fetcher.
//
// What the pods need is read from the pod templates of the pool's workloads, which are staged and on hold by then. On each node one pod per
// workload makes the kubelet fetch, with the same pull secrets:
//
//   - the image of each container, by a container of that image that runs a program of 129 bytes from a ConfigMap, which ends at once:
//     nothing of the image is run;
//   - models as image volumes, by mounting them;
//   - models that an init container fetches into a folder of the node, its cache: by that very container, told to fill the cache alone
//     (WCBUNDLE_CACHE_ONLY). The cache is what WCBUNDLE_MODEL_CACHE or --cache names when it lies in a hostPath volume of the container.
//
// # Nodes
//
// A node is fetched for when a new pod of the workload could be put there now: ready, schedulable, admitted by selectors, required affinity
// and tolerations, with devices enough. All such nodes where the workload runs come first; of the others, as many as it has replicas, and
// two more. Simulated nodes and those of other systems than Linux have nothing to fetch. A node that fails meanwhile is not waited for.
//
// # Pods
//
// They ask for next to nothing and for no device, are bound to their node by name, and bear the label bundle.wordcab.com/fetch-for with the
// release's name, by which Clear, or the next operation, finds what a killed run has left.
package prefetch
