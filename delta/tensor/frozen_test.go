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

// frozenGroups makes a pair of BF16 of one exponent. One element in ten goes a step up or down, which makes a stream in
// groups of eight with its escapes in pairs.
func frozenGroups() (base, target []byte) {
	x := uint32(2463534242)
	for range 1 << 16 {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		v := uint16(120<<7 | 1 + x>>8%126)
		to := v
		if x>>16%10 == 0 {
			to += uint16(x>>28&1)*2 - 1
		}
		base = binary.LittleEndian.AppendUint16(base, v)
		target = binary.LittleEndian.AppendUint16(target, to)
	}
	return base, target
}

// TestFrozen decodes payloads made when the format was made.
func TestFrozen(t *testing.T) {
	for _, typ := range allTypes {
		base, target := frozenPair(typ)
		frozen(t, typ.String(), typ, base, target)
	}
	base, target := frozenGroups()
	enc := frozen(t, "groups", BF16, base, target)
	if enc[4] != methodOctets || enc[7] != methodPairs {
		t.Errorf("the payload begins with % x, not with a stream in groups of eight with escapes in pairs", enc[:8])
	}
}

// frozen decodes one payload and returns it.
func frozen(t *testing.T, name string, typ Type, base, target []byte) []byte {
	t.Helper()
	c := NewCoder()
	name = filepath.Join("testdata", "frozen", name+".payload")
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
	return enc
}
