//go:build !pkcs11

package hsm

import (
	"errors"
	"testing"
)

func TestNotBuilt(t *testing.T) {
	if _, err := Open("pkcs11:token=t;object=o?module-path=/x", nil); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("got %v", err)
	}
}
