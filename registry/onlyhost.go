package registry

import (
	"fmt"
	"net/http"
)

// ElsewhereError says that the registry sent the client to another host: by a redirect, as the place of an upload or of its
// token service. The site's registry is the one host that is spoken to, and it alone is shown the credentials.
type ElsewhereError struct{ Registry, To string }

func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("registry %s sends us to %s: nothing but the site's registry is spoken to", e.Registry, e.To)
}

// onlyHost lets requests to one host through and no others.
type onlyHost struct {
	host string
	next http.RoundTripper
}

// RoundTrip refuses a request to another host, and an answer that leads to one, before a name is resolved or a byte is sent there.
func (o onlyHost) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != o.host {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, &ElsewhereError{Registry: o.host, To: r.URL.Host}
	}
	resp, err := o.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if to, err := resp.Location(); err == nil && to.Host != o.host {
		resp.Body.Close()
		return nil, &ElsewhereError{Registry: o.host, To: to.Host}
	}
	return resp, nil
}
