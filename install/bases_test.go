package install

import "testing"

func TestPlanRoom(t *testing.T) {
	const mib = 1 << 20
	lines := []lineRoom{{delta: mib, copies: 100 * mib}, {delta: 2 * mib, unpacked: 10 * mib, copies: 20 * mib}}
	for _, c := range []struct {
		free     int64
		want     Room
		possible bool
	}{
		{1000 * mib, Room{Need: 404 * mib, Parallel: 4, Copies: true}, true},
		{404 * mib, Room{Need: 404 * mib, Parallel: 4, Copies: true}, true},
		{403 * mib, Room{Need: 101 * mib, Parallel: 1, Copies: true}, true},
		{100 * mib, Room{Need: 48 * mib, Parallel: 4}, true},
		{47 * mib, Room{Need: 12 * mib, Parallel: 1}, true},
		{12*mib - 1, Room{Need: 12 * mib}, false},
	} {
		got, ok := planRoom(lines, c.free, 4)
		c.want.Free = c.free
		if got != c.want || ok != c.possible {
			t.Errorf("%d free: %+v %v, want %+v %v", c.free, got, ok, c.want, c.possible)
		}
	}
	if got, ok := planRoom(nil, 0, 4); !ok || got.Need != 0 {
		t.Errorf("a patch without deltas: %+v %v", got, ok)
	}
}
