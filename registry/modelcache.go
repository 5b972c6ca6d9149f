package registry

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/wordcab/wcbundle/bundle"
)

// ModelCache is a folder of a node in which models are shared by the pods on it. Each layer is a file under its digest:
//
//	HEX       the file that the layer holds, whole, mode 0444
//	HEX.json  the rest of the layer's tar, by which the file proves the layer's digest, and when it last did; its time is the last use
//	HEX.lock  flock of who fetches or hands out the file
//	HEX.part  what a fetch has so far, HEX.head the tar's headers before it
//
// HEX.json is written last: without it there is no entry. What is handed out by a copy is hashed while it is copied, whoever wrote it. Only a
// file that proved its digest to this user, and that nothing has touched since, is handed out by a link or a reflink without reading it.
type ModelCache struct {
	Dir   string // "" = none
	Limit int64  // bytes; the files that were not used for the longest time go first. 0 = what leaves 15 % of the disk free
	// Free tells the room of a folder's disk. nil: what the system says.
	Free func(dir string) (free, total int64, err error)
}

const (
	keepPercent = 15 // of the disk, where a kubelet begins to throw out pods
	lockPoll    = 100 * time.Millisecond
)

// marker is HEX.json.
type marker struct {
	Frame frame `json:"frame"`
	Seen  stamp `json:"seen"`
}

// entry is a layer's file in the cache, locked until release.
type entry struct {
	c     ModelCache
	root  *os.Root
	lock  *os.File
	layer modelLayer
	mark  marker
	found bool // it was there
}

func (e *entry) base() string { return e.layer.Digest.Encoded() }

func (e *entry) release() {
	e.lock.Close() // frees the lock; nothing was written to it
	e.root.Close()
}

// withoutCache tells whether a pull may succeed without the cache: what is wrong is the cache's own.
func withoutCache(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.As(err, new(*fs.PathError)) || errors.As(err, new(*os.LinkError)) || errors.Is(err, syscall.ENOSPC))
}

// place puts a layer's file into parts.
func (c ModelCache) place(ctx context.Context, r *Registry, l modelLayer, parts *os.Root) (shared bool, err error) {
	for again := false; ; again = true {
		e, err := c.ensure(ctx, r, l, true)
		if err != nil {
			return false, err
		}
		err = e.handOut(ctx, parts)
		var damaged *bundle.DigestError
		if errors.As(err, &damaged) && !again {
			err = e.drop()
			e.release()
			if err != nil {
				return false, err
			}
			continue
		}
		shared = e.found
		e.release()
		return shared, err
	}
}

// ensure finds a layer's file in the cache or fetches it. lazy leaves the proof of one that is there to who hands it out.
func (c ModelCache) ensure(ctx context.Context, r *Registry, l modelLayer, lazy bool) (*entry, error) {
	if err := os.MkdirAll(c.Dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, err
	}
	e := &entry{c: c, root: root, layer: l}
	if e.lock, err = lockFile(ctx, root, l.Digest.Encoded()+".lock"); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := e.have(ctx, r, lazy); err != nil {
		e.release()
		return nil, err
	}
	return e, nil
}

func (e *entry) have(ctx context.Context, r *Registry, lazy bool) error {
	if e.read() == nil {
		e.found = true
		if lazy || e.untouched() {
			return e.used()
		}
		if err := e.prove(ctx, io.Discard); err == nil {
			return e.used()
		} else if ctx.Err() != nil {
			return err
		}
		e.found = false
	}
	if err := e.drop(); err != nil {
		return err
	}
	if err := e.c.room(e.root, e.layer.Size, e.base()); err != nil {
		return err
	}
	t := &taking{r: r, layer: e.layer, dir: e.root}
	f, err := t.take(ctx)
	if err != nil {
		if withoutCache(ctx, err) {
			err = errors.Join(err, t.drop())
		}
		return err
	}
	e.mark.Frame = f
	if err := e.root.Chmod(e.base(), 0o444); err != nil {
		return err
	}
	if e.mark.Seen, err = stampOf(e.root, e.base()); err != nil {
		return err
	}
	return e.write()
}

// read takes the marker, which anybody may have written who can write the folder: it must fit the layer.
func (e *entry) read() error {
	b, err := readInside(e.root, e.base()+".json", 4*maxFrame)
	if err != nil {
		return err
	}
	e.mark = marker{}
	if err := json.Unmarshal(b, &e.mark); err != nil {
		return err
	}
	st, err := e.root.Lstat(e.base())
	if err != nil {
		return err
	}
	size, err := headOf(e.layer, e.mark.Frame.Head)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() || st.Size() != size || int64(len(e.mark.Frame.Head)+len(e.mark.Frame.Tail))+size != e.layer.Size {
		return fmt.Errorf("the cache's %s is not whole", e.base())
	}
	return nil
}

func (e *entry) write() error {
	b, err := json.Marshal(e.mark)
	if err != nil {
		return err
	}
	if err := writeDurable(e.root, e.base()+".json", b); err != nil {
		return err
	}
	return syncDir(e.root)
}

// used notes the time. Where another user owns the folder there is no right to, and none is needed.
func (e *entry) used() error {
	now := time.Now()
	if err := e.root.Chtimes(e.base()+".json", now, now); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	}
	return nil
}

// drop takes an entry out, but for what a fetch has so far.
func (e *entry) drop() error {
	for _, name := range []string{e.base() + ".json", e.base()} { // the marker first: an entry is whole or not there
		if err := e.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// untouched tells whether the file is the very one that proved its digest, and nobody but this user or root can have changed it.
func (e *entry) untouched() bool {
	now, err := stampOf(e.root, e.base())
	return err == nil && now == e.mark.Seen && now != stamp{} && onlyOurs(e.root, ".") && onlyOurs(e.root, e.base())
}

// prove copies the file and fails at the end when it is not the layer's. What proved itself is noted.
func (e *entry) prove(ctx context.Context, to io.Writer) error {
	before, err := stampOf(e.root, e.base())
	if err != nil {
		return err
	}
	f, err := e.root.Open(e.base())
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	sum.Write(e.mark.Frame.Head)
	n, err := io.Copy(io.MultiWriter(to, sum), &ctxRead{ctx, f})
	if err != nil {
		return err
	}
	if err := checkTail(e.layer, sum, int64(len(e.mark.Frame.Head))+n, e.mark.Frame.Tail); err != nil {
		return err
	}
	if before != e.mark.Seen && onlyOurs(e.root, ".") {
		e.mark.Seen = before // a change since then shows
		return e.write()
	}
	return nil
}

// handOut puts the file into parts under its digest by the cheapest way that the file systems allow.
func (e *entry) handOut(ctx context.Context, parts *os.Root) error {
	name := e.base()
	if err := parts.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if e.untouched() {
		if os.Link(filepath.Join(e.c.Dir, name), filepath.Join(parts.Name(), name)) == nil {
			var err error
			if e.mark.Seen, err = stampOf(e.root, name); err != nil { // a link counts as a change
				return err
			}
			return e.write()
		}
		if clone(e.root, parts, name) == nil {
			return nil
		}
	}
	f, err := parts.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	err = e.prove(ctx, f)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, parts.Remove(name))
	}
	return nil
}

// syncDir makes names durable.
func syncDir(root *os.Root) error {
	d, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// lockFile waits for the lock. A lock whose file was removed meanwhile is none.
func lockFile(ctx context.Context, root *os.Root, name string) (*os.File, error) {
	for {
		f, err := tryLock(root, name)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// tryLock does not wait: EWOULDBLOCK when another has it.
func tryLock(root *os.Root, name string) (*os.File, error) {
	f, err := root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(&fs.PathError{Op: "flock", Path: name, Err: err}, f.Close())
	}
	mine, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	there, err := root.Lstat(name)
	if err != nil || !os.SameFile(mine, there) {
		return nil, errors.Join(&fs.PathError{Op: "flock", Path: name, Err: syscall.EWOULDBLOCK}, f.Close())
	}
	return f, nil
}
