// Package rollout replaces the pods of a Helm release pool by pool behind health gates, inside one Helm revision, and
// goes back by itself when a gate fails. It knows pools, holds and gates; it knows no bundle and no chart.
//
// # How it works
//
// An operation stages a revision with every changed pool on hold: the new pod template and the hold (spec.paused of a
// Deployment, a partition beyond any ordinal of a StatefulSet) reach the API server in the same request, so nothing
// rolls, and the manifest that Helm stores stays clean. Then the pools are released in order, one PATCH per workload,
// and each is watched, gated and soaked before the next.
//
//	Locked -> CRDs -> Staging -> Staged -> Rolling, per pool:  Measuring -> Fetching -> [Draining ->] Releasing -> Replacing
//	       -> Gating -> Soaking -> Done, with a canary or a drain the last five once per step
//	       -> Finalizing -> Succeeded
//
//	a pool fails:    Rehold -> Evidence -> Reverting -> RollingBack, per pool: Releasing -> Replacing -> Done
//	                 -> FinalizingBack -> RolledBack            (or RollbackFailed, everything on hold)
//	what a pool needs does not come: as a pool that fails, but nothing was drained (see Fetching)
//	Held waits for a person, and says for what (heldFor): gate, failure, pause, limit, window, canary, drift, outage.
//	resume goes on (for a canary only promote does), abort goes Reverting
//	staging changed nothing and failed:        -> Aborted
//
// Step is that picture as a pure function: no clock, no network. The engine (Run) saves the state that Step returns and
// only then performs the action that Step asks for; every action first looks whether it is done already, so a run that
// was killed anywhere is continued by Resume and ends with the same one revision. Going back starts with the failed
// pool, which is short of capacity, then the pools that had been replaced, last first; a pool that was never released
// has its old template back before its hold is taken away, so its pods are not restarted.
//
// # Holds
//
// What is injected, by kind: spec.paused of a Deployment; a partition of 1,000,000 of a StatefulSet or LeaderWorkerSet, the latter with
// maxSurge 0, because surge groups would be there at once; of a custom object the fields of its pool's HoldRule. A StatefulSet or
// LeaderWorkerSet that is new is born with 0 replicas. The annotation bundle.wordcab.com/held-by names the operation, hold-original has what the
// chart said. Steps (canary, drain) lower the partition; a Deployment is let go until so many new pods are made, and held again.
// While pools wait, a hold that something else takes away is found (drift), put back, and the operation holds.
//
// # Fetching
//
// Before a pool is released, a Fetcher brings what its new pods need to the nodes where they may run, so that no GPU waits for a
// download. With prefetch required, a node that cannot have everything, or is not done when no further node was for 30 minutes, fails the
// pool by the gate named fetch. With try that is only noted (lacks), unless a node on which the pool runs now says itself that it cannot
// have what the pods need: there they would fail too, one replica short. On the way back the pool that failed is not fetched for, and
// nothing that others lack keeps them.
//
// # Record
//
// The state is one JSON document, key operation.json of ConfigMap wcbundle-op-RELEASE, written with the resourceVersion
// that was read (a second writer gets ErrConflict). A finished operation is copied to wcbundle-op-RELEASE-ID; the newest
// 20 copies are kept. The record is at most 512 KiB, which is room for a hundred
// pools with four gates each; evidence is cut first. It never holds a value or a secret of the
// chart.
//
//	apiVersion      bundle.wordcab.com/v1
//	kind            Operation
//	id              of the operation, also in the annotation bundle.wordcab.com/held-by of what it holds
//	type            install | apply | rollback
//	state           one of the phases above; seq counts the writes; heldFor and why say what Held waits for
//	limits          until, only, windowEnd: how far this run goes
//	trial           the canary that a person asked for
//	decisions[]     who decided what, and why; the newest 50
//	pool            whose turn it is
//	onFailure       rollback (default) | hold
//	prefetch        try | required | off
//	helm            before: newest revision when the operation began; fromRevision: what ran; revision: what was staged;
//	                rollbackTarget, rollbackRevision: where going back leads and which revision that made
//	pools[]         the pool as declared; state; releasedAt, doneAt; ready of total; gates with their last verdicts
//	order[]         names in the order of the turn, rewritten when the direction turns
//	prune[]         what the new revision no longer has; deleted when all gates have passed, not before
//	failure         pool, gate, reason, evidence (events, the last lines of the logs), at
//
// # Lock
//
// Lease wcbundle-RELEASE: renewed every 10 s, free after 60 s. Who does not get it gets ErrLocked; who loses it stops
// with ErrLockLost and writes nothing more. Nothing is done while it was not renewed for 40 s: an API server that is away, or a process that
// slept, takes it from nobody, and acts for nobody. Its annotation bundle.wordcab.com/asked is a request to whoever holds it: pause or abort.
// All times are by the API server's clock (its Date header), to three seconds.
//
// # Gates
//
// A gate's verdict is pass, fail, inconclusive or error. Only fail turns an operation back, and only the second time in
// a row; a gate that cannot say for five rounds (twenty for Prometheus) holds. An http gate asks each pod through the API server's pod
// proxy; with a body, which the record keeps only the digest of, its answer is known. Its jsonpath is of the subset $.a.b[*].c[0]; each string of
// contains must be among the selected values. A prometheus gate compares the one value of an instant query with bounds, and with the same
// query's value from before the pool was touched.
//
// # Going back
//
// Not into an outage: two more nodes that are not ready than before the pool was touched, all nodes, or what Engine.Outage says. A pool that
// was not well before it was touched is back when it is as well as it was. An ordered StatefulSet that waits for a pod that is not ready and
// not of its revision is freed, in both directions (Kubernetes issue 67250).
package rollout
