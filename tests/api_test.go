package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// object is an API object, or a part of one.
type object map[string]any

func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

func (o object) number(key string) float64 {
	n, _ := o[key].(float64)
	return n
}

// kind is a collection of the API.
type kind struct{ noun, path string }

// The collections.
var (
	networks = kind{"network", "/v2.0/networks"}
	subnets  = kind{"subnet", "/v2.0/subnets"}
	ports    = kind{"port", "/v2.0/ports"}
	pools    = kind{"pool", "/v2.0/lb/pools"}
	vips     = kind{"vip", "/v2.0/lb/vips"}
	members  = kind{"member", "/v2.0/lb/members"}
	monitors = kind{"health_monitor", "/v2.0/lb/health_monitors"}

	routers     = kind{"router", "/v2.0/routers"}
	floatingIPs = kind{"floatingip", "/v2.0/floatingips"}
)

// answer is what the API said.
type answer struct {
	code int
	body []byte
}

// request asks the agent's API over its socket.
func (a *agent) request(method, path string, body any) (answer, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return answer{}, err
		}
		reader = bytes.NewReader(text)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", a.socket())
		},
	}
	req, err := http.NewRequest(method, "http://agent"+path, reader)
	if err != nil {
		return answer{}, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	client := http.Client{Transport: transport, Timeout: patience}
	res, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return answer{code: res.StatusCode, body: text}, err
}

// call is request for what has to be answered with a code, and decodes the answer.
func (a *agent) call(want int, method, path string, body any) object {
	a.t.Helper()
	got, err := a.request(method, path, body)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	if got.code != want {
		a.t.Fatalf("%s %s %v: %d, want %d: %s", method, path, body, got.code, want, got.body)
	}
	if len(got.body) == 0 {
		return nil
	}
	var o object
	if err := json.Unmarshal(got.body, &o); err != nil {
		a.t.Fatalf("%s %s: %v: %s", method, path, err, got.body)
	}
	return o
}

// inner is the object in an envelope.
func (a *agent) inner(envelope object, noun string) object {
	a.t.Helper()
	o, ok := envelope[noun].(map[string]any)
	if !ok {
		a.t.Fatalf("no %s in %v", noun, envelope)
	}
	return o
}

func (a *agent) create(k kind, attributes object) object {
	a.t.Helper()
	return a.inner(a.call(http.StatusCreated, "POST", k.path, object{k.noun: attributes}), k.noun)
}

func (a *agent) update(k kind, id string, attributes object) object {
	a.t.Helper()
	return a.inner(a.call(http.StatusOK, "PUT", k.path+"/"+id, object{k.noun: attributes}), k.noun)
}

func (a *agent) show(k kind, id string) object {
	a.t.Helper()
	return a.inner(a.call(http.StatusOK, "GET", k.path+"/"+id, nil), k.noun)
}

func (a *agent) remove(k kind, id string) {
	a.t.Helper()
	a.call(http.StatusNoContent, "DELETE", k.path+"/"+id, nil)
}

// status is the agent's view of a pool, nil if it has none.
func (a *agent) status(pool string) object {
	a.t.Helper()
	all, _ := a.call(http.StatusOK, "GET", "/qlbaas/status", nil)["pools"].([]any)
	for _, one := range all {
		if o, ok := one.(map[string]any); ok && o["id"] == pool {
			return o
		}
	}
	return nil
}

// sample is one line of the metrics.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// metrics is one scrape.
type metrics []sample

var (
	sampleLine = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`(\w+)="([^"]*)"`)
)

// scrape reads the agent's metrics.
func (a *agent) scrape() metrics {
	a.t.Helper()
	var got answer
	until(a.t, patience, func() (err error) {
		got, err = a.request("GET", "/metrics", nil)
		// There is a limit to how many may ask at the same time.
		if err == nil && got.code == http.StatusServiceUnavailable {
			err = fmt.Errorf("scrape: %d: %s", got.code, got.body)
		}
		return err
	})
	if got.code != http.StatusOK {
		a.t.Fatalf("scrape: %d: %s", got.code, got.body)
	}
	return parseMetrics(a.t, string(got.body))
}

func parseMetrics(t testing.TB, text string) metrics {
	t.Helper()
	var all metrics
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words := sampleLine.FindStringSubmatch(line)
		if words == nil {
			t.Fatalf("scrape: no sample: %s", line)
		}
		value, err := strconv.ParseFloat(words[3], 64)
		if err != nil {
			t.Fatalf("scrape: %v: %s", err, line)
		}
		s := sample{name: words[1], value: value, labels: map[string]string{}}
		for _, pair := range labelPair.FindAllStringSubmatch(words[2], -1) {
			s.labels[pair[1]] = pair[2]
		}
		all = append(all, s)
	}
	return all
}

// with returns the samples of a metric with these labels, given as name, value, …
func (m metrics) with(name string, labels ...string) metrics {
	var found metrics
next:
	for _, s := range m {
		if s.name != name {
			continue
		}
		for i := 0; i < len(labels); i += 2 {
			if s.labels[labels[i]] != labels[i+1] {
				continue next
			}
		}
		found = append(found, s)
	}
	return found
}

// value is that of the one sample with these labels; 0 if there is none.
func (m metrics) value(name string, labels ...string) float64 {
	found := m.with(name, labels...)
	if len(found) == 0 {
		return 0
	}
	if len(found) > 1 {
		panic(fmt.Sprintf("%s %v: %d samples", name, labels, len(found)))
	}
	return found[0].value
}
