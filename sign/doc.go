// Package sign decides who may say what. It makes and judges the envelope that a bundle or patch travels with, and writes
// signatures that cosign can check.
//
// # Keys
//
// Algorithms: ecdsa-p256 and ecdsa-p384 (SHA-256 of the message, signature in ASN.1 DER), ed25519 (RFC 8032, over the message
// itself) and rsa (3072 to 4096 bits, exponent 65537, PKCS #1 version 1.5 with SHA-256). A key's id is the lower case hex SHA-256
// of its PKIX (SubjectPublicKeyInfo) DER. Private key files are those of cosign
// generate-key-pair: PKCS #8 under scrypt and NaCl secretbox, in a PEM block ENCRYPTED SIGSTORE PRIVATE KEY.
//
// # Envelope
//
// A DSSE envelope in JSON, at most 1 MiB, with 1 to 64 signatures:
//
//	{"payloadType":"application/vnd.in-toto+json","payload":BASE64,"signatures":[{"keyid":ID,"sig":BASE64},...]}
//
// Signed are the bytes "DSSEv1 28 application/vnd.in-toto+json N PAYLOAD", N being the payload's length in decimal. Base64
// is the standard alphabet with padding and no line ends. The key id selects the key and proves nothing.
//
// The payload is an in-toto Statement with exactly one subject:
//
//	{"_type":"https://in-toto.io/Statement/v1",
//	 "subject":[{"name":"release","digest":{"sha256":HEX},"mediaType":MEDIATYPE}],
//	 "predicateType":"https://bundle.wordcab.com/release/v1",
//	 "predicate":{"kind":"release","name":"wordcab","version":"2.9.0","channel":"stable","epoch":0,"sequence":57,
//	  "issuedAt":"2026-09-01T00:00:00Z","expires":"2027-09-01T00:00:00Z","releaseDigest":"sha256:HEX"}}
//
// For a patch, subject name and kind are "patch", the predicate type ends in /patch/v1, and the predicate also has
// "bases", the digests of the heads that it can start from, and "target", that of the head it ends with; version and
// sequence are the target's. "sites" lists the site ids that it is for; without it, it is for every site. The subject is
// the release's head or the patch's root manifest; releaseDigest is that of its release.json or patch.json.
//
// Writers emit the fields in the order of Statement, without white space. Readers refuse unknown, repeated and
// case-folded keys and anything after the value (package internal/strict), names outside of [a-z0-9._-] or with two
// dots in a row, digests other than sha256:hex, times other than RFC 3339 with Z and whole seconds, and sequences
// outside of 1 to 2^53.
//
// # Trust policy
//
// trust.json, at most 1 MiB:
//
//	{"schema":1,"version":3,"product":"wordcab","epoch":0,"expires":"2028-01-01T00:00:00Z",
//	 "keys":[{"id":ID,"algorithm":"ecdsa-p256","pem":"-----BEGIN PUBLIC KEY-----..."}],
//	 "roles":{"root":{"keys":[ID,ID,ID],"threshold":2},"release":{"keys":[ID,ID],"threshold":2},
//	  "security":{"keys":[ID],"threshold":1,"allow":{"images":["registry.example.com/wordcab/*"],"models":["asr-*"],
//	   "charts":false,"maxBytes":2147483648,"maxDays":90}}},
//	 "revoked":{"keys":[ID],"heads":["sha256:HEX"]}}
//
// Role release signs for channel stable, role security for channel security; a channel without a role is closed. Role root
// signs the policy's next version; without one, only a person at each site can change the policy. A key has at most one role,
// each id and algorithm must be the key's own, a threshold is 1 to the number of the role's keys, and as many of those are not
// revoked. From expires on, which may be absent, the policy lets nothing in; its next version may still follow from it. Everything
// else is a fault of form.
//
// # Security role
//
// Role security signs drops: a patch, and the release that it leads to, both of channel security, on a release that the site has
// taken in. It must have allow. A drop expires within maxDays (1 to 90) of issuedAt. Compared with its base it may add or change the
// images whose names, without tag and digest, match a pattern of allow.images (path.Match), the models whose ids match one of
// allow.models, and with allow.charts the chart, its values, pools, platforms and retired models; it takes nothing away. Blobs that
// the base does not have, or has in other repositories, go into the repositories of what may be changed, and are maxBytes
// together at most. Its head carries one OpenVEX document with at least one statement of status fixed. Every product there says a
// digest: what is fixed, one of the drop's closure; what is affected, one of the drop's or the base's. Each breach is WrongScope.
// Open judges kind and time; bundle.Verified.Stands judges the rest, where the base is known.
//
// # Trust chain
//
// At most 1 MiB, with 1 to 64 links:
//
//	{"schema":1,"links":[ENVELOPE,...]}
//
// A link is an envelope as above about one version of the policy: its statement has the subject name "trust", the SHA-256 of
// trust.json as Trust.Encode writes it, predicate type https://bundle.wordcab.com/trust/v1, and the policy itself as predicate. Each
// version is one more than that of the link before. The chain travels with every bundle and patch, and is no authority.
//
// Trust.Follow goes from a site's version to the newest in the chain. Older links are passed over. A link of the site's own version
// must say the same, byte for byte in its encoding. The next one must have signatures by the threshold of roots of the version
// before it and by that of its own roots, those that either version revokes not counted; it must be about the same product, must
// not lower the epoch, and must repeat every revocation. A site that is more than one version behind the first link
// cannot follow. Whatever breaks a rule is BadChain, WrongProduct or Replayed, and what came with the chain is refused.
//
// # Site role
//
// Where a site's record names approvers, a release is applied only with the consent of as many of their keys as it says, on top of all the
// rest. An approval is an envelope as above; its statement has the subject name "release", the head's digest, predicate type
// https://bundle.wordcab.com/approval/v1 and the predicate {"site":ID,"version":"2.9.0","issuedAt":TIME}. The keys are the site's: the
// vendor's policy does not know them, and they can sign nothing else.
//
// # Verification order
//
// Open refuses at the first rule that is broken. Nothing of the payload is parsed before a trusted key has signed it.
//
//  1. NoPolicy: trust policy, time and the record of what was accepted are there. Expired: the policy has not. (The chain was
//     followed before: BadChain.)
//  2. Unsigned, BadEnvelope: form and bounds of the envelope; the payload type is exact.
//  3. WrongKey: at least one signature is by a key of the trust policy. A key counts once, however often it signs.
//  4. BadStatement, WrongPredicate: form of the statement, predicate type, and that kind agrees with it.
//  5. WrongSubject: the SHA-256 of the subject's bytes, at most 4 MiB, is the subject's digest.
//  6. WrongChannel, Revoked, WrongRole, Threshold: enough keys of the channel's role signed, revoked ones not counted. WrongScope: in
//     channel security, a release is one that a patch leads to or that the site has, and expires in time.
//  7. Revoked: neither the subject nor the head it leads to is revoked, by the policy or by the site's own record.
//  8. WrongProduct, WrongSite.
//  9. Replayed, WrongEpoch: the epoch is the trust policy's and not below the accepted one. In the accepted epoch the
//     sequence is above the accepted one, or equal with the same head (doing the same again is allowed).
//  10. NotYet, Expired: issuedAt is at most 48 hours after the later of clock and clock floor, and that is before expires.
//  11. WrongBase: a patch starts from, or leads to, a head that the site holds (only if Policy.Installed is given).
//
// What comes after is the caller's: compare the statement with release.json or patch.json, whose digest is releaseDigest, hash every
// blob against the closure, and record the accepted sequence before acting.
//
// The epoch ends the harm that a stolen key can do by signing the largest sequence: the roots raise the epoch in the policy's next
// version, and the sequences start again.
//
// # Files
//
// SealFile and OpenFile use the same envelope for receipts and support bundles. The predicate is {"size":N} and the
// predicate type, an https URI, is part of what is compared: a signature made for one purpose is none for another.
//
// # Cosign
//
// SignCosign writes the form that `cosign verify --key K --insecure-ignore-tlog=true --private-infrastructure REF` accepts in
// cosign 2 and 3: an OCI image manifest under the tag sha256-HEX.sig, one layer of media type
// application/vnd.dev.cosign.simplesigning.v1+json per signer, the signature in the annotation
// dev.cosignproject.cosign/signature. It proves that a key signed a digest. It gives no authority: Open does not look at it.
//
// AddCosign keeps what other keys signed.
//
// SignSigstore writes the form that cosign 3 writes by default, one for each signer: an OCI image manifest of artifact type
// application/vnd.dev.sigstore.bundle.v0.3+json with the empty config, the signed manifest as its subject, and one layer of the
// same media type, in JSON:
//
//	{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json",
//	 "verificationMaterial":{"publicKey":{"hint":BASE64}},
//	 "dsseEnvelope":{"payload":BASE64,"payloadType":"application/vnd.in-toto+json","signatures":[{"sig":BASE64}]}}
//
// The hint is the SHA-256 of the key's PKIX DER; it selects nothing. The payload is
//
//	{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":HEX}}],
//	 "predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}
//
// VerifyCosign and VerifySigstore read both forms as cosign writes them with a key, at most 1 MiB each. VerifySigstore wants
// exactly one signature, that payload type, that predicate type, and exactly one subject with no digest but sha256. The subject
// may have a name and annotations, the predicate may say anything, and what a transparency log or time stamping authority added
// is passed over. Both also take what cosign sign makes with two kinds of keys: Ed25519ph (RFC 8032) by an Ed25519 key, and
// SHA-384 by one on P-384. Source of the form: sigstore protobuf-specs, bundle v0.3.
//
// # Refused
//
// There is no unsigned mode, no warning instead of an error, no transparency log, no network, and no RSA below 3072 bits.
package sign
