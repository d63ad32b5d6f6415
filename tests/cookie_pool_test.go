package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/cookiejar"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"qlbaas/tests/lab"
)

// Pools whose clients are kept by cookies: their requests go through a sidecar. On every
// hook what the programs do for it; what it does itself, once.
func TestCookiePool(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{Members: 3}, func(w *world) {
		w.test("a browser keeps its member", cookieKeeps)
		w.test("nobody", cookieNobody)
		w.test("counters", cookieCounters)
		w.test("live switch", cookieSwitch)
	})
}

func TestCookiePoolIPv6(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{IPv6: true, Members: 3})
	w.test("a browser keeps its member", cookieKeeps)
	w.test("live switch", cookieSwitch)
}

func TestCookieRequests(t *testing.T) {
	w := newWorld(t, "auto", lab.TutorialOptions{Members: 3})
	w.test("curl", cookieCurl)
	w.test("an application's cookie", cookieOfApplication)
	w.test("one connection", cookieOneConnection)
	w.test("weights", cookieWeights)
	w.test("member lost", cookieMemberLost)
	w.test("connection limit", cookieLimit)
	w.test("drain", cookieDrain)
}

// balanceByCookie makes a balancer with HTTP_COOKIE persistence, unless o says otherwise.
func (w *world) balanceByCookie(o balancerOptions) *balancer {
	w.t.Helper()
	if o.persistence == "" {
		o.persistence = "HTTP_COOKIE"
	}
	if o.pool == nil {
		o.pool = object{}
	}
	o.pool["protocol"] = "HTTP"
	return w.balance(o)
}

// browser is a client with a cookie jar and one lasting connection, or a new one each time.
func (w *world) browser(lasting bool) *http.Client {
	w.t.Helper()
	client := w.Client.HTTPClient(lab.HTTPOptions{KeepAlive: lasting})
	var err error
	if client.Jar, err = cookiejar.New(nil); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(client.CloseIdleConnections)
	return client
}

// answers asks once and returns the whole answer.
func (b *balancer) answers(client *http.Client) *http.Response {
	b.w.t.Helper()
	req, err := http.NewRequestWithContext(bounded(b.w.t, requestTimeout), http.MethodGet, b.url()+"/", nil)
	if err != nil {
		b.w.t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		b.w.t.Fatal(err)
	}
	res.Body.Close()
	return res
}

var srvCookie = regexp.MustCompile(`^SRV=[0-9a-f]{32}; path=/; HttpOnly; SameSite=Lax$`)

// cookieKeeps: many clients of one address are spread by the method and kept apart.
func cookieKeeps(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	var browsers []*http.Client
	var had []string
	for i := range 6 {
		browsers = append(browsers, w.browser(i%2 == 0))
		had = append(had, b.askBy(browsers[i], 1)...)
	}
	if err := inTurn(had, "WEB1", "WEB2", "WEB3"); err != nil {
		w.t.Error(err)
	}
	for i, client := range browsers {
		if now := w.only(b.askBy(client, 4)); now != had[i] {
			w.t.Errorf("browser %d had %s, then %s", i, had[i], now)
		}
	}
	if set := b.answers(b.client).Header.Values("Set-Cookie"); len(set) != 1 || !srvCookie.MatchString(set[0]) {
		w.t.Errorf("Set-Cookie: %q", set)
	}
	if set := b.answers(browsers[0]).Header.Values("Set-Cookie"); len(set) != 0 {
		w.t.Errorf("a client with a good cookie got %q", set)
	}
}

// cookieCurl: the user's tool.
func cookieCurl(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	jar := filepath.Join(w.t.TempDir(), "jar")
	had := ""
	for i := range 6 {
		out, err := w.Client.Run(bounded(w.t, requestTimeout), "curl", "-sS", "-i", "-b", jar, "-c", jar, b.url()+"/")
		if err != nil {
			w.t.Fatal(err)
		}
		head, body, _ := strings.Cut(out, "\r\n\r\n")
		name := strings.TrimSpace(body)
		if sets := strings.Contains(head, "Set-Cookie: SRV="); sets != (i == 0) {
			w.t.Errorf("answer %d: %s", i, head)
		}
		if had != "" && name != had {
			w.t.Errorf("%s, then %s", had, name)
		}
		had = name
	}
}

// cookieOfApplication: what a member sets is learned, and a restart of the agent forgets
// nothing.
func cookieOfApplication(w *world) {
	b := w.balanceByCookie(balancerOptions{persistence: "APP_COOKIE", vip: object{
		"session_persistence": object{"type": "APP_COOKIE", "cookie_name": "SID"},
	}})
	for i, web := range w.webs {
		web.SetCookie(fmt.Sprintf("SID=session-of-%d", i))
		w.t.Cleanup(func() { web.SetCookie("") })
	}
	browsers := []*http.Client{w.browser(false), w.browser(true), w.browser(false)}
	had := map[int]string{}
	keep := func(when string) {
		w.t.Helper()
		for i, client := range browsers {
			now := w.only(b.askBy(client, 3))
			if had[i] != "" && now != had[i] {
				w.t.Errorf("%s: browser %d had %s, now %s", when, i, had[i], now)
			}
			had[i] = now
		}
	}
	keep("at first")
	b.setPool(object{"lb_method": "LEAST_CONNECTIONS"})
	keep("after a change")
	w.restart()
	keep("after a restart")
}

// cookieOneConnection: each request of a connection is balanced for itself.
func cookieOneConnection(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	client := w.Client.HTTPClient(lab.HTTPOptions{KeepAlive: true})
	defer client.CloseIdleConnections()
	if err := inTurn(b.askBy(client, 12), "WEB1", "WEB2", "WEB3"); err != nil {
		w.t.Error(err)
	}
	if n := b.stats().number("total_connections"); n != 1 {
		w.t.Errorf("%v connections", n)
	}
}

func cookieWeights(w *world) {
	b := w.balanceByCookie(balancerOptions{weights: []int{3, 1, 0}})
	if n := tally(b.ask(40)); n["WEB1"] != 30 || n["WEB2"] != 10 {
		w.t.Errorf("weights 3, 1, 0: %v", n)
	}
	browser := w.browser(true)
	had := w.only(b.askBy(browser, 3))
	b.setMember(w.number(had), object{"weight": 0})
	if now := w.only(b.askBy(browser, 3)); now != had {
		w.t.Errorf("had %s, and with its weight 0 %s", had, now)
	}
	if n := tally(b.ask(6)); n[had] != 0 {
		w.t.Errorf("new clients got %s, whose weight is 0: %v", had, n)
	}
	b.setMember(w.number(had), object{"admin_state_up": false})
	if now := w.only(b.askBy(browser, 3)); now == had {
		w.t.Errorf("still answered by %s, which is administratively down", had)
	}
}

// cookieMemberLost: a client that had the member is never told.
func cookieMemberLost(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	browsers := []*http.Client{w.browser(true), w.browser(false)}
	for _, client := range browsers {
		b.askBy(client, 1)
	}
	had := w.only(b.askBy(browsers[0], 2))
	w.mood(w.number(had), (*lab.Web).Refuse)
	for _, client := range append(browsers, b.client) { // nobody has noticed yet
		for _, now := range b.askBy(client, 3) {
			if now == had {
				w.t.Errorf("%s has answered, which refuses", had)
			}
		}
	}
	b.monitor(object{"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1})
	b.awaitMember(w.number(had), false)
	other := w.only(b.askBy(browsers[0], 3))
	w.mood(w.number(had), (*lab.Web).Answer)
	b.awaitMember(w.number(had), true)
	if now := w.only(b.askBy(browsers[0], 3)); now != other {
		w.t.Errorf("went back from %s to %s", other, now)
	}
	b.dropMember(w.number(other))
	if now := w.only(b.askBy(browsers[0], 3)); now == other {
		w.t.Errorf("still answered by %s, which is removed", other)
	}
}

// cookieNobody: the sidecar says so, and a VIP that is down says nothing.
func cookieNobody(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	unserved := func(when string) {
		w.t.Helper()
		if res := b.answers(b.client); res.StatusCode != http.StatusServiceUnavailable {
			w.t.Errorf("%s: %s", when, res.Status)
		}
	}
	b.setPool(object{"admin_state_up": false})
	unserved("pool down")
	b.setPool(object{"admin_state_up": true})
	for i := range b.members {
		b.setMember(i, object{"weight": 0})
	}
	unserved("all weights 0")
	for len(b.members) > 0 {
		b.dropMember(0)
	}
	unserved("no members")
	b.addMember(w.endpoints(webPort)[0], 1)
	b.settle()
	b.ask(1)
	b.setVIP(object{"admin_state_up": false})
	ctx, cancel := context.WithTimeout(w.t.Context(), 300*time.Millisecond)
	defer cancel()
	var timeout net.Error
	if conn, err := w.Client.Dial(ctx, "tcp", b.at.String()); err == nil {
		conn.Close()
		w.t.Error("a VIP that is down has answered")
	} else if !errors.As(err, &timeout) || !timeout.Timeout() {
		w.t.Errorf("a VIP that is down: %v, want silence", err)
	}
	b.setVIP(object{"admin_state_up": true})
	b.ask(1)
}

// cookieLimit: one client more than may waits.
func cookieLimit(w *world) {
	b := w.balanceByCookie(balancerOptions{vip: object{"connection_limit": 2}})
	lasting := []*http.Client{w.browser(true), w.browser(true)}
	for _, client := range lasting {
		b.askBy(client, 1)
	}
	got := make(chan error, 1)
	go func() {
		_, err := b.request(b.client)
		got <- err
	}()
	b.askBy(lasting[0], 20)
	select {
	case err := <-got:
		w.t.Fatalf("a third client was served: %v", err)
	default:
	}
	lasting[0].CloseIdleConnections()
	if err := <-got; err != nil {
		w.t.Error(err)
	}
}

// cookieDrain: a removed member finishes what it has begun, until the drain_timeout, and
// gets nothing new.
func cookieDrain(w *world) {
	const seconds = 1
	b := w.balanceByCookie(balancerOptions{pool: object{"drain_timeout": seconds}})
	browser := w.browser(false)
	had := w.only(b.askBy(browser, 1))
	web := w.webs[w.number(had)]
	w.mood(w.number(had), (*lab.Web).Hang)
	defer w.mood(w.number(had), (*lab.Web).Answer)
	before := web.Requests()
	ended := make(chan error, 1)
	go func() {
		_, err := b.request(browser)
		ended <- err
	}()
	until(w.t, patience, func() error {
		if web.Requests() == before {
			return fmt.Errorf("%s has no request", had)
		}
		return nil
	})
	start := time.Now()
	b.dropMember(w.number(had))
	for _, now := range b.ask(4) {
		if now == had {
			w.t.Errorf("%s has answered, which is removed", had)
		}
	}
	select {
	case err := <-ended:
		if took := time.Since(start); err == nil || took < seconds*time.Second {
			w.t.Errorf("the request ended after %s: %v", took, err)
		}
	case <-time.After(patience):
		w.t.Error("the request has not ended")
	}
}

// cookieCounters: what clients did is what is counted.
func cookieCounters(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	const n = 30
	b.ask(n)
	lasting := w.browser(true)
	b.askBy(lasting, 5)
	b.awaitActive(1)
	s := b.stats()
	if s.number("total_connections") != n+1 || s.number("bytes_in") < 35*20 || s.number("bytes_out") < 35*50 {
		w.t.Errorf("%v", s)
	}
	requests := 0.0
	for _, one := range w.scrape().with("qlbaas_sidecar_requests_total", "pool", b.id) {
		requests += one.value
	}
	if requests != n+5 {
		w.t.Errorf("%v requests of members", requests)
	}
	lasting.CloseIdleConnections()
	b.awaitActive(0)
	w.restart()
	if now := b.stats(); now.number("total_connections") != n+1 {
		w.t.Errorf("after a restart %v", now)
	}
}

// cookieSwitch: from the kernel to the sidecar and back while clients ask, of whom none
// notices, and every connection is counted once.
func cookieSwitch(w *world) {
	b := w.balanceByCookie(balancerOptions{persistence: "SOURCE_IP"})
	load := b.load(400)
	asked := func() float64 { return b.stats().number("total_connections") }
	for _, kind := range []any{object{"type": "HTTP_COOKIE"}, nil, object{"type": "HTTP_COOKIE"}, object{"type": "SOURCE_IP"}} {
		before := asked()
		b.setVIP(object{"session_persistence": kind})
		until(w.t, patience, func() error {
			if now := asked(); now < before+50 {
				return fmt.Errorf("%v connections since %v", now, kind)
			}
			return nil
		})
	}
	answers := load.end(w)
	b.awaitActive(0)
	if n := asked(); n != float64(answers) {
		w.t.Errorf("%v connections are counted, %d were made", n, answers)
	}
	until(w.t, patience, func() error {
		if s := w.status(b.id)["sidecar"]; s != nil {
			return fmt.Errorf("its sidecar is %v", s)
		}
		return nil
	})
}
