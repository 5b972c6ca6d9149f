package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	"github.com/sigstore/cosign/v2/pkg/oci"
	"github.com/sigstore/cosign/v2/pkg/oci/empty"
	"github.com/sigstore/cosign/v2/pkg/oci/mutate"
	"github.com/sigstore/cosign/v2/pkg/oci/static"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/payload"

	"github.com/wordcab/wcbundle/internal/strict"
)

const mediaSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"

// CosignSignature is what cosign looks for next to a signed manifest: an OCI image manifest under Tag in the same
// repository. It says only that the keys signed the digest; it is for `cosign verify`, and Open never reads it.
type CosignSignature struct {
	Manifest []byte   // media type application/vnd.oci.image.manifest.v1+json
	Blobs    [][]byte // what the manifest refers to: config and payload
	Tag      string   // sha256-<hex>.sig
}

// SignCosign makes the signatures of all signers in cosign's simple signing form. The reference, host/repository with
// or without tag, is written into the payload as the claimed identity; cosign does not compare it.
func SignCosign(subject ocispec.Descriptor, reference string, signers ...Signer) (CosignSignature, error) {
	return signSimple(nil, subject, reference, signers)
}

// AddCosign is SignCosign for a subject that has a signature: what other keys signed stays.
func AddCosign(old CosignSignature, subject ocispec.Descriptor, reference string, signers ...Signer) (CosignSignature, error) {
	layers, err := simpleLayers(old)
	if err != nil {
		return CosignSignature{}, fmt.Errorf("adding to a cosign signature: %w", err)
	}
	layers, err = byOthers(layers, signers)
	if err != nil {
		return CosignSignature{}, fmt.Errorf("adding to a cosign signature: %w", err)
	}
	return signSimple(layers, subject, reference, signers)
}

// byOthers leaves out what one of the signers signed.
func byOthers(layers []oci.Signature, signers []Signer) ([]oci.Signature, error) {
	var stay []oci.Signature
	for _, l := range layers {
		claim, err := l.Payload()
		if err != nil {
			return nil, err
		}
		text, err := l.Base64Signature()
		if err != nil {
			return nil, err
		}
		sig, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(signers, func(s Signer) bool {
			k, err := NewPublicKey(s.Public())
			return err == nil && k.Verify(claim, sig) == nil
		}) {
			stay = append(stay, l)
		}
	}
	return stay, nil
}

func signSimple(layers []oci.Signature, subject ocispec.Descriptor, reference string, signers []Signer) (CosignSignature, error) {
	if len(signers) == 0 || len(layers)+len(signers) > MaxSignatures {
		return CosignSignature{}, fmt.Errorf("signing for cosign: want 1 to %d signers", MaxSignatures)
	}
	claim, err := CosignMessage(subject, reference)
	if err != nil {
		return CosignSignature{}, err
	}
	for _, s := range signers {
		l, err := simpleSign(claim, s)
		if err != nil {
			return CosignSignature{}, fmt.Errorf("signing for cosign: %w", err)
		}
		layers = append(layers, l)
	}
	image, err := mutate.AppendSignatures(empty.Signatures(), false, layers...)
	if err != nil {
		return CosignSignature{}, fmt.Errorf("signing for cosign: %w", err)
	}
	return collect(image, layers, subject)
}

// CosignMessage is what SignCosign lets the signers sign.
func CosignMessage(subject ocispec.Descriptor, reference string) ([]byte, error) {
	if !digestForm.MatchString(subject.Digest.String()) {
		return nil, errors.New("signing for cosign: the subject's digest is not sha256")
	}
	ref, err := name.ParseReference(reference)
	if err != nil {
		return nil, fmt.Errorf("signing for cosign: %w", err)
	}
	claim, err := json.Marshal(payload.Cosign{Image: ref.Context().Digest(subject.Digest.String())})
	if err != nil {
		return nil, fmt.Errorf("signing for cosign: %w", err)
	}
	return claim, nil
}

func simpleSign(claim []byte, s Signer) (oci.Signature, error) {
	public, err := NewPublicKey(s.Public())
	if err != nil {
		return nil, err
	}
	raw, err := s.Sign(claim)
	if err != nil {
		return nil, fmt.Errorf("signing with key %s: %w", public.id, err)
	}
	if err := public.Verify(claim, raw); err != nil {
		return nil, fmt.Errorf("checking the new signature: %w", err)
	}
	return static.NewSignature(claim, base64.StdEncoding.EncodeToString(raw))
}

func collect(image v1.Image, layers []oci.Signature, subject ocispec.Descriptor) (CosignSignature, error) {
	manifest, err := image.RawManifest()
	if err != nil {
		return CosignSignature{}, fmt.Errorf("signing for cosign: %w", err)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		return CosignSignature{}, fmt.Errorf("signing for cosign: %w", err)
	}
	out := CosignSignature{Manifest: manifest, Blobs: [][]byte{config}, Tag: CosignTag(subject)}
	for _, l := range layers {
		claim, err := l.Payload()
		if err != nil {
			return CosignSignature{}, fmt.Errorf("signing for cosign: %w", err)
		}
		if !slices.ContainsFunc(out.Blobs, func(b []byte) bool { return bytes.Equal(b, claim) }) {
			out.Blobs = append(out.Blobs, claim)
		}
	}
	return out, nil
}

// CosignTag is the tag under which cosign looks for signatures of a manifest.
func CosignTag(subject ocispec.Descriptor) string {
	return subject.Digest.Algorithm().String() + "-" + subject.Digest.Encoded() + ".sig"
}

// VerifyCosign returns the ids of the keys that signed the subject in a cosign signature, sorted; at least one, or an
// *UntrustedError. Tag is not compared.
func VerifyCosign(subject ocispec.Descriptor, sig CosignSignature, keys ...PublicKey) ([]string, error) {
	if len(keys) == 0 {
		return nil, refuse(NoPolicy, "keys", "no key is trusted")
	}
	hash, err := v1.NewHash(subject.Digest.String())
	if err != nil || !digestForm.MatchString(subject.Digest.String()) {
		return nil, refuse(WrongSubject, "subject.digest", "not sha256")
	}
	layers, err := simpleLayers(sig)
	if err != nil {
		return nil, err
	}
	var ids []string
	var last error
	for _, layer := range layers {
		for _, key := range keys {
			for _, v := range key.cosignVerifiers() {
				_, err := cosign.VerifyImageSignature(context.Background(), layer, hash, &cosign.CheckOpts{
					SigVerifier: v, IgnoreTlog: true, IgnoreSCT: true, Offline: true, ClaimVerifier: cosign.SimpleClaimVerifier})
				if err != nil {
					last = err
					continue
				}
				ids = append(ids, key.id)
				break
			}
		}
	}
	if len(ids) == 0 {
		return nil, refuse(WrongKey, "", fmt.Sprint(last))
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// cosignVerifiers are the ways in which a key signs: our own and, where they differ, those of cosign sign. Since 2.5 it signs
// with Ed25519ph and, for P-384, SHA-384, and cosign verify does not take either without being told.
func (k PublicKey) cosignVerifiers() []signature.Verifier {
	if k.verifier == nil {
		return nil
	}
	out := []signature.Verifier{k.verifier}
	switch key := k.key.(type) {
	case ed25519.PublicKey:
		if v, err := signature.LoadED25519phVerifier(key); err == nil {
			out = append(out, v)
		}
	case *ecdsa.PublicKey:
		if v, err := signature.LoadECDSAVerifier(key, crypto.SHA384); err == nil && k.algorithm == ECDSAP384 {
			out = append(out, v)
		}
	}
	return out
}

// simpleLayers checks form and digests of a cosign signature and returns its layers.
func simpleLayers(sig CosignSignature) ([]oci.Signature, error) {
	if len(sig.Manifest) == 0 {
		return nil, refuse(Unsigned, "", "there is no cosign signature")
	}
	if len(sig.Manifest) > MaxEnvelope || len(sig.Blobs) > MaxSignatures+1 {
		return nil, refuse(BadEnvelope, "manifest", "too large")
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(sig.Manifest))
	if err != nil {
		return nil, refuse(BadEnvelope, "manifest", err.Error())
	}
	if len(manifest.Layers) == 0 || len(manifest.Layers) > MaxSignatures {
		return nil, refuse(BadEnvelope, "manifest.layers", fmt.Sprintf("want 1 to %d", MaxSignatures))
	}
	blobs := map[string][]byte{}
	for _, b := range sig.Blobs {
		if len(b) > MaxEnvelope {
			return nil, refuse(BadEnvelope, "blobs", "too large")
		}
		blobs[digestOf(b)] = b
	}
	var layers []oci.Signature
	for _, l := range manifest.Layers {
		claim, there := blobs[l.Digest.String()]
		if !there || l.MediaType != mediaSimpleSigning {
			return nil, refuse(BadEnvelope, "manifest.layers", "payload is missing or of another media type")
		}
		var form payload.SimpleContainerImage
		if err := strict.JSON(claim, &form); err != nil {
			return nil, refuse(BadStatement, "payload", err.Error())
		}
		if form.Critical.Type != payload.CosignSignatureType {
			return nil, refuse(WrongPredicate, "critical.type", clip(form.Critical.Type))
		}
		layer, err := static.NewSignature(claim, l.Annotations[static.SignatureAnnotationKey])
		if err != nil {
			return nil, refuse(BadEnvelope, "manifest.layers", err.Error())
		}
		layers = append(layers, layer)
	}
	return layers, nil
}
