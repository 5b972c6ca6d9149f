package registry

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"oras.land/oras-go/v2/registry/remote/errcode"
)

// BusyError is an answer with which a registry asks for time.
type BusyError struct {
	After time.Duration
	Err   error
}

func (e *BusyError) Error() string { return e.Err.Error() }
func (e *BusyError) Unwrap() error { return e.Err }

// longestWait bounds what a registry may ask for.
const longestWait = 10 * time.Minute

// answered closes an answer and makes an error of it that says what the registry said, unless it is one of those that are wanted.
func answered(resp *http.Response, want ...int) error {
	defer resp.Body.Close()
	if slices.Contains(want, resp.StatusCode) {
		_, err := io.CopyN(io.Discard, resp.Body, 8<<10) // so that the connection can be used again
		if err == io.EOF {
			err = nil
		}
		return err
	}
	answer := &errcode.ErrorResponse{Method: resp.Request.Method, URL: without(resp.Request.URL), StatusCode: resp.StatusCode, Errors: readErrors(resp.Body)}
	if after := retryAfter(resp.Header.Get("Retry-After")); after > 0 {
		return &BusyError{After: after, Err: answer}
	}
	return answer
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func retryAfter(text string) time.Duration {
	var wait time.Duration
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), longestWait)
}

// without leaves the query out, where sessions carry tokens.
func without(u *url.URL) *url.URL {
	out := *u
	out.RawQuery, out.User = "", nil
	return &out
}

func answerOf(err error) int {
	var answer *errcode.ErrorResponse
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// readErrors takes what a registry says about its refusal, bounded.
func readErrors(body io.Reader) errcode.Errors {
	var said struct {
		Errors errcode.Errors `json:"errors"`
	}
	if json.NewDecoder(io.LimitReader(body, 8<<10)).Decode(&said) != nil {
		return nil
	}
	return said.Errors
}
