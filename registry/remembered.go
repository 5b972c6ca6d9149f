package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/registry/auth"
)

// usersAuth is the name under which distribution's configuration finds the access controller.
const usersAuth = "wcbundle-users"

// remembered is distribution's htpasswd access controller with a memory. A password's check by bcrypt takes tens of milliseconds of a
// processor, by design, and clients send the password with every request: a load of a hundred blobs would take half a minute for that alone.
// What was right is remembered, as a keyed hash, for a few minutes or until the file of users changes. What was wrong is checked each time.
type remembered struct {
	next auth.AccessController
	path string
	key  [32]byte

	mu    sync.Mutex
	file  string // which file it is about: size and time of its last change
	right map[[32]byte]grant
}

type grant struct {
	*auth.Grant
	until time.Time
}

const (
	rememberFor = 5 * time.Minute
	rememberMax = 1000 // users at once
)

func init() {
	if err := auth.Register(usersAuth, newRemembered); err != nil {
		panic(err) // the name is taken: a mistake of ours
	}
}

func newRemembered(options map[string]any) (auth.AccessController, error) {
	next, err := auth.GetAccessController("htpasswd", options)
	if err != nil {
		return nil, err
	}
	path, _ := options["path"].(string)
	r := &remembered{next: next, path: path, right: map[[32]byte]grant{}}
	_, err = rand.Read(r.key[:])
	return r, err
}

// Authorized lets in who was let in just now with the same user and password, and asks bcrypt about all others.
func (m *remembered) Authorized(r *http.Request, access ...auth.Access) (*auth.Grant, error) {
	user, password, ok := r.BasicAuth()
	if !ok {
		return m.next.Authorized(r, access...)
	}
	id := sha256.Sum256(fmt.Appendf(m.key[:], "%d:%s:%s", len(user), user, password))
	if g := m.lookup(id); g != nil {
		return g, nil
	}
	g, err := m.next.Authorized(r, access...)
	if err == nil && g != nil {
		m.keep(id, g)
	}
	return g, err
}

func (m *remembered) lookup(id [32]byte) *auth.Grant {
	file := m.fileNow()
	m.mu.Lock()
	defer m.mu.Unlock()
	if file != m.file {
		m.file, m.right = file, map[[32]byte]grant{}
	}
	g, ok := m.right[id]
	if !ok || time.Now().After(g.until) {
		delete(m.right, id)
		return nil
	}
	return g.Grant
}

func (m *remembered) keep(id [32]byte, g *auth.Grant) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.right) >= rememberMax {
		clear(m.right)
	}
	m.right[id] = grant{g, time.Now().Add(rememberFor)}
}

// fileNow tells the file of users from what it was before.
func (m *remembered) fileNow() string {
	st, err := os.Stat(m.path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(st.Size(), " ", st.ModTime().UnixNano())
}
