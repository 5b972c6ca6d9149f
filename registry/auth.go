package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/wordcab/wcbundle/bundle"
)

// Login is what a registry lets us in by. It prints as nothing but the user's name.
type Login struct {
	Username, Password string
	IdentityToken      string // in place of a password, for a token service
	RegistryToken      string // shown as it is
}

// String keeps the secret parts out of every text.
func (l Login) String() string { return "login of " + l.Username }

// GoString is String.
func (l Login) GoString() string { return l.String() }

// None tells the login that is none.
func (l Login) None() bool { return l == Login{} }

func (l Login) credential() auth.Credential {
	return auth.Credential{Username: l.Username, Password: l.Password, RefreshToken: l.IdentityToken, AccessToken: l.RegistryToken}
}

// DeniedError says that the registry or its token service did not let us in.
type DeniedError struct {
	Registry string
	By       string // who refused, where it was not the registry
	Status   int
	User     string
	Login    bool   // a login was shown
	Again    bool   // it may have been a token that was too old: a new one is there
	Detail   string // what was answered
}

func (e *DeniedError) Error() string {
	text := "registry " + e.Registry
	if e.By != "" && e.By != e.Registry {
		text = e.By + ", which gives out the tokens for registry " + e.Registry + ","
	}
	switch {
	case !e.Login && e.Status != http.StatusForbidden:
		text += " wants a login, and there is none"
	case e.Status == http.StatusForbidden:
		text += " does not allow that to " + e.who()
	default:
		text += " refuses the login of " + e.who()
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}

func (e *DeniedError) who() string {
	switch {
	case !e.Login:
		return "everybody"
	case e.User == "":
		return "a token"
	}
	return e.User
}

// session sends requests with what the registry wants to see, and tells refusals from other failures.
type session struct {
	auth   *auth.Client
	border *border
	login  Login
}

func newSession(b *border, login Login) *session {
	c := &auth.Client{Client: &http.Client{Transport: b}, Cache: auth.NewCache()}
	// Which token service may be asked is the border's to say. The client's own list would look names up that a registry makes up.
	c.BlockedRealmPrefixes = []netip.Prefix{}
	if !login.None() {
		c.Credential = auth.StaticCredential(b.host, login.credential())
	}
	return &session{auth: c, border: b, login: login}
}

// Do sends a request of ours. Where the registry or its token service refuses us, the error is a *DeniedError.
func (s *session) Do(r *http.Request) (*http.Response, error) {
	given := strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ")
	r, t := follow(r)
	if err := keepBody(r); err != nil {
		return nil, err
	}
	resp, err := s.auth.Do(r)
	if err != nil {
		return nil, s.denied(r, t, withoutQuery(err))
	}
	if refusal(resp.StatusCode) && (resp.Request == nil || s.border.isRegistry(resp.Request.URL)) {
		defer resp.Body.Close()
		return nil, s.refused(&DeniedError{Status: resp.StatusCode, Again: given && resp.StatusCode == http.StatusUnauthorized, Detail: detail(resp)})
	}
	return resp, nil
}

// withoutQuery takes the query off the addresses that an error names: in it are the registry's own state of an upload, signatures of a
// store and what a token is asked for, which nobody should read in a log.
func withoutQuery(err error) error {
	for e := err; e != nil; {
		var at *url.Error
		if !errors.As(e, &at) {
			break
		}
		at.URL, _, _ = strings.Cut(at.URL, "?")
		e = at.Err
	}
	return err
}

// keepBody holds a manifest in memory, so that it can be sent again when the registry has asked for credentials. Blobs are streams.
func keepBody(r *http.Request) error {
	if !strings.Contains(r.URL.Path, "/manifests/") || r.Body == nil || r.Body == http.NoBody || r.GetBody != nil || r.ContentLength < 0 || r.ContentLength > bundle.MaxManifest {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, r.ContentLength+1))
	if err = errors.Join(err, r.Body.Close()); err != nil {
		return err
	}
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil }
	r.Body, err = r.GetBody()
	return err
}

func refusal(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// denied makes a refusal out of an error, where it is one.
func (s *session) denied(r *http.Request, t *trail, err error) error {
	var answer *errcode.ErrorResponse
	switch {
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return s.refused(&DeniedError{Status: http.StatusUnauthorized})
	case errors.As(err, &answer) && refusal(answer.StatusCode):
		e := &DeniedError{Status: answer.StatusCode, Detail: clean(answer.Errors.Error())}
		if answer.URL != nil {
			e.By = answer.URL.Host
		}
		return s.refused(e)
	case answer == nil && t.refused.Load() && r.Body != nil && r.Body != http.NoBody && r.GetBody == nil:
		// A body that is a stream cannot be sent again with the token that has been fetched meanwhile.
		return errors.Join(s.refused(&DeniedError{Status: http.StatusUnauthorized, Again: true}), err)
	}
	return err
}

func (s *session) refused(e *DeniedError) error {
	e.Registry, e.User, e.Login = s.border.host, s.login.Username, !s.login.None()
	return e
}

// detail is the beginning of what the registry says about its refusal.
func detail(resp *http.Response) string {
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err != nil {
		return resp.Status
	}
	return clean(strings.TrimSpace(resp.Status + " " + string(b)))
}

// clean is a text of strangers that a terminal may show.
func clean(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u2028' || r >= 0x80 && r < 0xa0 }), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + ".."
	}
	return s
}

// ErrNoLogin is returned by Prove where the registry lets everybody in.
var ErrNoLogin = errors.New("the registry asks for no login")

// Prove asks the registry whether it takes the login that the client was made with.
func (r *Registry) Prove(ctx context.Context) error {
	if err := r.Ping(ctx); err != nil {
		return err
	}
	if !r.border.challenged.Load() {
		return fmt.Errorf("%s: %w", r.host, ErrNoLogin)
	}
	return nil
}

// maxLogins is how many bytes a file of logins may have.
const maxLogins = 1 << 20

// FileLogin looks a host's login up in a file of docker's form. There is none where there is no file. Only what the file says in
// plain text counts: programs that it names are not run.
func FileLogin(ctx context.Context, path, host string) (Login, error) {
	store, err := openLogins(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Login{}, nil
	}
	if err != nil {
		return Login{}, err
	}
	c, err := store.Get(ctx, host)
	if err != nil { // the error's text may have the password
		return Login{}, fmt.Errorf("what %s says about %s is not of docker's form", path, host)
	}
	return Login{Username: c.Username, Password: c.Password, IdentityToken: c.RefreshToken, RegistryToken: c.AccessToken}, nil
}

func openLogins(path string) (*credentials.FileStore, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxLogins {
		return nil, fmt.Errorf("%s is no file of at most %d bytes: there are no logins in it", path, maxLogins)
	}
	store, err := credentials.NewFileStore(path)
	if err != nil { // as above
		return nil, fmt.Errorf("%s is no file of logins in docker's form", path)
	}
	return store, nil
}

// SaveLogin writes a host's login into a file of docker's form that nobody but its owner can read.
func SaveLogin(ctx context.Context, path, host string, l Login) error {
	store, err := openLogins(path)
	if errors.Is(err, fs.ErrNotExist) {
		store, err = credentials.NewFileStore(path)
	}
	if err != nil {
		return err
	}
	if err := store.Put(ctx, host, l.credential()); err != nil {
		return fmt.Errorf("writing the login for %s: %w", host, err)
	}
	return os.Chmod(path, 0o600)
}

// DropLogin takes a host's login out of a file, and tells whether there was one.
func DropLogin(ctx context.Context, path, host string) (bool, error) {
	old, err := FileLogin(ctx, path, host)
	if err != nil || old.None() {
		return false, err
	}
	store, err := openLogins(path)
	if err != nil {
		return false, err
	}
	return true, store.Delete(ctx, host)
}
