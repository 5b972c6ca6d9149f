// Package registry holds content at rest and in motion: a client for any OCI registry and the embedded one.
//
// The client knows repositories by their path without the host, as the closure of a release writes them. What it reads it
// checks against a descriptor before the last byte is given out; what it pushes it hashes on the way, and the registry
// hashes it again before it takes it. Plain http is spoken to loopback addresses, and elsewhere only when Options says so.
//
// The embedded registry is CNCF distribution v3 on a folder. It is what `wcbundle registry serve` runs, on an operator's
// machine or as the pod that a site's nodes pull from.
package registry
