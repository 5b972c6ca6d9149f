package helmrecord

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"testing"
)

func pack(t testing.TB, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if _, err := zw.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return []byte(base64.StdEncoding.EncodeToString(b.Bytes()))
}

func TestDecode(t *testing.T) {
	good := []byte(`{"name":"w","version":3,"info":{"status":"deployed"},"chart":{"metadata":{"name":"c","version":"1.2.3"}},"manifest":"m"}`)
	for _, raw := range [][]byte{pack(t, good), []byte(base64.StdEncoding.EncodeToString(good))} {
		r, err := Decode(raw)
		if err != nil || r.Name != "w" || r.Revision != 3 || r.Status != "deployed" || r.Chart != "c" || r.Version != "1.2.3" || r.Manifest != "m" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	for name, raw := range map[string][]byte{
		"no base64": []byte("%%%"), "no json": pack(t, []byte("x")), "cut": pack(t, good)[:40], "empty": nil,
		"a bomb": pack(t, make([]byte, MaxRecord+1)),
	} {
		if _, err := Decode(raw); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(pack(f, []byte(`{"name":"w","version":1}`)))
	f.Add([]byte("H4sI"))
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(`{"info":{"last_deployed":"x"}}`))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if r, err := Decode(raw); err != nil && r.Manifest != "" {
			t.Error("a record came with an error")
		}
	})
}
