package support

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"unicode/utf8"
)

const maxSegment = 100 // bytes of one part of a path

// spool keeps scrubbed files on disk until they are packed.
type spool struct {
	dir   string
	max   int64
	used  int64
	scrub *scrubber
	files []spooled
	paths map[string]bool
	errs  []CollectError
	hits  map[string]map[string]int
}

type spooled struct {
	File
	at string
}

func newSpool(dir string, max int64, s *scrubber) *spool {
	return &spool{dir: dir, max: max, scrub: s, paths: map[string]bool{}, hits: map[string]map[string]int{}}
}

// left is how many bytes may still be collected.
func (s *spool) left() int64 { return s.max - s.used }

func (s *spool) fail(collector, subject string, err error) {
	s.errs = append(s.errs, CollectError{collector, s.clean(subject), s.clean(err.Error())})
}

// clean scrubs a short text that goes into a name or a message.
func (s *spool) clean(text string) string {
	return strings.TrimSuffix(string(s.scrub.text([]byte(text), func(string, int) {})), "\n")
}

// hit counts redactions of a file.
func (s *spool) hit(path string) func(string, int) {
	return func(rule string, n int) {
		if s.hits[path] == nil {
			s.hits[path] = map[string]int{}
		}
		s.hits[path][rule] += n
	}
}

// path makes a safe and unused path of the parts: no part can climb, hide, or hold a secret.
func (s *spool) path(parts ...string) string {
	var safe []string
	for _, p := range parts {
		for seg := range strings.SplitSeq(p, "/") {
			safe = append(safe, s.clean(segment(s.clean(seg)))) // again, since making it safe may join what was apart
		}
	}
	base := strings.Join(safe, "/")
	name := base
	for i := 2; s.paths[strings.ToLower(name)]; i++ { // lower case: some file systems see no difference
		name = fmt.Sprintf("%s~%d", base, i)
	}
	s.paths[strings.ToLower(name)] = true
	return name
}

func segment(seg string) string {
	out := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._-*~", r):
			return r
		}
		return '_'
	}, seg)
	if len(out) > maxSegment {
		sum := sha256.Sum256([]byte(out))
		out = out[:maxSegment-9] + "~" + hex.EncodeToString(sum[:4])
	}
	if strings.Trim(out, ".") == "" {
		return "_"
	}
	return out
}

// text scrubs free text and keeps it.
func (s *spool) text(collector, path string, content []byte) error {
	if !utf8.Valid(content) {
		s.fail(collector, path, fmt.Errorf("withheld: not text, so it cannot be looked through"))
		return nil
	}
	return s.put(File{Path: path, Collector: collector}, s.scrub.text(content, s.hit(path)))
}

// document redacts a decoded document and keeps it as JSON.
func (s *spool) document(collector, path string, doc any, blind bool) error {
	w := walker{scrub: s.scrub, blind: blind, hit: s.hit(path)}
	raw, err := json.MarshalIndent(w.value("", doc), "", "  ")
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	return s.put(File{Path: path, Collector: collector}, append(raw, '\n'))
}

// put keeps content that the passes of its kind have seen. The literal pass runs once more over the bytes as they will
// leave, since encoding can join what was apart. A file that does not fit is left out, and noted.
func (s *spool) put(f File, content []byte) error {
	content = s.scrub.literal(content, s.hit(f.Path))
	if int64(len(content)) > s.left() {
		s.fail(f.Collector, f.Path, fmt.Errorf("left out: %d bytes, %d of the bundle's limit left", len(content), s.left()))
		return nil
	}
	s.used += int64(len(content))
	return s.keep(f, content)
}

func (s *spool) keep(f File, content []byte) error {
	sum := sha256.Sum256(content)
	f.SHA256, f.Size = hex.EncodeToString(sum[:]), int64(len(content))
	at := filepath.Join(s.dir, fmt.Sprintf("%06d", len(s.files)))
	if err := os.WriteFile(at, content, 0o600); err != nil {
		return fmt.Errorf("keeping %s: %w", f.Path, err)
	}
	s.files = append(s.files, spooled{f, at})
	return nil
}

// sorted returns the files in the order of the archive.
func (s *spool) sorted() []spooled {
	out := append([]spooled(nil), s.files...)
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out
}
