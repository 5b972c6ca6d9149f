// Package support collects a support bundle: what a vendor needs to understand an incident, and no secret.
//
// [Collect] reads the cluster, scrubs everything before it first touches a disk, packs it, reads the finished archive
// again to look for secrets, and only then copies it to the writer. It is closed by default: when a secret is found in
// the finished archive nothing is written and the error is a [ResidualError] that names the file.
//
// # Archive
//
// A gzip-compressed tar with one folder, support-bundle-TIME/, whose files are in the order of their names, mode 0600,
// with the time of the request and no owner. The same cluster and request give the same bytes.
//
//	version.yaml                                        form of this archive
//	manifest.json                                       every other file: sha256, size, collector, truncated, note
//	redactions.json                                     file -> rule -> how often; never a value
//	collection-errors.json                              what could not be collected, and why
//	README.txt                                          how to inspect
//	cluster-info/cluster_version.json
//	cluster-resources/{nodes,namespaces,pvs,storage-classes,custom-resource-definitions}.json
//	cluster-resources/KIND/NAMESPACE.json               pods, deployments, statefulsets, replicasets, daemonsets, jobs,
//	                                                    events, configmaps, services, pvcs, leases, pod-disruption-budgets
//	cluster-resources/secrets/NAMESPACE.txt             name, type, keys and lengths; never data
//	cluster-resources/custom-resources/CRD/NAMESPACE.json
//	cluster-resources/pods/logs/NAMESPACE/POD/CONTAINER[-previous].log
//	helm/NAMESPACE/RELEASE/{history.json,rev-N.manifest.yaml,values-N.redacted.yaml}
//	nodes/NODE/{conditions,gpu-labels}.json
//	extra/NAME                                          what the caller added
//
// # Redaction
//
// Four passes, in this order, and the first again until it finds nothing:
//
//  1. Literals. Every value of at least 6 bytes of every Secret in the collected namespaces, the values of Secrets in
//     stored Helm revisions, and sensitive Helm values, in these forms: plain, base64 (standard and URL alphabet, at
//     all three alignments), hex, URL-encoded, JSON-escaped once and twice. A value of several lines counts line by
//     line too, and a long one in pieces of 64 bytes, so that a log that splits or cuts it gives nothing away. Values
//     that are exactly a collected namespace or the release are public: every path has them.
//  2. Structure. Keys whose name says secret lose their value, so do env entries, flags in argument lists, and the
//     last-applied annotation; managedFields go.
//  3. Patterns. PEM private keys, JWT, tokens with known prefixes, AWS keys, authorization headers, credentials in
//     URLs, e-mail addresses, and key=value or key: value text where the key says secret.
//  4. Names of files are scrubbed as their content is.
//
// Every hit becomes three asterisks, which is shorter than any literal, so repeating pass 1 ends. Where the Secrets of a
// namespace cannot be read, pass 1 is blind: all free text (logs, ConfigMap values, arguments, env, annotations, messages,
// custom resources, extra files) is withheld and listed in collection-errors.json. What the passes cannot see: a
// secret of under 6 bytes, one in an encoding not listed, and one that no Secret holds and no pattern knows.
//
// # Limits
//
// MaxBytes bounds the files together, PerContainer each log, of which the end is kept from a whole line on. When space
// runs out, logs of failing pods come first; what is left out is in collection-errors.json. What Kubernetes has rotated
// away is not there: the note of a log names its oldest line.
package support
