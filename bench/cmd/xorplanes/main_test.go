package main

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Skip("zstd is not installed")
	}
	header := `{"a":{"dtype":"BF16","shape":[100000],"data_offsets":[0,200000]},"b":{"dtype":"F32","shape":[2],` +
		`"data_offsets":[200000,200008]},"c":{"dtype":"F16","shape":[1],"data_offsets":[200008,200010]},"d":{"dtype":"U8","shape":[3],"data_offsets":[200010,200013]}}`
	rng := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 200013)
	for i := range data {
		data[i] = byte(rng.Uint32() & rng.Uint32())
	}
	dir := t.TempDir()
	write := func(name string) (string, []byte) {
		file := append([]byte{byte(len(header)), byte(len(header) >> 8), 0, 0, 0, 0, 0, 0}, header...)
		file = append(file, data...)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		return path, file
	}
	old, _ := write("old")
	for i := 0; i < len(data); i += 3 {
		data[i] += byte(rng.Uint32() % 3)
	}
	new, want := write("new")
	delta, out := filepath.Join(dir, "delta"), filepath.Join(dir, "out")
	if err := makeDelta(old, new, delta); err != nil {
		t.Fatal(err)
	}
	if err := applyDelta(old, delta, out); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("the file that came back differs, %v", err)
	}
	if info, _ := os.Stat(delta); info.Size() > int64(len(want))/2 {
		t.Errorf("the delta has %d of %d bytes", info.Size(), len(want))
	}
}
