package install

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// TestJournal: what was written down is known to the next run of the same load into the same registry, and to no other.
func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "load.journal")
	head, a, b := digest.FromString("head"), digest.FromString("a"), digest.FromString("b")
	open := func(head digest.Digest, host string) *Journal {
		t.Helper()
		j, err := OpenJournal(path, head, host, "1.1.0")
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	j := open(head, "r:5000")
	for _, d := range []digest.Digest{a, a, b} {
		if err := j.Add(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(false); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Cut off anywhere: the lines that were finished count, and the file can be written on.
	for n := range whole {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		j := open(head, "r:5000")
		title := len("load " + string(head) + " into r:5000 as 1.1.0\n")
		if j.Has(a) != (n >= title+len(a)+1) || j.Has(b) {
			t.Fatalf("cut at %d: a %v, b %v", n, j.Has(a), j.Has(b))
		}
		if err := j.Add(b); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(false); err != nil {
			t.Fatal(err)
		}
		j = open(head, "r:5000")
		if !j.Has(b) {
			t.Fatalf("cut at %d: what was written afterwards is lost", n)
		}
		if err := j.Close(false); err != nil {
			t.Fatal(err)
		}
	}
	for name, garbage := range map[string]string{"another head": "", "no digest": string(whole) + "../../etc\n" + string(a) + "\n"} {
		if err := os.WriteFile(path, append(whole, garbage...), 0o600); err != nil {
			t.Fatal(err)
		}
		other := digest.FromString(name)
		j := open(other, "r:5000")
		if j.Has(a) || j.Has(b) {
			t.Errorf("%s: another load's blobs are taken for this one's", name)
		}
		if err := j.Close(false); err != nil {
			t.Fatal(err)
		}
	}
	j = open(head, "other:5000")
	if j.Has(a) {
		t.Error("another registry's blobs are taken for this one's")
	}
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != 0 {
		t.Errorf("the journal of a load that is done: %v, %v", st, err)
	}
	j = open(head, "r:5000")
	if _, err := OpenJournal(path, head, "r:5000", "x"); !errors.Is(err, ErrLoading) {
		t.Errorf("two loads at once: %v", err)
	}
	if err := j.Close(false); err != nil {
		t.Fatal(err)
	}
	var none *Journal
	if none.Has(a) || none.Add(a) != nil || none.Close(true) != nil {
		t.Error("no journal")
	}
}
