package sign

import (
	"errors"
	"fmt"
	"strings"

	"github.com/wordcab/wcbundle/internal/strict"
)

// filePredicate is all that is said of a file besides its digest and its name.
type filePredicate struct {
	Size int64 `json:"size"`
}

func checkFilePredicate(predicateType string) error {
	switch {
	case predicateType == PredicateRelease || predicateType == PredicatePatch || predicateType == PredicateTrust || predicateType == PredicateApproval:
		return errors.New("the predicate type is that of a release, patch, trust policy or approval")
	case !strings.HasPrefix(predicateType, "https://") || len(predicateType) > 256:
		return errors.New("the predicate type is no https URI")
	}
	return nil
}

// SealFile makes an envelope about a file, such as a receipt or a support bundle: its name, its digest (sha256:hex) and
// its size in bytes. The predicate type says what the signature is for; those of releases and patches are refused.
func SealFile(predicateType, name, digest string, size int64, s Signer) ([]byte, error) {
	if err := checkFilePredicate(predicateType); err != nil {
		return nil, fmt.Errorf("sealing a file: %w", err)
	}
	if name == "" || len(name) > 256 || size < 0 || size > maxInteger || !digestForm.MatchString(digest) {
		return nil, errors.New("sealing a file: want a name, a sha256 digest and a size")
	}
	payload, err := encodeStatement(intotoSubject{Name: name, Digest: intotoDigest{SHA256: strings.TrimPrefix(digest, "sha256:")}},
		predicateType, filePredicate{Size: size})
	if err != nil {
		return nil, fmt.Errorf("sealing a file: %w", err)
	}
	sealed, err := newEnvelope(payload, []Signer{s})
	if err != nil {
		return nil, fmt.Errorf("sealing a file: %w", err)
	}
	return sealed, nil
}

// OpenFile returns the digest (sha256:hex) that one of the keys has signed for the purpose. The caller hashes the file and
// compares. Errors are *UntrustedError.
func OpenFile(sealed []byte, predicateType string, keys ...PublicKey) (digest string, err error) {
	byID := map[string]PublicKey{}
	for _, k := range keys {
		if k.id != "" {
			byID[k.id] = k
		}
	}
	if len(byID) == 0 {
		return "", refuse(NoPolicy, "keys", "no key is trusted")
	}
	if err := checkFilePredicate(predicateType); err != nil {
		return "", refuse(NoPolicy, "predicateType", err.Error())
	}
	e, payload, err := parseEnvelope(sealed)
	if err != nil {
		return "", err
	}
	if len(e.signedBy(payload, byID)) == 0 {
		return "", &UntrustedError{Reason: WrongKey, KeyID: e.Signatures[0].KeyID}
	}
	st, err := parseStatement(payload)
	if err != nil {
		return "", err
	}
	if st.PredicateType != predicateType {
		return "", refuse(WrongPredicate, "predicateType", fmt.Sprintf("%q", clip(st.PredicateType)))
	}
	var p filePredicate
	if err := strict.JSON(st.Predicate, &p); err != nil {
		return "", refuse(BadStatement, "predicate", err.Error())
	}
	return "sha256:" + st.Subject[0].Digest.SHA256, nil
}
