package tests

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// TestCookies: while a pool has very many handshakes in flight every connection is
// made by cookie, and its users notice nothing: real hosts talk over shifted sequence
// numbers, whoever computes checksums and cuts segments.
func TestCookies(t *testing.T) {
	rows.Proves(t, 117)
	for name, o := range map[string]lab.TutorialOptions{
		"IPv4 offload on":  {},
		"IPv4 offload off": {Member: lab.AllOff(), Ports: lab.AllOff()},
		"IPv6":             {IPv6: true},
	} {
		t.Run(name, func(t *testing.T) {
			onEveryHook(t, o, func(w *world) {
				w.test("requests", func(w *world) {
					b := w.balance(balancerOptions{})
					w.asIfFlooded()
					before := w.cookies(b)
					if err := inTurn(b.ask(30), "WEB1", "WEB2"); err != nil {
						w.t.Error(err)
					}
					if made := w.cookies(b) - before; made < 30 {
						w.t.Errorf("%d of 30 connections were made by cookie", made)
					}
				})
				w.test("bulk", func(w *world) {
					b := w.balance(balancerOptions{})
					w.asIfFlooded()
					w.bulkBy(b, b.client, 5<<20)
				})
				w.test("both talk", func(w *world) {
					b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
					w.asIfFlooded()
					flows := b.openMany(20)
					w.mustEcho(flows...)
					w.mustEcho(flows...)
					for _, f := range flows {
						f.close()
					}
					b.awaitActive(0)
				})
				w.test("nobody", func(w *world) {
					b := w.balance(balancerOptions{endpoints: w.endpoints(1)})
					w.asIfFlooded()
					f, err := b.dial(bounded(w.t, requestTimeout), w.Client, netip.Addr{})
					if err == nil {
						f.close()
					}
					if !errors.Is(err, unix.ECONNRESET) {
						w.t.Errorf("%v, want the member's RST", err)
					}
				})
			})
		})
	}
}

// asIfFlooded makes every pool believe that it has a million handshakes in flight.
func (w *world) asIfFlooded() {
	w.t.Helper()
	pins, err := filepath.Glob(filepath.Join(w.bpffs, "node", "v*", "maps", "half_open*_use"))
	if err != nil || len(pins) == 0 {
		w.t.Fatalf("%d pins, %v", len(pins), err)
	}
	for _, pin := range pins {
		m, err := ebpf.LoadPinnedMap(pin, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		var pool uint32
		var use [2]uint32
		var there []uint32
		for all := m.Iterate(); all.Next(&pool, &use); {
			there = append(there, pool)
		}
		for _, pool := range there {
			if err := m.Put(pool, [2]uint32{1 << 20}); err != nil {
				w.t.Error(err)
			}
		}
		m.Close()
	}
}

// cookies is how many connections of a balancer were made by cookie.
func (w *world) cookies(b *balancer) (n int) {
	w.t.Helper()
	pins, _ := filepath.Glob(filepath.Join(w.bpffs, "pools", b.id, "v*", "maps", "events"))
	if len(pins) != 1 {
		w.t.Fatalf("pins of events: %v", pins)
	}
	m, err := ebpf.LoadPinnedMap(pins[0], nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Close()
	const accepted = 2
	var perCPU []uint64
	if err := m.Lookup(uint32(accepted), &perCPU); err != nil {
		w.t.Fatal(err)
	}
	for _, on := range perCPU {
		n += int(on)
	}
	return n
}
