package bundle

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Limits of what gates carry.
const (
	maxGates     = 32        // of a pool
	maxGateBody  = 256 << 10 // bytes of a request's body
	maxGateTotal = 1 << 20   // bytes of all bodies of a release
)

// Gate is one check. Exactly one of its kinds is set. Interval is a Go duration between two rounds.
type Gate struct {
	ID         string          `json:"id"`
	Interval   string          `json:"interval,omitempty"`
	HTTP       *HTTPGate       `json:"http,omitempty"`
	Prometheus *PrometheusGate `json:"prometheus,omitempty"`
}

// HTTPGate asks every pod of the pool, through the API server's pod proxy. Port is a number or a port's name. With a body it is a golden
// request, whose answer is known: Body is text, BodyFile a file of the definition's folder, whose bytes build puts into BodyBytes.
type HTTPGate struct {
	Path        string            `json:"path"`
	Port        string            `json:"port,omitempty"`   // default: the container's first port
	Scheme      string            `json:"scheme,omitempty"` // http (default) or https
	Method      string            `json:"method,omitempty"` // GET (default), or POST, the default with a body
	Headers     map[string]string `json:"headers,omitempty"`
	ContentType string            `json:"contentType,omitempty"`
	Body        string            `json:"body,omitempty"`
	BodyFile    string            `json:"bodyFile,omitempty"`
	BodyBytes   []byte            `json:"bodyBytes,omitempty"`
	Timeout     string            `json:"timeout,omitempty"` // Go duration, default 10s
	Expect      HTTPExpect        `json:"expect,omitzero"`
}

// HTTPExpect is what the answer must be: status (default 200) and, where JSONPath is set, values that the selected ones
// must contain, or the one text that is selected; without a path the text is the whole answer. The paths are of the subset $.a.b[*].c.
type HTTPExpect struct {
	Status   int      `json:"status,omitempty"`
	JSONPath string   `json:"jsonpath,omitempty"`
	Contains []string `json:"contains,omitempty"`
	Equals   *string  `json:"equals,omitempty"`
	WER      *WER     `json:"wer,omitempty"`
}

// WER bounds the word error rate of the selected text against a reference: case and punctuation do not count.
type WER struct {
	Reference string  `json:"reference"`
	Max       float64 `json:"max"`
}

// PrometheusGate compares the one value of an instant query; $pool and $namespace are replaced in it. Baseline compares with the value
// from before the pool was touched. Below MinTraffic of the query Traffic the gate says nothing.
type PrometheusGate struct {
	Query      string    `json:"query"`
	Service    string    `json:"service,omitempty"` // [https:]NAMESPACE/NAME:PORT; the site may name another one
	Max        *float64  `json:"max,omitempty"`
	Min        *float64  `json:"min,omitempty"`
	Baseline   *Baseline `json:"baseline,omitempty"`
	Traffic    string    `json:"traffic,omitempty"`
	MinTraffic float64   `json:"minTraffic,omitempty"`
}

// Baseline: at most MaxRatio times the value of before; a value of MinAbs or less passes in any case, so that a baseline of nothing is
// not held against anything.
type Baseline struct {
	MaxRatio float64 `json:"maxRatio"`
	MinAbs   float64 `json:"minAbs,omitempty"`
}

var (
	gateID      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	gateService = regexp.MustCompile(`^(https:)?[a-z0-9.-]{1,63}/[a-z0-9.-]{1,63}:[a-z0-9-]{1,15}$`)
)

func checkGates(p Pool) error {
	seen := map[string]bool{}
	if len(p.Gates.Post) > maxGates {
		return fmt.Errorf("pool %s: %d gates, at most %d", p.Name, len(p.Gates.Post), maxGates)
	}
	for _, g := range p.Gates.Post {
		if err := g.check(); err != nil {
			return fmt.Errorf("pool %s: gate %.40q: %w", p.Name, g.ID, err)
		}
		if seen[g.ID] {
			return fmt.Errorf("pool %s: gate %s is there twice", p.Name, g.ID)
		}
		seen[g.ID] = true
	}
	return nil
}

func (g Gate) check() error {
	switch {
	case !gateID.MatchString(g.ID):
		return errors.New("the id is of small letters, digits and dashes")
	case (g.HTTP == nil) == (g.Prometheus == nil):
		return errors.New("checks nothing, or two things: give it http or prometheus")
	}
	if err := checkDurations(map[string]string{"interval": g.Interval}); err != nil {
		return err
	}
	if g.HTTP != nil {
		return g.HTTP.check()
	}
	return g.Prometheus.check()
}

func (h *HTTPGate) check() error {
	bodies := 0
	for _, there := range []bool{h.Body != "", h.BodyFile != "", len(h.BodyBytes) > 0} {
		if there {
			bodies++
		}
	}
	switch {
	case !strings.HasPrefix(h.Path, "/"):
		return fmt.Errorf("path %.80q does not start with /", h.Path)
	case h.Scheme != "" && h.Scheme != "http" && h.Scheme != "https":
		return fmt.Errorf("scheme %.20q is neither http nor https", h.Scheme)
	case h.Method != "" && h.Method != "GET" && h.Method != "POST":
		return fmt.Errorf("method %.20q is neither GET nor POST", h.Method)
	case bodies > 1:
		return errors.New("body and bodyFile: take one")
	case bodies > 0 && h.Method == "GET":
		return errors.New("a GET has no body")
	case len(h.Body) > maxGateBody || len(h.BodyBytes) > maxGateBody:
		return fmt.Errorf("a body has more than %d bytes", maxGateBody)
	}
	for name := range h.Headers {
		if n := strings.ToLower(name); slices.Contains([]string{"authorization", "cookie", "proxy-authorization", "impersonate-user", "impersonate-group"}, n) {
			return fmt.Errorf("header %s: a release carries no login, and the API server would take it for its own", name)
		}
	}
	if err := h.Expect.check(); err != nil {
		return err
	}
	return checkDurations(map[string]string{"timeout": h.Timeout})
}

func (e HTTPExpect) check() error {
	switch {
	case len(e.Contains) > 0 && e.JSONPath == "":
		return errors.New("expect.contains needs a jsonpath that says where")
	case e.WER != nil && strings.TrimSpace(e.WER.Reference) == "":
		return errors.New("expect.wer needs a reference")
	case e.WER != nil && (e.WER.Max < 0 || e.WER.Max > 1):
		return errors.New("expect.wer.max is between 0 and 1")
	}
	return nil
}

func (g *PrometheusGate) check() error {
	switch {
	case strings.TrimSpace(g.Query) == "":
		return errors.New("prometheus: the query is missing")
	case g.Max == nil && g.Min == nil && g.Baseline == nil:
		return errors.New("prometheus: give it max, min or a baseline to compare with")
	case g.Service != "" && !gateService.MatchString(g.Service):
		return fmt.Errorf("prometheus: service %.80q is not like monitoring/prometheus:9090", g.Service)
	case g.Baseline != nil && g.Baseline.MaxRatio <= 0:
		return errors.New("prometheus: baseline.maxRatio is more than 0")
	case g.Traffic == "" && g.MinTraffic > 0:
		return errors.New("prometheus: minTraffic needs the query traffic")
	}
	return nil
}

// embedBodies puts the bodies of golden requests into the pools of a release: what is asked is signed with it.
func embedBodies(pools []Pool, dir string) ([]Pool, error) {
	out, total := slices.Clone(pools), 0
	for i := range out {
		gates := slices.Clone(out[i].Gates.Post)
		for n, g := range gates {
			if g.HTTP == nil {
				continue
			}
			h := *g.HTTP
			switch {
			case h.BodyFile != "":
				raw, err := readSmall(inDir(dir, h.BodyFile), maxGateBody)
				if err != nil {
					return nil, fmt.Errorf("pool %s: gate %s: %w", out[i].Name, g.ID, err)
				}
				h.BodyBytes, h.BodyFile = raw, ""
			case h.Body != "":
				h.BodyBytes, h.Body = []byte(h.Body), ""
			}
			if total += len(h.BodyBytes); total > maxGateTotal {
				return nil, fmt.Errorf("the bodies of the gates' requests have more than %d bytes together", maxGateTotal)
			}
			gates[n].HTTP = &h
		}
		out[i].Gates.Post = gates
	}
	return out, nil
}

func readSmall(path string, most int) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() == 0 || st.Size() > int64(most) {
		return nil, fmt.Errorf("%s is not a file of 1 to %d bytes", path, most)
	}
	return os.ReadFile(path)
}
