// Package revision makes, reads and undoes Helm revisions for a health-gated rollout. It owns the Helm SDK.
//
// # Holds on the wire
//
// A revision is made with every changed pool on hold, and the hold must not be in the stored manifest: there it would
// freeze the pool again at every later rollback, and a plain helm upgrade would let all pools go at once. So the holds are
// put into the objects on their way to the API server, by a client that wraps Helm's own: the same PATCH carries the new
// pod template and spec.paused (or the partition). Custom objects are merged three ways too, so that a rollback repairs
// what was edited by hand. Where a HorizontalPodAutoscaler targets a workload, its live replicas are kept.
//
// What a new revision no longer has is not deleted when it is staged, but when all gates have passed (Finish).
//
// Helm is never asked to wait and never to be atomic: for it a paused Deployment is ready, and zero ready replicas of one
// are enough when maxUnavailable is one. Helm's own CRD step is skipped: CRDs are applied before, server side, and only if
// they add; a removed version or field is refused.
//
// # Labels and outcome
//
// Each release record that we write carries the labels bundle.wordcab.com/op, /bundle and /outcome (rolling, succeeded,
// rolled-back, failed) and /revision, and a description for people. A record without them is foreign: plain Helm made it; so is one whose
// /revision is another's, because Helm copies labels. Twenty records are kept, and the one that Previous gives.
//
// # One operation, one revision
//
// Stage is told the newest revision that existed when the operation decided to stage. What follows it is the operation's
// own: deployed means done, pending or failed means that a run died on the way, and then that record is removed and made
// anew with the same number. A revision that is not ours is never touched.
//
// # Classes of change
//
// Classify sends what the client would send as a dry run and compares the defaulted answer with what is live:
//
//	none         nothing differs
//	config-only  not a workload; its Why says who reads it and how
//	scale-only   only replicas
//	in-place     the workload differs, its pods do not
//	restart      the pod template differs, or its pods read changed configuration by environment or subPath
//	recreate     an immutable field differs: cannot be applied
//	new          not live yet
//	removed      live, and not in the new manifest
//
// Who reads a ConfigMap or Secret is decided by the pods that run and the templates that they came from. What they would not see replaces
// them: the template gets the annotation bundle.wordcab.com/restarted-for with the operation's id, which is stored, and kept by later revisions.
//
// The labels helm.sh/chart and app.kubernetes.io/version and checksum annotations of a pod template do not restart a pool
// by themselves: if nothing else differs, the live values are written back before the manifest is stored.
package revision
