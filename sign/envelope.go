package sign

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"

	"github.com/wordcab/wcbundle/internal/strict"
)

// Limits of an envelope.
const (
	MaxEnvelope   = 1 << 20 // bytes
	MaxSignatures = 64
	maxSignature  = 512 // bytes of one signature
)

const payloadType = "application/vnd.in-toto+json"

// envelope is the JSON form of a DSSE envelope.
type envelope struct {
	PayloadType string              `json:"payloadType"`
	Payload     string              `json:"payload"`
	Signatures  []envelopeSignature `json:"signatures"`
}

type envelopeSignature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"`
}

// parseEnvelope checks the form and decodes the payload; it verifies nothing.
func parseEnvelope(data []byte) (envelope, []byte, error) {
	if len(data) == 0 {
		return envelope{}, nil, refuse(Unsigned, "", "there is no envelope")
	}
	if len(data) > MaxEnvelope {
		return envelope{}, nil, refuse(BadEnvelope, "", fmt.Sprintf("larger than %d bytes", MaxEnvelope))
	}
	var e envelope
	if err := strict.JSON(data, &e); err != nil {
		return envelope{}, nil, refuse(BadEnvelope, "", err.Error())
	}
	switch {
	case e.PayloadType != payloadType:
		return envelope{}, nil, refuse(BadEnvelope, "payloadType", fmt.Sprintf("want %s", payloadType))
	case len(e.Signatures) == 0:
		return envelope{}, nil, refuse(Unsigned, "signatures", "the list is empty")
	case len(e.Signatures) > MaxSignatures:
		return envelope{}, nil, refuse(BadEnvelope, "signatures", fmt.Sprintf("more than %d", MaxSignatures))
	}
	payload, err := unbase64(e.Payload)
	if err != nil {
		return envelope{}, nil, refuse(BadEnvelope, "payload", err.Error())
	}
	for i, s := range e.Signatures {
		field := "signatures[" + strconv.Itoa(i) + "]"
		if raw, err := unbase64(s.Sig); err != nil || len(raw) == 0 || len(raw) > maxSignature {
			return envelope{}, nil, refuse(BadEnvelope, field+".sig", "not base64 of a signature")
		}
		if !hexDigest.MatchString(s.KeyID) {
			return envelope{}, nil, refuse(BadEnvelope, field+".keyid", "want 64 lower case hex digits")
		}
	}
	return e, payload, nil
}

// unbase64 takes the one canonical spelling; the standard decoder alone would also skip line ends.
func unbase64(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, err
	}
	if base64.StdEncoding.EncodedLen(len(raw)) != len(text) {
		return nil, errors.New("line end in base64")
	}
	return raw, nil
}

// signedBy returns which of the keys signed the payload. Keys are told apart by their bits, so one that signs twice
// counts once, whatever key id the envelope gives it.
func (e envelope) signedBy(payload []byte, keys map[string]PublicKey) map[string]PublicKey {
	message := preAuth(e.PayloadType, payload)
	signed := map[string]PublicKey{}
	for _, s := range e.Signatures {
		key, known := keys[s.KeyID]
		if !known || signed[key.id].id != "" {
			continue
		}
		raw, err := unbase64(s.Sig)
		if err == nil && key.Verify(message, raw) == nil {
			signed[key.id] = key
		}
	}
	return signed
}

// preAuth is DSSE's pre-authentication encoding, the bytes that are signed.
func preAuth(kind string, payload []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(kind), kind, len(payload), payload)
}

func newEnvelope(payload []byte, signers []Signer) ([]byte, error) {
	if len(signers) == 0 {
		return nil, errors.New("no signer")
	}
	e := envelope{PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(payload)}
	for _, s := range signers {
		if err := e.add(payload, s); err != nil {
			return nil, err
		}
	}
	return e.encode()
}

// add signs and checks its own signature, so that a broken signing device is found where it can still be replaced.
func (e *envelope) add(payload []byte, s Signer) error {
	public, err := NewPublicKey(s.Public())
	if err != nil {
		return err
	}
	if public.id != s.KeyID() {
		return fmt.Errorf("signer calls itself %s, its key is %s", s.KeyID(), public.id)
	}
	message := preAuth(e.PayloadType, payload)
	raw, err := s.Sign(message)
	if err != nil {
		return fmt.Errorf("signing with key %s: %w", public.id, err)
	}
	if err := public.Verify(message, raw); err != nil {
		return fmt.Errorf("checking the new signature: %w", err)
	}
	kept := e.Signatures[:0]
	for _, old := range e.Signatures {
		if old.KeyID != public.id {
			kept = append(kept, old)
		}
	}
	e.Signatures = append(kept, envelopeSignature{KeyID: public.id, Sig: base64.StdEncoding.EncodeToString(raw)})
	sort.Slice(e.Signatures, func(i, j int) bool { return e.Signatures[i].KeyID < e.Signatures[j].KeyID })
	return nil
}

func (e envelope) encode() ([]byte, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	if len(data) > MaxEnvelope || len(e.Signatures) > MaxSignatures {
		return nil, fmt.Errorf("envelope exceeds %d bytes or %d signatures", MaxEnvelope, MaxSignatures)
	}
	return data, nil
}
