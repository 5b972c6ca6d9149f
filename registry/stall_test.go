package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

// slowly gives a byte every few milliseconds.
type slowly struct{ left int }

func (s *slowly) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	time.Sleep(20 * time.Millisecond)
	p[0] = 'x'
	return 1, nil
}

// TestStall: progress keeps a request alive beyond the limit, silence ends it, and what our own side takes does not count.
func TestStall(t *testing.T) {
	const limit = 150 * time.Millisecond
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/drip":
			for range 20 {
				fmt.Fprint(w, "x")
				w.(http.Flusher).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		case "/half":
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/never":
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		default:
			io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, strings.Repeat("x", 1000))
		}
	}))
	defer srv.Close()
	client := &http.Client{Transport: stallGuard{limit, http.DefaultTransport}}
	ask := func(path string, body io.Reader, wait time.Duration) error {
		req, err := http.NewRequest(http.MethodPost, srv.URL+path, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		time.Sleep(wait)
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	for _, c := range []struct {
		path    string
		body    io.Reader
		wait    time.Duration
		stalled bool
	}{
		{"/drip", nil, 0, false},
		{"/echo", &slowly{left: 20}, 0, false},
		{"/echo", nil, 2 * limit, false}, // the answer waits for us
		{"/echo", pause{2 * limit}, 0, false},
		{"/half", nil, 0, true},
		{"/never", strings.NewReader("x"), 0, true},
	} {
		err := ask(c.path, c.body, c.wait)
		var s *StalledError
		if errors.As(err, &s) != c.stalled || !c.stalled && err != nil {
			t.Errorf("%s: %v, stalled should be %v", c.path, err, c.stalled)
		}
		if c.stalled && !Transient(err) {
			t.Errorf("%s: %v is not tried again", c.path, err)
		}
	}
}

// pause is a body that takes long to make.
type pause struct{ d time.Duration }

func (p pause) Read([]byte) (int, error) {
	time.Sleep(p.d)
	return 0, io.EOF
}

func TestTransient(t *testing.T) {
	answer := func(method string, code int) error {
		return fmt.Errorf("pushing: %w", &errcode.ErrorResponse{Method: method, StatusCode: code})
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{answer("PUT", 503), true}, {answer("PUT", 429), true}, {answer("PUT", 404), true}, {answer("PATCH", 404), true},
		{answer("GET", 404), false}, {answer("PUT", 401), false}, {answer("PUT", 400), false}, {io.ErrUnexpectedEOF, true},
		{&StalledError{}, true}, {&ElsewhereError{}, false}, {errors.New("damaged"), false}, {nil, false},
	} {
		if Transient(c.err) != c.want {
			t.Errorf("%v: want %v", c.err, c.want)
		}
	}
}
