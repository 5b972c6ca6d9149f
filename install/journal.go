package install

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"

	"github.com/wordcab/wcbundle/bundle"
)

// Journal remembers which blobs a load has brought into the registry, so that a load that was cut off does not read them again to
// know what they are, and where uploads are taken up again that it broke off. It is a file of lines: what is loaded, then a digest
// each, or a digest, a repository and a URL; a line that was not finished counts for nothing.
type Journal struct {
	mu   sync.Mutex
	f    *os.File
	path string
	done map[digest.Digest]bool
	at   map[[2]string]string // digest and repository -> where the registry takes an upload up again
}

const journalLimit = 64 << 20 // bytes

// ErrLoading is returned while another load of this site runs on this machine.
var ErrLoading = errors.New("another load of this site runs on this machine")

// OpenJournal takes up the journal of a load of this head into this registry, or begins one. It is locked until it is closed:
// ErrLoading where another process has it. What says for people what is loaded.
func OpenJournal(path string, head digest.Digest, host, what string) (*Journal, error) {
	f, err := lockJournal(path)
	if err != nil {
		return nil, err
	}
	j := &Journal{f: f, path: path, done: map[digest.Digest]bool{}, at: map[[2]string]string{}}
	if err := j.read(fmt.Sprintf("load %s into %s as %s", head, host, what)); err != nil {
		f.Close()
		return nil, fmt.Errorf("the journal of the load %s: %w", path, err)
	}
	return j, nil
}

// lockJournal opens the file and holds it against every other process.
func lockJournal(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the journal of the load: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLoading
		}
		return nil, err
	}
	return f, nil
}

// read takes the finished lines of the same load, or empties the file.
func (j *Journal) read(title string) error {
	r := bufio.NewReader(io.LimitReader(j.f, journalLimit))
	var end int64
	for n := 0; ; n++ {
		line, err := r.ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		text, whole := strings.CutSuffix(line, "\n")
		if !whole || n == 0 && text != title || n > 0 && !j.take(text) {
			break
		}
		end += int64(len(line))
	}
	if err := j.f.Truncate(end); err != nil {
		return err
	}
	if _, err := j.f.Seek(end, io.SeekStart); err != nil || end > 0 {
		return err
	}
	return j.write(title)
}

// take believes one line, and tells whether it is one.
func (j *Journal) take(line string) bool {
	f := strings.Split(line, " ")
	if bundle.CheckDigest(digest.Digest(f[0])) != nil {
		return false
	}
	switch len(f) {
	case 1:
		j.done[digest.Digest(f[0])] = true
		return true
	case 3:
		j.at[[2]string{f[0], f[1]}] = f[2]
		return true
	}
	return false
}

func (j *Journal) write(line string) error {
	if _, err := j.f.WriteString(line + "\n"); err != nil {
		return err
	}
	return j.f.Sync()
}

// Has tells whether the load has brought the blob in, in this run or one before. Nil has nothing.
func (j *Journal) Has(d digest.Digest) bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.done[d]
}

// Add writes down that the registry has taken the blob.
func (j *Journal) Add(d digest.Digest) error {
	if j == nil {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.done[d] {
		return nil
	}
	if err := j.write(string(d)); err != nil {
		return fmt.Errorf("the journal of the load %s: %w", j.path, err)
	}
	j.done[d] = true
	return nil
}

// Place is where an upload of the blob into the repository can be taken up again; "" = nowhere.
func (j *Journal) Place(d digest.Digest, repo string) string {
	if j == nil {
		return ""
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.at[[2]string{string(d), repo}]
}

// Move writes down where an upload can be taken up again. A place that does not fit on a line is left out: that blob is sent again.
func (j *Journal) Move(d digest.Digest, repo, place string) error {
	if j == nil || len(place) > 4<<10 || strings.ContainsAny(place, " \r\n") {
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(fmt.Sprintf("%s %s %s", d, repo, place)); err != nil {
		return fmt.Errorf("the journal of the load %s: %w", j.path, err)
	}
	j.at[[2]string{string(d), repo}] = place
	return nil
}

// Close gives the file back, emptied where the load is done.
func (j *Journal) Close(done bool) error {
	if j == nil {
		return nil
	}
	var err error
	if done {
		err = j.f.Truncate(0)
	}
	return errors.Join(err, j.f.Close())
}

// Unfinished is a load that was cut off, or goes on.
type Unfinished struct {
	Head    digest.Digest   `json:"head"`
	What    string          `json:"what"`
	Host    string          `json:"registry"`
	Done    []digest.Digest `json:"-"`
	Blobs   int             `json:"blobs"` // that it has brought in
	Running bool            `json:"running"`
}

// ReadJournal says which load the journal tells of; nil for none.
func ReadJournal(path string) (*Unfinished, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	return parseJournal(f, errors.Is(err, syscall.EWOULDBLOCK))
}

func parseJournal(r io.Reader, running bool) (*Unfinished, error) {
	lines := bufio.NewScanner(io.LimitReader(r, journalLimit))
	lines.Buffer(nil, 4096)
	if !lines.Scan() {
		return nil, lines.Err()
	}
	words := strings.SplitN(lines.Text(), " ", 6)
	if len(words) < 4 || words[0] != "load" || words[2] != "into" || bundle.CheckDigest(digest.Digest(words[1])) != nil {
		return nil, nil // the next load empties it
	}
	u := &Unfinished{Head: digest.Digest(words[1]), Host: words[3], Running: running}
	if len(words) == 6 {
		u.What = words[5]
	}
	for lines.Scan() {
		d := digest.Digest(lines.Text())
		if bundle.CheckDigest(d) != nil {
			break
		}
		u.Done = append(u.Done, d)
	}
	u.Blobs = len(u.Done)
	return u, lines.Err()
}
