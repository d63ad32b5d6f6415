package tests

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// TestSourceAddresses: members see a VIP's further source addresses in turn, which come
// and go under connections.
func TestSourceAddresses(t *testing.T) {
	for _, hook := range []string{"tcx", "xdp"} {
		t.Run(hook, func(t *testing.T) { sourceAddresses(newWorld(t, hook, lab.TutorialOptions{})) })
	}
	t.Run("IPv6", func(t *testing.T) { sourceAddresses(newWorld(t, "auto", lab.TutorialOptions{IPv6: true})) })
}

func sourceAddresses(w *world) {
	further := w.further(3)
	b := w.balance(balancerOptions{
		endpoints: w.endpoints(echoPort), vip: object{"snat_addresses": further[:2]},
	})
	b.hasAddresses(w.VIP, further[0], further[1])
	flows := b.openMany(12)
	w.seen(map[netip.Addr]int{w.VIP: 2, further[0]: 2, further[1]: 2})
	b.portsOf(3 * 64000)

	// Nobody but the kernel needs to be there.
	before := b.generation()
	w.restart()
	b.settle()
	if now := b.generation(); now != before {
		w.t.Errorf("generation %v before the restart, %v after it", before, now)
	}
	flows = append(flows, b.openMany(12)...)
	w.seen(map[netip.Addr]int{w.VIP: 4, further[0]: 4, further[1]: 4})

	b.change(func() { b.setVIP(object{"snat_addresses": further[1:]}) })
	b.hasAddresses(w.VIP, further[1], further[2])
	ended := 0
	flows = slices.DeleteFunc(flows, func(f *flow) bool {
		err := f.echo()
		switch {
		case err == nil:
			return false
		case !errors.Is(err, unix.ECONNRESET):
			w.t.Errorf("a connection by an address that has left: %v", err)
		}
		ended++
		f.close()
		return true
	})
	if ended != 8 {
		w.t.Errorf("%d connections have ended, want the 8 of %s", ended, further[0])
	}
	flows = append(flows, b.openMany(12)...)
	w.mustEcho(flows...)
	if n := w.peers(0)[further[2]]; n != 2 {
		w.t.Errorf("member 0 sees %d connections by %s, want 2", n, further[2])
	}

	b.change(func() { b.setVIP(object{"snat_addresses": []string{}}) })
	b.hasAddresses(w.VIP)
	b.portsOf(64000)
	w.mustEcho(b.openMany(2)...)
	for _, f := range flows {
		f.close()
	}
}

// further are addresses of the subnet that no host has.
func (w *world) further(n int) []netip.Addr {
	all := []netip.Addr{w.VIP}
	for len(all) < 32+n {
		all = append(all, all[len(all)-1].Next())
	}
	return all[32:]
}

// peers counts a member's connections by the address that they come from.
func (w *world) peers(member int) map[netip.Addr]int {
	count := map[netip.Addr]int{}
	for _, peer := range w.echos[member].Peers() {
		count[peer.Addr().Unmap()]++
	}
	return count
}

// seen wants every member to see as many connections by each address.
func (w *world) seen(want map[netip.Addr]int) {
	w.t.Helper()
	for i := range w.echos {
		is := w.peers(i)
		for address, n := range want {
			if is[address] != n || len(is) != len(want) {
				w.t.Errorf("member %d sees %v, want %v", i, is, want)
				break
			}
		}
	}
}

// hasAddresses wants the VIP's port to have these addresses, in order, and its device to
// have them all.
func (b *balancer) hasAddresses(want ...netip.Addr) {
	b.w.t.Helper()
	var has []string
	ips, _ := b.w.inner(b.w.call(http.StatusOK, "GET", ports.path+"/"+b.port, nil), "port")["fixed_ips"].([]any)
	for _, ip := range ips {
		fields, _ := ip.(map[string]any)
		has = append(has, object(fields).text("ip_address"))
	}
	if fmt.Sprint(has) != fmt.Sprint(want) {
		b.w.t.Errorf("the port has %v, want %v", has, want)
	}
	out, err := b.w.Node.Run(bounded(b.w.t, patience), "ip", "-n", b.netns(), "-o", "addr", "show", "dev", b.inside(), "scope", "global")
	if err != nil {
		b.w.t.Fatal(err)
	}
	onDevice := 0
	for line := range strings.Lines(out) {
		for _, address := range want {
			if strings.Contains(line, " "+address.String()+"/") {
				onDevice++
			}
		}
	}
	if onDevice != len(want) {
		b.w.t.Errorf("the device has other addresses than %v:\n%s", want, out)
	}
}

// portsOf wants so many ports toward each member.
func (b *balancer) portsOf(want float64) {
	b.w.t.Helper()
	m := b.w.scrape()
	for _, id := range b.members {
		if size := m.value("qlbaas_member_nat_ports_size", "pool", b.id, "member", id); size != want {
			b.w.t.Errorf("%v ports toward member %s, want %v", size, id, want)
		}
	}
}
