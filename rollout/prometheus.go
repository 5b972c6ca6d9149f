package rollout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Errors of a query: the first says that there is nothing to compare, everything else that Prometheus could not be asked.
var errNoData = errors.New("no data")

// askPrometheus judges one value. Only a value that was measured can fail: no data, too little traffic or no baseline say nothing.
func (a asking) askPrometheus(ctx context.Context, g PrometheusGate, pool string, base Baseline) GateResult {
	traffic := ""
	if g.Traffic != "" {
		n, q, err := a.query(ctx, g, g.Traffic, pool)
		if err != nil {
			return unmeasured(fmt.Errorf("traffic: %w", err), a.again(q))
		}
		traffic = fmt.Sprintf(", traffic %g", n)
		if n < g.MinTraffic {
			return GateResult{Verdict: Inconclusive, Message: fmt.Sprintf("traffic is %g, below %g it says nothing; %s", n, g.MinTraffic, a.again(q))}
		}
	}
	value, q, err := a.query(ctx, g, g.Query, pool)
	if err != nil {
		return unmeasured(err, a.again(q))
	}
	v, why := judgeValue(g, value, base)
	return GateResult{Verdict: v, Message: why + traffic + "; " + a.again(q)}
}

func unmeasured(err error, again string) GateResult {
	v := Broken
	if errors.Is(err, errNoData) {
		v = Inconclusive
	}
	return GateResult{Verdict: v, Message: err.Error() + "; " + again}
}

// judgeValue compares a value with its bounds and with what it was before. It is pure.
func judgeValue(g PrometheusGate, value float64, base Baseline) (Verdict, string) {
	if g.Max != nil && value > *g.Max {
		return Fail, fmt.Sprintf("%g, at most %g", value, *g.Max)
	}
	if g.Min != nil && value < *g.Min {
		return Fail, fmt.Sprintf("%g, at least %g", value, *g.Min)
	}
	b := g.Baseline
	switch {
	case b == nil:
		return Pass, fmt.Sprintf("%g", value)
	case value <= b.MinAbs:
		return Pass, fmt.Sprintf("%g, at most %g in any case", value, b.MinAbs)
	case base.Value == nil:
		return Inconclusive, fmt.Sprintf("%g, and there is no baseline: %s", value, orText(base.Note, "it was not measured"))
	case value > *base.Value*b.MaxRatio:
		return Fail, fmt.Sprintf("%g, at most %g times %g before", value, b.MaxRatio, *base.Value)
	}
	return Pass, fmt.Sprintf("%g, at most %g times %g before", value, b.MaxRatio, *base.Value)
}

func orText(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// baselines measures what gates will compare with, before the pool is touched.
func (a asking) baselines(ctx context.Context, p Pool, now time.Time) map[string]Baseline {
	var out map[string]Baseline
	for _, g := range p.Gates.Post {
		if g.Prometheus == nil || g.Prometheus.Baseline == nil {
			continue
		}
		b := Baseline{At: now.UTC()}
		if v, _, err := a.query(ctx, *g.Prometheus, g.Prometheus.Query, p.Name); err != nil {
			b.Note = cut(err.Error(), maxMessage)
		} else {
			b.Value = &v
		}
		if out == nil {
			out = map[string]Baseline{}
		}
		out[g.ID] = b
	}
	return out
}

// query is one instant query, through the API server's service proxy (Prometheus HTTP API, /api/v1/query).
func (a asking) query(ctx context.Context, g PrometheusGate, query, pool string) (float64, request, error) {
	at := g.Service
	if a.prometheus != "" {
		at = a.prometheus
	}
	q := request{method: http.MethodGet}
	var err error
	if q.namespace, q.at, err = service(at); err != nil {
		return 0, q, err
	}
	query = strings.NewReplacer("$pool", pool, "$namespace", a.namespace).Replace(query)
	q.path = "/api/v1/query?" + url.Values{"query": {query}}.Encode()
	status, body, err := a.send(ctx, q)
	if err != nil {
		return 0, q, err
	}
	v, err := oneValue(status, body)
	return v, q, err
}

// service splits [https:]NAMESPACE/NAME:PORT.
func service(text string) (namespace, at string, err error) {
	rest, secure := strings.CutPrefix(text, "https:")
	namespace, name, ok := strings.Cut(rest, "/")
	if host, port, both := strings.Cut(name, ":"); !ok || !both || namespace == "" || host == "" || port == "" || strings.ContainsAny(name, "/?#%") {
		return "", "", fmt.Errorf("the site's Prometheus is not known: name it with --prometheus NAMESPACE/SERVICE:PORT (got %.80q)", text)
	}
	if secure {
		name = "https:" + name
	}
	return namespace, "services/" + name, nil
}

// promAnswer is what we take from an answer of Prometheus.
type promAnswer struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

// oneValue reads the one number of an answer. It is pure.
func oneValue(status int, body []byte) (float64, error) {
	var a promAnswer
	if err := json.Unmarshal(body, &a); err != nil || a.Status == "" {
		return 0, fmt.Errorf("status %d, and no answer of Prometheus", status)
	}
	if status != http.StatusOK || a.Status != "success" {
		return 0, fmt.Errorf("answer of Prometheus: %d: %.200s", status, a.Error)
	}
	var pair [2]any
	switch a.Data.ResultType {
	case "scalar":
		if err := json.Unmarshal(a.Data.Result, &pair); err != nil {
			return 0, fmt.Errorf("a scalar that is none: %w", err)
		}
	case "vector":
		var list []struct {
			Value [2]any `json:"value"`
		}
		if err := json.Unmarshal(a.Data.Result, &list); err != nil {
			return 0, fmt.Errorf("a vector that is none: %w", err)
		}
		if len(list) == 0 {
			return 0, fmt.Errorf("%w: the query selects nothing", errNoData)
		}
		if len(list) > 1 {
			return 0, fmt.Errorf("%w: the query selects %d series, one is compared: sum them up", errNoData, len(list))
		}
		pair = list[0].Value
	default:
		return 0, fmt.Errorf("result of type %.20q, want a vector or a scalar", a.Data.ResultType)
	}
	text, ok := pair[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if !ok || err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, fmt.Errorf("value %.40v is no number", pair[1])
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("%w: the value is %s", errNoData, text)
	}
	return v, nil
}
