// Package conformance judges the bundles of the sigstore conformance suite, good and malformed ones, with sigstore-go as the
// reference and with our own readers of signed bytes. It is a module of its own, so that sigstore-go's verifier stays out of the
// product; testdata says where the bundles are from. It also runs the OCI distribution conformance suite against the embedded registry.
package conformance
