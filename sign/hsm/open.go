//go:build pkcs11

package hsm

import (
	"crypto"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
	pkcs11uri "github.com/stefanberger/go-pkcs11uri"

	"github.com/wordcab/wcbundle/sign"
)

// reference is what a URI says.
type reference struct {
	config    crypto11.Config
	label, id []byte
	pinFile   bool
	uri       *pkcs11uri.Pkcs11URI
}

// Open logs into the token and finds the key. The PIN is asked for only if the URI has no pin-source.
func Open(uri string, pin func() ([]byte, error)) (*Key, error) {
	ref, err := parse(uri)
	if err != nil {
		return nil, err
	}
	if err := ref.readPIN(pin); err != nil {
		return nil, err
	}
	token, err := crypto11.Configure(&ref.config)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", reasonOf(err), ref, err)
	}
	key, err := ref.find(token)
	if err != nil {
		return nil, errors.Join(err, token.Close())
	}
	return &Key{key, token.Close}, nil
}

// String names the token and its library, for errors.
func (r *reference) String() string {
	name := "token " + strconv.Quote(r.config.TokenLabel)
	switch {
	case r.config.TokenSerial != "":
		name = "token with serial " + strconv.Quote(r.config.TokenSerial)
	case r.config.SlotNumber != nil:
		name = fmt.Sprintf("token in slot %d", *r.config.SlotNumber)
	}
	return name + " of " + r.config.Path
}

func reasonOf(err error) error {
	var code pkcs11.Error
	if errors.As(err, &code) {
		switch code {
		case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_LOCKED, pkcs11.CKR_PIN_EXPIRED:
			return ErrPIN
		}
	}
	return ErrToken
}

func parse(text string) (*reference, error) {
	r := &reference{uri: pkcs11uri.New()}
	if err := r.uri.Parse(text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrURI, err)
	}
	if err := refuseOthers(text); err != nil {
		return nil, err
	}
	if t, ok := r.uri.GetPathAttribute("type", false); ok && t != "private" {
		return nil, fmt.Errorf("%w: type is %q, not private", ErrURI, t)
	}
	r.config.TokenLabel, _ = r.uri.GetPathAttribute("token", false)
	r.config.TokenSerial, _ = r.uri.GetPathAttribute("serial", false)
	if slot, ok := r.uri.GetPathAttribute("slot-id", false); ok {
		n, err := strconv.Atoi(slot)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%w: slot-id %q is no number of a slot", ErrURI, slot)
		}
		r.config.SlotNumber = &n
	}
	label, _ := r.uri.GetPathAttribute("object", false)
	id, _ := r.uri.GetPathAttribute("id", false)
	r.label, r.id = []byte(label), []byte(id)
	r.config.Path, _ = r.uri.GetQueryAttribute("module-path", false)
	_, r.pinFile = r.uri.GetQueryAttribute("pin-source", false)
	return r, r.check()
}

// refuseOthers refuses attributes that this package would not look at.
func refuseOthers(text string) error {
	path, query, _ := strings.Cut(strings.TrimPrefix(text, "pkcs11:"), "?")
	known := " token serial slot-id object id type module-path pin-source "
	for _, part := range append(strings.Split(path, ";"), strings.Split(query, "&")...) {
		name, _, _ := strings.Cut(part, "=")
		switch {
		case name == "pin-value":
			return fmt.Errorf("%w: a PIN does not belong into a command line: name its file with pin-source", ErrURI)
		case name != "" && !strings.Contains(known, " "+name+" "):
			return fmt.Errorf("%w: %.40q is none of%s", ErrURI, name, strings.TrimRight(known, " "))
		}
	}
	return nil
}

func (r *reference) check() error {
	tokens := 0
	for _, set := range []bool{r.config.TokenLabel != "", r.config.TokenSerial != "", r.config.SlotNumber != nil} {
		if set {
			tokens++
		}
	}
	switch {
	case tokens != 1:
		return fmt.Errorf("%w: name the token by one of token, serial and slot-id", ErrURI)
	case len(r.label)+len(r.id) == 0:
		return fmt.Errorf("%w: name the key by object or id", ErrURI)
	case r.config.Path == "":
		return fmt.Errorf("%w: name the token's library with ?module-path=/PATH", ErrURI)
	}
	if st, err := os.Stat(r.config.Path); err != nil || !st.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a library's file", ErrToken, r.config.Path)
	}
	return nil
}

func (r *reference) readPIN(ask func() ([]byte, error)) error {
	if r.pinFile {
		pin, err := r.uri.GetPIN()
		if err != nil {
			return fmt.Errorf("%w: pin-source: %w", ErrURI, err)
		}
		r.config.Pin = strings.TrimRight(pin, "\r\n")
		return nil
	}
	pin, err := ask()
	r.config.Pin = string(pin)
	return err
}

func (r *reference) find(token *crypto11.Context) (sign.Signer, error) {
	found, err := token.FindKeyPairs(r.id, r.label)
	if err != nil {
		return nil, fmt.Errorf("looking for the key in %s: %w", r, err)
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: object %q, id %x in %s", ErrNoKey, r.label, r.id, r)
	case 1:
		return checked(found[0])
	}
	return nil, fmt.Errorf("%w: object %q, id %x in %s: %d of them", ErrAmbiguous, r.label, r.id, r, len(found))
}

// checkedSigner gives out no signature that does not verify.
type checkedSigner struct {
	sign.Signer
	public sign.PublicKey
}

func checked(key crypto.Signer) (sign.Signer, error) {
	s, err := sign.NewSigner(key)
	if err != nil {
		return nil, fmt.Errorf("the token's key: %w", err)
	}
	public, err := sign.NewPublicKey(key.Public())
	return checkedSigner{s, public}, err
}

// Sign signs in the token and verifies here.
func (s checkedSigner) Sign(payload []byte) ([]byte, error) {
	sig, err := s.Signer.Sign(payload)
	if err != nil {
		return nil, err
	}
	if err := s.public.Verify(payload, sig); err != nil {
		return nil, fmt.Errorf("the token's private and public key do not belong together: %w", err)
	}
	return sig, nil
}
