// Package preflight says before an upgrade whether it can succeed.
//
// [Collect] reads the cluster once, at the edge, into a [Snapshot]: plain data, no key bytes, no Secret values. The
// caller describes what is to be installed in a [Want]. [Check] compares the two and is pure: no clock, network,
// disk or logger; the same snapshot gives the same report.
//
// # Verdicts
//
// A [Result] has the severity of its check (block, warn, info) and a verdict:
//
//	pass     nothing to do
//	warn     goes on, but somebody should know
//	fail     the upgrade would break: with severity block it must not start
//	unknown  could not be found out; counts as fail, so what cannot be seen is never a silent pass
//
// [Report.Blocked] is true when a check of severity block failed or is unknown and nobody has waived it by name with
// [Report.Waive]. The zero Snapshot was never read, so nearly every check on it is unknown: the zero value fails closed.
//
// # Checks
//
//	id              severity  fails when
//	GPU-SLOTS       block     a pool's rolling update or growth finds no node with enough free GPUs in one place
//	GPU-PRESENT     block     a node advertises fewer GPUs than at the baseline
//	NODE-STATE      block     a node that the release may run on is NotReady, cordoned or under pressure
//	QUOTA           block     a ResourceQuota leaves no headroom for growth and surge
//	SC-PRESENT      block     a StorageClass that a rendered claim names (or a default class) does not exist
//	SC-CHANGED      block     a StorageClass differs from the baseline
//	CERT-TLS        block     a TLS Secret of the namespace has expired (warn: within 30 days)
//	CERT-APISERVER  block     the API server's certificate has expired (warn: within 30 days)
//	IMG-PRESENT     block     a rendered image is not in the release or not in the registry
//	MODEL-PRESENT   block     a model is not in the registry
//	IMG-VOLUME      block     a node that a pod with image volumes may run on cannot mount them (warn: nobody can see whether it does)
//	RUN-TIME        block     the cluster lacks what the site's way for pods made at run time needs, or a hook's image is out of
//	                          its reach (warn: a registry that references name is not mirrored)
//	DELTA-SPACE     block     scratch disk or memory is less than loading the patch needs
//	HELM-STATE      block     the last revision is pending or failed, or the history is damaged
//	HELM-SIZE       block     the release record is over 1 MiB (warn: over 768 KiB)
//	OP-OPEN         block     an operation is unfinished or its lease is held
//	WAYPOINT        block     the jump is too far, crosses a waypoint, is outside the range, or goes back
//	K8S-VERSION     block     the cluster's version is outside the chart's range, or kubelets are skewed by more than 3
//
// # GPU slots
//
// A slot is room for one pod on one node: the smallest of floor((allocatable - requested) / needed) over everything the
// pod requests. Requested counts every pod that is bound to the node and not finished, Terminating ones included, since
// a GPU is free only when the old pod is gone. Free GPUs of several nodes never add up to a slot. Pools roll one after
// another; the check plays each roll through: place a new replica when the surge allows, free an old one when the
// unavailability allows, and fail when neither is possible while old replicas remain. Of inter-pod affinity, topology
// spread and volumes it knows nothing; those are the scheduler's.
package preflight
