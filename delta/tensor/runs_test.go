package tensor

import "testing"

// TestRuns has rows of which every other one was trained eight times as much.
func TestRuns(t *testing.T) {
	c := NewCoder()
	for _, typ := range []Type{BF16, F16, F32} {
		little, much := tune(9, 200_001, 2e-5), tune(9, 200_001, 16e-5)
		for i := range little.target {
			if i/1024%2 == 1 {
				little.target[i] = much.target[i]
			}
		}
		base, target := pack(typ, little.base), pack(typ, little.target)
		enc := c.Encode(nil, typ, base, target)
		if enc[1] != blockRuns {
			t.Errorf("%s: the first block has form %d", typ, enc[1])
		}
		through(t, c, typ, base, target)
	}
}
