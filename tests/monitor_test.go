package tests

import (
	"net/netip"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// trouble is a kind of monitor and something that its member can suffer from.
type trouble struct {
	name    string
	monitor object
	port    uint16
	tls     bool
	// hangs: a probe is not answered, rather than refused at once.
	hangs bool
	// begin puts the member into trouble, mend takes it out.
	begin, mend func(w *world, server *lab.Web) error
}

func troubles() []trouble {
	answer := func(_ *world, s *lab.Web) error { return s.Answer() }
	refuse := func(_ *world, s *lab.Web) error { return s.Refuse() }
	hang := func(_ *world, s *lab.Web) error { return s.Hang() }
	status := func(code int) func(*world, *lab.Web) error {
		return func(_ *world, s *lab.Web) error { s.SetStatus(code); return nil }
	}
	echo := func(value string) func(*world, *lab.Web) error {
		return func(w *world, _ *lab.Web) error {
			return w.Members[0].Host.Sysctl("net.ipv4.icmp_echo_ignore_all", value)
		}
	}
	return []trouble{
		{name: "HTTP refuses", monitor: object{"type": "HTTP"}, port: 8001, begin: refuse, mend: answer},
		{name: "HTTP hangs", monitor: object{"type": "HTTP"}, port: 8002, hangs: true, begin: hang, mend: answer},
		{
			name: "HTTP codes", monitor: object{"type": "HTTP", "expected_codes": "200,202"},
			port: 8003, begin: status(204), mend: status(202),
		},
		{
			name: "HTTP range", monitor: object{"type": "HTTP", "expected_codes": "200-204", "http_method": "HEAD"},
			port: 8004, begin: status(500), mend: status(204),
		},
		{name: "HTTPS refuses", monitor: object{"type": "HTTPS"}, port: 8005, tls: true, begin: refuse, mend: answer},
		{name: "HTTPS code", monitor: object{"type": "HTTPS"}, port: 8006, tls: true, begin: status(503), mend: status(200)},
		{name: "TCP refuses", monitor: object{"type": "TCP"}, port: 8007, begin: refuse, mend: answer},
		{name: "PING silent", monitor: object{"type": "PING"}, port: 8008, hangs: true, begin: echo("1"), mend: echo("0")},
	}
}

// TestMonitors: every kind takes a member out within the time that is promised, and
// brings it back.
func TestMonitors(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		for i, one := range troubles() {
			w.test(one.name, func(w *world) {
				w.t.Parallel()
				one.play(w, netip.AddrPortFrom(w.spare(i), webPort))
			})
		}
		w.test("several", func(w *world) {
			w.t.Parallel()
			severalMonitors(w, netip.AddrPortFrom(w.spare(len(troubles())), webPort))
		})
	})
}

// spare is an address of the subnet that no host has.
func (w *world) spare(i int) netip.Addr {
	address := w.VIP.As4()
	address[3] = byte(200 + i)
	return netip.AddrFrom4(address)
}

// The monitors' settings, in seconds and failures.
const (
	delay, timeout, retries = 1, 1, 2
	refusedBound            = (delay*retries + 1) * time.Second
	hangingBound            = ((delay+timeout)*retries + 1) * time.Second
)

// serve starts a web server on each of the first two members.
func (w *world) serve(port uint16, tls bool) []*lab.Web {
	w.t.Helper()
	var servers []*lab.Web
	for _, m := range w.Members[:2] {
		s, err := m.Host.StartWeb(lab.WebOptions{Name: m.Name, Address: netip.AddrPortFrom(m.Address, port), TLS: tls})
		if err != nil {
			w.t.Fatal(err)
		}
		servers = append(servers, s)
	}
	return servers
}

func (c trouble) play(w *world, at netip.AddrPort) {
	rows.Proves(w.t, 103)
	servers := w.serve(c.port, c.tls)
	b := w.balance(balancerOptions{at: at, endpoints: w.endpoints(c.port)})
	if c.tls {
		b.scheme = "https"
	}
	c.monitor["delay"], c.monitor["timeout"], c.monitor["max_retries"] = delay, timeout, retries
	b.monitor(c.monitor)
	if err := inTurn(b.ask(10), "WEB1", "WEB2"); err != nil {
		w.t.Error(err)
	}
	if err := c.begin(w, servers[0]); err != nil {
		w.t.Fatal(err)
	}
	bound := refusedBound
	if c.hangs {
		bound = hangingBound
	}
	if took := b.awaitMember(0, false); took > bound {
		w.t.Errorf("down after %s, want %s at most", took, bound)
	}
	if name := w.only(b.ask(6)); name != "WEB2" {
		w.t.Errorf("answered by %s, which is down", name)
	}
	// What the agent itself asks is nobody's connection.
	b.awaitActive(0)
	if n := b.stats().number("total_connections"); n != 16 {
		w.t.Errorf("%v connections were counted, want the clients' 16", n)
	}
	if err := c.mend(w, servers[0]); err != nil {
		w.t.Fatal(err)
	}
	took := b.awaitMember(0, true)
	w.t.Logf("up after %s", took)
	if took < delay*time.Second/2 {
		w.t.Errorf("up after %s: that can't have been two probes in a row", took)
	}
}

// severalMonitors: a member is up when all of them pass; a changed one is asked
// as it is now; without any, everybody is up.
func severalMonitors(w *world, at netip.AddrPort) {
	const port = 8100
	servers := w.serve(port, false)
	b := w.balance(balancerOptions{at: at, endpoints: w.endpoints(port)})
	times := object{"delay": delay, "timeout": timeout, "max_retries": 1}
	with := func(more object) object {
		for k, v := range times {
			more[k] = v
		}
		return more
	}
	http := b.monitor(with(object{"type": "HTTP", "url_path": "/"}))
	tcp := b.monitor(with(object{"type": "TCP"}))

	servers[0].SetStatus(500) // TCP still passes
	b.awaitMember(0, false)
	w.update(monitors, http, object{"expected_codes": "500"})
	b.awaitMember(0, true)
	b.awaitMember(1, false) // which answers 200
	w.update(monitors, http, object{"expected_codes": "200,500"})
	b.awaitMember(1, true)
	// The laboratory's servers refuse this path without a query.
	w.update(monitors, http, object{"url_path": "/download"})
	b.awaitMember(0, false)
	b.awaitMember(1, false)
	w.update(monitors, http, object{"admin_state_up": false})
	b.awaitMember(0, true)
	b.awaitMember(1, true)
	if err := servers[1].Refuse(); err != nil {
		w.t.Fatal(err)
	}
	b.awaitMember(1, false) // by TCP
	b.dropMonitor(tcp)
	b.awaitMember(1, true)
	b.dropMonitor(http)
}
