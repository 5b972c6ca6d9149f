package registry

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPasswordsAreRemembered: bcrypt is asked once for a right password and each time for a wrong one, and nothing outlives the file of users.
func TestPasswordsAreRemembered(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	write := func(password string, at time.Time) {
		t.Helper()
		line, err := HTPasswdLine("robot", []byte(password))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write("right", time.Now().Add(-time.Hour))
	app, err := Handler(t.Context(), ServeOptions{Dir: t.TempDir(), HTPasswd: path})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(user, password string) (int, time.Duration) {
		r := httptest.NewRequest(http.MethodGet, "http://r/v2/", nil)
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		w, start := httptest.NewRecorder(), time.Now()
		app.ServeHTTP(w, r)
		return w.Code, time.Since(start)
	}
	code, slow := ask("robot", "right")
	if code != http.StatusOK {
		t.Fatalf("the right password: %d", code)
	}
	fast := time.Hour
	for range 20 {
		code, took := ask("robot", "right")
		if fast = min(fast, took); code != http.StatusOK {
			t.Fatalf("the right password again: %d", code)
		}
	}
	if fast > slow/5 {
		t.Errorf("the first time took %s and the fastest of twenty more %s: nothing was remembered", slow, fast)
	}
	for _, c := range [][2]string{{"", ""}, {"robot", "wrong"}, {"robot", ""}, {"other", "right"}, {"robo", "tright"}, {"robot", "wrong"}} {
		if code, _ := ask(c[0], c[1]); code != http.StatusUnauthorized {
			t.Errorf("%q was let in with %q: %d", c[0], c[1], code)
		}
	}
	write("newer", time.Now())
	if code, _ := ask("robot", "right"); code != http.StatusUnauthorized {
		t.Errorf("the password of before was let in after the file had changed: %d", code)
	}
	if code, _ := ask("robot", "newer"); code != http.StatusOK {
		t.Errorf("the new password: %d", code)
	}
}
