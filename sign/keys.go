package sign

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/secure-systems-lab/go-securesystemslib/encrypted"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	commonv1 "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// The key algorithms. ECDSA and RSA sign the SHA-256 of the message, for that is what cosign verify expects; Ed25519 signs the
// message itself. ECDSA signatures are in ASN.1, those of RSA in PKCS #1 version 1.5.
const (
	ECDSAP256 = "ecdsa-p256"
	ECDSAP384 = "ecdsa-p384"
	Ed25519   = "ed25519"
	RSA       = "rsa" // 3072 to 4096 bits, exponent 65537
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

// NewPublicKey takes an *ecdsa.PublicKey on P-256 or P-384, an ed25519.PublicKey or an *rsa.PublicKey.
func NewPublicKey(key crypto.PublicKey) (PublicKey, error) {
	k := PublicKey{key: key}
	var err error
	if k.algorithm, err = algorithmOf(key); err != nil {
		return PublicKey{}, fmt.Errorf("public key: %w", err)
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

func algorithmOf(key crypto.PublicKey) (string, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch {
		case key != nil && key.Curve == elliptic.P256():
			return ECDSAP256, nil
		case key != nil && key.Curve == elliptic.P384():
			return ECDSAP384, nil
		}
		return "", errors.New("only the curves P-256 and P-384 are allowed for ecdsa")
	case ed25519.PublicKey:
		return Ed25519, nil
	case *rsa.PublicKey:
		if key == nil || key.N.BitLen() < 3072 || key.N.BitLen() > 4096 || key.E != 65537 {
			return "", errors.New("only 3072 to 4096 bits and the exponent 65537 are allowed for rsa")
		}
		return RSA, nil
	}
	return "", fmt.Errorf("algorithm of %T is not allowed", key)
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

// Algorithm is one of the key algorithms.
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
		ECDSAP256:  commonv1.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
		ECDSAP384:  commonv1.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384,
		Ed25519:    commonv1.PublicKeyDetails_PKIX_ED25519,
		"rsa-3072": commonv1.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256,
		"rsa-4096": commonv1.PublicKeyDetails_PKIX_RSA_PKCS1V15_4096_SHA256,
	}[algorithm]
	if !ok {
		return nil, nil, fmt.Errorf("generating a key: algorithm %q is none of %s, %s, %s, rsa-3072, rsa-4096", algorithm, ECDSAP256, ECDSAP384, Ed25519)
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

// ImportKey reads an unencrypted private key file in PEM (PKCS #8, PKCS #1 or SEC 1) and gives it the forms of GenerateKey.
func ImportKey(path string, password []byte) (private, public []byte, err error) {
	pair, err := cosign.ImportKeyPair(path, func(bool) ([]byte, error) { return password, nil })
	if err != nil {
		return nil, nil, fmt.Errorf("importing %s: %w", path, err)
	}
	if _, err := LoadPublic(pair.PublicBytes); err != nil {
		return nil, nil, fmt.Errorf("importing %s: %w", path, err)
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
	block, rest := pem.Decode(file)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 ||
		block.Type != cosign.SigstorePrivateKeyPemType && block.Type != cosign.CosignPrivateKeyPemType {
		return nil, errors.New("private key: want exactly one PEM block " + cosign.SigstorePrivateKeyPemType)
	}
	der, err := encrypted.Decrypt(block.Bytes, password)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("private key: %T cannot sign", key)
	}
	return NewSigner(signer)
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
