package rollout

import (
	"context"
	"net/http"
	"time"
)

// clockAhead is how far the API server's clock is ahead of this machine's. All times of an operation are by that clock: they are
// compared with those that controllers write, and with those of runs on other machines.
func (p *podProxy) clockAhead(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base.JoinPath("version").String(), nil)
	if err != nil {
		return 0
	}
	began := time.Now()
	resp, err := p.client.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return ahead(resp.Header.Get("Date"), began, time.Now())
}

// ahead reads a Date header, which counts in seconds: less than three are no difference.
func ahead(date string, began, ended time.Time) time.Duration {
	at, err := http.ParseTime(date)
	if err != nil {
		return 0
	}
	d := at.Add(time.Second / 2).Sub(began.Add(ended.Sub(began) / 2))
	if d.Abs() < 3*time.Second {
		return 0
	}
	return d
}
