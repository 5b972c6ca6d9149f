package install

import (
	"fmt"
	"syscall"
)

// FreeSpace is how many bytes an unprivileged process may still write below dir.
func FreeSpace(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("asking for the room in %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}
