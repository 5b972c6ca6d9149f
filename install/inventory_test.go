package install

import (
	"bytes"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func inventoryForTest() *Inventory {
	h := headOf("1.0.0")
	h.MediaType = ocispec.MediaTypeImageManifest
	other := headOf("0.9.0")
	return &Inventory{APIVersion: InventoryVersion, Tool: "dev", Site: "t", Product: "shop", Generation: 3, At: testNow, Runs: "1.0.0",
		Releases: []Holding{{Version: "1.0.0", Channel: "stable", Sequence: 1, Head: h}},
		Broken:   []Broken{{Holding{Version: "0.9.0", Channel: "stable", Sequence: 1, Head: other}, 2}}}
}

// TestInventoryForm: what is encoded is read again, and what is not well-formed is refused.
func TestInventoryForm(t *testing.T) {
	good, err := inventoryForTest().Encode()
	if err != nil {
		t.Fatal(err)
	}
	if i, err := ParseInventory(good); err != nil || !i.Holds(headOf("1.0.0").Digest) || i.Holds(headOf("0.9.0").Digest) {
		t.Fatalf("%+v, %v", i, err)
	}
	for name, change := range map[string][2]string{
		"form":           {InventoryVersion, "bundle.wordcab.com/inventory.v2"},
		"unknown field":  {`"deep"`, `"deeper"`},
		"other case":     {`"deep"`, `"Deep"`},
		"site":           {`"site": "t"`, `"site": "../t"`},
		"product":        {`"product": "shop"`, `"product": "Shop"`},
		"no time":        {testNow.Format("2006-01-02T15:04:05Z07:00"), "0001-01-01T00:00:00Z"},
		"version":        {`"version": "1.0.0"`, `"version": "1.0"`},
		"channel":        {`"channel": "stable"`, `"channel": "a b"`},
		"head twice":     {string(headOf("0.9.0").Digest), string(headOf("1.0.0").Digest)},
		"no digest":      {string(headOf("1.0.0").Digest), "sha256:../../etc"},
		"size":           {`"size": 1`, `"size": 99999999999`},
		"misses nothing": {`"missing": 2`, `"missing": 0`},
	} {
		bad := strings.Replace(string(good), change[0], change[1], 1)
		if bad == string(good) {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, err := ParseInventory([]byte(bad)); err == nil {
			t.Errorf("%s: it is read", name)
		}
	}
	if _, err := ParseInventory(append(good, bytes.Repeat([]byte(" "), MaxInventory)...)); err == nil {
		t.Error("one that is too long is read")
	}
}

func FuzzInventory(f *testing.F) {
	good, err := inventoryForTest().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := ParseInventory(data)
		if err != nil {
			return
		}
		one, err := i.Encode()
		if err != nil {
			t.Skip("longer when it is indented")
		}
		again, err := ParseInventory(one)
		if err != nil {
			t.Fatalf("its encoding is not read: %v\n%s", err, one)
		}
		if two, err := again.Encode(); err != nil || !bytes.Equal(one, two) {
			t.Fatalf("its encoding is another: %v\n%s\n%s", err, one, two)
		}
	})
}

func FuzzJournal(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := parseJournal(bytes.NewReader(data), false)
		if err == nil && u != nil && (len(u.Head) != 71 || u.Blobs != len(u.Done) || 72*u.Blobs > len(data)) {
			t.Fatalf("%+v", u)
		}
	})
}
