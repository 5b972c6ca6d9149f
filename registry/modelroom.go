package registry

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/wordcab/wcbundle/bundle"
)

// stamp is a file's identity: every write, link or change of mode changes it.
type stamp struct {
	Inode   uint64 `json:"inode"`
	Device  uint64 `json:"device"`
	Size    int64  `json:"size"`
	Changed int64  `json:"changed"` // nanoseconds
}

func stampOf(root *os.Root, name string) (stamp, error) {
	st, err := root.Lstat(name)
	if err != nil {
		return stamp{}, err
	}
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok || !st.Mode().IsRegular() {
		return stamp{}, fmt.Errorf("%s is not a plain file", name)
	}
	return stamp{Inode: s.Ino, Device: s.Dev, Size: s.Size, Changed: s.Ctim.Nano()}, nil
}

// onlyOurs tells whether a file or folder is this user's or root's, and nobody else may write it.
func onlyOurs(root *os.Root, name string) bool {
	st, err := root.Lstat(name)
	if err != nil {
		return false
	}
	s, ok := st.Sys().(*syscall.Stat_t)
	return ok && (int(s.Uid) == os.Geteuid() || s.Uid == 0) && st.Mode().Perm()&0o022 == 0
}

// ficlone is the ioctl by which two files share their blocks.
const ficlone = 0x40049409

// clone makes a file of the same blocks, where the file system can.
func clone(from, to *os.Root, name string) error {
	src, err := from.Open(name)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := to.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dst.Fd(), ficlone, src.Fd()); errno != 0 {
		return errors.Join(errno, dst.Close(), to.Remove(name))
	}
	return errors.Join(dst.Sync(), dst.Close())
}

func diskOf(dir string) (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// kept is what the cache has of one layer.
type kept struct {
	base string
	size int64
	used time.Time
}

// contents are what lies in the cache, the longest unused first. What is not the cache's is not looked at.
func contents(root *os.Root) ([]kept, error) {
	d, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	by := map[string]*kept{}
	for _, name := range names {
		base, kind, _ := strings.Cut(name, ".")
		if bundle.CheckDigest(digest.NewDigestFromEncoded(digest.SHA256, base)) != nil || kind == "lock" {
			continue
		}
		st, err := root.Lstat(name)
		if err != nil {
			continue // gone meanwhile
		}
		k := by[base]
		if k == nil {
			k = &kept{base: base}
			by[base] = k
		}
		k.size += st.Size()
		if st.ModTime().After(k.used) {
			k.used = st.ModTime()
		}
	}
	var out []kept
	for _, k := range by {
		out = append(out, *k)
	}
	slices.SortFunc(out, func(a, b kept) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.base, b.base)) })
	return out, nil
}

// room makes place for so many bytes more. What is in use stays.
func (c ModelCache) room(root *os.Root, need int64, self string) error {
	have, err := contents(root)
	if err != nil {
		return err
	}
	var total, others int64
	for _, k := range have {
		if k.base == self { // a part that is gone on with
			need = max(need-k.size, 0)
		} else {
			others += k.size
		}
		total += k.size
	}
	short, err := c.short(total, need, others) // would it fit without all others? if not, they stay
	for err == nil && short == "" {
		if short, err = c.short(total, need, 0); err != nil || short == "" {
			return err
		}
		i := slices.IndexFunc(have, func(k kept) bool { return k.base != self && evict(root, k.base) })
		if i < 0 {
			break
		}
		total -= have[i].size
		have, short = have[i+1:], "" // those before are in use
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("the cache in %s has no room for %d bytes: %s: %w", c.Dir, need, short, syscall.ENOSPC)
}

// short says why there is no room, or nothing. total is what the cache has, freed what it would give up.
func (c ModelCache) short(total, need, freed int64) (string, error) {
	if c.Limit > 0 && total+need-freed > c.Limit {
		return fmt.Sprintf("it may have %d", c.Limit), nil
	}
	disk := c.Free
	if disk == nil {
		disk = diskOf
	}
	free, all, err := disk(c.Dir)
	if err != nil {
		return "", err
	}
	var keep int64
	if c.Limit == 0 {
		keep = all / 100 * keepPercent
	}
	if free+freed-need < keep {
		return fmt.Sprintf("%d are free on its disk, and %d of them are to stay free", free, keep), nil
	}
	return "", nil
}

// evict takes a layer out unless it is in use.
func evict(root *os.Root, base string) bool {
	lock, err := tryLock(root, base+".lock")
	if err != nil {
		return false
	}
	defer lock.Close()
	for _, kind := range []string{".json", "", ".part", ".head", ".json.new", ".head.new", ".lock"} {
		if err := root.Remove(base + kind); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false
		}
	}
	return true
}
