package sign

import (
	"bytes"
	"crypto"
	"fmt"
	"strconv"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Message is what Seal lets the signers sign: DSSE's pre-authentication encoding of the statement. A key that lives elsewhere
// signs these bytes, with SHA-256 inside where its algorithm hashes; Presigned brings the signature back.
func Message(subject ocispec.Descriptor, st Statement) ([]byte, error) {
	payload, err := payloadOf(subject, st)
	if err != nil {
		return nil, fmt.Errorf("preparing a signature: %w", err)
	}
	return preAuth(payloadType, payload), nil
}

// ParseMessage is Message's inverse, for showing what is asked to be signed and for signing exactly that. A message that
// Message would not make is refused.
func ParseMessage(message []byte) (subject ocispec.Descriptor, st Statement, err error) {
	payload, err := payloadInside(message)
	if err != nil {
		return subject, st, err
	}
	outer, err := parseStatement(payload)
	if err != nil {
		return subject, st, err
	}
	if st, err = outer.predicate(); err != nil {
		return subject, st, err
	}
	s := outer.Subject[0]
	subject = ocispec.Descriptor{MediaType: s.MediaType, Digest: digest.Digest("sha256:" + s.Digest.SHA256)}
	again, err := Message(subject, st)
	if err == nil && !bytes.Equal(again, message) {
		err = refuse(BadStatement, "", "not the one spelling of what it says")
	}
	return subject, st, err
}

// payloadInside takes the encoding apart.
func payloadInside(message []byte) ([]byte, error) {
	if len(message) > MaxEnvelope {
		return nil, refuse(BadEnvelope, "", fmt.Sprintf("larger than %d bytes", MaxEnvelope))
	}
	head := fmt.Appendf(nil, "DSSEv1 %d %s ", len(payloadType), payloadType)
	rest, ok := bytes.CutPrefix(message, head)
	length, payload, found := bytes.Cut(rest, []byte(" "))
	if !ok || !found || string(length) != strconv.Itoa(len(payload)) {
		return nil, refuse(BadEnvelope, "", "not a message to sign")
	}
	return payload, nil
}

// presigned gives signatures that were made elsewhere.
type presigned struct {
	public     PublicKey
	signatures map[string][]byte // by message
}

// A Signature is one that was made elsewhere.
type Signature struct{ Message, Signature []byte }

// Presigned returns a Signer that signs nothing but these messages, by giving their signatures. Whoever uses it checks them, as
// Seal and SignCosign do.
func Presigned(key PublicKey, signatures ...Signature) Signer {
	p := presigned{public: key, signatures: map[string][]byte{}}
	for _, s := range signatures {
		p.signatures[string(s.Message)] = s.Signature
	}
	return p
}

func (p presigned) KeyID() string            { return p.public.id }
func (p presigned) Public() crypto.PublicKey { return p.public.key }

func (p presigned) Sign(message []byte) ([]byte, error) {
	if sig, ok := p.signatures[string(message)]; ok {
		return sig, nil
	}
	return nil, fmt.Errorf("key %s has not signed this: what was prepared is about something else", p.public.id)
}
