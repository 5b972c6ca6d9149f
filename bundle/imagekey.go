package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/wordcab/wcbundle/sign"
)

// ImageKeyError says that an image is not signed by the key that the definition wants.
type ImageKeyError struct {
	Ref    string
	Digest digest.Digest // what was resolved: the index, where there is one
	Key    string        // path, as the definition has it
	KeyID  string
	Err    error // why the last signature that was looked at did not count; an *sign.UntrustedError of reason Unsigned where there was none
}

func (e *ImageKeyError) Error() string {
	return fmt.Sprintf("image %s (%s) is not signed by %s (key id %s): %v", e.Ref, e.Digest, e.Key, e.KeyID, e.Err)
}

func (e *ImageKeyError) Unwrap() error { return e.Err }

// maxSimpleBytes bounds the payloads of a cosign signature, together.
const maxSimpleBytes = 8 << 20

// checkKey wants a signature by the key of an images line, of what the source resolved or of the platform's manifest in it:
// an index names its manifests by digest, so whoever signs it vouches for them.
func (b *builder) checkKey(ctx context.Context, s source, i ImageSource, found, root ocispec.Descriptor) error {
	key, err := readKey(inDir(b.opt.Dir, i.Key))
	if err != nil {
		return fmt.Errorf("image %s: key %s: %w", i.Ref, i.Key, err)
	}
	src, ok := s.(attachedSource)
	if !ok {
		return fmt.Errorf("image %s: a docker archive holds no signatures, so key %s cannot be checked: take the image from a registry or an OCI layout", i.Ref, i.Key)
	}
	refused := signedBy(ctx, src, found, key)
	if refused != nil && root.Digest != found.Digest {
		if again := signedBy(ctx, src, root, key); again == nil || isUnsigned(refused) {
			refused = again
		}
	}
	if refused == nil {
		return nil
	}
	return &ImageKeyError{Ref: i.Ref, Digest: found.Digest, Key: i.Key, KeyID: key.KeyID(), Err: refused}
}

func isUnsigned(err error) bool {
	var u *sign.UntrustedError
	return errors.As(err, &u) && u.Reason == sign.Unsigned
}

const maxKeyFile = 64 << 10

func readKey(path string) (sign.PublicKey, error) {
	st, err := os.Stat(path)
	if err != nil {
		return sign.PublicKey{}, err
	}
	if st.Size() > maxKeyFile {
		return sign.PublicKey{}, fmt.Errorf("longer than %d bytes: not a public key", maxKeyFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return sign.PublicKey{}, err
	}
	return sign.LoadPublic(raw)
}

// signedBy looks for one good signature of the subject by the key: first under cosign's tag, then among what refers to the
// subject. The error is that of the last one that did not count.
func signedBy(ctx context.Context, s attachedSource, subject ocispec.Descriptor, key sign.PublicKey) error {
	last := simplySigned(ctx, s, subject, key)
	if last == nil {
		return nil
	}
	all, err := s.referrers(ctx, subject)
	if err != nil {
		return fmt.Errorf("looking for what refers to %s: %w", subject.Digest, err)
	}
	for _, d := range all {
		raw, err := sigstoreIn(ctx, s, subject, d)
		if err == nil && raw == nil { // of another kind
			continue
		}
		if err == nil {
			_, err = sign.VerifySigstore(subject, raw, key)
		}
		if err == nil {
			return nil
		}
		last = err
	}
	return last
}

// simplySigned looks at the signatures under cosign's tag.
func simplySigned(ctx context.Context, s attachedSource, subject ocispec.Descriptor, key sign.PublicKey) error {
	d, ok, err := s.tagged(ctx, subject, "sig")
	if err != nil {
		return fmt.Errorf("looking for %s: %w", cosignTag(subject, "sig"), err)
	}
	if !ok {
		return &sign.UntrustedError{Reason: sign.Unsigned, Detail: "its source holds no signature of it"}
	}
	m, err := readAttached(ctx, s, d)
	if err != nil {
		return err
	}
	sig := sign.CosignSignature{Manifest: m.raw}
	var total int64
	for _, l := range m.manifest.Layers {
		if total += l.Size; total > maxSimpleBytes || len(sig.Blobs) == sign.MaxSignatures {
			return fmt.Errorf("the signatures under %s are more than %d or longer than %d bytes", cosignTag(subject, "sig"), sign.MaxSignatures, maxSimpleBytes)
		}
		raw, err := fetchAll(ctx, s, l)
		if err != nil {
			return err
		}
		sig.Blobs = append(sig.Blobs, raw)
	}
	_, err = sign.VerifyCosign(subject, sig, key)
	return err
}

// sigstoreIn gives the sigstore bundle of a manifest that refers to the subject, or nil where it carries none.
func sigstoreIn(ctx context.Context, s attachedSource, subject, d ocispec.Descriptor) ([]byte, error) {
	m, err := readAttached(ctx, s, d)
	if err != nil {
		return nil, err
	}
	man := m.manifest
	if man.Subject == nil || man.Subject.Digest != subject.Digest || len(man.Layers) != 1 || man.Layers[0].MediaType != sign.MediaSigstore {
		return nil, nil
	}
	if man.Layers[0].Size > MaxEnvelope {
		return nil, fmt.Errorf("the sigstore bundle in %s is longer than %d bytes", d.Digest, MaxEnvelope)
	}
	return fetchAll(ctx, s, man.Layers[0])
}
