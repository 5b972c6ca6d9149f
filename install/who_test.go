package install

import (
	"strings"
	"testing"
)

func TestWho(t *testing.T) {
	for _, tc := range [][3]string{{"root", "", "root"}, {"root", "alice", "alice as root"}, {"alice", "alice", "alice"}, {"root", "a\x1b[31m\nb", "a[31mb as root"},
		{"root", strings.Repeat("a", 65), "root"}} {
		if got := who(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%q by %q: %q", tc[0], tc[1], got)
		}
	}
	if Who() == "" {
		t.Error("nobody runs this")
	}
}
