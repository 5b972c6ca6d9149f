package sign

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/internal/strict"
)

// MediaSigstore is the media type of a sigstore bundle, and the artifact type of the manifest that carries one.
const MediaSigstore = "application/vnd.dev.sigstore.bundle.v0.3+json"

// PredicateCosign is what cosign says of an image that it signs. VerifySigstore takes no other.
const PredicateCosign = "https://sigstore.dev/cosign/sign/v1"

const (
	annotationSigstoreContent   = "dev.sigstore.bundle.content"
	annotationSigstorePredicate = "dev.sigstore.bundle.predicateType"
)

// SigstoreSignature is one key's signature in the form that cosign 3 writes: a sigstore bundle in an OCI manifest that has
// the signed manifest as its subject. It says only that the key signed the digest; Open never reads it.
type SigstoreSignature struct {
	Manifest []byte   // media type application/vnd.oci.image.manifest.v1+json
	Blobs    [][]byte // what the manifest refers to: the empty config and the sigstore bundle
}

// sigstoreBundle is a sigstore bundle about a DSSE envelope, by a key. What a transparency log or a time stamping authority
// added is passed over.
type sigstoreBundle struct {
	MediaType string           `json:"mediaType"`
	Material  sigstoreMaterial `json:"verificationMaterial"`
	Envelope  sigstoreEnvelope `json:"dsseEnvelope"`
}

type sigstoreMaterial struct {
	PublicKey   *sigstoreHint   `json:"publicKey,omitempty"`
	Certificate json.RawMessage `json:"certificate,omitempty"`
	Chain       json.RawMessage `json:"x509CertificateChain,omitempty"`
	Log         json.RawMessage `json:"tlogEntries,omitempty"`
	Times       json.RawMessage `json:"timestampVerificationData,omitempty"`
}

type sigstoreHint struct {
	Hint string `json:"hint"`
}

// sigstoreEnvelope is a DSSE envelope whose signature may be without a key id.
type sigstoreEnvelope struct {
	Payload     string              `json:"payload"`
	PayloadType string              `json:"payloadType"`
	Signatures  []sigstoreSignature `json:"signatures"`
}

type sigstoreSignature struct {
	Sig   string `json:"sig"`
	KeyID string `json:"keyid,omitempty"`
}

// cosignStatement is the in-toto Statement that cosign signs.
type cosignStatement struct {
	Type          string          `json:"_type"`
	Subject       []cosignSubject `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

type cosignSubject struct {
	Name        string          `json:"name,omitempty"`
	Digest      sha256Digest    `json:"digest"`
	Annotations json.RawMessage `json:"annotations,omitempty"`
}

type sha256Digest struct {
	SHA256 string `json:"sha256"`
}

// SignSigstore signs the subject in cosign 3's form. It is one signature by one key: such a bundle has no room for more.
// created is written beside it, unsigned; the zero time is left out.
func SignSigstore(subject ocispec.Descriptor, created time.Time, s Signer) (SigstoreSignature, error) {
	payload, err := cosignPayload(subject)
	if err != nil {
		return SigstoreSignature{}, err
	}
	e := envelope{PayloadType: payloadType}
	if err := e.add(payload, s); err != nil {
		return SigstoreSignature{}, fmt.Errorf("signing a sigstore bundle: %w", err)
	}
	id, err := hex.DecodeString(s.KeyID())
	if err != nil {
		return SigstoreSignature{}, fmt.Errorf("signing a sigstore bundle: %w", err)
	}
	raw, err := json.Marshal(sigstoreBundle{
		MediaType: MediaSigstore,
		Material:  sigstoreMaterial{PublicKey: &sigstoreHint{Hint: base64.StdEncoding.EncodeToString(id)}},
		Envelope: sigstoreEnvelope{Payload: base64.StdEncoding.EncodeToString(payload), PayloadType: payloadType,
			Signatures: []sigstoreSignature{{Sig: e.Signatures[0].Sig}}},
	})
	if err != nil {
		return SigstoreSignature{}, fmt.Errorf("signing a sigstore bundle: %w", err)
	}
	return attachSigstore(subject, created, raw)
}

// attachSigstore puts a sigstore bundle into the manifest by which a registry lists it beside its subject.
func attachSigstore(subject ocispec.Descriptor, created time.Time, raw []byte) (SigstoreSignature, error) {
	config := []byte("{}")
	about := map[string]string{annotationSigstoreContent: "dsse-envelope", annotationSigstorePredicate: PredicateCosign}
	if !created.IsZero() {
		about[ocispec.AnnotationCreated] = created.UTC().Format(time.RFC3339)
	}
	manifest, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: MediaSigstore,
		Config:      describe(ocispec.MediaTypeEmptyJSON, config),
		Layers:      []ocispec.Descriptor{describe(MediaSigstore, raw)},
		Subject:     &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations: about,
	})
	if err != nil {
		return SigstoreSignature{}, fmt.Errorf("signing a sigstore bundle: %w", err)
	}
	return SigstoreSignature{Manifest: manifest, Blobs: [][]byte{config, raw}}, nil
}

func describe(mediaType string, b []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
}

// SigstoreMessage is what SignSigstore lets the signer sign.
func SigstoreMessage(subject ocispec.Descriptor) ([]byte, error) {
	payload, err := cosignPayload(subject)
	if err != nil {
		return nil, err
	}
	return preAuth(payloadType, payload), nil
}

func cosignPayload(subject ocispec.Descriptor) ([]byte, error) {
	if !digestForm.MatchString(subject.Digest.String()) {
		return nil, errors.New("signing a sigstore bundle: the subject's digest is not sha256")
	}
	return json.Marshal(cosignStatement{
		Type: statementType, PredicateType: PredicateCosign, Predicate: json.RawMessage("{}"),
		Subject: []cosignSubject{{Digest: sha256Digest{SHA256: subject.Digest.Encoded()}}},
	})
}

// VerifySigstore returns the id of the key that signed the subject in a sigstore bundle, or an *UntrustedError. Unlike
// cosign verify it takes a statement of no other predicate type than PredicateCosign: that a key signed an SBOM of an image
// does not mean that it signed the image.
func VerifySigstore(subject ocispec.Descriptor, bundle []byte, keys ...PublicKey) (string, error) {
	if len(keys) == 0 {
		return "", refuse(NoPolicy, "keys", "no key is trusted")
	}
	if !digestForm.MatchString(subject.Digest.String()) {
		return "", refuse(WrongSubject, "subject.digest", "not sha256")
	}
	payload, sig, err := openSigstore(bundle)
	if err != nil {
		return "", err
	}
	id := signerOf(preAuth(payloadType, payload), sig, keys)
	if id == "" {
		return "", refuse(WrongKey, "", "the signature is by none of the keys")
	}
	if err := checkCosignStatement(payload, subject); err != nil {
		return "", err
	}
	return id, nil
}

// signerOf is the id of the key that made a signature, "" for none of them.
func signerOf(message, sig []byte, keys []PublicKey) string {
	for _, k := range keys {
		for _, v := range k.cosignVerifiers() {
			if v.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)) == nil {
				return k.id
			}
		}
	}
	return ""
}

// openSigstore checks the form of a sigstore bundle and returns its payload and its one signature; it verifies nothing.
func openSigstore(raw []byte) (payload, sig []byte, err error) {
	if len(raw) == 0 {
		return nil, nil, refuse(Unsigned, "", "there is no sigstore bundle")
	}
	if len(raw) > MaxEnvelope {
		return nil, nil, refuse(BadEnvelope, "", fmt.Sprintf("larger than %d bytes", MaxEnvelope))
	}
	var b sigstoreBundle
	if err := strict.JSON(raw, &b); err != nil {
		return nil, nil, refuse(BadEnvelope, "", err.Error())
	}
	switch {
	case b.MediaType != MediaSigstore:
		return nil, nil, refuse(BadEnvelope, "mediaType", "want "+MediaSigstore)
	case b.Material.PublicKey == nil || len(b.Material.Certificate)+len(b.Material.Chain) > 0:
		return nil, nil, refuse(WrongKey, "verificationMaterial", "signed under a certificate, not with a key alone")
	case b.Envelope.PayloadType != payloadType:
		return nil, nil, refuse(BadEnvelope, "dsseEnvelope.payloadType", "want "+payloadType)
	case len(b.Envelope.Signatures) != 1:
		return nil, nil, refuse(BadEnvelope, "dsseEnvelope.signatures", fmt.Sprintf("want exactly one, there are %d", len(b.Envelope.Signatures)))
	}
	if payload, err = unbase64(b.Envelope.Payload); err != nil {
		return nil, nil, refuse(BadEnvelope, "dsseEnvelope.payload", err.Error())
	}
	sig, err = unbase64(b.Envelope.Signatures[0].Sig)
	if err != nil || len(sig) == 0 || len(sig) > maxSignature {
		return nil, nil, refuse(BadEnvelope, "dsseEnvelope.signatures[0].sig", "not base64 of a signature")
	}
	return payload, sig, nil
}

// checkCosignStatement reads a payload whose signature was good.
func checkCosignStatement(payload []byte, subject ocispec.Descriptor) error {
	var st cosignStatement
	if err := strict.JSON(payload, &st); err != nil {
		return refuse(BadStatement, "payload", err.Error())
	}
	switch {
	case st.PredicateType != PredicateCosign:
		return refuse(WrongPredicate, "predicateType", clip(st.PredicateType))
	case st.Type != statementType:
		return refuse(BadStatement, "_type", "want "+statementType)
	case len(st.Subject) != 1:
		return refuse(BadStatement, "subject", fmt.Sprintf("want exactly one, there are %d", len(st.Subject)))
	case "sha256:"+st.Subject[0].Digest.SHA256 != subject.Digest.String():
		return refuse(WrongSubject, "subject[0].digest", "signed was "+clip(st.Subject[0].Digest.SHA256))
	}
	return nil
}
