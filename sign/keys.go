package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/sigstore/cosign/v2/pkg/cosign"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// The key algorithms. ECDSA signs the SHA-256 of the message and encodes the signature in ASN.1; Ed25519 signs the message itself.
const (
	ECDSAP256 = "ecdsa-p256"
	Ed25519   = "ed25519"
)

const maxKeyFile = 64 << 10 // bytes of a PEM file

// Signer signs with one private key, wherever that is kept.
type Signer interface {
	KeyID() string                       // hex SHA-256 of the public key in PKIX DER
	Sign(payload []byte) ([]byte, error) // signs the bytes themselves; the signer hashes if its algorithm does
	Public() crypto.PublicKey
}

// PublicKey is a checked public key. The zero value verifies nothing.
type PublicKey struct {
	id        string
	algorithm string
	key       crypto.PublicKey
	verifier  signature.Verifier
}

// NewPublicKey takes an *ecdsa.PublicKey on P-256 or an ed25519.PublicKey.
func NewPublicKey(key crypto.PublicKey) (PublicKey, error) {
	k := PublicKey{key: key}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key == nil || key.Curve != elliptic.P256() {
			return PublicKey{}, errors.New("public key: only the curve P-256 is allowed for ecdsa")
		}
		k.algorithm = ECDSAP256
	case ed25519.PublicKey:
		k.algorithm = Ed25519
	default:
		return PublicKey{}, fmt.Errorf("public key: algorithm of %T is not allowed", key)
	}
	der, err := cryptoutils.MarshalPublicKeyToDER(key)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	sum := sha256.Sum256(der)
	k.id = hex.EncodeToString(sum[:])
	k.verifier, err = signature.LoadVerifier(key, crypto.SHA256)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return k, nil
}

// LoadPublic reads a file with exactly one PEM block PUBLIC KEY, such as cosign.pub.
func LoadPublic(file []byte) (PublicKey, error) {
	if len(file) > maxKeyFile {
		return PublicKey{}, fmt.Errorf("public key: file is larger than %d bytes", maxKeyFile)
	}
	block, rest := pem.Decode(file)
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return PublicKey{}, errors.New("public key: want exactly one PEM block PUBLIC KEY")
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey(file)
	if err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
	}
	return NewPublicKey(key)
}

// KeyID is the hex SHA-256 of the key in PKIX DER, "" for the zero value.
func (k PublicKey) KeyID() string { return k.id }

// Algorithm is ECDSAP256 or Ed25519.
func (k PublicKey) Algorithm() string { return k.algorithm }

// Public is the key for use with the standard library.
func (k PublicKey) Public() crypto.PublicKey { return k.key }

// PEM is the key as a PEM block PUBLIC KEY, nil for the zero value.
func (k PublicKey) PEM() []byte {
	if k.verifier == nil {
		return nil
	}
	file, err := cryptoutils.MarshalPublicKeyToPEM(k.key)
	if err != nil {
		return nil
	}
	return file
}

// Verify reports whether sig is the key's signature of message.
func (k PublicKey) Verify(message, sig []byte) error {
	if k.verifier == nil {
		return errors.New("verifying a signature: no public key")
	}
	if err := k.verifier.VerifySignature(bytes.NewReader(sig), bytes.NewReader(message)); err != nil {
		return fmt.Errorf("verifying a signature with key %s: %w", k.id, err)
	}
	return nil
}

// GenerateKey makes a key pair in cosign's file forms: the private key as PKCS #8, encrypted under the password with
// scrypt and NaCl secretbox, in a PEM block ENCRYPTED SIGSTORE PRIVATE KEY, and the public key as a PEM block PUBLIC KEY.
func GenerateKey(algorithm string, password []byte) (private, public []byte, err error) {
	kind, ok := map[string]commonv1.PublicKeyDetails{
		ECDSAP256: commonv1.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
		Ed25519:   commonv1.PublicKeyDetails_PKIX_ED25519,
	}[algorithm]
	if !ok {
		return nil, nil, fmt.Errorf("generating a key: algorithm %q is neither %s nor %s", algorithm, ECDSAP256, Ed25519)
	}
	details, err := signature.GetAlgorithmDetails(kind)
	if err != nil {
		return nil, nil, fmt.Errorf("generating a key: %w", err)
	}
	pair, err := cosign.GenerateKeyPairWithAlgorithm(&details, func(bool) ([]byte, error) { return password, nil })
	if err != nil {
		return nil, nil, fmt.Errorf("generating a key: %w", err)
	}
	return pair.PrivateBytes, pair.PublicBytes, nil
}

type keySigner struct {
	public PublicKey
	sign   func(payload []byte) ([]byte, error)
}

func (s keySigner) KeyID() string                       { return s.public.id }
func (s keySigner) Public() crypto.PublicKey            { return s.public.key }
func (s keySigner) Sign(payload []byte) ([]byte, error) { return s.sign(payload) }

// LoadSigner reads a private key file that GenerateKey or cosign generate-key-pair wrote.
func LoadSigner(file, password []byte) (Signer, error) {
	if len(file) > maxKeyFile {
		return nil, fmt.Errorf("private key: file is larger than %d bytes", maxKeyFile)
	}
	// No load options: cosign's own default would sign Ed25519 keys in the pre-hashed mode, which its verify does not take.
	signer, err := cosign.LoadPrivateKey(file, password, &[]signature.LoadOption{})
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, err := signer.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	public, err := NewPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	return keySigner{public, func(payload []byte) ([]byte, error) {
		return signer.SignMessage(bytes.NewReader(payload))
	}}, nil
}

// NewSigner makes a Signer of a key that is kept elsewhere, such as in a hardware module.
func NewSigner(key crypto.Signer) (Signer, error) {
	public, err := NewPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return keySigner{public, func(payload []byte) ([]byte, error) {
		if public.algorithm == Ed25519 {
			return key.Sign(rand.Reader, payload, crypto.Hash(0))
		}
		sum := sha256.Sum256(payload)
		return key.Sign(rand.Reader, sum[:], crypto.SHA256)
	}}, nil
}
