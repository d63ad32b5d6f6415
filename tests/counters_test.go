package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"qlbaas/tests/lab"
)

// witness counts packets and bytes with nftables, on hosts beside the balancer.
type witness struct{ packets, bytes float64 }

// watch begins to count, on a host, the packets that meet an nftables condition and
// arrive from the wire.
func (w *world) watch(host *lab.Host, condition string) {
	w.t.Helper()
	rules := "table ip witness { counter seen { }; chain arriving { type filter hook prerouting priority -300; " +
		condition + " counter name seen; }; }"
	if _, err := host.Run(bounded(w.t, patience), "nft", rules); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if _, err := host.Run(w.t.Context(), "nft", "delete table ip witness"); err != nil && w.t.Context().Err() == nil {
			w.t.Error(err)
		}
	})
}

func (w *world) watched(host *lab.Host) witness {
	w.t.Helper()
	out, err := host.Run(bounded(w.t, patience), "nft", "-j", "list", "counter", "ip", "witness", "seen")
	if err != nil {
		w.t.Fatal(err)
	}
	var said struct {
		Nftables []struct {
			Counter *struct{ Packets, Bytes float64 }
		}
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	for _, one := range said.Nftables {
		if one.Counter != nil {
			return witness{one.Counter.Packets, one.Counter.Bytes}
		}
	}
	w.t.Fatalf("no counter: %s", out)
	return witness{}
}

// TestCounters: what the balancer counts is what others see pass, segment by segment,
// though it forwards super-packets whole; and it only grows.
func TestCounters(t *testing.T) {
	// The bridge's ports cut segments for the members and the router to count.
	options := lab.TutorialOptions{Ports: lab.Offload{TX: lab.Off, TSO: lab.Off}}
	onEveryHook(t, options, func(w *world) {
		b := w.balance(balancerOptions{})
		for _, m := range w.Members {
			w.watch(m.Host, "tcp dport 80 ip saddr "+w.VIP.String())
		}
		w.watch(w.Router, "tcp sport 80 ip saddr "+w.VIP.String())
		b.ask(40)
		ctx := bounded(w.t, patience)
		if err := lab.Download(ctx, b.client, b.url(), 1<<20, 1); err != nil {
			w.t.Error(err)
		}
		if err := lab.Upload(ctx, b.client, b.url(), 1<<20, 2); err != nil {
			w.t.Error(err)
		}
		const connections = 42
		w.agrees(b, connections)
		shares := w.shares(b)

		before := b.stats()
		w.restart()
		b.setPool(object{"lb_method": "LEAST_CONNECTIONS"})
		b.setVIP(object{"flow_limit": 1024})
		b.setVIP(object{"flow_limit": 2048})
		b.grown(before)
		w.agrees(b, connections)
		if now := w.shares(b); now != shares {
			w.t.Errorf("the members' shares were\n%s\nand are\n%s", shares, now)
		}

		// The total keeps the share of a member that is gone.
		b.dropMember(0)
		w.agrees(b, connections)
		b.ask(5)
		w.agrees(b, connections+5)

		// And that of a VIP that is gone.
		before = b.stats()
		b.redeploy(object{})
		b.ask(3)
		b.grown(before)
		b.awaitActive(0)
		if n := b.stats().number("total_connections"); n != connections+8 {
			w.t.Errorf("%v connections were counted, want %v", n, connections+8)
		}
	})
}

// redeploy deletes the VIP and creates one like it.
func (b *balancer) redeploy(attributes object) {
	b.w.t.Helper()
	old := b.w.show(vips, b.vip)
	b.w.remove(vips, b.vip)
	for _, name := range []string{"name", "pool_id", "subnet_id", "protocol", "address", "protocol_port"} {
		attributes[name] = old[name]
	}
	made := b.w.create(vips, attributes)
	b.vip, b.port = made.text("id"), made.text("port_id")
	b.settle()
}

// agrees compares a balancer's counters with the witnesses'.
func (w *world) agrees(b *balancer, connections float64) {
	w.t.Helper()
	b.awaitActive(0)
	// The last acknowledgments of a connection follow its end.
	until(w.t, patience, func() error {
		var in witness
		for _, m := range w.Members {
			seen := w.watched(m.Host)
			in.packets += seen.packets
			in.bytes += seen.bytes
		}
		out := w.watched(w.Router)
		stats, m := b.stats(), w.scrape()
		packets := func(direction string) float64 {
			return m.value("qlbaas_pool_packets_total", "pool", b.id, "direction", direction)
		}
		got := fmt.Sprintf("%.0f connections, in %.0f packets %.0f bytes, out %.0f packets %.0f bytes",
			stats.number("total_connections"), packets("in"), stats.number("bytes_in"), packets("out"), stats.number("bytes_out"))
		want := fmt.Sprintf("%.0f connections, in %.0f packets %.0f bytes, out %.0f packets %.0f bytes",
			connections, in.packets, in.bytes, out.packets, out.bytes)
		if got != want {
			return fmt.Errorf("counted: %s; seen: %s", got, want)
		}
		return nil
	})
}

// shares are the members' own counters, which have to add up to the pool's.
func (w *world) shares(b *balancer) string {
	w.t.Helper()
	m := w.scrape()
	var lines []string
	for _, name := range []string{"connections", "bytes", "packets"} {
		total := 0.0
		for _, s := range m.with("qlbaas_member_"+name+"_total", "pool", b.id) {
			total += s.value
			lines = append(lines, fmt.Sprintf("%s %v %v", name, s.labels, s.value))
		}
		sum := 0.0
		for _, s := range m.with("qlbaas_pool_"+name+"_total", "pool", b.id) {
			sum += s.value
		}
		if total != sum {
			w.t.Errorf("%s: the members' shares add up to %v, the pool has %v", name, total, sum)
		}
	}
	return strings.Join(lines, "\n")
}
