package tensor

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the frozen payloads anew; old deltas must stay readable, so only for new types")

// frozenPair makes a base and a target by integers alone: columns of 24 elements that change by a factor each, and noise.
// One element in 16 stays.
func frozenPair(t Type) (base, target []byte) {
	x := uint64(88172645463325252)
	next := func(n uint64) uint64 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		return x >> 11 % n
	}
	w := t.Element()
	if fieldsOf(t) != nil || w == 1 || w == 8 {
		for range 4096 {
			b := byte(next(256))
			base, target = append(base, b), append(target, b+byte(next(9)*next(2)*next(2)))
		}
		return base, target
	}
	for i := range uint64(9000) {
		v, sign := (6+next(4)+next(5))<<20|next(1<<20), next(2)
		to := v + (i%24*7919%13)<<14 + next(1<<13) - 6<<14
		if next(16) == 0 {
			to = v
		}
		const bias = 110 << 20
		switch t {
		case F16:
			base = binary.LittleEndian.AppendUint16(base, uint16(sign<<15|v>>10))
			target = binary.LittleEndian.AppendUint16(target, uint16(sign<<15|to>>10))
		case BF16, I16:
			base = binary.LittleEndian.AppendUint16(base, uint16(sign<<15|(v+bias)>>13))
			target = binary.LittleEndian.AppendUint16(target, uint16(sign<<15|(to+bias)>>13))
		default:
			base = binary.LittleEndian.AppendUint32(base, uint32(sign<<31|(v+bias)<<3))
			target = binary.LittleEndian.AppendUint32(target, uint32(sign<<31|(to+bias)<<3))
		}
	}
	return base, target
}

// TestFrozen decodes payloads made when the format was made.
func TestFrozen(t *testing.T) {
	c := NewCoder()
	for _, typ := range allTypes {
		base, target := frozenPair(typ)
		name := filepath.Join("testdata", "frozen", typ.String()+".payload")
		if *update {
			if err := os.WriteFile(name, c.Encode(nil, typ, base, target), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		enc, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(base))
		if err := c.Decode(got, typ, base, enc); err != nil || !bytes.Equal(got, target) {
			t.Errorf("%s: the frozen payload no longer decodes: %v", typ, err)
		}
	}
}
