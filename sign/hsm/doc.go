// Package hsm signs with private keys that stay in a hardware module or token, through its PKCS#11 library. It is there with
// the build tag pkcs11 and cgo only; without them Open is ErrNotBuilt.
//
// A key is named by a URI of RFC 7512:
//
//	pkcs11:token=TOKEN;object=LABEL?module-path=/usr/lib/softhsm/libsofthsm2.so
//
// The path names the token by exactly one of token (its label), serial and slot-id, and the key by object (its label), id (bytes,
// percent-encoded) or both; type=private is allowed. The query has module-path, the absolute path of the library, and may have
// pin-source, a file that the PIN is read from: an absolute path or file:/PATH. Everything else is refused, above all pin-value:
// a PIN in a command line is in everyone's process list and in the shell's history.
//
// Keys are ECDSA on P-256 or P-384 and RSA, whose public half is in the token too (or a certificate). Each signature is verified
// under that half before it is given out, so that halves which do not belong together are noticed where they can be mended.
package hsm

import (
	"errors"
	"strings"

	"github.com/wordcab/wcbundle/sign"
)

// Reasons for which a key cannot be used. The error around them says which token and key.
var (
	ErrNotBuilt  = errors.New("this program was built without PKCS#11")
	ErrURI       = errors.New("not a PKCS#11 URI that names one key")
	ErrToken     = errors.New("the token cannot be opened")
	ErrPIN       = errors.New("the token refuses the PIN")
	ErrNoKey     = errors.New("the token has no such key pair")
	ErrAmbiguous = errors.New("several keys of the token have that name")
)

// IsURI tells a PKCS#11 URI from the path of a file.
func IsURI(name string) bool { return strings.HasPrefix(name, "pkcs11:") }

// Key is a key pair in a token. Close logs out and gives the library back.
type Key struct {
	sign.Signer
	close func() error
}

// Close ends the use of the key.
func (k *Key) Close() error { return k.close() }
