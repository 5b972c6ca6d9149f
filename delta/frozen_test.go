package delta

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

var freeze = flag.Bool("freeze", false, "write the frozen deltas that are missing; those that are there never change")

// frozenPair is made by integer arithmetic alone, so that every machine and every Go makes the same: tar archives of a model
// and a text, before and after, and beside the first so much noise that bsdiff is not tried.
func frozenPair(t *testing.T) (bases [][]byte, target []byte) {
	r := noise(3<<20, 77)
	var was, is, oldText, newText []byte
	for i := range 40000 { // bf16 around zero, moved a little
		e := uint16(0x3c00) - uint16(r[4*i])%48<<4
		v := e | uint16(r[4*i+1])&0x7f | uint16(r[4*i+2]&1)<<15
		was = append(was, byte(v), byte(v>>8))
		v += uint16(r[4*i+3] % 3)
		is = append(is, byte(v), byte(v>>8))
	}
	words := []byte("the quick brown fox jumps over the lazy dog and comes back, ")
	for i := range 8000 {
		k := int(r[i]) % len(words)
		oldText = append(oldText, words[k:]...)
		if i%50 == 7 {
			k = 3
		}
		newText = append(newText, words[k:]...)
		if i%41 == 0 {
			newText[len(newText)-5]++
		}
	}
	return [][]byte{frozenTar(t, was, oldText), r[1<<20:]}, frozenTar(t, is, append(newText, r[:500]...))
}

func frozenTar(t *testing.T, weights, text []byte) []byte {
	t.Helper()
	head := fmt.Sprintf(`{"w":{"dtype":"BF16","shape":[%d],"data_offsets":[0,%d]}}`, len(weights)/2, len(weights))
	model := append(binary.LittleEndian.AppendUint64(nil, uint64(len(head))), head...)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		body []byte
	}{{"model.safetensors", append(model, weights...)}, {"words.txt", text}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.body)), Format: tar.FormatUSTAR}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFrozen applies deltas that earlier versions of this package made. A format or a rule that changes breaks it: then old
// deltas could not be applied, and the change needs a new number instead.
func TestFrozen(t *testing.T) {
	bases, target := frozenPair(t)
	for _, level := range []Level{LevelFast, LevelDefault, LevelMax} {
		path := filepath.Join("testdata", "frozen", "v2-"+level.String()+".wcd")
		d, err := os.ReadFile(path)
		if os.IsNotExist(err) && *freeze {
			made, _ := roundTrip(t, target, level, bases...)
			if err := os.WriteFile(path, made, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if _, err := Apply(context.Background(), &out, bytes.NewReader(d), all(bases...), limits(t)); err != nil || !bytes.Equal(out.Bytes(), target) {
			t.Errorf("%s: other bytes, or %v", path, err)
		}
		h, err := ReadHeader(bytes.NewReader(d))
		if err != nil || hex.EncodeToString(h.TargetSHA256[:4]) != frozenDigest {
			t.Errorf("%s: target %x, %v", path, h.TargetSHA256[:4], err)
		}
	}
}

// frozenDigest begins the digest of frozenPair's target: it tells a changed generator from a changed format.
const frozenDigest = "8ee8dc19"

// TestAnyEdit is the property that matters, over made-up pairs: whatever was moved, cut, put in or changed, at every level,
// what comes out is the target.
func TestAnyEdit(t *testing.T) {
	src := smallSource()
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		old := bytes.Clone(src[r.IntN(1<<20):][:r.IntN(300000)])
		target := edited(r, old)
		if seed%4 == 0 {
			target = goGzip(t, target, 1+int(seed/4)%9, 1+r.IntN(50000))
		}
		roundTrip(t, target, Level(seed%3), old, noise(r.IntN(70000), seed+1))
	}
}

func edited(r *rand.Rand, p []byte) []byte {
	out := bytes.Clone(p)
	for range r.IntN(12) {
		a := r.IntN(len(out) + 1)
		b := min(a+r.IntN(20000), len(out))
		cut := bytes.Clone(out[a:b])
		switch r.IntN(5) {
		case 0: // gone
			out = append(out[:a], out[b:]...)
		case 1: // moved to the end
			out = append(append(out[:a], out[b:]...), cut...)
		case 2: // something new
			out = append(out[:a], append(noise(1+r.IntN(5000), r.Uint64()|1), out[a:]...)...)
		case 3: // bytes changed here and there
			for i := a; i < b; i += 1 + r.IntN(60) {
				out[i] += byte(r.IntN(256))
			}
		default: // twice
			out = append(out[:b], append(cut, out[b:]...)...)
		}
	}
	return out
}
