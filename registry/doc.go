// Package registry holds content at rest and in motion: a client for any OCI registry and the embedded one.
//
// The client knows repositories by their path without the host, as the closure of a release writes them. What it reads it
// checks against a descriptor before the last byte is given out; what it pushes it hashes on the way, and the registry
// hashes it again before it takes it. Plain http is spoken to loopback addresses, and elsewhere only when Options says so.
//
// The embedded registry is CNCF distribution v3 on a folder. It is what `wcbundle registry serve` runs, on an operator's
// machine or as the pod that a site's nodes pull from. It does two things that distribution does not:
//
//   - Upon DELETE of a blob or manifest by digest it hashes the data that it has under that digest, and forgets them where they are
//     others. Distribution takes an upload of a digest that it has for done, so that spoiled data would stay for ever.
//   - POST /wcbundle/v1/sweep frees what no manifest names, while it serves. Whom the registry lets in may ask. The order is a line
//     each, at most 64 MiB: "free DIGEST" for what may go although it came, or a repository took it in, less than a day ago, and
//     "keep DIGEST" for what must stay although nothing names it. Requests that write are answered with 503 and Retry-After meanwhile;
//     those that are inside are waited for, half a minute at most. The answer is {"blobs": N, "uploads": N, "bytes": N}.
package registry
