package support

import (
	"strings"
	"testing"
	"time"
)

// A large log is scrubbed in seconds, not minutes, and hostile lines do not change that.
func TestScrubIsFastEnough(t *testing.T) {
	l := newLiterals(nil)
	l.addSecret([]byte("opensesame-1234"))
	m, err := l.matcher()
	if err != nil {
		t.Fatal(err)
	}
	s := &scrubber{m}
	for name, text := range map[string]string{
		"plain":      strings.Repeat("2026-11-23T02:30:00Z INFO request done model=asr-large status=200 ms=41\n", 30_000),
		"sensitive":  strings.Repeat("2026-11-23T02:30:00Z token=abcdef session=1 opensesame-1234\n", 10_000),
		"one line":   strings.Repeat("token", 100_000),
		"one line 2": strings.Repeat("a@", 100_000) + "://",
		"one line 3": strings.Repeat("eyJ", 100_000),
	} {
		at := time.Now()
		s.text([]byte(text), none)
		took := time.Since(at)
		t.Logf("%s: %d bytes in %s", name, len(text), took)
		if took > 20*time.Second {
			t.Errorf("%s: %d bytes took %s", name, len(text), took)
		}
	}
}
