package registry

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// send sends a request to an address, by the path and query of a place.
func send(t *testing.T, method, addr, place string, body []byte) *http.Response {
	t.Helper()
	u, err := url.Parse(place)
	if err != nil {
		t.Fatal(err)
	}
	u.Scheme, u.Host = "http", addr
	req, err := http.NewRequest(method, u.String(), bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp
}

// TestUploadOutlivesServer begins an upload, stops the server and ends the upload at the next one on the same folder. Without the
// secret that the first one has made, the second would not know it.
func TestUploadOutlivesServer(t *testing.T) {
	for _, kept := range []bool{true, false} {
		dir := t.TempDir()
		addr, stop := start(t, ServeOptions{Dir: dir})
		place := send(t, http.MethodPost, addr, "/v2/shop/a/blobs/uploads/", nil).Header.Get("Location")
		place = send(t, http.MethodPatch, addr, place, []byte("half ")).Header.Get("Location")
		stop()
		secret := filepath.Join(dir, secretFile)
		if st, err := os.Stat(secret); err != nil || st.Mode().Perm() != 0o600 {
			t.Fatalf("the secret: %v", err)
		}
		if !kept {
			if err := os.Remove(secret); err != nil {
				t.Fatal(err)
			}
		}
		addr, _ = start(t, ServeOptions{Dir: dir})
		resp := send(t, http.MethodPatch, addr, place, []byte("done"))
		if (resp.StatusCode == http.StatusAccepted) != kept {
			t.Fatalf("the secret is kept: %v, and the answer is %s", kept, resp.Status)
		}
		if !kept {
			continue
		}
		end := fmt.Sprintf("%s&digest=%s", resp.Header.Get("Location"), blobOf([]byte("half done")).Digest)
		if resp := send(t, http.MethodPut, addr, end, nil); resp.StatusCode != http.StatusCreated {
			t.Error(resp.Status)
		}
	}
}

func TestSecret(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	a, err := httpSecret(dir)
	if err != nil || len(a) != 2*secretSize {
		t.Fatalf("%d digits, %v", len(a), err)
	}
	if b, err := httpSecret(dir); err != nil || a != b {
		t.Errorf("another one: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, text := range []string{"", "abcd", strings.Repeat("x", 64), strings.Repeat("a", 1000)} {
		write(t, filepath.Join(dir, secretFile), []byte(text))
		if _, err := httpSecret(dir); err == nil {
			t.Errorf("%.10q was taken", text)
		}
	}
	if other, err := httpSecret(t.TempDir()); err != nil || other == a {
		t.Errorf("two folders, one secret: %v", err)
	}
}

func TestHealth(t *testing.T) {
	dir := t.TempDir()
	addr, _ := start(t, ServeOptions{Dir: dir, HTPasswd: users(t)})
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, HealthPath, 200}, {http.MethodHead, HealthPath, 200}, {http.MethodPost, HealthPath, 405},
		{http.MethodGet, "/v2/", 401}, {http.MethodGet, HealthPath + "/../v2/_catalog", 401}, {http.MethodGet, "/v2/shop/a/tags/list", 401},
	} {
		if resp := send(t, c.method, addr, c.path, nil); resp.StatusCode != c.want {
			t.Errorf("%s %s: %s, want %d", c.method, c.path, resp.Status, c.want)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".health*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	w := httptest.NewRecorder()
	(&health{dir: filepath.Join(dir, "gone")}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, HealthPath, nil))
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), dir) {
		t.Errorf("a folder that is not there: %d %s", w.Code, w.Body)
	}
}

// TestCertificateRenewed: the server takes new files without being stopped, and keeps the old certificate while they are broken.
func TestCertificateRenewed(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t)
	addr, _ := start(t, ServeOptions{TLSCert: cert, TLSKey: key})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ca.pem))
	serial := func() string {
		c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	replace := func(path string, b []byte, age time.Duration) {
		write(t, path, b)
		at := time.Now().Add(age)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	first := serial()
	newCert, newKey := ca.issue(t)
	for i, path := range []string{newCert, newKey} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		replace([]string{cert, key}[i], b, time.Minute)
		if i == 0 && serial() != first { // the new certificate with the old key
			t.Error("half a pair was used")
		}
	}
	second := serial()
	if second == first {
		t.Error("the new certificate is not used")
	}
	replace(cert, []byte("broken"), 2*time.Minute)
	if serial() != second {
		t.Error("a broken file took the certificate away")
	}
}

func FuzzParseHTPasswd(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		if parseHTPasswd(bytes.NewReader(text)) != nil {
			return
		}
		if !bytes.Contains(text, []byte(":$2")) {
			t.Errorf("%q was taken without bcrypt", text)
		}
	})
}

// FuzzCheckCA: what is taken is certificates and nothing else, and is taken again as it is.
func FuzzCheckCA(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := CheckCA(text)
		if err != nil {
			return
		}
		if again, err := CheckCA([]byte(out)); err != nil || again != out {
			t.Errorf("%q is taken, and then %q with %v", out, again, err)
		}
		if strings.Contains(out, "KEY") && !strings.Contains(string(text), "CERTIFICATE") {
			t.Errorf("a key was taken: %q", out)
		}
	})
}
