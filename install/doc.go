// Package install is one site: verify, load, preflight, plan, apply, roll back.
//
// Nothing here takes bytes that nobody verified. A bundle comes in as bundle.Verified or bundle.VerifiedPatch, which only
// bundle.Open and bundle.OpenPatch make, which only take what sign.Open accepted under the policy of the site's record.
//
// # The site record
//
// One JSON document, in the ConfigMap wcbundle-site of the release's namespace and in a file where the operator works. Each
// write raises its generation; the copy with the higher generation wins, so neither a lost laptop nor a restored cluster
// brings an old record back. It holds the trust policy, the highest sequence accepted per channel, the clock floor (the
// newest signing time ever accepted), the loads, those that were dropped, what the newest inventory has promised, and what is
// installed. A site without a record accepts nothing.
//
// # Loading
//
// verify, then blobs in parallel (there already: skipped; in another repository of the registry: mounted; else pushed, or
// rebuilt from base blobs and pushed), then manifests, then tags; then every manifest is read back and compared. A blob is
// read once and hashed once on its way; a delta is hashed before the decoder sees it. The record is raised after all that
// and before anything may be rolled out.
package install
