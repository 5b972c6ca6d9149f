package install

import (
	"bytes"
	"testing"
	"time"
)

func FuzzSiteRecord(f *testing.F) {
	good := `{"apiVersion":"` + RecordVersion + `","generation":3,"site":"t","product":"shop","registry":{"push":"127.0.0.1:5000","pull":"r:5000"}}`
	f.Add([]byte(good))
	f.Add([]byte(`{"apiVersion":"` + RecordVersion + `","generation":3,"GENERATION":1}`))
	f.Add([]byte(`{"apiVersion":"v9","generation":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			return
		}
		if p, err := r.Policy(time.Unix(0, 0)); err == nil && p.Trust == nil {
			t.Fatal("a policy without trust")
		}
		one, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeRecord(one)
		if err != nil {
			t.Fatalf("its encoding is not read: %v\n%s", err, one)
		}
		if two, err := encodeRecord(again); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("its encoding is another record: %v\n%s\n%s", err, one, two)
		}
	})
}
