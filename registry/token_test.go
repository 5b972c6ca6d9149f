package registry

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// tokenService gives tokens for what lies under shop/ to robot, whose password is right.
type tokenService struct {
	t    *testing.T
	key  ed25519.PrivateKey
	life time.Duration
	mu   sync.Mutex
	seen []string // the Authorization of each request
	ends time.Time
}

const tokenIssuer, tokenAudience, tokenKey = "tokens", "registry", "k1"

func newTokenService(t *testing.T, life time.Duration) *tokenService {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &tokenService{t: t, key: key, life: life}
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = append(s.seen, r.Header.Get("Authorization"))
	if user, pass, _ := r.BasicAuth(); user != "robot" || pass != "right" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var access []*token.ResourceActions
	for _, scope := range r.URL.Query()["scope"] {
		p := strings.Split(scope, ":")
		if len(p) == 3 && strings.HasPrefix(p[1], "shop/") {
			access = append(access, &token.ResourceActions{Type: p[0], Name: p[1], Actions: strings.Split(p[2], ",")})
		}
	}
	s.ends = time.Now().Add(s.life)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: s.key, KeyID: tokenKey}}, nil)
	if err != nil {
		s.t.Error(err)
		return
	}
	claims := token.ClaimSet{Issuer: tokenIssuer, Subject: "robot", Audience: token.AudienceList{tokenAudience}, Access: access,
		Expiration: s.ends.Add(-token.Leeway).Unix(), NotBefore: time.Now().Add(-time.Hour).Unix(), IssuedAt: time.Now().Unix()}
	raw, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		s.t.Error(err)
	}
	if err := json.NewEncoder(w).Encode(map[string]string{"token": raw}); err != nil {
		s.t.Error(err)
	}
}

func (s *tokenService) visits() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

// outlive waits until the newest token is too old for the registry, which counts whole seconds.
func (s *tokenService) outlive() {
	s.mu.Lock()
	ends := s.ends
	s.mu.Unlock()
	time.Sleep(time.Until(ends.Add(time.Second)))
}

// app is distribution with its own access controller for tokens, which leads to the realm.
func (s *tokenService) app(realm string) http.Handler {
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: s.key.Public(), KeyID: tokenKey}}})
	if err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(s.t.TempDir(), "jwks.json")
	write(s.t, path, set)
	cfg := &configuration.Configuration{
		Storage: configuration.Storage{"filesystem": configuration.Parameters{"rootdirectory": s.t.TempDir()}},
		Auth: configuration.Auth{"token": configuration.Parameters{"realm": realm, "service": tokenAudience, "issuer": tokenIssuer, "jwks": path,
			"signingalgorithms": []any{"EdDSA"}}},
	}
	cfg.Log.AccessLog.Disabled = true
	cfg.HTTP.Secret = "test"
	return handlers.NewApp(s.t.Context(), cfg)
}

// registryOf serves a registry whose tokens come from the service, over TLS; "" as realm is the registry's own host.
func registryOf(t *testing.T, ca *authority, s *tokenService, realm string) string {
	var app http.Handler
	addr := overTLS(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			s.ServeHTTP(w, r)
			return
		}
		app.ServeHTTP(w, r)
	}))
	if realm == "" {
		realm = "https://" + addr + "/token"
	}
	app = s.app(realm)
	return addr
}

func TestTokens(t *testing.T) {
	ca := newAuthority(t)
	here, there := newTokenService(t, time.Minute), newTokenService(t, time.Minute)
	elsewhere := overTLS(t, ca, there)
	right, wrong := Login{Username: "robot", Password: "right"}, Login{Username: "robot", Password: "wrong!"}
	own := Options{Host: registryOf(t, ca, here, ""), CA: ca.pem}
	other := Options{Host: registryOf(t, ca, there, "https://"+elsewhere+"/token"), CA: ca.pem}
	with := func(o Options, l Login, also ...string) *Registry {
		o.Login, o.Also = l, also
		return client(t, o)
	}
	if err := with(own, right).Prove(t.Context()); err != nil {
		t.Error(err)
	}
	if err := roundTrip(t, with(own, right), "shop/a", []byte("x")); err != nil {
		t.Error(err)
	}
	if err := pushManifest(t, with(own, right)); err != nil {
		t.Error(err)
	}
	wantDenied(t, roundTrip(t, with(own, right), "other/a", []byte("x")), true) // not in the token
	wantDenied(t, with(own, wrong).Prove(t.Context()), true)
	wantDenied(t, with(own, Login{}).Ping(t.Context()), false)

	var e *ElsewhereError
	if err := roundTrip(t, with(other, right), "shop/a", []byte("x")); !errors.As(err, &e) || e.To != elsewhere || there.visits() != 0 {
		t.Errorf("a token service elsewhere: %v, %d visits", err, there.visits())
	}
	if err := roundTrip(t, with(other, right, elsewhere), "shop/a", []byte("x")); err != nil {
		t.Error(err)
	}
	wantDenied(t, roundTrip(t, with(other, wrong, elsewhere), "shop/a", []byte("x")), true)
	if there.visits() == 0 {
		t.Error("the token service was not asked")
	}
}

// TestTokenRenewed lets a token get too old between two blobs, and between the beginning of an upload and its end.
func TestTokenRenewed(t *testing.T) {
	ca := newAuthority(t)
	s := newTokenService(t, 2*time.Second)
	r := client(t, Options{Host: registryOf(t, ca, s, ""), CA: ca.pem, Login: Login{Username: "robot", Password: "right"}})
	if err := r.Push(t.Context(), "shop/a", blobOf([]byte("1")), strings.NewReader("1")); err != nil {
		t.Fatal(err)
	}
	before := s.visits()
	s.outlive()
	if err := r.Push(t.Context(), "shop/a", blobOf([]byte("2")), strings.NewReader("2")); err != nil {
		t.Fatal(err)
	}
	if s.visits() <= before {
		t.Error("no new token was asked for")
	}
}

// TestTokenTooOldForAStream: the body of an upload cannot be sent twice; it is for whoever has the bytes to begin again.
func TestTokenTooOldForAStream(t *testing.T) {
	ca := newAuthority(t)
	s := newTokenService(t, time.Minute)
	inner := s.app("https://unused.invalid/token")
	refused := false
	var addr string
	addr = overTLS(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			s.ServeHTTP(w, r)
		case r.Header.Get("Authorization") == "" || r.Method == http.MethodPut && !refused:
			refused = refused || r.Method == http.MethodPut
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+addr+`/token",service="registry",error="invalid_token"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			inner.ServeHTTP(w, r)
		}
	}))
	r := client(t, Options{Host: addr, CA: ca.pem, Login: Login{Username: "robot", Password: "right"}})
	push := func() error { return r.Push(t.Context(), "shop/a", blobOf([]byte("1")), strings.NewReader("1")) }
	if err := push(); !errors.As(err, new(*DeniedError)) || !Transient(err) {
		t.Errorf("%v: it should be tried again", err)
	}
	if err := push(); err != nil {
		t.Error(err)
	}
}

// away is a host to which a registry sends us. It keeps what it was shown.
type away struct {
	next    http.Handler
	mu      sync.Mutex
	visits  int
	secrets []string
	certs   int
}

func (a *away) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	a.visits++
	if h := r.Header.Get("Authorization"); h != "" {
		a.secrets = append(a.secrets, h)
	}
	if r.TLS != nil {
		a.certs += len(r.TLS.PeerCertificates)
	}
	a.mu.Unlock()
	a.next.ServeHTTP(w, r)
}

// sender sends readers of blobs to another host, as a registry that keeps them in an object store does.
func sender(app http.Handler, to *string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, pass, _ := r.BasicAuth()
		switch {
		case user != "robot" || pass != "right" || r.TLS != nil && len(r.TLS.PeerCertificates) == 0:
			w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/"):
			http.Redirect(w, r, *to+r.URL.Path, http.StatusTemporaryRedirect)
		default:
			app.ServeHTTP(w, r)
		}
	})
}

func TestSentElsewhere(t *testing.T) {
	ca := newAuthority(t)
	app, err := Handler(t.Context(), ServeOptions{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	store := &away{next: app}
	storeAddr := overTLS(t, ca, store)
	plain := &away{next: app}
	plainServer := httptest.NewServer(plain)
	defer plainServer.Close()
	var to string
	opt := Options{Host: overTLS(t, ca, sender(app, &to)), CA: ca.pem, Login: Login{Username: "robot", Password: "right"}}
	opt.CertFile, opt.KeyFile = ca.issue(t)

	to = "https://" + storeAddr
	var e *ElsewhereError
	if err := roundTrip(t, client(t, opt), "shop/a", []byte("x")); !errors.As(err, &e) || store.visits != 0 {
		t.Errorf("not allowed: %v, %d visits", err, store.visits)
	}
	opt.Also = []string{storeAddr}
	if err := roundTrip(t, client(t, opt), "shop/a", []byte("x")); err != nil {
		t.Error(err)
	}
	// What a registry calls the place of an upload is asked for by ourselves, with what the registry was shown.
	req, err := http.NewRequest(http.MethodPut, to+"/v2/shop/a/blobs/uploads/x", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Basic cm9ib3Q6cmlnaHQ=")
	resp, err := client(t, opt).client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if store.visits != 2 || len(store.secrets) != 0 || store.certs != 0 {
		t.Errorf("the other host saw %d requests with %q and %d certificates", store.visits, store.secrets, store.certs)
	}
	to = plainServer.URL
	opt.Also = append(opt.Also, strings.TrimPrefix(to, "http://"))
	if err := roundTrip(t, client(t, opt), "shop/a", []byte("y")); !errors.As(err, &e) || !e.Plain || plain.visits != 0 {
		t.Errorf("down to http: %v, %d visits", err, plain.visits)
	}
	to = "http://" + opt.Host
	if err := roundTrip(t, client(t, opt), "shop/a", []byte("y")); !errors.As(err, &e) || !e.Plain {
		t.Errorf("down to http on the registry itself: %v", err)
	}
}

// TestPorts: a host without a port is that of the scheme.
func TestPorts(t *testing.T) {
	b, err := newBorder(Options{Host: "Registry.example", Also: []string{"blobs.example", "tokens.example:8443", "[2001:db8::1]"}})
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]bool{
		"https://registry.example/v2/": true, "https://registry.example:443/v2/": true, "https://registry.example:444/v2/": false,
		"http://registry.example/v2/": false, "https://blobs.example/x": true, "https://blobs.example:443/x": true, "https://blobs.example:80/x": false,
		"http://blobs.example/x": false, "https://tokens.example:8443/x": true, "https://tokens.example/x": false, "https://evil.example/": false,
		"https://blobs.example.evil.example/": false, "https://blobs.example@evil.example/": false, "ftp://blobs.example/": false,
		"https://[2001:db8::1]/": true, "https://[2001:db8::1]:443/": true, "https://[2001:db8::2]/": false, "https:///x": false,
	} {
		r, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.check(r.URL); (err == nil) != want {
			t.Errorf("%s: %v, want %v", url, err, want)
		}
	}
}
