package sign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"

	"github.com/wordcab/wcbundle/internal/strict"
)

// Limits of a trust policy.
const (
	MaxTrust    = 1 << 20 // bytes
	maxKeys     = 64
	maxRevoked  = 4096 // of each kind
	trustSchema = 1
)

// TrustForm is trust.json. NewTrust and ParseTrust check it and make a Trust of it.
type TrustForm struct {
	Schema  int          `json:"schema"`            // form of the file: 1
	Version uint64       `json:"version"`           // of this policy; grows with each change
	Product string       `json:"product"`           // the only release name that it lets in
	Epoch   uint64       `json:"epoch"`             // the only epoch that it lets in; raising it restarts the sequences
	Expires string       `json:"expires,omitempty"` // RFC 3339 UTC, whole seconds: from then on it lets nothing in; "" = never
	Keys    []TrustKey   `json:"keys"`
	Roles   TrustRoles   `json:"roles"`
	Revoked TrustRevoked `json:"revoked,omitzero"`
}

// TrustKey is a public key. The id must be the hex SHA-256 of the key in PKIX DER, the algorithm the key's own.
type TrustKey struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	PEM       string `json:"pem"`
}

// TrustRoles says who signs what: root the next trust policy, release the channel stable, security the channel security. A
// key has one role at most.
type TrustRoles struct {
	Root     *TrustRole `json:"root,omitempty"` // nil: nobody can change the policy but a person at the site
	Release  TrustRole  `json:"release"`
	Security *TrustRole `json:"security,omitempty"` // nil: the security channel is closed
}

// TrustRole lists key ids, and how many of these keys must sign: at least one, at most all.
type TrustRole struct {
	Keys      []string    `json:"keys"`
	Threshold int         `json:"threshold"`
	Allow     *Delegation `json:"allow,omitempty"` // role security only, and required there
}

// TrustRevoked lists keys that count no longer and heads that may no longer be accepted.
type TrustRevoked struct {
	Keys  []string `json:"keys,omitempty"`  // key ids
	Heads []string `json:"heads,omitempty"` // digests of releases' heads
}

// TrustKeyOf is the line of trust.json for a key.
func TrustKeyOf(key PublicKey) TrustKey {
	return TrustKey{ID: key.id, Algorithm: key.algorithm, PEM: string(key.PEM())}
}

// Trust is a checked trust policy. Only NewTrust and ParseTrust make one; the zero value trusts nobody.
type Trust struct {
	form TrustForm
	keys map[string]PublicKey
}

// NewTrust checks a trust policy and puts its lists in order.
func NewTrust(form TrustForm) (*Trust, error) {
	t := &Trust{form: form, keys: map[string]PublicKey{}}
	switch {
	case form.Schema != trustSchema:
		return nil, fmt.Errorf("trust policy: schema: want %d", trustSchema)
	case form.Version < 1 || form.Version > maxInteger:
		return nil, errors.New("trust policy: version: want 1 to 2^53")
	case form.Epoch > maxInteger:
		return nil, errors.New("trust policy: epoch: want at most 2^53")
	case !goodName(form.Product):
		return nil, errors.New("trust policy: product: want lower case letters, digits, dots and dashes")
	case form.Expires != "" && badTime(form.Expires):
		return nil, errors.New("trust policy: expires: want RFC 3339 in UTC, whole seconds")
	case len(form.Keys) == 0 || len(form.Keys) > maxKeys:
		return nil, fmt.Errorf("trust policy: keys: want 1 to %d", maxKeys)
	case len(form.Revoked.Keys) > maxRevoked || !allMatch(form.Revoked.Keys, hexDigest):
		return nil, errors.New("trust policy: revoked.keys: want different key ids")
	case len(form.Revoked.Heads) > maxRevoked || !allMatch(form.Revoked.Heads, digestForm):
		return nil, errors.New("trust policy: revoked.heads: want different sha256 digests")
	}
	for i, line := range form.Keys {
		if err := t.addKey(line); err != nil {
			return nil, fmt.Errorf("trust policy: keys[%d]: %w", i, err)
		}
	}
	if err := t.checkRoles(); err != nil {
		return nil, fmt.Errorf("trust policy: roles: %w", err)
	}
	t.sort()
	return t, nil
}

func (t *Trust) addKey(line TrustKey) error {
	key, err := LoadPublic([]byte(line.PEM))
	switch {
	case err != nil:
		return err
	case line.ID != key.id:
		return fmt.Errorf("id: the key's is %s", key.id)
	case line.Algorithm != key.algorithm:
		return fmt.Errorf("algorithm: the key's is %s", key.algorithm)
	case t.keys[key.id].id != "":
		return fmt.Errorf("key %s is here twice", key.id)
	case line.PEM != string(key.PEM()):
		return errors.New("pem: want the bare block, as the key's PEM encoding has it")
	}
	t.keys[key.id] = key
	return nil
}

func (t *Trust) checkRoles() error {
	roleOf := map[string]string{}
	for _, name := range []string{"root", "release", "security"} {
		role := t.role(name)
		if role == nil {
			continue
		}
		if role.Threshold < 1 || role.Threshold > len(role.Keys) {
			return fmt.Errorf("%s.threshold: want 1 to the number of keys, %d", name, len(role.Keys))
		}
		if err := role.checkAllow(name); err != nil {
			return err
		}
		for i, id := range role.Keys {
			if t.keys[id].id == "" {
				return fmt.Errorf("%s.keys[%d]: not among the policy's keys", name, i)
			}
			if other := roleOf[id]; other != "" {
				return fmt.Errorf("%s.keys[%d]: already in role %s", name, i, other)
			}
			roleOf[id] = name
		}
		if n := t.usable(role); n < role.Threshold {
			return fmt.Errorf("%s: %d of its keys are not revoked, the threshold is %d: add a key in the same version", name, n, role.Threshold)
		}
	}
	return nil
}

// usable counts the keys of a role that are not revoked.
func (t *Trust) usable(role *TrustRole) int {
	n := 0
	for _, id := range role.Keys {
		if !slices.Contains(t.form.Revoked.Keys, id) {
			n++
		}
	}
	return n
}

// sort copies the lists, so that the caller's cannot change the policy later.
func (t *Trust) sort() {
	f := &t.form
	f.Keys = slices.Clone(f.Keys)
	sort.Slice(f.Keys, func(i, j int) bool { return f.Keys[i].ID < f.Keys[j].ID })
	f.Roles.Release.Keys = sorted(f.Roles.Release.Keys)
	for _, role := range []**TrustRole{&f.Roles.Root, &f.Roles.Security} {
		if *role != nil {
			*role = &TrustRole{Keys: sorted((*role).Keys), Threshold: (*role).Threshold, Allow: (*role).Allow.sorted()}
		}
	}
	f.Revoked = TrustRevoked{Keys: sorted(f.Revoked.Keys), Heads: sorted(f.Revoked.Heads)}
}

// sorted gives nil for an empty list: an empty one and an absent one are the same policy and must have the same bytes.
func sorted(values []string) []string {
	if len(values) == 0 {
		return nil
	}
	values = slices.Clone(values)
	slices.Sort(values)
	return values
}

// ParseTrust reads trust.json strictly. Faults of form are *strict.Error with line and column.
func ParseTrust(data []byte) (*Trust, error) {
	if len(data) > MaxTrust {
		return nil, fmt.Errorf("trust policy: larger than %d bytes", MaxTrust)
	}
	var form TrustForm
	if err := strict.JSON(data, &form); err != nil {
		return nil, fmt.Errorf("trust policy: %w", err)
	}
	return NewTrust(form)
}

// Encode writes trust.json: lists sorted, two blanks of indent, one line end. Equal policies have equal bytes. The zero
// value has no encoding: nil.
func (t *Trust) Encode() []byte {
	if t == nil || len(t.keys) == 0 {
		return nil
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(t.form); err != nil {
		return nil // strings and numbers always encode
	}
	return out.Bytes()
}

// Form returns the policy as a form that may be changed and given to NewTrust.
func (t *Trust) Form() TrustForm {
	c := Trust{form: t.form}
	c.sort()
	return c.form
}

// Allow is what the security role may change, and whether there is such a role.
func (t *Trust) Allow() (Delegation, bool) {
	if t == nil || t.form.Roles.Security == nil {
		return Delegation{}, false
	}
	return *t.form.Roles.Security.Allow.sorted(), true
}

// RevokedHead reports whether the policy has revoked the release with that head, sha256:hex.
func (t *Trust) RevokedHead(head string) bool { return slices.Contains(t.form.Revoked.Heads, head) }

// Product is the only release name that the policy lets in.
func (t *Trust) Product() string { return t.form.Product }

// Version is the policy's own.
func (t *Trust) Version() uint64 { return t.form.Version }

// Key returns the key with an id, and whether the policy has it.
func (t *Trust) Key(id string) (PublicKey, bool) {
	key, ok := t.keys[id]
	return key, ok
}

// roleFor maps a channel to the role that signs for it, "" for none.
func (t *Trust) roleFor(channel string) string {
	switch {
	case channel == "stable":
		return "release"
	case channel == "security" && t.form.Roles.Security != nil:
		return "security"
	}
	return ""
}

// MaySign reports whether a key has the channel's role and is not revoked.
func (t *Trust) MaySign(channel, keyID string) bool {
	role := t.role(t.roleFor(channel))
	return role != nil && slices.Contains(role.Keys, keyID) && !slices.Contains(t.form.Revoked.Keys, keyID)
}

func (t *Trust) role(name string) *TrustRole {
	switch name {
	case "root":
		return t.form.Roles.Root
	case "release":
		return &t.form.Roles.Release
	case "security":
		return t.form.Roles.Security
	}
	return nil
}

// describe is "2 of 3", for messages.
func (r TrustRole) describe() string {
	return strconv.Itoa(r.Threshold) + " of " + strconv.Itoa(len(r.Keys))
}
