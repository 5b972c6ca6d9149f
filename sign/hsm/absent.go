//go:build !pkcs11

package hsm

// Open is ErrNotBuilt.
func Open(string, func() ([]byte, error)) (*Key, error) { return nil, ErrNotBuilt }
