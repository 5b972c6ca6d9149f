package delta

import (
	"fmt"
	"sync"

	"github.com/wordcab/wcbundle/delta/match"
)

// vault gives Make old bytes and their index: all at once if they fit the window, else window by window.
type vault struct {
	*joined
	window int64
	mu     sync.Mutex
	lo     int64 // of the bytes below
	held   []byte
	ix     *match.Index
}

// all says whether every base byte is held.
func (v *vault) all() bool { return v.size() <= v.window }

// load makes the bytes around at the ones held.
func (v *vault) load(at int64) error {
	n := min(v.size(), v.window)
	if v.held != nil && (v.all() || (at >= v.lo+n/8 || v.lo == 0) && (at < v.lo+n-n/8 || v.lo+n == v.size())) {
		return nil
	}
	lo := max(min(at-n/2, v.size()-n), 0)
	if v.held == nil {
		v.held = make([]byte, n)
	}
	v.ix = nil
	v.lo = lo
	if err := v.read(v.held, lo); err != nil {
		return fmt.Errorf("holding base bytes: %w", err)
	}
	return nil
}

// find searches target's copies in the bytes around near. hint is the place in the bases to look at first.
func (v *vault) find(target []byte, near, hint int64, opt match.Options) ([]match.Copy, error) {
	v.mu.Lock()
	if err := v.load(near); err != nil {
		v.mu.Unlock()
		return nil, err
	}
	if v.ix == nil {
		v.ix = match.NewIndex(v.held)
	}
	ix, lo := v.ix, v.lo
	if v.all() {
		v.mu.Unlock() // what is held stays
	} else {
		defer v.mu.Unlock()
	}
	opt.Hint = hint - lo
	copies := ix.Find(target, opt)
	for i := range copies {
		copies[i].Old += lo
	}
	return copies, nil
}

// bytes returns n old bytes from off on, of those held if they are all.
func (v *vault) bytes(off, n int64) ([]byte, error) {
	if v.all() {
		v.mu.Lock()
		err := v.load(0)
		v.mu.Unlock()
		if err != nil {
			return nil, err
		}
		return v.held[off : off+n : off+n], nil
	}
	b := make([]byte, n)
	return b, v.read(b, off)
}
