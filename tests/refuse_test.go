package tests

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

func TestNoUsableMember(t *testing.T) {
	rows.Proves(t, 106)
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		w.test("none", func(w *world) {
			b := w.balance(balancerOptions{endpoints: []netip.AddrPort{}})
			b.refused("no_member")
			b.addMember(w.endpoints(webPort)[0], 1)
			b.settle()
			b.ask(1)
		})
		w.test("pool administratively down", func(w *world) {
			b := w.balance(balancerOptions{persistence: "SOURCE_IP"})
			b.ask(1)
			b.setPool(object{"admin_state_up": false})
			b.refused("no_member")
			b.setPool(object{"admin_state_up": true})
			b.ask(3)
		})
		if w.hook != "tcx" {
			return // what follows differs in the tables, not in the packets
		}
		w.test("all administratively down", func(w *world) {
			b := w.balance(balancerOptions{})
			b.setMember(0, object{"admin_state_up": false})
			b.setMember(1, object{"admin_state_up": false})
			b.refused("no_member")
			b.setMember(1, object{"admin_state_up": true})
			if name := w.only(b.ask(3)); name != "WEB2" {
				w.t.Errorf("answered by %s", name)
			}
		})
		w.test("all weights 0", func(w *world) {
			for _, method := range []string{"ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP"} {
				b := w.balance(balancerOptions{method: method, weights: []int{0, 0}, at: netip.AddrPortFrom(w.VIP, 8080)})
				b.refused("no_member")
				w.remove(vips, b.vip) // the address is for the next one
				b.vip = ""
			}
		})
		w.test("all down", func(w *world) {
			b := w.balance(balancerOptions{})
			b.monitor(object{"type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 1})
			w.mood(0, (*lab.Web).Refuse)
			w.mood(1, (*lab.Web).Refuse)
			b.awaitMember(0, false)
			b.awaitMember(1, false)
			b.refused("no_member")
		})
	})
}

// TestMemberRefuses: a member's own RST reaches the client and leaves nothing behind.
func TestMemberRefuses(t *testing.T) {
	rows.Proves(t, 61)
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		b := w.balance(balancerOptions{endpoints: w.endpoints(9)})
		for range 10 {
			f, err := b.dial(bounded(t, requestTimeout), w.Client, netip.Addr{})
			if err == nil {
				f.close()
				w.t.Fatalf("connected to %s, where nobody listens", f.member)
			}
			if !errors.Is(err, unix.ECONNREFUSED) {
				w.t.Fatal(err)
			}
		}
		m := w.scrape()
		for _, s := range m.with("qlbaas_pool_drops_total", "pool", b.id) {
			if s.value != 0 {
				w.t.Errorf("%v packets were dropped as %s", s.value, s.labels["reason"])
			}
		}
		for _, s := range m.with("qlbaas_member_nat_ports_used", "pool", b.id) {
			if s.value != 0 {
				w.t.Errorf("member %s still has %v ports", s.labels["member"], s.value)
			}
		}
		if n := b.stats().number("total_connections"); n != 0 {
			w.t.Errorf("%v connections were counted, none was completed", n)
		}
	})
}

// TestVIPAdminDown: silence, no ARP; and everything as before when it is up again.
func TestVIPAdminDown(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		// A neighbour that does not answer is given up sooner than after three seconds.
		if err := w.Router.Sysctl("net.ipv4.neigh.inside.retrans_time_ms", "100"); err != nil {
			w.t.Fatal(err)
		}
		b := w.balance(balancerOptions{})
		b.ask(2)
		if err := w.arp(b, true); err != nil {
			w.t.Error(err)
		}
		b.setVIP(object{"admin_state_up": false})
		if err := w.arp(b, false); err != nil {
			w.t.Error(err)
		}
		if f, err := b.dial(bounded(w.t, requestTimeout), w.Client, netip.Addr{}); !errors.Is(err, unix.EHOSTUNREACH) {
			if err == nil {
				f.close()
			}
			w.t.Errorf("%v, want the router to say that there is no such host", err)
		}
		b.setVIP(object{"admin_state_up": true})
		if err := w.arp(b, true); err != nil {
			w.t.Error(err)
		}
		if err := inTurn(b.ask(10), "WEB1", "WEB2"); err != nil {
			w.t.Error(err)
		}
	})
}

// arp wants the VIP to answer the router's question for its MAC, or not to.
func (w *world) arp(b *balancer, want bool) error {
	routes := w.Router.Netlink()
	inside, err := routes.LinkByName("inside")
	if err != nil {
		return err
	}
	entry := &netlink.Neigh{LinkIndex: inside.Attrs().Index, IP: b.at.Addr().AsSlice()}
	if err := routes.NeighDel(entry); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("forget the VIP's MAC: %w", err)
	}
	conn, err := w.Router.Dial(bounded(w.t, requestTimeout), "tcp", b.at.String())
	if err == nil {
		conn.Close()
	}
	switch unreachable := errors.Is(err, unix.EHOSTUNREACH); {
	case unreachable && want:
		return errors.New("the VIP does not answer ARP")
	case !unreachable && !want:
		return fmt.Errorf("%w: want no answer to ARP", err)
	}
	return nil
}

// TestUnfinished: handshakes that nobody finishes hold no connection, and go with
// their pool.
func TestUnfinished(t *testing.T) {
	onEveryHook(t, lab.TutorialOptions{}, func(w *world) {
		b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)[:1]})
		mend := w.deaf(0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all []dialing
		for range 5 {
			all = append(all, b.begin(ctx))
		}
		until(w.t, patience, func() error {
			n := w.scrape().value("qlbaas_member_nat_ports_used", "pool", b.id)
			if n != 5 {
				return fmt.Errorf("%v ports are taken, want 5", n)
			}
			return nil
		})
		if n := b.stats().number("total_connections"); n != 0 {
			w.t.Errorf("%v connections were counted", n)
		}
		cancel()
		for _, d := range all {
			if r := <-d; r.err == nil {
				r.conn.Close()
				w.t.Error("connected to a deaf member")
			}
		}
		mend()
		w.mustEcho(b.open())
	})
}
